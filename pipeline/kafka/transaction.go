package kafka

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"zyklus/pipeline"
)

// transactions writes the checkpoints of one partition, each in one transaction. After any error the outcome is
// unknown and it is of no more use: a new one finishes or aborts what was left open.
type transactions struct {
	cl        *kgo.Client
	o         *Options
	partition int32
	crash     func(step string)
	records   []kgo.Record // reused: a flushed record belongs to us again

	known   []place // that awaitKnown has seen; few
	letters int32   // partitions of the dead-letter topic
	frame   frame
}

// openTransactions fences every other producer of the partition and waits until their open transaction is resolved.
func openTransactions(ctx context.Context, o *Options, partition int32, d *Deps) (*transactions, error) {
	opts, leaders := o.patientProducer()
	cl, err := o.newClient(fmt.Sprintf("changelog-%d", partition), d.Log, append(opts,
		kgo.TransactionalID(o.transactionalID(partition)),
		kgo.TransactionTimeout(txnTimeout),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.Lz4Compression(), kgo.NoCompression()),
		kgo.ProducerBatchMaxBytes(maxMessage-4<<10),
	)...)
	if err != nil {
		return nil, err
	}
	leaders.client.Store(cl)
	if _, _, err := cl.ProducerID(ctx); err != nil {
		cl.Close()
		return nil, fmt.Errorf("fence former producers of %s: %w", o.transactionalID(partition), err)
	}
	return &transactions{
		cl: cl, o: o, partition: partition, crash: d.crash, letters: max(d.letters, 1), frame: frame{partitions: int(d.partitions)},
	}, nil
}

func (t *transactions) close() { t.cl.Close() }

// commit writes the checkpoint's changes and dead letters in one transaction.
func (t *transactions) commit(ctx context.Context, cp *pipeline.Checkpoint) error {
	if err := t.cl.BeginTransaction(); err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	if err := t.produce(ctx, cp); err != nil {
		return fmt.Errorf("write checkpoint %d: %w", cp.Number, err)
	}
	t.crash("produced")
	if err := t.cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return fmt.Errorf("commit checkpoint %d: %w", cp.Number, err)
	}
	t.crash("committed")
	return nil
}

func (t *transactions) produce(ctx context.Context, cp *pipeline.Checkpoint) error {
	var first firstError
	t.records = t.records[:0]
	for i := range cp.Changes {
		c := &cp.Changes[i]
		t.records = append(t.records, kgo.Record{
			Topic: t.o.ChangelogTopic, Partition: t.partition, Key: c.Key, Value: c.Value,
		})
	}
	if last := len(t.records) - 1; last >= 0 {
		t.records[last].Headers = t.frame.headers()
	}
	at := time.Now()
	for i := range cp.DeadLetters {
		t.records = append(t.records, deadLetterRecord(t.o.DeadLetterTopic, t.partition%t.letters, &cp.DeadLetters[i], at))
	}
	for i := range cp.Outputs {
		o := &cp.Outputs[i]
		t.records = append(t.records, kgo.Record{Topic: o.Topic, Partition: o.Partition, Key: o.Key, Value: o.Value})
	}
	for i := range t.records {
		t.cl.Produce(ctx, &t.records[i], first.note)
	}
	if err := t.cl.Flush(ctx); err != nil {
		return err
	}
	if err := first.get(); err != nil {
		return err
	}
	for i := range t.records {
		if err := t.awaitKnown(ctx, place{t.records[i].Topic, t.records[i].Partition}); err != nil {
			return err
		}
	}
	clear(t.records)
	return nil
}

// place is a partition of a topic.
type place struct {
	topic     string
	partition int32
}

// awaitKnown waits until the client itself knows the partition that it has just produced to for the first time. franz-go
// v1.22.2 hands the records to the broker before it stores the topic's partitions, and EndTransaction looks for written
// partitions among the stored ones: if it comes in between it finds none, aborts what the broker has acknowledged, and
// returns no error: the state would be behind its rows.
func (t *transactions) awaitKnown(ctx context.Context, p place) error {
	if n := len(t.known); n > 0 && t.known[n-1] == p || slices.Contains(t.known, p) {
		return nil
	}
	if err := p.awaitKnown(ctx, t.cl); err != nil {
		return err
	}
	t.known = append(t.known, p)
	return nil
}

// awaitKnown waits until the client knows the partition.
func (p place) awaitKnown(ctx context.Context, cl *kgo.Client) error {
	for {
		if leader, epoch, _ := cl.PartitionLeader(p.topic, p.partition); leader >= 0 || epoch >= 0 {
			return nil
		}
		if sleep(ctx, time.Millisecond); ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// firstError keeps the first of the errors that the promises of many records report.
type firstError struct {
	mu  sync.Mutex
	err error
}

func (f *firstError) note(_ *kgo.Record, err error) {
	if err == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
}

func (f *firstError) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}
