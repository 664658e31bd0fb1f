package pipeline_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"zyklus/pipeline"
)

// TestRekeyedTime: whatever the order in which the markers of several channels come, time in a partition is never later
// than any channel, and nothing that a channel brings after its marker happened before it.
func TestRekeyedTime(t *testing.T) {
	const topics, partitions = 3, 4
	set := pipeline.NewChannelSet(map[string]int32{"a": 2, "b": 1})
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 0))
		channels := []*pipeline.Rekeyer{}
		for _, c := range []struct {
			topic     string
			partition int32
		}{{"a", 0}, {"a", 1}, {"b", 0}} {
			channels = append(channels, pipeline.NewRekeyer(pipeline.RekeyOptions{Topic: "events", Partitions: partitions, Set: set, Skew: time.Minute}, c.topic, c.partition))
		}
		clocks := make([]int64, topics)
		var readers [partitions]struct {
			pipeline.RekeyedReader
			pipeline.Channels
			clock int64
		}
		heard := map[int]bool{}
		for range 60 {
			i := r.IntN(topics)
			for range r.IntN(5) { // each channel's own events are in order; channels are days apart
				clocks[i] += r.Int64N(3 * dayMs)
				e := &pipeline.Event{
					Kind: pipeline.KindOrderCompleted, At: 1_000_000 + clocks[i], Customer: []byte{byte('a' + r.IntN(20))}, ID: r.Uint64(),
					OrderID: []byte("o"), Amount: 5, HasAmount: true, Raw: []byte("raw"), Origin: pipeline.Origin{Topic: "a", Partition: 1, Offset: 7},
				}
				channels[i].Process(e, e.At)
			}
			cp := channels[i].Checkpoint()
			for _, o := range cp.Outputs {
				reader := &readers[o.Partition]
				var e pipeline.Event
				var m pipeline.Marker
				marker, err := reader.Decode(o.Key, o.Value, &e, &m)
				if err != nil {
					t.Fatal(err)
				}
				if !marker {
					if e.At <= reader.clock && heard[i] {
						t.Fatalf("seed %d: an event of %d after time had come to %d", seed, e.At, reader.clock)
					}
					if string(e.Raw) != "raw" || e.Origin.Offset != 7 || !bytes.Equal(e.Customer, o.Key) || e.Amount != 5 {
						t.Fatalf("%+v", e)
					}
					continue
				}
				clock, hold, ok := reader.Take(&m)
				if ok != (len(heard) == topics || len(heard) == topics-1 && !heard[i]) || ok && hold != pipeline.NoHold() {
					t.Fatalf("seed %d: known %v with %v heard of", seed, ok, heard)
				}
				if ok {
					if least := slices.Min(clocks); clock > least+1_000_000 || clock < reader.clock {
						t.Fatalf("seed %d: time is %d after %d, the last channel is at %d", seed, clock, reader.clock, least)
					}
					reader.clock = clock
				}
			}
			heard[i] = true
			channels[i].Committed()
		}
	}
}

func FuzzRekeyed(f *testing.F) {
	r := pipeline.NewRekeyer(pipeline.RekeyOptions{Topic: "events", Partitions: 1, Set: pipeline.NewChannelSet(map[string]int32{"a": 1})}, "a", 0)
	for _, e := range []pipeline.Event{
		{Kind: pipeline.KindPageViewed, At: 1, Customer: []byte("c"), Origin: pipeline.Origin{Topic: "a"}},
		{Kind: pipeline.KindOrderRefunded, At: 1, Customer: []byte("c"), OrderID: []byte("o"), Raw: []byte("raw"), Lines: []pipeline.Line{{Quantity: 1}}},
	} {
		r.Process(&e, e.At)
	}
	for _, o := range r.Checkpoint().Outputs {
		f.Add(o.Key, o.Value)
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		var reader pipeline.RekeyedReader
		var e pipeline.Event
		var m pipeline.Marker
		marker, err := reader.Decode(key, value, &e, &m)
		if err != nil || marker {
			return
		}
		if e.At < 0 || !e.Kind.Valid() || len(e.Customer) == 0 {
			t.Errorf("%+v", e)
		}
		again := pipeline.NewRekeyer(pipeline.RekeyOptions{Topic: "events", Partitions: 1, Set: pipeline.NewChannelSet(map[string]int32{"a": 1})}, "a", 0)
		again.Process(&e, e.At)
		var back pipeline.Event
		if _, err := reader.Decode(key, again.Checkpoint().Outputs[0].Value, &back, &m); err != nil || back.At != e.At || back.ID != e.ID || !bytes.Equal(back.OrderID, e.OrderID) || len(back.Lines) != len(e.Lines) {
			t.Errorf("%+v became %+v (%v)", e, back, err)
		}
	})
}

func rekeyedJob(t testing.TB) *pipeline.Job {
	o := options(t)
	o.Rekeyed, o.WallClock = true, false
	j, err := pipeline.NewJob(o)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// TestChannelsAreState: a Task that is restored knows what it has heard of channels that have nothing more to say, and
// the hold that follows: else time would stand still, or go on where it is held.
func TestChannelsAreState(t *testing.T) {
	job := rekeyedJob(t)
	const t0 = int64(1_700_000_000_000)
	set := pipeline.NewChannelSet(map[string]int32{"a": 2})
	mark := func(task *pipeline.Task, partition int32, clock int64, hold pipeline.Hold) {
		task.Mark(&pipeline.Marker{Channel: pipeline.Channel("a", partition), Set: set, Clock: clock, Hold: hold})
	}
	hold := pipeline.Hold{Clock: t0 + dayMs, Settled: t0}
	for _, restart := range []bool{false, true} {
		task, log := pipeline.NewTask(job, "events", 0), changelog(nil)
		order := &pipeline.Event{Kind: pipeline.KindOrderCompleted, Customer: []byte("x"), At: t0, ID: 1, OrderID: []byte("o"), Amount: 500, HasAmount: true, Raw: []byte("{}")}
		mark(task, 0, t0, pipeline.NoHold())
		mark(task, 1, t0+dayMs, hold)
		task.Process(order, 1<<60)
		log.append(task.Checkpoint())
		task.Committed()
		if restart {
			var err error
			if task, err = log.compacted().restore(job, 0); err != nil {
				t.Fatal(err)
			}
		}
		// Channel 1 is stalled and silent; a page view long after the hold must not let silence happen in between.
		task.Process(&pipeline.Event{Kind: pipeline.KindPageViewed, Customer: []byte("x"), At: t0 + 200*dayMs, ID: 2}, 1<<60)
		mark(task, 0, t0+200*dayMs, pipeline.NoHold())
		for task.Drain(100) {
		}
		task.Checkpoint()
		task.Committed()
		if clock := task.Stats().Clock; clock != t0+dayMs {
			t.Errorf("restart %v: the clock is %d, not at the hold %d", restart, clock, t0+dayMs)
		}
		for tr, n := range task.Stats().Transitions {
			if tr.Cause == pipeline.CauseDeadline && n > 0 {
				t.Errorf("restart %v: %d transitions by silence beyond the hold", restart, n)
			}
		}
	}
}
