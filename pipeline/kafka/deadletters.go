package kafka

import (
	"context"
	"encoding/json"
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

// Projector copies a topic of the pipeline's to a table. It commits its offsets after each write, so rows may be written
// twice; they are the same ones.
type Projector struct {
	o           Options
	sink        pipeline.Sink
	topic, name string
	table       *pipeline.Table
	row         func(*pipeline.Rows, *kgo.Record)
	log         *slog.Logger
}

// Names of the projectors; part of their groups' names.
const (
	lettersProjector = "dead-letters"
	stallsProjector  = "source-stalls"
)

// DeadLetters returns the Projector of the dead-letter topic to pipeline.DeadLetterTable. log may be nil.
func DeadLetters(o Options, sink pipeline.Sink, log *slog.Logger) (*Projector, error) {
	o = o.WithDefaults()
	return newProjector(&Projector{
		o: o, sink: sink, topic: o.DeadLetterTopic, name: lettersProjector, table: pipeline.DeadLetterTable(), row: appendDeadLetter, log: log,
	})
}

// SourceStalls returns the Projector of the outputs about stalled sources to pipeline.SourceStallTable. log may be nil.
func SourceStalls(o Options, sink pipeline.Sink, log *slog.Logger) (*Projector, error) {
	o = o.WithDefaults()
	return newProjector(&Projector{
		o: o, sink: sink, topic: o.OutputTopic, name: stallsProjector, table: pipeline.SourceStallTable(), row: appendStall, log: log,
	})
}

func newProjector(p *Projector) (*Projector, error) {
	if err := p.o.Validate(); err != nil {
		return nil, err
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	return p, nil
}

// Run copies until ctx ends and returns nil, or the error of a Sink that cannot write or of a broker that refuses.
// It is a member of a group of its own: <group>-dead-letters, <group>-source-stalls.
func (p *Projector) Run(ctx context.Context) error {
	group := p.o.Group + "-" + p.name
	opts := []kgo.Opt{
		kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(p.topic),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.DisableAutoCommit(),
		// No rebalance waits for a write, which may take as long as the Sink is away: this member would be thrown out. The
		// partition's next owner writes the same rows again.
		// What is older than the topic keeps is gone; rows are idempotent, so going back is harmless.
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
	}
	opts = append(opts, p.o.membership()...)
	cl, err := p.o.newClient(p.name, p.log, opts...)
	if err != nil {
		return err
	}
	defer p.leave(group, cl)
	for ctx.Err() == nil {
		fs := cl.PollRecords(ctx, p.o.MaxPoll)
		if err := p.project(ctx, cl, fs); err != nil {
			return err
		}
	}
	return nil
}

// leave ends the membership and closes the client.
func (p *Projector) leave(group string, cl *kgo.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	if err := p.o.leave(ctx, group, cl); err != nil {
		p.log.Warn("leaving the group "+group, "error", err)
	}
	cl.Close()
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
			p.log.Warn("reading "+p.topic, "error", e.Err)
			sleep(ctx, time.Second)
		}
	}
	var failed error
	fs.EachPartition(func(fp kgo.FetchTopicPartition) {
		if len(fp.Records) == 0 || failed != nil {
			return
		}
		if b := p.batch(fp.Partition, fp.Records); b.Rows() > 0 {
			failed = p.sink.Write(ctx, b)
		}
	})
	switch {
	case ctx.Err() != nil:
		return nil
	case failed != nil:
		return fmt.Errorf("write rows of %s: %w", p.topic, failed)
	}
	if err := cl.CommitUncommittedOffsets(ctx); err != nil && !errors.Is(err, context.Canceled) {
		p.log.Warn("commit "+p.topic+": rows may be written again", "error", err)
	}
	return nil
}

func (p *Projector) batch(partition int32, records []*kgo.Record) *pipeline.Batch {
	rows := pipeline.NewRows(p.table)
	for _, r := range records {
		p.row(rows, r)
	}
	return &pipeline.Batch{
		Topic: p.topic, Partition: partition,
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

// appendStall appends the row of a stalled source. That it is back is a later version of the same row. Other outputs have
// no row here.
func appendStall(rows *pipeline.Rows, r *kgo.Record) {
	var e cloudEvent
	if err := json.Unmarshal(r.Value, &e); err != nil || e.Type != typeStalled && e.Type != typeResumed {
		return
	}
	rows.String(e.Data.Source)
	rows.String(e.Data.Family)
	rows.Int(e.Data.LastEventAt)
	rows.Int(e.Data.StalledAt)
	if e.Type == typeResumed {
		rows.Int(e.Data.ResumedAt)
	} else {
		rows.Null()
	}
	rows.Int(e.Data.LimitSeconds)
	if e.Data.Required {
		rows.Int(1)
	} else {
		rows.Int(0)
	}
	version := int64(1)
	if e.Type == typeResumed {
		version = 2
	}
	rows.End(version, false)
}

func number(b []byte) int64 {
	n, _ := strconv.ParseInt(string(b), 10, 64)
	return n
}
