package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"zyklus/pipeline"
)

// Headers of dead letters. Key and value of the record are those of the original.
const (
	headerError     = "error"     // name of the pipeline.ErrorKind
	headerCause     = "cause"     // for people
	headerTopic     = "topic"     // where the original was read
	headerPartition = "partition" // decimal
	headerOffset    = "offset"    // decimal
	headerAt        = "at"        // decimal Unix milliseconds
	headerTruncated = "truncated" // decimal length of the original value, only if it was cut
)

// deadLetterRecord returns the record of a dead letter. A value too large for the topic is cut: a checkpoint that
// cannot be written would stop the partition.
func deadLetterRecord(topic string, partition int32, l *pipeline.DeadLetter, now time.Time) kgo.Record {
	r := kgo.Record{
		Topic: topic, Partition: partition, Key: l.Key, Value: l.Value, Timestamp: now,
		Headers: []kgo.RecordHeader{
			{Key: headerError, Value: []byte(l.Kind.String())},
			{Key: headerCause, Value: []byte(l.Cause)},
			{Key: headerTopic, Value: []byte(l.Origin.Topic)},
			{Key: headerPartition, Value: strconv.AppendInt(nil, int64(l.Origin.Partition), 10)},
			{Key: headerOffset, Value: strconv.AppendInt(nil, l.Origin.Offset, 10)},
			{Key: headerAt, Value: strconv.AppendInt(nil, l.At, 10)},
		},
	}
	if len(r.Key) > maxLetter/2 {
		r.Key = r.Key[:maxLetter/2]
	}
	if room := maxLetter - len(r.Key); len(r.Value) > room {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: headerTruncated, Value: strconv.AppendInt(nil, int64(len(r.Value)), 10)})
		r.Value = r.Value[:room]
	}
	return r
}

// Projector copies the dead-letter topic to a table. It commits its offsets after each write, so rows may be written
// twice; they are the same ones.
type Projector struct {
	o     Options
	sink  pipeline.Sink
	table *pipeline.Table
	log   *slog.Logger
}

// NewProjector returns a Projector that writes to table, whose columns are topic, partition, position, at, error, cause,
// key, value, received_at and those of the version. log may be nil.
func NewProjector(o Options, sink pipeline.Sink, table *pipeline.Table, log *slog.Logger) (*Projector, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Projector{o: o.WithDefaults(), sink: sink, table: table, log: log}, nil
}

// Run copies until ctx ends and returns nil, or the error of a Sink that cannot write or of a broker that refuses.
// It is a member of the group <group>-dead-letters.
func (p *Projector) Run(ctx context.Context) error {
	opts := []kgo.Opt{
		kgo.ConsumerGroup(p.o.Group + "-dead-letters"),
		kgo.ConsumeTopics(p.o.DeadLetterTopic),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		// What is older than the topic keeps is gone; rows are idempotent, so going back is harmless.
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
	}
	opts = append(opts, p.o.membership()...)
	cl, err := p.o.newClient("dead-letters", p.log, opts...)
	if err != nil {
		return err
	}
	defer cl.CloseAllowingRebalance()
	for ctx.Err() == nil {
		fs := cl.PollRecords(ctx, p.o.MaxPoll)
		if err := p.project(ctx, cl, fs); err != nil {
			return err
		}
		cl.AllowRebalance()
	}
	return nil
}

// project writes what was polled and commits it.
func (p *Projector) project(ctx context.Context, cl *kgo.Client, fs kgo.Fetches) error {
	for _, e := range fs.Errors() {
		switch {
		case ctx.Err() != nil:
			return nil
		case refused(e.Err):
			return p.o.explain(e.Err)
		default:
			p.log.Warn("reading dead letters", "error", e.Err)
			sleep(ctx, time.Second)
		}
	}
	var failed error
	fs.EachPartition(func(fp kgo.FetchTopicPartition) {
		if len(fp.Records) == 0 || failed != nil {
			return
		}
		failed = p.sink.Write(ctx, p.batch(fp.Partition, fp.Records))
	})
	switch {
	case ctx.Err() != nil:
		return nil
	case failed != nil:
		return fmt.Errorf("write dead letters: %w", failed)
	}
	if err := cl.CommitUncommittedOffsets(ctx); err != nil && !errors.Is(err, context.Canceled) {
		p.log.Warn("commit dead letters: they may be written again", "error", err)
	}
	return nil
}

func (p *Projector) batch(partition int32, records []*kgo.Record) *pipeline.Batch {
	rows := pipeline.NewRows(p.table)
	for _, r := range records {
		appendDeadLetter(rows, r)
	}
	return &pipeline.Batch{
		Topic: p.o.DeadLetterTopic, Partition: partition,
		Version: records[len(records)-1].Offset + 1, Tables: []*pipeline.Rows{rows},
	}
}

// appendDeadLetter appends the row of one record. One that this program did not write still gets a row, under its own
// place.
func appendDeadLetter(rows *pipeline.Rows, r *kgo.Record) {
	h := make(map[string][]byte, len(r.Headers))
	for _, rh := range r.Headers {
		h[rh.Key] = rh.Value
	}
	if h[headerTopic] == nil || h[headerOffset] == nil {
		h[headerTopic], h[headerOffset] = []byte(r.Topic), strconv.AppendInt(nil, r.Offset, 10)
		h[headerPartition] = strconv.AppendInt(nil, int64(r.Partition), 10)
	}
	rows.Text(h[headerTopic])
	rows.Int(number(h[headerPartition]))
	rows.Int(number(h[headerOffset]))
	rows.Int(number(h[headerAt]))
	rows.Text(h[headerError])
	rows.Text(h[headerCause])
	rows.Text(r.Key)
	rows.Text(r.Value)
	rows.Int(r.Timestamp.UnixMilli())
	rows.End(r.Offset+1, false)
}

func number(b []byte) int64 {
	n, _ := strconv.ParseInt(string(b), 10, 64)
	return n
}
