package kafka

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"zyklus/pipeline"
)

// stallLab has a topic of two partitions, a wall clock of its own, and Runners that watch for silence of orders. A value
// that begins with o is an order, any other a page; events happen when they are written.
type stallLab struct {
	*lab
	now   atomic.Int64 // Unix milliseconds
	mu    sync.Mutex
	holds map[string]pipeline.Hold // last one, by Runner and partition
}

func newStallLab(t *testing.T) *stallLab {
	s := &stallLab{lab: newLab(t, 2), holds: map[string]pipeline.Hold{}}
	s.now.Store(1_700_000_000_000)
	s.o.Stall = Stall{Source: "shop", Limits: map[string]time.Duration{"orders": time.Minute}, Required: true, Settle: 5 * time.Minute}
	return s
}

type stallDecoder struct{ at func() int64 }

func (d stallDecoder) Decode(r *pipeline.Record, e *pipeline.Event) error {
	*e = pipeline.Event{Kind: pipeline.KindPageViewed, Customer: r.Value, At: d.at()}
	if r.Value[0] == 'o' {
		e.Kind = pipeline.KindOrderCompleted
	}
	return nil
}

type holdTask struct {
	Task
	tell func(pipeline.Hold)
}

func (t holdTask) Hold(h pipeline.Hold) { t.tell(h) }

func (s *stallLab) start(name string) *running {
	return s.run(func(o *Options, d *Deps) {
		o.InstanceID = name
		d.Now = func() time.Time { return time.UnixMilli(s.now.Load()) }
		d.NewDecoder = func() Decoder { return stallDecoder{s.now.Load} }
		d.NewTask = func(topic string, partition int32) Task {
			return holdTask{newCountTask(topic, partition), func(h pipeline.Hold) {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.holds[fmt.Sprint(name, partition)] = h
			}}
		}
	})
}

// to writes a record to a partition.
func (s *stallLab) to(partition int32, value string) {
	s.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.o.Brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	must(s.t, err)
	defer cl.Close()
	must(s.t, cl.ProduceSync(s.t.Context(), &kgo.Record{Topic: s.o.Topic, Partition: partition, Value: []byte(value)}).FirstErr())
}

// awaitHold waits until time in both partitions is held at an order, by judgements from now on.
func (s *stallLab) awaitHold(what string, order int64) {
	s.t.Helper()
	s.mu.Lock()
	clear(s.holds)
	s.mu.Unlock()
	want := pipeline.Hold{Clock: order + time.Minute.Milliseconds(), Settled: order}
	eventually(s.t, what, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		held := [2]bool{}
		for who, h := range s.holds {
			if h == want {
				held[who[len(who)-1]-'0'] = true
			}
		}
		if !held[0] || !held[1] {
			return fmt.Errorf("want %+v in both partitions, have %+v", want, s.holds)
		}
		return nil
	})
}

// awaitNote waits until a partition has told the group something.
func (s *stallLab) awaitNote(what string, is func(partition int32, n *note) bool) {
	s.t.Helper()
	eventually(s.t, what, func() error {
		offsets, err := s.admin().FetchOffsets(s.t.Context(), s.o.Group)
		if err != nil {
			return err
		}
		for p, o := range offsets[s.o.Topic] {
			if n, ok := parseNote(o.Metadata); ok && is(p, &n) {
				return nil
			}
		}
		return fmt.Errorf("no note of it")
	})
}

// alerts returns the outputs so far as type and id.
func (l *lab) alerts() (list []cloudEvent) {
	l.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(l.o.Brokers...), kgo.ConsumeTopics(l.o.WithDefaults().OutputTopic),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(50*time.Millisecond))
	must(l.t, err)
	defer cl.Close()
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		ctx, cancel := contextFor(100 * time.Millisecond)
		cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			var e cloudEvent
			must(l.t, json.Unmarshal(r.Value, &e))
			list = append(list, e)
		})
		cancel()
	}
	return list
}

func (l *lab) awaitAlert(typ string) (found cloudEvent) {
	l.t.Helper()
	eventually(l.t, typ, func() error {
		for _, e := range l.alerts() {
			if found = e; e.Type == typ {
				return nil
			}
		}
		return fmt.Errorf("only %v", l.alerts())
	})
	return found
}

// A source is judged over all partitions, those of other processes too: time is held, an alert is raised, and time goes
// on once the source is back and what it held back has had time to come.
func TestStalledSource(t *testing.T) {
	t.Parallel()
	s := newStallLab(t)
	first := s.start("a")
	s.start("b")
	began := s.now.Load()
	s.to(0, "order-1")
	s.awaitHold("orders bound the clock of a partition without any", began)

	s.now.Add(61_000)
	e := s.awaitAlert(typeStalled)
	if e.Data.LastEventAt != began || e.Data.StalledAt != began+60_000 || e.Data.Source != "shop" || e.Data.Family != "orders" || !e.Data.Required {
		t.Errorf("the alert is %+v", e)
	}
	s.to(1, "page-1") // web goes on, and does not move time
	s.now.Add(3_600_000)
	s.awaitHold("the clock is held", began)

	must(t, first.stop()) // what is known survives its process
	s.start("c")
	back := s.now.Load()
	s.to(1, "order-2")
	s.awaitNote("the source is seen to be back", func(_ int32, n *note) bool { return len(n.last) == 1 && n.last[0] == back })
	for range 3 { // the first judgement may have been under way
		s.awaitHold("time stands still until what was held back has had time to come", began)
	}
	for range 6 {
		s.now.Add(59_000)
		s.to(1, "order-more")
	}
	if r := s.awaitAlert(typeResumed); r.Data.LastEventAt != began || r.Data.ResumedAt < back {
		t.Errorf("the alert is %+v", r)
	}
	s.awaitHold("orders bound the clock again", s.now.Load())
	ids := map[string]string{}
	for _, e := range s.alerts() { // raised by more than one process, they are the same
		if ids[e.Type] != "" && ids[e.Type] != e.ID {
			t.Errorf("two alerts of one stall: %v", s.alerts())
		}
		ids[e.Type] = e.ID
	}
}

// A process that starts while a source is on its way back knows of the stall: time is held on, and the end is told.
func TestStallSurvivesEveryProcess(t *testing.T) {
	t.Parallel()
	s := newStallLab(t)
	first := s.start("a")
	began := s.now.Load()
	s.to(0, "order-1")
	s.awaitHold("orders bound the clock", began)
	s.now.Add(61_000)
	s.awaitAlert(typeStalled)
	s.now.Add(3_600_000)
	s.to(1, "order-2")
	for range 3 {
		s.awaitHold("the source is on its way back", began)
	}
	must(t, first.stop())
	s.start("b")
	for range 2 {
		s.awaitHold("a new process holds time on", began)
	}
	for range 6 {
		s.now.Add(59_000)
		s.to(1, "order-more")
	}
	if r := s.awaitAlert(typeResumed); r.Data.LastEventAt != began {
		t.Errorf("the alert is %+v", r)
	}
}

// Two partitions with one customer: the topic is not keyed by customer. Each process sees one of them only.
func TestKeysAreCheckedAcrossProcesses(t *testing.T) {
	t.Parallel()
	s := newStallLab(t)
	s.o.CheckKeys, s.o.Stall = true, Stall{}
	a, b := s.start("a"), s.start("b")
	for i := range 100 {
		s.to(int32(i%2), fmt.Sprint("page-", i%7))
	}
	eventually(t, "a process refuses", func() error {
		for _, r := range []*running{a, b} {
			if err := r.failed(); err != nil || r.ended() {
				if err := r.stop(); err == nil || !strings.Contains(err.Error(), "not keyed by customer") {
					t.Errorf("ended with %v", err)
				}
				return nil
			}
		}
		return fmt.Errorf("both go on")
	})
}

func FuzzNote(f *testing.F) {
	n := note{
		watched: 9, reached: 1, last: []int64{2, 3}, sample: smallest{1, 2, 3},
		judged: []judgement{{stalled: 4, since: 5, over: 6, back: 7}, {}},
	}
	f.Add(n.text())
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		n, ok := parseNote(text)
		if !ok {
			return
		}
		if again, ok := parseNote(n.text()); !ok || !reflect.DeepEqual(again, n) {
			t.Errorf("%q became %+v, then %+v", text, n, again)
		}
	})
}
