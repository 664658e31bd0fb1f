package kafka

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sourcegraph/conc"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"zyklus/pipeline"
)

// tracingTask shows what a Task is told, and can be held up.
type tracingTask struct {
	Task
	trace *trace
}

type trace struct {
	gate      atomic.Pointer[gate] // while set, partition 0 waits for it with its next event
	slow      time.Duration        // that each event takes
	processed atomic.Int64
	mu        sync.Mutex
	advances  []advance
}

// advance is one move of the clock by the wall clock.
type advance struct{ to, processed int64 }

func (t tracingTask) Process(e *pipeline.Event, believable int64) {
	if gate := t.trace.gate.Load(); gate != nil && e.Origin.Partition == 0 {
		gate.wait()
	}
	time.Sleep(t.trace.slow)
	t.Task.Process(e, believable)
	t.trace.processed.Add(1)
}

func (t tracingTask) AdvanceClock(now int64) {
	t.trace.mu.Lock()
	defer t.trace.mu.Unlock()
	t.trace.advances = append(t.trace.advances, advance{now, t.trace.processed.Load()})
	t.Task.AdvanceClock(now)
}

func (t *trace) last() advance {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.advances) == 0 {
		return advance{}
	}
	return t.advances[len(t.advances)-1]
}

func (t *trace) use(_ *Options, d *Deps) {
	d.NewTask = func(topic string, partition int32) Task { return tracingTask{newCountTask(topic, partition), t} }
}

// awaitLater waits until the clock has moved beyond now.
func (t *trace) awaitLater(tt *testing.T) {
	tt.Helper()
	now := time.Now().UnixMilli()
	eventually(tt, "clock advances", func() error {
		if at := t.last().to; at <= now {
			return fmt.Errorf("at %d, want more than %d", at, now)
		}
		return nil
	})
}

// Whenever the clock moves to an instant, all that the broker had stored by then has been processed.
func TestClockNeverPassesUnreadRecords(t *testing.T) {
	l := newLab(t, 1)
	tr := trace{slow: 100 * time.Microsecond} // slower than they come
	l.run(tr.use)
	type stored struct{ at, n int64 }
	var log []stored
	sent := int64(0)
	for range 30 {
		l.produce(50)
		sent += 50
		log = append(log, stored{time.Now().UnixMilli(), sent})
		time.Sleep(10 * time.Millisecond)
	}
	l.awaitTotals()
	tr.awaitLater(t)
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if len(tr.advances) < 2 {
		t.Fatal("the clock did not move")
	}
	for _, a := range tr.advances {
		for _, s := range log {
			if s.at < a.to && a.processed < s.n {
				t.Fatalf("clock at %d with %d records processed, %d were stored at %d", a.to, a.processed, s.n, s.at)
			}
		}
	}
}

func TestClockStandsWhileBehindOrWithoutAnswer(t *testing.T) {
	l := newLab(t, 1)
	var tr trace
	l.run(tr.use)
	tr.awaitLater(t) // an empty partition is caught up

	gate := newGate(t)
	tr.gate.Store(gate)
	l.produce(10)
	produced := time.Now().UnixMilli()
	time.Sleep(3 * watchEvery)
	if at := tr.last().to; at > produced {
		t.Fatal("the clock has passed records that wait")
	}
	gate.open()
	tr.awaitLater(t)

	away := l.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Err: kerr.UnknownServerError, Count: -1})
	awaitHits(t, away, 2)
	stood := time.Now().UnixMilli()
	time.Sleep(3 * watchEvery)
	if at := tr.last().to; at > stood {
		t.Fatal("the clock moves without an answer from the broker")
	}
	away.Remove()
	tr.awaitLater(t)
}

// Markers and aborted records at the end of the topic do not keep a partition from being caught up, and an open
// transaction does not either: nothing of it can be read yet.
func TestCaughtUpBehindTransactions(t *testing.T) {
	l := newLab(t, 1)
	var tr trace
	l.run(tr.use)
	o := l.o.WithDefaults()
	cl, err := o.newClient("test", l.log(), kgo.TransactionalID("source"))
	must(t, err)
	defer cl.Close()
	for _, end := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort} {
		must(t, cl.BeginTransaction())
		must(t, cl.ProduceSync(t.Context(), &kgo.Record{Topic: "events", Value: []byte("customer-t")}).FirstErr())
		tr.awaitLater(t)
		must(t, cl.EndTransaction(t.Context(), end))
		if end == kgo.TryCommit {
			l.produced["customer-t"]++
		}
		l.awaitTotals()
		tr.awaitLater(t)
	}
}

// A Task that stands still does not stop the other partition.
func TestSlowPartitionStopsNoOther(t *testing.T) {
	l := newLab(t, 2)
	var tr trace
	gate := newGate(t)
	tr.gate.Store(gate)
	const poll = 100
	r := l.run(tr.use, func(o *Options, _ *Deps) { o.MaxPoll = poll })
	r.awaitSessions(t, 2)
	for range 20 {
		l.produce(500)
	}
	other, err := listOffset(t.Context(), l.producer.cl, "events", 1, atEnd, uncommitted)
	must(t, err)
	eventually(t, "other partition is processed", func() error {
		if n := tr.processed.Load(); n != other {
			return fmt.Errorf("%d of %d", n, other)
		}
		return nil
	})
	eventually(t, "slow partition is paused", func() error {
		if p := r.feed.cl.PauseFetchPartitions(nil)["events"]; len(p) != 1 || p[0] != 0 {
			return fmt.Errorf("paused are %v", p)
		}
		return nil
	})
	gate.open()
	l.awaitTotals()
}

// What waits in an inbox that nobody empties is bounded, the partition is paused, and it goes on once there is room,
// without a gap. A partition that is removed and added again begins exactly at the new offset.
func TestFeed(t *testing.T) {
	l := newLab(t, 1)
	const poll = 100
	o, d := l.o.WithDefaults(), Deps{Log: l.log(), Now: time.Now}
	o.MaxPoll = poll
	f, err := o.newFeed(&d)
	must(t, err)
	defer f.cl.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var wg conc.WaitGroup
	wg.Go(func() { _ = f.run(ctx) })
	defer wg.Wait()
	defer cancel()

	l.produce(2000)
	in := f.add(0, 0, pipeline.TopicID{})
	eventually(t, "partition is paused", func() error {
		in.mu.Lock()
		defer in.mu.Unlock()
		if !in.paused {
			return fmt.Errorf("%d records wait", in.records)
		}
		return nil
	})
	if in.records > 2*poll {
		t.Fatalf("%d records wait", in.records)
	}
	f.expect(t, in, 0, 1000)
	f.remove(0, in)
	in = f.add(0, 500, pipeline.TopicID{})
	f.expect(t, in, 500, 2000)
}

// expect takes the records from one offset to another.
func (f *feed) expect(t *testing.T, in *inbox, from, to int64) {
	t.Helper()
	eventually(t, "records arrive", func() error {
		batch, resume, err := in.take()
		if err != nil {
			t.Fatal(err)
		}
		if resume {
			f.resume(0)
		}
		for _, r := range batch.records {
			if r.Offset != from {
				t.Fatalf("offset %d, want %d", r.Offset, from)
			}
			from++
		}
		if from < to {
			return fmt.Errorf("at offset %d", from)
		}
		return nil
	})
}
