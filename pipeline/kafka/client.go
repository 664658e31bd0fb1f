package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// newClient opens a client with the options common to all, those given, and those of the deployment, in this order.
func (o *Options) newClient(role string, log *slog.Logger, opts ...kgo.Opt) (*kgo.Client, error) {
	all := []kgo.Opt{
		kgo.SeedBrokers(o.Brokers...),
		kgo.ClientID(o.ClientID + "-" + role),
		kgo.WithLogger(newClientLog(log.With("client", role))),
		kgo.MetadataMinAge(time.Second), // the default of 5 s delays every move of a leader
		kgo.DialTimeout(dialTimeout),
		kgo.RequestTimeoutOverhead(answerTimeout),
		kgo.ProduceRequestTimeout(storeTimeout),
	}
	all = append(all, o.Security.clientOpts()...)
	cl, err := kgo.NewClient(append(append(all, opts...), o.Client...)...)
	if err != nil {
		return nil, fmt.Errorf("kafka client for %s: %w", role, err)
	}
	return cl, nil
}

// clientLog passes warnings and errors of the client library on, each at most once in a while: a broker that is away
// would fill the log.
type clientLog struct {
	log *slog.Logger

	mu   sync.Mutex
	last map[string]time.Time // by message
	left map[string]int       // out since then
}

const clientLogEvery = 10 * time.Second

func newClientLog(log *slog.Logger) *clientLog {
	return &clientLog{log: log, last: map[string]time.Time{}, left: map[string]int{}}
}

func (*clientLog) Level() kgo.LogLevel { return kgo.LogLevelWarn }

func (l *clientLog) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.last[msg]) < clientLogEvery {
		l.left[msg]++
		return
	}
	if n := l.left[msg]; n > 0 {
		keyvals = append(keyvals[:len(keyvals):len(keyvals)], "like_this_before", n)
	}
	l.last[msg], l.left[msg] = time.Now(), 0
	to := slog.LevelWarn
	if level == kgo.LogLevelError {
		to = slog.LevelError
	}
	l.log.Log(context.Background(), to, msg, keyvals...)
}

// fenced reports whether an error of a transaction says that another producer of the same id has come. Kafka and its
// stand-ins use different codes for it.
func fenced(err error) bool {
	for _, e := range []error{
		kerr.ProducerFenced, kerr.InvalidProducerEpoch, kerr.InvalidTxnState, kerr.InvalidProducerIDMapping,
		kerr.TransactionCoordinatorFenced,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// refused reports whether an error says that credentials or rights are missing: waiting does not help.
func refused(err error) bool {
	for _, e := range []error{
		kerr.TopicAuthorizationFailed, kerr.GroupAuthorizationFailed, kerr.ClusterAuthorizationFailed,
		kerr.TransactionalIDAuthorizationFailed, kerr.SaslAuthenticationFailed, kerr.UnsupportedSaslMechanism,
		kerr.IllegalSaslState,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Instants and isolation levels of ListOffsets.
const (
	atStart       = -2
	atEnd         = -1
	uncommitted   = 0 // the end is the high watermark
	readCommitted = 1 // the end is the last stable offset
)

// listOffsets asks for the offset at the start or end of partitions. Partitions whose leader gave no answer are left
// out of the result; if that are all, it returns an error.
func listOffsets(ctx context.Context, cl *kgo.Client, topic string, partitions []int32, at int64, isolation int8) (map[int32]int64, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.IsolationLevel = isolation
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = topic
	for _, p := range partitions {
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Partition, rp.Timestamp = p, at
		t.Partitions = append(t.Partitions, rp)
	}
	req.Topics = append(req.Topics, t)
	found, last := map[int32]int64{}, error(nil)
	for _, shard := range cl.RequestSharded(ctx, req) {
		resp, ok := shard.Resp.(*kmsg.ListOffsetsResponse)
		if shard.Err != nil || !ok {
			last = shard.Err
			continue
		}
		for _, rt := range resp.Topics {
			for _, rp := range rt.Partitions {
				if err := kerr.ErrorForCode(rp.ErrorCode); err != nil {
					last = err
				} else {
					found[rp.Partition] = rp.Offset
				}
			}
		}
	}
	if len(found) == 0 && len(partitions) > 0 {
		return nil, fmt.Errorf("list offsets of %s: %w", topic, cmpError(last))
	}
	return found, nil
}

func cmpError(err error) error {
	if err == nil {
		return errors.New("no broker answered")
	}
	return err
}

// listOffset is listOffsets for one partition.
func listOffset(ctx context.Context, cl *kgo.Client, topic string, partition int32, at int64, isolation int8) (int64, error) {
	found, err := listOffsets(ctx, cl, topic, []int32{partition}, at, isolation)
	return found[partition], err
}

// backoff is the growing pause between attempts, without a lower bound on the first.
type backoff struct{ next time.Duration }

// wait sleeps for the next pause or until ctx ends.
func (b *backoff) wait(ctx context.Context) {
	b.next = min(max(2*b.next, 100*time.Millisecond), 10*time.Second)
	sleep(ctx, b.next)
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
