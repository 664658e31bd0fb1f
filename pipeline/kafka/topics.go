package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// How long topics that Zyklus creates keep things, and how long dead letters must be kept at least.
const (
	deadLetterRetention  = 14 * 24 * time.Hour
	leastLetterRetention = 24 * time.Hour
	tombstoneRetention   = 24 * time.Hour
	eventsRetention      = 7 * 24 * time.Hour
	leastEventsRetention = 3 * 24 * time.Hour
)

// EnsureTopics creates the internal topics, with as many partitions as the input topic, and the input topic itself if
// it is missing and inputPartitions is positive. Topics that exist are left as they are and checked. It returns when
// the topics are usable. Nothing else creates topics: no client lets the brokers create one that it asks for.
func EnsureTopics(ctx context.Context, o Options, inputPartitions int32) error {
	o = o.WithDefaults()
	return o.withAdmin(ctx, func(adm *kadm.Client) error {
		topics, err := o.describe(ctx, adm)
		if err != nil {
			return err
		}
		n := int32(topics[0].Partitions)
		if !topics[0].Exists {
			if n = inputPartitions; n <= 0 {
				return topics[0].Err()
			}
		}
		created := false
		for _, t := range topics {
			if t.Use == UseChangelog && o.Stage != "" && t.Exists && int32(t.Partitions) < n {
				// Its partitions hold positions, not customers: more of them are harmless.
				if _, err := adm.UpdatePartitions(ctx, int(n), t.Name); err != nil {
					return fmt.Errorf("give topic %s %d partitions: %w", t.Name, n, o.explain(err))
				}
				created = true
			}
			if t.Exists {
				continue
			}
			created = true
			if err := o.create(ctx, adm, &t, n); err != nil {
				return err
			}
		}
		if created {
			return o.awaitTopics(ctx, adm)
		}
		return firstErr(topics)
	})
}

func (o *Options) create(ctx context.Context, adm *kadm.Client, t *TopicState, partitions int32) error {
	_, err := adm.CreateTopic(ctx, partitions, o.Replication, o.created(t.Use), t.Name)
	switch {
	case err == nil, errors.Is(err, kerr.TopicAlreadyExists):
		return nil
	case refused(err):
		return o.explain(err)
	case errors.Is(err, kerr.InvalidReplicationFactor):
		return fmt.Errorf("create %s topic %s with %d replicas: the cluster has too few brokers for kafka.replication: %w",
			t.Use, t.Name, o.Replication, lineError{err})
	}
	return fmt.Errorf("create %s topic %s with %d partitions: %w", t.Use, t.Name, partitions, lineError{err})
}

// created are the settings that a topic is created with.
func (o *Options) created(use string) map[string]*string {
	settings := map[string]*string{}
	for _, s := range o.wanted(use) {
		if !s.unset {
			settings[s.key] = kadm.StringPtr(s.want)
		}
	}
	return settings
}

// awaitTopics checks the topics once the brokers know all that were just created. Which broker a process asks first is left to
// chance, so all that answer must know them.
func (o *Options) awaitTopics(ctx context.Context, adm *kadm.Client) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for pause := (backoff{}); ; pause.wait(ctx) {
		topics, err := o.describe(ctx, adm)
		if err == nil {
			err = firstErr(topics)
		}
		if err == nil && o.lagging(ctx) && ctx.Err() == nil {
			continue
		}
		if err == nil || ctx.Err() != nil || refused(err) || known(topics) {
			return err
		}
	}
}

// lagging reports whether any broker does not know all topics yet. One that does not answer is no reason to wait.
func (o *Options) lagging(ctx context.Context) bool {
	cl, err := o.newClient("check", slog.New(slog.DiscardHandler), kgo.RequestRetries(0))
	if err != nil {
		return false
	}
	defer cl.Close()
	brokers, err := kadm.NewClient(cl).ListBrokers(ctx)
	if err != nil {
		return false
	}
	req := kmsg.NewPtrMetadataRequest()
	for _, t := range o.topics() {
		topic := kmsg.NewMetadataRequestTopic()
		topic.Topic = &t.Name
		req.Topics = append(req.Topics, topic)
	}
	for _, id := range brokers.NodeIDs() {
		if lags(ctx, cl.Broker(int(id)), req) {
			return true
		}
	}
	return false
}

func lags(ctx context.Context, broker *kgo.Broker, req *kmsg.MetadataRequest) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	answer, err := broker.Request(ctx, req)
	if err != nil {
		return false
	}
	resp, ok := answer.(*kmsg.MetadataResponse)
	return ok && slices.ContainsFunc(resp.Topics, func(t kmsg.MetadataResponseTopic) bool {
		return t.ErrorCode == kerr.UnknownTopicOrPartition.Code
	})
}

// known reports whether all topics exist, the changelog with all its partitions.
func known(topics []TopicState) bool {
	for i := range topics {
		t := &topics[i]
		if !t.Exists || t.Use == UseChangelog && t.Partitions < t.WantPartitions {
			return false
		}
	}
	return len(topics) > 0
}

// CheckTopics returns an error of one line that says what to do if no broker can be reached, rights are missing, or
// the input topic or an internal topic is missing or such that nothing may run with it.
func CheckTopics(ctx context.Context, o Options) error {
	topics, err := DescribeTopics(ctx, o)
	if err != nil {
		return err
	}
	return firstErr(topics)
}

func firstErr(topics []TopicState) error {
	for i := range topics {
		if err := topics[i].Err(); err != nil {
			return err
		}
	}
	return nil
}

// withAdmin runs do with a client that has reached a broker. If it is to wait for one, do must be such that it can be run
// again.
func (o *Options) withAdmin(ctx context.Context, do func(*kadm.Client) error) error {
	if err := o.Validate(); err != nil {
		return err
	}
	if o.Waiting == nil {
		return o.withAdminOnce(ctx, do)
	}
	for pause := (backoff{}); ; pause.wait(ctx) {
		err := o.withAdminOnce(ctx, do)
		_, away := errors.AsType[*awayError](err)
		switch {
		case ctx.Err() != nil:
			return err
		case !away:
			o.Waiting(nil)
			return err
		}
		o.Waiting(err)
	}
}

func (o *Options) withAdminOnce(ctx context.Context, do func(*kadm.Client) error) error {
	// Nothing is logged: what goes wrong here is returned.
	cl, err := o.newClient("check", slog.New(slog.DiscardHandler), kgo.RequestRetries(3))
	if err != nil {
		return err
	}
	defer cl.Close()
	// Brokers are tried one after the other: time to find all but the last away.
	ping, cancel := context.WithTimeout(ctx, time.Duration(len(o.Brokers))*dialTimeout+answerTimeout)
	defer cancel()
	if err := cl.Ping(ping); err != nil {
		return o.explain(err)
	}
	return do(kadm.NewClient(cl))
}
