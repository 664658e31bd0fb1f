package kafka

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"zyklus/pipeline"
)

// stageTask is a Rekeyer that makes a checkpoint after each event, or none if it works in vain: then its process loses all that
// it did, as one would whose transactions fail.
type stageTask struct {
	*pipeline.Rekeyer
	events *int
	vain   bool
}

func (t stageTask) Process(e *pipeline.Event, believable int64) {
	*t.events++
	t.Rekeyer.Process(e, believable)
}

func (t stageTask) Full() bool    { return !t.vain && *t.events > 0 }
func (t stageTask) Pending() bool { return !t.vain && t.Rekeyer.Pending() }

func (t stageTask) Committed() {
	*t.events = 0
	t.Rekeyer.Committed()
}

// A channel of a required source is restored to before what came back after a stall, when the others have found the stall to
// be over: its first event must not let time pass the rest, which comes in any order.
func TestStallIsOverForOthers(t *testing.T) {
	t.Parallel()
	s := newStallLab(t)
	s.o.Stage, s.o.MaxPoll = "rekey", 10
	began := s.now.Load()
	rekey := pipeline.RekeyOptions{
		Topic: "rekeyed", Partitions: 1, Set: pipeline.NewChannelSet(map[string]int32{"events": 2}), Skew: time.Minute,
		WallClock: true, Held: true,
	}
	plan := s.o
	plan.Topic, plan.Group, plan.Stage, plan.Stall = rekey.Topic, "rekeyed", "", Stall{}
	must(t, EnsureTopics(t.Context(), plan, rekey.Partitions))
	stage := func(vain int32) *running {
		return s.run(func(o *Options, d *Deps) {
			d.Now = func() time.Time { return time.UnixMilli(s.now.Load()) }
			d.NewDecoder = func() Decoder { return datedDecoder{} }
			d.Sink = nil
			d.NewTask = func(topic string, p int32) Task {
				return stageTask{pipeline.NewRekeyer(rekey, topic, p), new(int), p == vain}
			}
		})
	}
	order := func(partition int32, minute int) {
		s.to(partition, fmt.Sprint(began+int64(minute)*60_000))
	}
	awaitNote := func(what string, is func(*note) bool) {
		s.awaitNote(what, func(partition int32, n *note) bool { return partition == 1 && is(n) })
	}

	order(0, 0)
	order(1, 0)
	first := stage(-1)
	awaitNote("the orders are heard", func(n *note) bool { return len(n.last) == 1 && n.last[0] == began })
	s.now.Add(61_000)
	s.awaitAlert(typeStalled)
	s.now.Add(3_600_000)
	awaitNote("it is silent", func(n *note) bool { return n.reached == s.now.Load() })
	must(t, first.stop())
	second := stage(1)
	const minutes = 50
	for m := minutes; m > 1; m-- {
		order(1, m)
	}
	awaitNote("they are heard", func(n *note) bool { return n.last[0] == began+minutes*60_000 })
	for m := 62; m < 70; m++ {
		s.now.Store(began + int64(m)*60_000 + 1000)
		order(0, m)
		awaitNote("all have been read", func(n *note) bool { return n.reached == s.now.Load() })
	}
	s.awaitAlert(typeResumed)
	must(t, second.stop())
	stage(-1)

	// Of the lost channel each event comes before the marker that says that time has passed it.
	var reader pipeline.RekeyedReader
	mine, passed, seen := pipeline.Channel(s.o.Topic, 1), int64(0), 0
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.o.Brokers...), kgo.ConsumeTopics(rekey.Topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	must(t, err)
	defer cl.Close()
	ctx, cancel := contextFor(30 * time.Second)
	defer cancel()
	for passed <= began+minutes*60_000 {
		fetches := cl.PollFetches(ctx)
		must(t, ctx.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			var e pipeline.Event
			var m pipeline.Marker
			marker, err := reader.Decode(r.Key, r.Value, &e, &m)
			switch {
			case err != nil:
				t.Errorf("%x: %v", r.Value, err)
			case marker && m.Channel == mine:
				passed = max(passed, min(m.Clock, m.Hold.Settled))
			case !marker && e.Origin.Partition == 1:
				if seen++; e.At < passed {
					t.Errorf("an order of minute %d after time had come to minute %d", (e.At-began)/60_000, (passed-began)/60_000)
				}
			}
		})
	}
	if seen != minutes {
		t.Errorf("%d orders of the channel, want %d", seen, minutes)
	}
}

// datedDecoder takes orders whose value is their instant.
type datedDecoder struct{}

func (datedDecoder) Decode(r *pipeline.Record, e *pipeline.Event) error {
	*e = pipeline.Event{Kind: pipeline.KindOrderCompleted, ID: 1, Customer: []byte("c"), OrderID: r.Value, Raw: r.Value}
	_, err := fmt.Sscan(string(r.Value), &e.At)
	return err
}
