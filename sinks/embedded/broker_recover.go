package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// recoverTime bounds the look at the ends of all partitions at the start.
const recoverTime = 30 * time.Second

// gate keeps clients out of a broker until it has recovered: before open it accepts connections of a private address
// only, after it those of its own. Clients that come too early wait.
type gate struct {
	net.Listener // where clients come
	private      net.Listener
	once         sync.Once
	opened       chan struct{}
}

func newGate(network, addr string) (*gate, error) {
	public, err := net.Listen(network, addr)
	if err != nil {
		return nil, err
	}
	private, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		_ = public.Close()
		return nil, err
	}
	return &gate{Listener: public, private: private, opened: make(chan struct{})}, nil
}

// Accept implements net.Listener.
func (g *gate) Accept() (net.Conn, error) {
	select {
	case <-g.opened:
		return g.Listener.Accept()
	default:
	}
	conn, err := g.private.Accept()
	if err == nil {
		return conn, nil
	}
	<-g.opened
	return g.Listener.Accept()
}

// Close implements net.Listener.
func (g *gate) Close() error {
	g.open()
	return g.Listener.Close()
}

func (g *gate) open() {
	g.once.Do(func() {
		close(g.opened)
		_ = g.private.Close()
	})
}

// client returns a client that passes the gate.
func (g *gate) client(opts ...kgo.Opt) (*kgo.Client, error) {
	var dialer net.Dialer
	return kgo.NewClient(append(opts,
		kgo.SeedBrokers(g.private.Addr().String()),
		kgo.Dialer(func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, g.private.Addr().String())
		}),
	)...)
}

// abortOpen ends the transactions that were open when the process was killed as Kafka does it: with an abort marker in
// each partition. kfake only remembers in its own books that they are aborted. Without the marker a reader of committed
// records never sees the end of such a partition, and takes what the same producer commits later for aborted as well;
// and after the next kill kfake itself takes the aborted records for a part of the producer's next transaction. A
// transaction shows as a partition that ends with its record. Of several producers in one partition only the last is
// seen; those of Zyklus have a partition each.
func abortOpen(g *gate) error {
	ctx, cancel := context.WithTimeout(context.Background(), recoverTime)
	defer cancel()
	cl, err := g.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	at, count, err := lastRecords(ctx, kadm.NewClient(cl))
	if err != nil || count == 0 {
		return err
	}
	reader, err := g.client(
		kgo.ConsumePartitions(at), kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.KeepControlRecords(),
	)
	if err != nil {
		return err
	}
	defer reader.Close()
	for count > 0 {
		fs := reader.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			return fmt.Errorf("read the ends of the partitions: %w", err)
		}
		for it := fs.RecordIter(); !it.Done(); {
			count--
			if r := it.Next(); r.Attrs.IsTransactional() && !r.Attrs.IsControl() {
				if err := abort(ctx, cl, r); err != nil {
					return fmt.Errorf("abort transaction in %s partition %d: %w", r.Topic, r.Partition, err)
				}
			}
		}
	}
	return nil
}

// lastRecords returns the offsets of the last records of partitions in which nothing is open by the broker's books.
func lastRecords(ctx context.Context, adm *kadm.Client) (at map[string]map[int32]kgo.Offset, count int, err error) {
	starts, err1 := adm.ListStartOffsets(ctx)
	ends, err2 := adm.ListEndOffsets(ctx)
	stable, err3 := adm.ListCommittedOffsets(ctx)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, 0, fmt.Errorf("ask for the ends of the partitions: %w", err)
	}
	at = map[string]map[int32]kgo.Offset{}
	ends.Each(func(end kadm.ListedOffset) {
		start, _ := starts.Lookup(end.Topic, end.Partition)
		lso, _ := stable.Lookup(end.Topic, end.Partition)
		if end.Offset <= start.Offset || lso.Offset != end.Offset {
			return // empty, or a transaction that goes on after an orderly stop
		}
		if at[end.Topic] == nil {
			at[end.Topic] = map[int32]kgo.Offset{}
		}
		at[end.Topic][end.Partition] = kgo.NewOffset().At(end.Offset - 1)
		count++
	})
	return at, count, nil
}

// abort writes the marker that ends the transaction of a record.
func abort(ctx context.Context, cl *kgo.Client, r *kgo.Record) error {
	topic := kmsg.NewWriteTxnMarkersRequestMarkerTopic()
	topic.Topic, topic.Partitions = r.Topic, []int32{r.Partition}
	marker := kmsg.NewWriteTxnMarkersRequestMarker()
	marker.ProducerID, marker.ProducerEpoch, marker.Topics = r.ProducerID, r.ProducerEpoch, append(marker.Topics, topic)
	req := kmsg.NewPtrWriteTxnMarkersRequest()
	req.Markers = append(req.Markers, marker)
	for _, shard := range cl.RequestSharded(ctx, req) {
		if shard.Err != nil {
			return shard.Err
		}
		for _, m := range shard.Resp.(*kmsg.WriteTxnMarkersResponse).Markers {
			for _, t := range m.Topics {
				for _, p := range t.Partitions {
					if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}
