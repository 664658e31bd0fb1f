package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"zyklus/pipeline"
)

// ChangelogSettings are the settings that the changelog topic was given, without the brokers' defaults, and its number
// of replicas. A topic that does not exist has none and 0.
func (a *Admin) ChangelogSettings(ctx context.Context) (settings map[string]string, replicas int, err error) {
	topic := a.o.ChangelogTopic
	have, err := a.adm.ListTopics(ctx, topic)
	if err != nil {
		return nil, 0, a.o.explain(err)
	}
	if errors.Is(have[topic].Err, kerr.UnknownTopicOrPartition) {
		return nil, 0, nil
	}
	configs, err := a.adm.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return nil, 0, a.o.explain(err)
	}
	rc, err := configs.On(topic, nil)
	if err = errors.Join(err, rc.Err); err != nil {
		return nil, 0, fmt.Errorf("settings of topic %s: %w", topic, a.o.deny(err))
	}
	settings = map[string]string{}
	for _, c := range rc.Configs {
		if c.Source == kmsg.ConfigSourceDynamicTopicConfig && c.Value != nil {
			settings[c.Key] = *c.Value
		}
	}
	return settings, have[topic].Partitions.NumReplicas(), nil
}

// NewChangelog says how the changelog is to begin again.
type NewChangelog struct {
	Settings map[string]string // nil for those that EnsureTopics gives
	Replicas int               // 0 for the configured ones
	First    pipeline.Change   // record that each partition begins with
}

// ReplaceChangelog deletes the changelog topic and creates it again with one record in each partition. Former owners
// of the partitions are fenced before: they can write no more. The caller has made sure that the group has no members.
// After an error, or a crash, it is done again from the start.
func (a *Admin) ReplaceChangelog(ctx context.Context, n NewChangelog, progress func(step string)) error {
	partitions, err := a.partitions(ctx, a.o.Topic)
	if err != nil {
		return err
	}
	progress(fmt.Sprintf("fence the former owners of %d partitions", len(partitions)))
	deps := Deps{Log: slog.New(slog.DiscardHandler), partitions: int32(len(partitions))}
	var owners []*transactions
	defer func() {
		for _, t := range owners {
			t.close()
		}
	}()
	for _, p := range partitions {
		t, err := openTransactions(ctx, &a.o, p, &deps)
		if err != nil {
			return a.o.deny(err)
		}
		owners = append(owners, t)
	}
	progress("delete topic " + a.o.ChangelogTopic)
	if err := a.deleteTopic(ctx, a.o.ChangelogTopic); err != nil {
		return err
	}
	progress("create topic " + a.o.ChangelogTopic)
	if err := a.createChangelog(ctx, n, len(partitions)); err != nil {
		return err
	}
	progress("begin the new lineage in each partition")
	for _, t := range owners {
		if err := t.commit(ctx, &pipeline.Checkpoint{Number: 1, Changes: []pipeline.Change{n.First}}); err != nil {
			return fmt.Errorf("partition %d: %w", t.partition, err)
		}
	}
	return nil
}

// Grown returns an error if the input has been given more partitions than the state has: what is built from its start would
// be wrong, for a customer's events are then in two partitions.
func (a *Admin) Grown(ctx context.Context) error {
	have, err := a.adm.ListTopics(ctx, a.o.Topic, a.o.ChangelogTopic)
	if err != nil {
		return a.o.explain(err)
	}
	now, before := len(have[a.o.Topic].Partitions), len(have[a.o.ChangelogTopic].Partitions)
	if before > 0 && now > before {
		return a.o.grown(before, now)
	}
	return nil
}

// goneAfter is how long a topic may take to be deleted.
const goneAfter = time.Minute

// deleteTopic returns when the topic is gone.
func (a *Admin) deleteTopic(ctx context.Context, topic string) error {
	ctx, cancel := context.WithTimeout(ctx, goneAfter)
	defer cancel()
	_, err := a.adm.DeleteTopic(ctx, topic)
	if err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
		return a.denyTopic("delete", topic, err)
	}
	for pause := (backoff{}); ; pause.wait(ctx) {
		have, err := a.adm.ListTopics(ctx, topic)
		if err == nil && errors.Is(have[topic].Err, kerr.UnknownTopicOrPartition) {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("topic %s was deleted, but the brokers still list it: repeat the command later", topic)
		}
	}
}

// createChangelog creates the topic, and again while brokers are still busy deleting its predecessor.
func (a *Admin) createChangelog(ctx context.Context, n NewChangelog, partitions int) error {
	o := a.o
	if n.Replicas > 0 {
		o.Replication = int16(n.Replicas)
	}
	configs := o.created(UseChangelog)
	for k, v := range n.Settings {
		configs[k] = kadm.StringPtr(v)
	}
	ctx, cancel := context.WithTimeout(ctx, goneAfter)
	defer cancel()
	for pause := (backoff{}); ; pause.wait(ctx) {
		_, err := a.adm.CreateTopic(ctx, int32(partitions), o.Replication, configs, o.ChangelogTopic)
		if err == nil {
			return o.awaitTopics(ctx, a.adm)
		}
		if !errors.Is(err, kerr.TopicAlreadyExists) || ctx.Err() != nil {
			return a.denyTopic("create", o.ChangelogTopic, err)
		}
	}
}

// denyTopic says which right is missing, if one is.
func (a *Admin) denyTopic(verb, topic string, err error) error {
	if refused(err) {
		return fmt.Errorf("kafka refuses to %s topic %s: this user needs the right to describe, delete and create it: %w", verb, topic, err)
	}
	return fmt.Errorf("%s topic %s: %w", verb, topic, err)
}
