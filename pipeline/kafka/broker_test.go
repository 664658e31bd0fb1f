package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"zyklus/pipeline"
)

const labChangelog = "zyklus-g-changelog"

// Leaders and coordinators move between three brokers, one leaves and another comes, while events flow: none is lost or
// counted twice.
func TestBrokersMove(t *testing.T) {
	for name, move := range map[string]func(l *lab, round int){
		"all leaders": func(l *lab, _ int) { l.cluster.ShufflePartitionLeaders() },
		"one leader": func(l *lab, round int) {
			for _, topic := range []string{"events", labChangelog} {
				must(l.t, l.cluster.MoveTopicPartition(topic, int32(round%3), int32((round+1)%3)))
			}
		},
		"coordinators": func(l *lab, _ int) { l.cluster.RehashCoordinators() },
		"a broker leaves, another comes": func(l *lab, round int) {
			if round%2 == 0 {
				must(l.t, l.cluster.RemoveNode([]int32{1, 2, 10}[round/2]))
				return
			}
			_, _, err := l.cluster.AddNode(int32(round/2+10), 0)
			must(l.t, err)
		},
		"everything at once": func(l *lab, round int) {
			l.cluster.RehashCoordinators()
			l.cluster.ShufflePartitionLeaders()
			if round == 2 {
				must(l.t, l.cluster.RemoveNode(2))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 3, kfake.NumBrokers(3))
			l.produce(100)
			r := l.run()
			l.awaitTotals()
			for round := range 4 {
				l.produce(100)
				move(l, round)
				l.produce(100)
			}
			l.awaitTotals()
			must(t, r.stop())
			move(l, 4)
			l.run()
			l.produce(100)
			l.awaitTotals()
		})
	}
}

// cutter is a network that cuts the connection of some requests: before the broker has them, or after it has answered.
type cutter struct {
	mu     sync.Mutex
	key    kmsg.Key
	left   int
	answer bool // lost is the answer, not the request
}

func (c *cutter) cut(key kmsg.Key, answer bool, times int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.key, c.answer, c.left = key, answer, times
}

func (c *cutter) done() (left int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.left
}

// meets reports whether a request is to be cut, and how.
func (c *cutter) meets(request []byte) (cut, answer bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left == 0 || len(request) < 6 || binary.BigEndian.Uint16(request[4:]) != uint16(c.key) {
		return false, false
	}
	c.left--
	return true, c.answer
}

func (c *cutter) dial(ctx context.Context, network, host string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, host)
	return &cutConn{Conn: conn, cutter: c}, err
}

type cutConn struct {
	net.Conn
	cutter *cutter
	lose   atomic.Bool // the next answer
}

var errCut = errors.New("connection cut")

func (c *cutConn) Write(request []byte) (int, error) {
	if cut, answer := c.cutter.meets(request); cut {
		if !answer {
			_ = c.Close()
			return 0, errCut
		}
		c.lose.Store(true)
	}
	return c.Conn.Write(request)
}

func (c *cutConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err == nil && c.lose.Load() {
		_ = c.Close()
		return 0, errCut
	}
	return n, err
}

// A request or its answer is lost, with everything that a Runner asks. Whether the broker has done what it was asked is
// not known then; all events count once.
func TestLostRequestsAndAnswers(t *testing.T) {
	for key, atStart := range map[kmsg.Key]bool{ // true for what is asked at a start alone
		kmsg.Produce: false, kmsg.EndTxn: false, kmsg.InitProducerID: true, kmsg.Fetch: false, kmsg.ListOffsets: false,
		kmsg.Metadata: false, kmsg.FindCoordinator: true, kmsg.Heartbeat: false, kmsg.JoinGroup: true, kmsg.SyncGroup: true,
		kmsg.OffsetCommit: false, kmsg.OffsetFetch: true,
	} {
		for _, answer := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, answer %v", key.Name(), answer), func(t *testing.T) {
				t.Parallel()
				l, c := newLab(t, 2), &cutter{}
				through := func(o *Options, _ *Deps) { o.Client = append(slices.Clone(o.Client), kgo.Dialer(c.dial)) }
				l.produce(100)
				r := l.run(through)
				l.awaitTotals()
				c.cut(key, answer, 3)
				for range 3 {
					if atStart {
						must(t, r.stop())
						r = l.run(through)
					}
					for range 10 {
						l.produce(20)
						time.Sleep(10 * time.Millisecond)
					}
					l.awaitTotals()
				}
				eventually(t, "all cuts are met", func() error {
					if left := c.done(); left > 0 {
						return fmt.Errorf("%d are left", left)
					}
					return nil
				})
				l.awaitTotals()
				must(t, r.stop())
				l.run()
				l.produce(10)
				l.awaitTotals()
			})
		}
	}
}

// The coordinators, or the leaders, cannot be found for a while: at the start, and later when others have moved.
func TestNobodyIsFound(t *testing.T) {
	for name, f := range map[string][]kfake.Fault{
		"no coordinator": {
			{Keys: []kmsg.Key{kmsg.FindCoordinator}, Err: kerr.CoordinatorNotAvailable, Count: -1},
			{Keys: []kmsg.Key{kmsg.EndTxn, kmsg.Heartbeat, kmsg.InitProducerID}, Err: kerr.NotCoordinator, Count: -1},
		},
		"no leader of the input": {
			{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "events", Err: kerr.LeaderNotAvailable, Count: -1},
			{Keys: []kmsg.Key{kmsg.Fetch, kmsg.ListOffsets}, Topic: "events", Err: kerr.NotLeaderForPartition, Count: -1},
		},
		"no leader of the changelog": {
			{Keys: []kmsg.Key{kmsg.Metadata}, Topic: labChangelog, Err: kerr.LeaderNotAvailable, Count: -1},
			{Keys: []kmsg.Key{kmsg.Produce, kmsg.Fetch, kmsg.ListOffsets}, Topic: labChangelog, Err: kerr.NotLeaderForPartition, Count: -1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 2)
			l.produce(100)
			r := l.run()
			l.awaitTotals()
			fault := l.cluster.Fault(f...)
			l.producer.Close() // it would ask, too
			awaitHits(t, fault, 10)
			fault.Remove()
			var err error
			l.producer, err = NewProducer(t.Context(), l.o, nil)
			must(t, err)
			t.Cleanup(l.producer.Close)
			l.produce(100)
			l.awaitTotals()
			if r.ended() {
				t.Errorf("ended with %v", r.err)
			}
		})
	}
}

// A process stands still in a transaction until the broker has given it up: what was written is not there, and comes again.
func TestTransactionTimesOut(t *testing.T) {
	for _, step := range []string{"encoded", "produced"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 1)
			l.produce(100)
			var armed atomic.Bool
			entered, leave := make(chan struct{}), newGate(t)
			l.run(func(o *Options, d *Deps) {
				o.Client = append(slices.Clone(o.Client), kgo.TransactionTimeout(200*time.Millisecond))
				d.Crash = func(at string) {
					if at == step && armed.CompareAndSwap(true, false) {
						close(entered)
						leave.wait()
					}
				}
			})
			l.awaitTotals()
			armed.Store(true)
			l.produce(100)
			<-entered
			eventually(t, "the transaction is over", func() error {
				if p := l.cluster.PartitionInfo(labChangelog, 0); p.LastStableOffset != p.HighWatermark {
					return fmt.Errorf("open from %d", p.LastStableOffset)
				}
				return nil
			})
			leave.open()
			l.produce(100)
			l.awaitTotals()
		})
	}
}

// The topic loses what was not read, or is created anew, under a process at work: it ends and names the command.
func TestTopicLostAtWork(t *testing.T) {
	for name := range lossesAtWork {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			topicLostAtWork(t, newLab(t, 1), name)
		})
	}
}

var lossesAtWork = map[string]struct {
	lose func(l *lab, reader *wire)
	want string
}{
	"created anew, empty": {func(l *lab, _ *wire) { l.createAnew(0) }, "the topic was created anew and ends at offset 0"},
	"created anew, with more records": {func(l *lab, _ *wire) {
		l.createAnew(0)
		p, err := NewProducer(l.t.Context(), l.o, nil)
		must(l.t, err)
		l.t.Cleanup(p.Close)
		l.producer = p
		l.produce(300)
	}, "the topic was created anew"},
	"created anew after a while": {func(l *lab, _ *wire) { l.createAnew(500 * time.Millisecond) }, "the topic was created anew"},
	"records deleted ahead of the reader": {func(l *lab, reader *wire) {
		reader.cut()
		l.produce(50)
		to := kadm.Offsets{}
		to.AddOffset(l.o.Topic, 0, 130, -1)
		_, err := l.admin().DeleteRecords(l.t.Context(), to)
		must(l.t, err)
		reader.heal()
	}, "has lost the records from offset 100 to 129"},
}

// createAnew deletes the topic and creates it again after a while.
func (l *lab) createAnew(after time.Duration) {
	l.t.Helper()
	_, err := l.admin().DeleteTopic(l.t.Context(), l.o.Topic)
	must(l.t, err)
	time.Sleep(after)
	_, err = l.admin().CreateTopic(l.t.Context(), 1, -1, nil, l.o.Topic)
	must(l.t, err)
	eventually(l.t, "the broker tells of the topic", func() error {
		_, err := describe(l.t.Context(), l.producer.cl, l.o.Topic)
		return err
	})
}

func topicLostAtWork(t *testing.T, l *lab, name string) {
	c, w := lossesAtWork[name], newWire()
	l.produce(100)
	r := l.run(w.on("", ProtocolClassic))
	r.awaitPosition(t, 0, 100)
	l.awaitTotals()
	before := l.sink.totals()
	c.lose(l, w)
	eventually(t, "the process ends", func() error {
		if !r.ended() {
			return errors.New("it goes on")
		}
		return nil
	})
	if err := r.stop(); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "zyklus admin accept-loss") {
		t.Errorf("ended with %v", err)
	}
	if after := l.sink.totals(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("rows have changed from %v to %v", before, after)
	}
}

// The changelog changes while it is read: it is compacted, or its beginning, which holds nothing that does not come again
// later, is deleted. The state is whole.
func TestChangelogMovesUnderRestore(t *testing.T) {
	for name, move := range map[string]func(l *lab, half int64){
		"compacted": func(l *lab, _ int64) { l.cluster.Compact() },
		"beginning deleted": func(l *lab, half int64) {
			must(l.t, l.cluster.DeleteRecords(labChangelog, 0, half))
		},
	} {
		for _, before := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, before %v", name, before), func(t *testing.T) {
				t.Parallel()
				l := newLab(t, 1)
				l.produce(500)
				r := l.run()
				l.awaitTotals()
				half := l.cluster.PartitionInfo(labChangelog, 0).HighWatermark
				for range 5 {
					l.produce(100) // of all customers
					l.awaitTotals()
				}
				must(t, r.stop())
				if before {
					move(l, half)
				}
				moved := 0
				l.run(func(o *Options, d *Deps) {
					o.MaxPoll, o.FetchMaxBytes = 3, 64<<10
					d.Restoring = func(_ int32, done, total int64) {
						if moved++; !before && done < total {
							move(l, half)
						}
					}
				})
				l.produce(100)
				l.awaitTotals()
				if moved < 3 {
					t.Errorf("the changelog was read in %d steps", moved)
				}
			})
		}
	}
}

// A changelog that was created anew is empty: a state built again from the topic would lose against its former rows.
func TestChangelogCreatedAnew(t *testing.T) {
	l := newLab(t, 1)
	l.produce(100)
	r := l.run()
	l.awaitTotals()
	must(t, l.cluster.DeleteTopic(labChangelog))
	o := l.o.WithDefaults()
	must(t, EnsureTopics(t.Context(), o, 1))
	l.produce(100)
	eventually(t, "the process ends", func() error {
		if !r.ended() {
			return errors.New("it goes on")
		}
		return nil
	})
	if err := r.stop(); err == nil || !strings.Contains(err.Error(), "run zyklus admin rebuild") {
		t.Errorf("ended with %v", err)
	}
	if got := l.sink.totals(); got["customer-0"] != 10 {
		t.Errorf("rows have changed: %v", got)
	}
}

// What is fetched of another topic than that of the position never comes to a Task, even if nothing else tells.
func TestFeedTakesNothingOfAnotherTopic(t *testing.T) {
	l := newLab(t, 1)
	o, d := l.o.WithDefaults(), Deps{Now: time.Now, Log: l.log()}
	f, err := o.newFeed(&d)
	must(t, err)
	defer f.cl.Close()
	l.produce(10)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = f.run(ctx) })
	defer wg.Wait()
	defer cancel()
	other := f.add(0, 0, pipeline.TopicID{1})
	<-other.ready
	if batch, _, err := other.take(); !errors.Is(err, errAnew) || len(batch.records) > 0 {
		t.Errorf("%d records, %v", len(batch.records), err)
	}
	f.remove(0, other)
	now, err := describe(t.Context(), l.producer.cl, "events")
	must(t, err)
	own := f.add(0, 0, now.id)
	<-own.ready
	if batch, _, err := own.take(); err != nil || len(batch.records) == 0 {
		t.Errorf("%d records, %v", len(batch.records), err)
	}
}
