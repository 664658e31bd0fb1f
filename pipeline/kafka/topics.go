package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const deadLetterRetention = 14 * 24 * time.Hour

// EnsureTopics creates the internal topics, with as many partitions as the input topic, and the input topic itself if
// it is missing and inputPartitions is positive. Topics that exist are left as they are and checked. It returns when
// the topics are usable.
func EnsureTopics(ctx context.Context, o Options, inputPartitions int32) error {
	o = o.WithDefaults()
	return o.withAdmin(ctx, func(adm *kadm.Client) error {
		have, err := adm.ListTopics(ctx, o.Topic, o.ChangelogTopic, o.DeadLetterTopic)
		if err != nil {
			return o.explain(err)
		}
		n := int32(len(have[o.Topic].Partitions))
		if errors.Is(have[o.Topic].Err, kerr.UnknownTopicOrPartition) && inputPartitions > 0 {
			n = inputPartitions
			// The append time is what tells an event of the future from one of the present.
			settings := map[string]string{"message.timestamp.type": "LogAppendTime"}
			if err := o.create(ctx, adm, o.Topic, n, settings); err != nil {
				return err
			}
		} else if err := o.checkInput(have); err != nil {
			return err
		}
		if err := o.createInternal(ctx, adm, have, n); err != nil {
			return err
		}
		return o.awaitTopics(ctx, adm)
	})
}

func (o *Options) createInternal(ctx context.Context, adm *kadm.Client, have kadm.TopicDetails, n int32) error {
	settings := map[string]map[string]string{
		o.ChangelogTopic: changelogSettings(),
		o.DeadLetterTopic: {
			"cleanup.policy":    "delete",
			"max.message.bytes": strconv.Itoa(maxMessage),
			"retention.ms":      strconv.FormatInt(deadLetterRetention.Milliseconds(), 10),
		},
	}
	for _, topic := range []string{o.ChangelogTopic, o.DeadLetterTopic} {
		if !errors.Is(have[topic].Err, kerr.UnknownTopicOrPartition) {
			continue
		}
		if err := o.create(ctx, adm, topic, n, settings[topic]); err != nil {
			return err
		}
	}
	return nil
}

func changelogSettings() map[string]string {
	return map[string]string{
		"cleanup.policy":            "compact",
		"max.message.bytes":         strconv.Itoa(maxMessage),
		"segment.bytes":             strconv.Itoa(128 << 20), // only closed segments are compacted
		"min.cleanable.dirty.ratio": "0.3",
	}
}

func (o *Options) create(ctx context.Context, adm *kadm.Client, topic string, partitions int32, settings map[string]string) error {
	configs := map[string]*string{}
	for k, v := range settings {
		configs[k] = kadm.StringPtr(v)
	}
	_, err := adm.CreateTopic(ctx, partitions, o.Replication, configs, topic)
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("create topic %s with %d partitions: %w", topic, partitions, o.explain(err))
	}
	return nil
}

// awaitTopics checks the topics until the brokers know what was just created.
func (o *Options) awaitTopics(ctx context.Context, adm *kadm.Client) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for pause := (backoff{}); ; pause.wait(ctx) {
		err := o.check(ctx, adm)
		if err == nil || ctx.Err() != nil || refused(err) {
			return err
		}
	}
}

// CheckTopics returns an error of one line that says what to do if no broker can be reached, rights are missing, or
// the input topic or an internal topic is missing or of the wrong kind.
func CheckTopics(ctx context.Context, o Options) error {
	o = o.WithDefaults()
	return o.withAdmin(ctx, func(adm *kadm.Client) error { return o.check(ctx, adm) })
}

// withAdmin runs do with a client that has reached a broker.
func (o *Options) withAdmin(ctx context.Context, do func(*kadm.Client) error) error {
	if err := o.Validate(); err != nil {
		return err
	}
	// Nothing is logged: what goes wrong here is returned.
	cl, err := o.newClient("check", slog.New(slog.DiscardHandler), kgo.RequestRetries(3))
	if err != nil {
		return err
	}
	defer cl.Close()
	ping, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := cl.Ping(ping); err != nil {
		return o.explain(err)
	}
	return do(kadm.NewClient(cl))
}

// explain says what to do about an error that concerns the cluster as a whole.
func (o *Options) explain(err error) error {
	if refused(err) {
		return fmt.Errorf("kafka refuses access: check user, password and rights (read %s; read and write %s and %s; group %s; transactional ids %s/*): %w",
			o.Topic, o.ChangelogTopic, o.DeadLetterTopic, o.Group, o.Group, err)
	}
	return fmt.Errorf("no kafka broker answers at %s: check address, network, TLS and whether it is up: %w",
		strings.Join(o.Brokers, ", "), err)
}

func (o *Options) check(ctx context.Context, adm *kadm.Client) error {
	have, err := adm.ListTopics(ctx, o.Topic, o.ChangelogTopic, o.DeadLetterTopic)
	if err != nil {
		return o.explain(err)
	}
	if err := o.checkInput(have); err != nil {
		return err
	}
	n := len(have[o.Topic].Partitions)
	for _, topic := range []string{o.ChangelogTopic, o.DeadLetterTopic} {
		if err := o.checkInternal(have, topic, n); err != nil {
			return err
		}
	}
	return o.checkCompacted(ctx, adm)
}

func (o *Options) checkInput(have kadm.TopicDetails) error {
	switch t := have[o.Topic]; {
	case refused(t.Err):
		return o.explain(t.Err)
	case errors.Is(t.Err, kerr.UnknownTopicOrPartition):
		return fmt.Errorf("input topic %s does not exist: create it, or correct its name in the configuration", o.Topic)
	case t.Err != nil:
		return fmt.Errorf("input topic %s: %w", o.Topic, t.Err)
	}
	return nil
}

func (o *Options) checkInternal(have kadm.TopicDetails, topic string, n int) error {
	switch t := have[topic]; {
	case refused(t.Err):
		return o.explain(t.Err)
	case errors.Is(t.Err, kerr.UnknownTopicOrPartition):
		return fmt.Errorf("internal topic %s does not exist: run zyklus migrate", topic)
	case t.Err != nil:
		return fmt.Errorf("internal topic %s: %w", topic, t.Err)
	case len(t.Partitions) != n:
		return fmt.Errorf("internal topic %s has %d partitions, input topic %s has %d: customers would change partition without their state; use a new group, and zyklus migrate for its topics",
			topic, len(t.Partitions), o.Topic, n)
	}
	return nil
}

func (o *Options) checkCompacted(ctx context.Context, adm *kadm.Client) error {
	configs, err := adm.DescribeTopicConfigs(ctx, o.ChangelogTopic)
	if err != nil {
		return o.explain(err)
	}
	rc, err := configs.On(o.ChangelogTopic, nil)
	if err == nil {
		err = rc.Err
	}
	if refused(err) {
		return nil // the right to describe settings is not needed to run
	}
	if err != nil {
		return fmt.Errorf("settings of topic %s: %w", o.ChangelogTopic, err)
	}
	for _, c := range rc.Configs {
		if c.Key == "cleanup.policy" && c.MaybeValue() != "compact" {
			return fmt.Errorf("changelog topic %s has cleanup.policy=%s: state would be deleted; set it to compact", o.ChangelogTopic, c.MaybeValue())
		}
	}
	return nil
}
