package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"zyklus/cmd/zyklus/internal/config"
	"zyklus/models"
	"zyklus/models/lifecycle"
	"zyklus/operators"
	"zyklus/pipeline"
	"zyklus/pipeline/codec"
	"zyklus/pipeline/kafka"
	"zyklus/sinks/clickhouse"
)

// newJob wires operators, lifecycles and artefact together as the configuration says.
func newJob(cfg *config.Config) (*pipeline.Job, error) {
	zone, err := cfg.Location()
	if err != nil {
		return nil, usageError{fmt.Errorf("time_zone: %w", err)}
	}
	artefact, err := loadArtefact(cfg.Artefact)
	if err != nil {
		return nil, usageError{err}
	}
	documents, err := loadLifecycles(cfg.Lifecycles)
	if err != nil {
		return nil, usageError{err}
	}
	job, err := pipeline.NewJob(pipeline.Options{
		Operators: operators.All(), Lifecycles: documents, Artefact: artefact,
		Calendar: pipeline.NewCalendar(zone), Lateness: cfg.Source.Lateness, Skew: cfg.Source.Skew,
		WallClock: cfg.Source.Clock == "wall", Days: true,
	})
	if err != nil {
		return nil, usageError{err}
	}
	return job, nil
}

func loadArtefact(path string) (models.Artefact, error) {
	if path == "" {
		return models.BuiltIn(), nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return models.Artefact{}, fmt.Errorf("artefact: %w", err)
	}
	a, err := models.ParseArtefact(text)
	if err != nil {
		return a, fmt.Errorf("artefact %s: %w", path, err)
	}
	return a, nil
}

// loadLifecycles reads presets by their names and everything else as files. All problems are reported.
func loadLifecycles(names []string) (documents []*lifecycle.Document, err error) {
	var problems []error
	for _, name := range names {
		read := lifecycle.Preset
		if !slices.Contains(lifecycle.Presets(), name) {
			read = os.ReadFile
		}
		text, err := read(name)
		if err != nil {
			problems = append(problems, fmt.Errorf("lifecycle %q is neither a preset (%s) nor a file: %w",
				name, strings.Join(lifecycle.Presets(), ", "), err))
			continue
		}
		doc, err := lifecycle.Parse(text)
		if err != nil {
			problems = append(problems, fmt.Errorf("lifecycle %s: %w", name, err))
			continue
		}
		documents = append(documents, doc)
	}
	return documents, errors.Join(problems...)
}

// newDecoder returns the decoder of the source. The configuration has been validated.
func newDecoder(cfg *config.Config) (*codec.Segment, error) {
	return codec.NewSegment(codec.Options{
		Source: cfg.Source.Name, Currency: cfg.Currency, MinTime: cfg.Source.Earliest.UnixMilli(),
		MaxBytes: int(cfg.Source.MaxRecord), IgnoredIDs: cfg.Source.IgnoredIDs,
	})
}

// schema is everything that ClickHouse is to hold.
func schema(job *pipeline.Job, currency string) clickhouse.Schema {
	exponent, _ := codec.KnownCurrency(currency)
	return clickhouse.Schema{Tables: job.Tables(), Views: readerViews(job), MoneyExponent: exponent}
}

func kafkaOptions(cfg *config.Config) kafka.Options {
	return kafka.Options{
		Brokers: cfg.Kafka.Brokers, Group: cfg.Group, Topic: cfg.Source.Topic, InstanceID: cfg.Kafka.InstanceID,
		CheckpointInterval: cfg.Kafka.CheckpointInterval, Replication: int16(cfg.Kafka.Replication),
	}
}

func clickhouseOptions(cfg *config.Config) clickhouse.Options {
	c := &cfg.ClickHouse
	o := clickhouse.Options{
		Addrs: c.Addrs, Protocol: c.Protocol, Database: c.Database, Username: c.Username,
		Password: c.Password.Reveal(), TLS: c.TLS,
	}
	if c.Embedded {
		o.Compression = "none" // on one machine it costs more than it saves
	}
	return o
}

// kafkaDeps is what the Runner works with.
func kafkaDeps(cfg *config.Config, job *pipeline.Job, w *clickhouse.Writer, log *slog.Logger) (kafka.Deps, error) {
	if _, err := newDecoder(cfg); err != nil {
		return kafka.Deps{}, usageError{err}
	}
	return kafka.Deps{
		Sink: w, Job: job, Healthy: w.Healthy, Log: log, Crash: crashPoint(),
		NewTask: func(topic string, partition int32) kafka.Task { return pipeline.NewTask(job, topic, partition) },
		NewDecoder: func() kafka.Decoder {
			d, err := newDecoder(cfg)
			if err != nil {
				panic("BUG: decoder options were checked: " + err.Error())
			}
			return d
		},
	}, nil
}
