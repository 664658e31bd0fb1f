package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"zyklus/pipeline"
)

// Admin answers questions about what a deployment keeps in Kafka, and changes it. It works beside the deployment's
// processes and joins no group. Only ReplaceChangelog, AcceptLosses and Leave change anything.
type Admin struct {
	o   Options
	cl  *kgo.Client
	adm *kadm.Client
}

// NewAdmin connects. The error is one line that says what to do if no broker answers.
func NewAdmin(ctx context.Context, o Options) (*Admin, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.WithDefaults()
	cl, err := o.newClient("admin", slog.New(slog.DiscardHandler), kgo.RequestRetries(3))
	if err != nil {
		return nil, err
	}
	ping, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := cl.Ping(ping); err != nil {
		cl.Close()
		return nil, o.explain(err)
	}
	return &Admin{o: o, cl: cl, adm: kadm.NewClient(cl)}, nil
}

// Close ends the connections.
func (a *Admin) Close() { a.cl.Close() }

// Options returns the options with their defaults.
func (a *Admin) Options() Options { return a.o }

// partitions returns the numbers of a topic's partitions.
func (a *Admin) partitions(ctx context.Context, topic string) ([]int32, error) {
	have, err := a.adm.ListTopics(ctx, topic)
	if err != nil {
		return nil, a.o.explain(err)
	}
	switch t := have[topic]; {
	case refused(t.Err):
		return nil, a.o.explain(t.Err)
	case errors.Is(t.Err, kerr.UnknownTopicOrPartition):
		return nil, fmt.Errorf("topic %s does not exist: check group and source.topic, or run zyklus migrate", topic)
	case t.Err != nil:
		return nil, fmt.Errorf("topic %s: %w", topic, t.Err)
	default:
		return t.Partitions.Numbers(), nil
	}
}

// Partitions returns the numbers of the partitions that the deployment's state is kept by.
func (a *Admin) Partitions(ctx context.Context) ([]int32, error) {
	return a.partitions(ctx, a.o.ChangelogTopic)
}

// Lag is how far one partition is.
type Lag struct {
	Partition int32
	Start     int64 // first record that the topic still holds
	End       int64 // offset after the last committed record
	Committed int64 // offset committed to the group, for lag tools only; -1 if there is none
	// Meta is the partition's own record in the changelog: nil if there is no checkpoint.
	Meta *pipeline.Meta
}

// Position is the offset of the next record to read: what counts is that of the last checkpoint.
func (l *Lag) Position() int64 {
	if l.Meta == nil || l.Meta.Position < l.Start {
		return l.Start
	}
	return l.Meta.Position
}

// Records is how many offsets are yet to be read. Markers of transactions are among them.
func (l *Lag) Records() int64 { return max(l.End-l.Position(), 0) }

// Lags returns how far each partition of the input topic is. A changelog that is missing counts as empty.
func (a *Admin) Lags(ctx context.Context) ([]Lag, error) {
	lags, err := a.GroupLags(ctx)
	if err != nil {
		return nil, err
	}
	metas, err := a.Metas(ctx)
	if err != nil {
		return nil, err
	}
	for i := range lags {
		lags[i].Meta = metas[lags[i].Partition]
	}
	return lags, nil
}

// GroupLags is Lags without the changelog, for the re-keying stage, whose state is of another kind: what is known is the
// offset committed to the group, which may be a second old.
func (a *Admin) GroupLags(ctx context.Context) ([]Lag, error) {
	partitions, err := a.partitions(ctx, a.o.Topic)
	if err != nil {
		return nil, err
	}
	starts, ends, err := a.bounds(ctx, a.o.Topic, partitions)
	if err != nil {
		return nil, err
	}
	committed, err := a.adm.FetchOffsets(ctx, a.o.Group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) { // it has not run yet
		return nil, a.o.explain(err)
	}
	var lags []Lag
	for _, p := range partitions {
		l := Lag{Partition: p, Start: starts[p], End: ends[p], Committed: -1}
		if o, ok := committed.Lookup(a.o.Topic, p); ok && o.Err == nil {
			l.Committed = o.At
		}
		lags = append(lags, l)
	}
	return lags, nil
}

// bounds returns the first offsets of partitions, and those after the last committed record.
func (a *Admin) bounds(ctx context.Context, topic string, partitions []int32) (starts, ends map[int32]int64, err error) {
	if starts, err = listOffsets(ctx, a.cl, topic, partitions, atStart, uncommitted); err != nil {
		return nil, nil, err
	}
	if ends, err = listOffsets(ctx, a.cl, topic, partitions, atEnd, readCommitted); err != nil {
		return nil, nil, err
	}
	for _, p := range partitions {
		if _, ok := starts[p]; !ok {
			return nil, nil, fmt.Errorf("%s partition %d has no leader: wait for the brokers", topic, p)
		}
		if _, ok := ends[p]; !ok {
			return nil, nil, fmt.Errorf("%s partition %d has no leader: wait for the brokers", topic, p)
		}
	}
	return starts, ends, nil
}
