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
)

// Producer writes events to the input topic, for load and simulation. It is safe for concurrent use.
type Producer struct {
	o     Options
	cl    *kgo.Client
	first firstError
}

// NewProducer connects to the brokers and makes sure that the input topic exists. log may be nil.
func NewProducer(ctx context.Context, o Options, log *slog.Logger) (*Producer, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	o = o.WithDefaults()
	// The first look is without a log: what is wrong is said once, by the error.
	err := o.withAdmin(ctx, func(adm *kadm.Client) error {
		have, err := adm.ListTopics(ctx, o.Topic)
		if err != nil {
			return o.explain(err)
		}
		return o.checkInput(have[o.Topic])
	})
	if err != nil {
		return nil, err
	}
	cl, err := o.newClient("producer", log,
		kgo.RecordPartitioner(partitioner{kgo.StickyKeyPartitioner(nil)}),
		kgo.ProducerBatchCompression(kgo.Lz4Compression(), kgo.NoCompression()),
		kgo.MaxBufferedRecords(50_000),
	)
	if err != nil {
		return nil, err
	}
	return &Producer{o: o, cl: cl}, nil
}

// partitions returns the number of partitions of the topic.
func (p *Producer) partitions(ctx context.Context) (int, error) {
	have, err := kadm.NewClient(p.cl).ListTopics(ctx, p.o.Topic)
	if err != nil {
		return 0, p.o.explain(err)
	}
	return len(have[p.o.Topic].Partitions), p.o.checkInput(have[p.o.Topic])
}

// Produce hands over one record, which goes to the partition that the key hashes to, as with other Kafka clients. It
// waits while too much is under way, and returns the first error of any earlier record. key and value belong to the
// Producer until the next Flush.
func (p *Producer) Produce(ctx context.Context, key, value []byte, timestamp time.Time) error {
	return p.send(ctx, &kgo.Record{Partition: byKey, Key: key, Value: value, Timestamp: timestamp})
}

// Heartbeat writes one record to every partition, behind all that was produced before, and waits until they are stored.
func (p *Producer) Heartbeat(ctx context.Context, value []byte) error {
	n, err := p.partitions(ctx)
	if err != nil {
		return fmt.Errorf("heartbeat: %w", err)
	}
	for i := range n {
		if err := p.send(ctx, &kgo.Record{Partition: int32(i), Value: value}); err != nil {
			return fmt.Errorf("heartbeat: %w", err)
		}
	}
	return p.Flush(ctx)
}

func (p *Producer) send(ctx context.Context, r *kgo.Record) error {
	r.Topic = p.o.Topic
	p.cl.Produce(ctx, r, p.first.note)
	return p.failed()
}

// Flush waits until all records are stored and returns the first error of any.
func (p *Producer) Flush(ctx context.Context) error {
	if err := p.cl.Flush(ctx); err != nil {
		return fmt.Errorf("flush to %s: %w", p.o.Topic, err)
	}
	return p.failed()
}

func (p *Producer) failed() error {
	err := p.first.get()
	switch {
	case err == nil:
		return nil
	case refused(err):
		return p.o.explain(err)
	case errors.Is(err, kerr.MessageTooLarge):
		return fmt.Errorf("produce to %s: a record is larger than the topic's max.message.bytes: %w", p.o.Topic, err)
	}
	return fmt.Errorf("produce to %s: %w", p.o.Topic, err)
}

// Close gives up what is not flushed.
func (p *Producer) Close() { p.cl.Close() }

// byKey in Record.Partition asks for the partition of the key; other values name it.
const byKey = -1

// partitioner lets single records name their partition and leaves the others to the default partitioner.
type partitioner struct{ byKey kgo.Partitioner }

func (p partitioner) ForTopic(topic string) kgo.TopicPartitioner {
	return topicPartitioner{p.byKey.ForTopic(topic)}
}

type topicPartitioner struct{ kgo.TopicPartitioner }

func (p topicPartitioner) RequiresConsistency(r *kgo.Record) bool {
	return r.Partition != byKey || p.TopicPartitioner.RequiresConsistency(r)
}

func (p topicPartitioner) Partition(r *kgo.Record, n int) int {
	if r.Partition != byKey {
		return int(r.Partition)
	}
	return p.TopicPartitioner.Partition(r, n)
}

// OnNewBatch is for records without key, which stick to a partition until their batch is full.
func (p topicPartitioner) OnNewBatch() {
	if b, ok := p.TopicPartitioner.(kgo.TopicPartitionerOnNewBatch); ok {
		b.OnNewBatch()
	}
}
