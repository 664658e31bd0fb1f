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
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// Loader writes a long series of records into the input topic exactly once, though it may be interrupted at any moment
// and gone on with by another process: each transaction holds records and how far the series has come, or neither.
//
//	NewLoader ─ Begin(name) ─ { Produce | Broadcast } ─ Commit(progress) ─ … ─ Close
//
// The progress is kept as the metadata of a committed offset of the group <group>-load-<name>. Brokers forget it when it
// is older than their offsets.retention.minutes, a week by default, or the topic is deleted.
//
// It is used by one goroutine.
type Loader struct {
	o          Options
	log        *slog.Logger
	name       string
	partitions int
	byKey      kgo.TopicPartitioner
	cl         *kgo.Client
	open       bool           // a transaction has begun
	used       map[int32]bool // partitions written to since Begin
	first      firstError
}

// maxProgress is what brokers keep of it by default (offset.metadata.max.bytes).
const maxProgress = 4096

// ErrLoadTaken says that another process has begun to write a series of the same name.
var ErrLoadTaken = errors.New("another load of the same files has taken over")

// NewLoader makes sure that brokers can be reached and that the input topic exists. log may be nil.
func NewLoader(ctx context.Context, o Options, log *slog.Logger) (*Loader, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	l := &Loader{o: o.WithDefaults(), log: log, byKey: kgo.StickyKeyPartitioner(nil).ForTopic(o.Topic), used: map[int32]bool{}}
	err := l.o.withAdmin(ctx, func(adm *kadm.Client) error {
		have, err := adm.ListTopics(ctx, o.Topic)
		if err != nil {
			return l.o.explain(err)
		}
		l.partitions = len(have[o.Topic].Partitions)
		return l.o.checkInput(have[o.Topic])
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}

// Begin stops every other process that writes the series of this name, and returns the progress of the last commit,
// empty if there is none.
func (l *Loader) Begin(ctx context.Context, name string) (progress string, err error) {
	l.name = name
	versions := kversion.Stable()
	// Versions above 4 are of transactions that the library alone can add offsets to (KIP-890).
	versions.SetMaxKeyVersion(int16(kmsg.TxnOffsetCommit), 4)
	l.cl, err = l.o.newClient("load", l.log,
		kgo.TransactionalID(l.o.Group+"/load/"+name),
		kgo.TransactionTimeout(txnTimeout),
		kgo.MaxVersions(versions),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.Lz4Compression(), kgo.NoCompression()),
		kgo.MaxBufferedRecords(50_000),
		kgo.MaxBufferedBytes(64<<20),
	)
	if err != nil {
		return "", err
	}
	if _, _, err := l.cl.ProducerID(ctx); err != nil {
		return "", l.failed("begin", err)
	}
	err = patiently(ctx, func() error { // the first group of a cluster takes a second
		found, err := kadm.NewClient(l.cl).FetchOffsets(kadm.RequireStable(ctx), l.group())
		offset, _ := found.Lookup(l.o.Topic, 0)
		progress = offset.Metadata
		return err
	})
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return "", l.failed("read the progress", err)
	}
	return progress, nil
}

func (l *Loader) group() string { return l.o.Group + "-load-" + l.name }

// Partitions is the number of partitions of the topic.
func (l *Loader) Partitions() int { return l.partitions }

// Partition returns the one that records of a key go to, as with other Kafka clients.
func (l *Loader) Partition(key []byte) int {
	return l.byKey.Partition(&kgo.Record{Key: key}, l.partitions)
}

// Produce hands over one record, which is stamped with the present: brokers would delete records as old as history is. It
// waits while too much is under way, and returns the first error of any earlier record. key and value belong to the
// Loader until the next Commit.
func (l *Loader) Produce(ctx context.Context, key, value []byte) error {
	return l.send(ctx, int32(l.Partition(key)), key, value)
}

// Broadcast writes a record without key to every partition, behind all that was produced before.
func (l *Loader) Broadcast(ctx context.Context, value []byte) error {
	for p := range l.partitions {
		if err := l.send(ctx, int32(p), nil, value); err != nil {
			return err
		}
	}
	return nil
}

func (l *Loader) send(ctx context.Context, partition int32, key, value []byte) error {
	if !l.open {
		if err := l.cl.BeginTransaction(); err != nil {
			return l.failed("begin a transaction", err)
		}
		l.open = true
	}
	l.used[partition] = true
	l.cl.Produce(ctx, &kgo.Record{Topic: l.o.Topic, Partition: partition, Key: key, Value: value, Timestamp: time.Now()}, l.first.note)
	if err := l.first.get(); err != nil {
		return l.failed("produce", err)
	}
	return nil
}

// Commit makes everything since the last commit visible, together with a progress of at most 4096 bytes. It does nothing
// if nothing was produced. After an error the Loader is of no more use, and another one's Begin tells what was committed.
func (l *Loader) Commit(ctx context.Context, progress string) error {
	if len(progress) > maxProgress {
		panic(fmt.Sprintf("BUG: progress of %d bytes", len(progress)))
	}
	if !l.open {
		return nil
	}
	if err := l.cl.Flush(ctx); err != nil {
		return fmt.Errorf("flush to %s: %w", l.o.Topic, err)
	}
	if err := l.first.get(); err != nil {
		return l.failed("produce", err)
	}
	for p := range l.used {
		if err := (place{l.o.Topic, p}).awaitKnown(ctx, l.cl); err != nil {
			return err
		}
	}
	if err := l.addProgress(ctx, progress); err != nil {
		return l.failed("write the progress", err)
	}
	if err := l.cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return l.failed("commit", err)
	}
	l.open = false
	return nil
}

// addProgress makes the progress part of the transaction.
func (l *Loader) addProgress(ctx context.Context, progress string) error {
	id, epoch, err := l.cl.ProducerID(ctx)
	if err != nil {
		return err
	}
	err = patiently(ctx, func() error {
		req := kmsg.NewPtrAddOffsetsToTxnRequest()
		req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = l.o.Group+"/load/"+l.name, id, epoch, l.group()
		resp, err := req.RequestWith(ctx, l.cl)
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(resp.ErrorCode)
	})
	if err != nil {
		return err
	}
	return patiently(ctx, func() error {
		req := kmsg.NewPtrTxnOffsetCommitRequest()
		req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = l.o.Group+"/load/"+l.name, id, epoch, l.group()
		req.Generation = -1 // of no member
		partition := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		partition.Metadata = &progress
		topic := kmsg.NewTxnOffsetCommitRequestTopic()
		topic.Topic, topic.Partitions = l.o.Topic, append(topic.Partitions, partition)
		req.Topics = append(req.Topics, topic)
		resp, err := req.RequestWith(ctx, l.cl)
		if err != nil {
			return err
		}
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// patiently asks again while the brokers say that it may work later.
func patiently(ctx context.Context, ask func() error) error {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	for pause := (backoff{}); ; pause.wait(ctx) {
		err := ask()
		if !errors.Is(err, kerr.ConcurrentTransactions) && !kerr.IsRetriable(err) || ctx.Err() != nil {
			return err
		}
	}
}

func (l *Loader) failed(step string, err error) error {
	switch {
	case fenced(err):
		return ErrLoadTaken
	case refused(err) && l.o.signInAdvice(err) == "":
		return fmt.Errorf("kafka denies %s a right; to load are needed: describe, read and write topic %s, describe and write transactional ids %s/load/*, read groups %[3]s-load-*: %w",
			l.o.principal(), l.o.Topic, l.o.Group, lineError{err})
	case l.o.ofConnection(err), refused(err):
		return l.o.explain(err)
	case errors.Is(err, kerr.MessageTooLarge):
		return fmt.Errorf("load into %s: a record is larger than the topic's max.message.bytes: %w", l.o.Topic, err)
	}
	return fmt.Errorf("load into %s: %s: %w", l.o.Topic, step, lineError{err})
}

// Close takes back what was not committed, so that readers of the topic need not wait for the transaction to time out.
func (l *Loader) Close(ctx context.Context) {
	if l.cl == nil {
		return
	}
	defer l.cl.Close()
	if !l.open {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if err := l.cl.AbortBufferedRecords(ctx); err == nil {
		_ = l.cl.EndTransaction(ctx, kgo.TryAbort) // if it fails, it times out
	}
}
