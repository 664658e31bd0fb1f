package exact

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"zyklus/pipeline"
)

// channel is a partition that the world writes to.
type channel struct {
	topic     string
	partition int32
}

// delivery is a record on its way.
type delivery struct {
	at    int64 // when it comes, Unix milliseconds
	to    channel
	event *pipeline.Event
}

// plan draws how the history comes.
func (w *world) plan() {
	log := w.history.Log(0, 1)
	for _, a := range log[:len(log)-1] { // the last one is a heartbeat
		w.deliveries = append(w.deliveries, delivery{a.At, w.route(a.Event.Customer), a.Event})
	}
	w.count(func(t *tally) { t.events, t.permutations = len(w.deliveries), 1 })
	switch {
	case w.guard != nil:
		w.guard.withhold(w)
	case w.wall: // what stands still is late
	default:
		w.heartbeats()
		w.standStill()
	}
	if w.guard == nil && w.dice(4) == 0 {
		w.ahead()
	}
	w.sortDeliveries()
}

// route is the channel in which an event of a customer comes. Those of one who is not punctual come in the same one: nothing
// keeps two in step, and a change later than allowed that overtakes its order is a dead letter.
func (w *world) route(customer []byte) channel {
	switch {
	case !w.rekeyed:
		return channel{topic, int32(w.history.Partition(customer, w.partitions))}
	case w.history.Punctual(string(customer)):
		return w.channels[w.dice(len(w.channels))]
	}
	return w.channels[w.history.Partition(customer, len(w.channels))]
}

func (w *world) sortDeliveries() {
	slices.SortStableFunc(w.deliveries, func(a, b delivery) int { return cmp.Compare(a.at, b.at) })
}

// heartbeats says now and then in all channels how far time has come, if chance will have it.
func (w *world) heartbeats() {
	for range w.dice(2) * w.dice(6) {
		at := w.instant()
		for _, c := range w.channels {
			w.deliveries = append(w.deliveries, delivery{at, c, &pipeline.Event{Kind: pipeline.KindHeartbeat, At: at}})
		}
	}
	w.sortDeliveries()
}

// instant is one of the history.
func (w *world) instant() int64 { return w.begin + w.draw(w.history.End-w.begin+1) }

// standStill lets sources stand still, as a whole or one channel: what was held back comes later, in its order. Where
// nothing but what they bring moves time, that changes nothing.
func (w *world) standStill() {
	for range w.dice(3) {
		from := w.instant()
		till, only := min(from+w.draw((w.history.End-w.begin)/3+1), w.history.End), w.dice(len(w.channels)+1)
		for i := range w.deliveries {
			d := &w.deliveries[i]
			if d.at >= from && d.at < till && (only == len(w.channels) || d.to == w.channels[only]) {
				d.at = till
			}
		}
		w.sortDeliveries()
	}
}

// skew is how much later than its append time an event is believed.
const skew = time.Minute

// ahead adds what a producer sends whose clock is an hour ahead: nothing of it is believed.
func (w *world) ahead() {
	for range 1 + w.dice(8) {
		at, e := w.instant(), pipeline.Event{
			Kind: pipeline.KindOrderCompleted, ID: uint64(w.draw(1 << 62)), Customer: fmt.Appendf(nil, "c%d", w.dice(4)),
			OrderID: []byte("o0"), Amount: 100, HasAmount: true,
		}
		e.At = at + time.Hour.Milliseconds()
		w.refused = append(w.refused, fmt.Sprintf("raw %x", e.ID))
		w.deliveries = append(w.deliveries, delivery{at, w.route(e.Customer), &e})
	}
}

// feed plays the deliveries.
func (w *world) feed() error {
	for _, d := range w.deliveries {
		if w.guard != nil {
			if err := w.guard.come(w, &d); err != nil {
				return err
			}
		}
		w.appended.Store(d.at - 1)
		if err := w.sleepUntil(d.at); err != nil {
			return err
		}
		if err := w.produce(d.to, d.event); err != nil {
			return err
		}
		if w.dice(20) == 0 {
			w.bad++
			if err := w.send(w.channels[w.dice(len(w.channels))], nil, fmt.Appendf(nil, "bad %d", w.bad)); err != nil {
				return err
			}
		}
	}
	if err := w.sleepUntil(w.history.End); err != nil {
		return err
	}
	return w.beat(w.history.End)
}

// sleepUntil waits for an instant of the history.
func (w *world) sleepUntil(at int64) error {
	due := time.Duration((at-w.begin)*1000/w.speed+1) * time.Microsecond // now is rounded down
	return wait(w.ctx, due-w.elapsed())
}

// beat says in every channel how far time has come: the history is played. The re-keying stage is told by wall clock, too,
// for it does not pass on every millisecond of that.
func (w *world) beat(at int64) error {
	w.appended.Store(at)
	w.over.Store(true)
	if w.wall && !w.rekeyed {
		return nil
	}
	for _, c := range w.channels {
		if err := w.produce(c, &pipeline.Event{Kind: pipeline.KindHeartbeat, At: at}); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) produce(to channel, e *pipeline.Event) error {
	c := *e
	if c.Raw = nil; c.Foreign() {
		c.Rate = pipeline.Rate{Units: 1} // the pipeline looks it up
	}
	return w.send(to, e.Customer, pipeline.AppendEvent(nil, &c))
}

// send appends a record and notes when.
func (w *world) send(to channel, customer, value []byte) error {
	r := &kgo.Record{Topic: to.topic, Partition: to.partition, Key: customer, Value: value}
	if w.rekeyed {
		r.Key, r.Headers = nil, []kgo.RecordHeader{{Key: "customer", Value: customer}}
	}
	err := w.feeder.ProduceSync(w.ctx, r).FirstErr()
	w.came.Store(pipeline.Origin{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset}, w.appended.Load()+1)
	w.sent[r.Partition].Add(1)
	return err
}

// appendedAt is when a record came: in place of the append times of a broker, whose clock is not the history's.
func (w *world) appendedAt(o pipeline.Origin) int64 {
	now := w.appended.Load() // before: nothing else is appended until send has noted this one
	if at, ok := w.came.Load(o); ok {
		return at.(int64)
	}
	return now + 1
}
