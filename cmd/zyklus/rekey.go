package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"zyklus/cmd/zyklus/internal/config"
	"zyklus/pipeline"
	"zyklus/pipeline/kafka"
)

// newRekeying returns a Runner for each source that is re-keyed; none if the main job reads its one source itself.
func (s *service) newRekeying(ctx context.Context) (runners []*kafka.Runner, err error) {
	cfg := s.cfg
	if !cfg.Rekeyed() {
		return nil, nil
	}
	events := s.patient(kafkaOptions(cfg))
	topics := []string{events.Topic}
	for _, source := range cfg.Inputs() {
		topics = append(topics, source.Topic)
	}
	partitions, err := kafka.CountPartitions(ctx, events, topics...)
	if err != nil {
		return nil, err
	}
	options := pipeline.RekeyOptions{Topic: events.Topic, Partitions: partitions[events.Topic]}
	delete(partitions, events.Topic)
	options.Set = pipeline.NewChannelSet(partitions)
	for _, source := range cfg.Inputs() {
		o := options
		o.Skew, o.WallClock, o.Held = source.Skew, source.Clock == "wall", source.Required
		deps := kafka.Deps{
			Log: s.log.With("stage", "rekey"), Crash: crashPoint(),
			Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"input": source.Topic}, s.metrics),
			NewTask: func(topic string, partition int32) kafka.Task {
				return pipeline.NewRekeyer(o, topic, partition)
			},
		}
		if deps.NewDecoder, err = decoders(cfg, &source); err != nil {
			return nil, err
		}
		r, err := kafka.New(s.patient(rekeyOptions(cfg, &source)), deps)
		if err != nil {
			return nil, err
		}
		runners = append(runners, r)
	}
	return runners, nil
}

// sourceTopics lists the topics of all sources.
func sourceTopics(cfg *config.Config) (topics []string) {
	for _, s := range cfg.Inputs() {
		topics = append(topics, s.Topic)
	}
	return topics
}

// sourceFlag gives a command that writes to a source the flag --source and returns what finds the source.
func sourceFlag(cmd *cobra.Command) func(*config.Config) (config.Source, error) {
	name := cmd.Flags().String("source", "", "name of the source to write to, where there are several")
	return func(cfg *config.Config) (config.Source, error) {
		if source, ok := cfg.Input(*name); ok {
			return source, nil
		}
		var names []string
		for _, s := range cfg.Inputs() {
			names = append(names, s.Name)
		}
		return config.Source{}, usageError{fmt.Errorf("--source %q is none of the sources: give one of %s", *name, strings.Join(names, ", "))}
	}
}

// sourceOptions are for writing to the topic of a source.
func sourceOptions(cfg *config.Config, source *config.Source) kafka.Options {
	o := kafkaOptions(cfg)
	o.Topic = source.Topic
	return o
}

// stages returns the options of all stages: those of the main job, then those of the re-keying of each source.
func stages(cfg *config.Config) []kafka.Options {
	list := []kafka.Options{kafkaOptions(cfg)}
	if cfg.Rekeyed() {
		for _, s := range cfg.Inputs() {
			list = append(list, rekeyOptions(cfg, &s))
		}
	}
	return list
}

// ofStage says which source an error is about, where there may be several.
func ofStage(o kafka.Options, err error) error {
	if err == nil || o.Stage == "" {
		return err
	}
	return fmt.Errorf("source %s: %w", o.Stall.Source, err)
}

// checkTopics reports what is missing of the topics of all stages.
func (s *service) checkTopics(ctx context.Context) error {
	for _, o := range stages(s.cfg) {
		if err := kafka.CheckTopics(ctx, s.patient(o)); err != nil {
			return ofStage(o, err)
		}
	}
	return nil
}

// describeTopics says what the topics of all stages are and should be, each once.
func describeTopics(ctx context.Context, cfg *config.Config) (topics []kafka.TopicState, err error) {
	for _, o := range stages(cfg) {
		list, err := kafka.DescribeTopics(ctx, o)
		if err != nil {
			return nil, err
		}
		for _, t := range list {
			if !slices.ContainsFunc(topics, func(have kafka.TopicState) bool { return have.Name == t.Name }) {
				topics = append(topics, t)
			}
		}
	}
	return topics, nil
}

// ensureTopics creates the internal topics of all stages. Topics of sources belong to their producers, except on an
// embedded broker; the one of re-keyed events is internal.
func ensureTopics(ctx context.Context, cfg *config.Config) error {
	for _, o := range stages(cfg) {
		partitions := int32(0)
		if cfg.Kafka.Embedded || o.Rekeyed {
			partitions = int32(cfg.Kafka.Partitions)
		}
		if err := kafka.EnsureTopics(ctx, o, partitions); err != nil {
			return ofStage(o, err)
		}
	}
	return nil
}
