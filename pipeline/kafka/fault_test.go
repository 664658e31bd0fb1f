package kafka

import (
	"errors"
	"fmt"
	"slices"
	"strings"
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

// Every fault costs at most an attempt, and never an event.
func TestFaults(t *testing.T) {
	const changelog = "zyklus-g-changelog"
	for name, f := range map[string][]kfake.Fault{
		"commit refused":          {{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.UnknownServerError, Count: 2}},
		"commit with lost answer": {{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.RequestTimedOut, Count: 3}},
		"commit fenced":           {{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.ProducerFenced, Count: 2}},
		"commit of unknown state": {{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.InvalidTxnState, Count: 2}},
		"coordinator moves":       {{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.NotCoordinator, Count: 3}},
		"changelog refused":       {{Keys: []kmsg.Key{kmsg.Produce}, Topic: changelog, Err: kerr.InvalidRecord, Count: 2}},
		"changelog leader moves":  {{Keys: []kmsg.Key{kmsg.Produce}, Topic: changelog, Err: kerr.NotLeaderForPartition, Count: 3}},
		"changelog answer lost":   {{Keys: []kmsg.Key{kmsg.Produce}, Topic: changelog, Err: kerr.NotEnoughReplicasAfterAppend, Count: 3}},
		"changelog fenced":        {{Keys: []kmsg.Key{kmsg.Produce}, Topic: changelog, Err: kerr.InvalidProducerEpoch, Count: 2}},
		"producer id refused": {
			{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.UnknownServerError},
			{Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.UnknownServerError, Count: 3},
		},
		"input leader moves":       {{Keys: []kmsg.Key{kmsg.Fetch}, Topic: "events", Err: kerr.NotLeaderForPartition, Count: 3}},
		"input broken":             {{Keys: []kmsg.Key{kmsg.Fetch}, Topic: "events", Err: kerr.UnknownServerError, Count: 3}},
		"offset out of range":      {{Keys: []kmsg.Key{kmsg.Fetch}, Topic: "events", Err: kerr.OffsetOutOfRange, Count: 2}},
		"ends are not told":        {{Keys: []kmsg.Key{kmsg.ListOffsets}, Topic: "events", Err: kerr.UnknownServerError, Count: 5}},
		"group offsets refused":    {{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.UnknownServerError, Count: 50}},
		"group forgets its member": {{Keys: []kmsg.Key{kmsg.Heartbeat}, Err: kerr.UnknownMemberID, Count: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 2)
			l.produce(200)
			r := l.run()
			l.awaitTotals()
			fault := l.cluster.Fault(f...)
			for range 5 {
				l.produce(200)
				time.Sleep(20 * time.Millisecond)
			}
			awaitHits(t, fault, len(f))
			l.awaitTotals()
			must(t, r.stop())
			l.run()
			l.produce(10)
			l.awaitTotals()
		})
	}
}

func TestBrokerAwayAtStartOfPartition(t *testing.T) {
	l := newLab(t, 2)
	l.produce(100)
	away := l.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID, kmsg.ListOffsets}, Err: kerr.CoordinatorNotAvailable, Count: -1})
	r := l.run()
	awaitHits(t, away, 3)
	if err := r.Ready(); err == nil {
		t.Fatal("ready without a broker")
	}
	away.Remove()
	l.awaitTotals()
	must(t, r.Ready())
}

// Another producer takes the transactional id while this process still owns the partition, as after a transaction
// that the broker timed out.
func TestFencedOwnerRestores(t *testing.T) { fencedOwnerRestores(t, newLab(t, 1)) }

func fencedOwnerRestores(t *testing.T, l *lab) {
	l.produce(100)
	l.run()
	l.awaitTotals()
	o := l.o.WithDefaults()
	for range 3 {
		txn, err := openTransactions(t.Context(), &o, 0, &Deps{Log: l.log()})
		must(t, err)
		txn.close()
		l.produce(100)
		l.awaitTotals()
	}
}

// What the first transaction of a client commits is committed. Without awaitKnown it rarely is not; with a delay of
// 20 ms in the library before it stores a topic's partitions, never.
func TestFirstCommit(t *testing.T) { firstCommit(t, newLab(t, firstCommitPartitions)) }

const firstCommitPartitions = 16

func firstCommit(t *testing.T, l *lab) {
	const partitions, commits = firstCommitPartitions, 5
	o := l.o.WithDefaults()
	var wg conc.WaitGroup
	for p := range int32(partitions) {
		wg.Go(func() {
			for i := range commits {
				txn, err := openTransactions(t.Context(), &o, p, &Deps{Log: l.log()})
				if err != nil {
					t.Error(err)
					return
				}
				cp := pipeline.Checkpoint{Changes: []pipeline.Change{{Key: fmt.Append(nil, i), Value: []byte("value")}}}
				if err := txn.commit(t.Context(), &cp); err != nil {
					t.Error(err)
				}
				txn.close()
			}
		})
	}
	wg.Wait()
	for p := range int32(partitions) {
		n := 0
		r := restore{o: &o, partition: p, log: l.log(), apply: func(_, _ []byte) error { n++; return nil }}
		must(t, r.run(t.Context(), l.producer.cl))
		if n != commits {
			t.Errorf("partition %d holds %d of %d records", p, n, commits)
		}
	}
}

func TestRebalance(t *testing.T) { rebalance(t, newLab(t, 4)) }

func rebalance(t *testing.T, l *lab) {
	stop := l.produceSteadily()
	first := l.run()
	first.awaitSessions(t, 4)
	second := l.run()
	second.awaitSessions(t, 2)
	third := l.run()
	third.awaitSessions(t, 1)
	must(t, first.stop())
	must(t, third.stop())
	second.awaitSessions(t, 4)
	stop()
	l.awaitTotals()
}

// produceSteadily produces until stop is called.
func (l *lab) produceSteadily() (stop func()) {
	done, finished := make(chan struct{}), make(chan struct{})
	p := &running{}
	p.wg.Go(func() {
		defer close(finished)
		for {
			select {
			case <-done:
				return
			default:
				l.produce(50)
				time.Sleep(2 * time.Millisecond)
			}
		}
	})
	return func() { close(done); <-finished; p.wg.Wait() }
}

func (r *running) awaitSessions(t *testing.T, n int) {
	t.Helper()
	eventually(t, "sessions run", func() error {
		running := 0
		for _, s := range r.snapshot() {
			if s.phase.Load() == phaseRunning {
				running++
			}
		}
		if running != n {
			return fmt.Errorf("%d of %d", running, n)
		}
		return nil
	})
}

// A zombie stands still between writing and committing a transaction while the group gives its partition to another
// process. Its commit is refused, and it does not fence its heir: it waits for the group first.
func TestZombieIsFenced(t *testing.T) {
	l := newLab(t, 1)
	l.produce(100)
	var armed atomic.Bool
	entered, leave := make(chan struct{}), newGate(t)
	zombie := l.run(func(o *Options, d *Deps) {
		o.ClientID = "zombie"
		o.Client = append(slices.Clone(o.Client), kgo.HeartbeatInterval(time.Second))
		d.Crash = func(step string) {
			if step == "produced" && armed.CompareAndSwap(true, false) {
				close(entered)
				leave.wait()
			}
		}
	})
	l.awaitTotals()
	armed.Store(true)
	l.produce(100)
	<-entered
	group := l.standBetween("zombie")
	group.Store(lying)
	heir := l.run(func(o *Options, _ *Deps) { o.ClientID = "heir" })
	heir.awaitSessions(t, 1)
	l.produce(100)
	l.awaitTotals()

	var fences atomic.Int32
	l.cluster.ControlKey(kmsg.InitProducerID.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
		l.cluster.KeepControl()
		fences.Add(1)
		return nil, nil, false
	})
	group.Store(away)
	leave.open()
	eventually(t, "zombie has noticed", func() error {
		for _, s := range zombie.snapshot() {
			if s.phase.Load() == phaseRunning {
				return errors.New("still running")
			}
		}
		return nil
	})
	time.Sleep(300 * time.Millisecond) // for a try of the zombie that must not be
	if n := fences.Load(); n != 0 {
		t.Fatalf("the zombie has fenced its heir, %d times", n)
	}
	group.Store(there)
	must(t, heir.stop())
	zombie.awaitSessions(t, 1)
	l.produce(100)
	l.awaitTotals()
}

// What a process hears from its group.
const (
	there = iota
	lying // all is well, while the coordinator hears nothing
	away
)

// standBetween stands between a process and its group.
func (l *lab) standBetween(clientID string) *atomic.Int32 {
	var mode atomic.Int32
	for _, key := range []kmsg.Key{kmsg.Heartbeat, kmsg.JoinGroup, kmsg.SyncGroup, kmsg.LeaveGroup} {
		l.cluster.ControlKey(key.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
			l.cluster.KeepControl()
			switch m := mode.Load(); {
			case m == there || !strings.HasPrefix(member(req), clientID):
				return nil, nil, false
			case m == lying && key == kmsg.Heartbeat:
				return req.ResponseKind(), nil, true
			}
			return nil, errors.New("cut off"), true
		})
	}
	return &mode
}

func member(req kmsg.Request) string {
	switch r := req.(type) {
	case *kmsg.HeartbeatRequest:
		return r.MemberID
	case *kmsg.JoinGroupRequest:
		return r.MemberID
	case *kmsg.SyncGroupRequest:
		return r.MemberID
	}
	return ""
}
