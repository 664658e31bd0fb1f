package kafka

import (
	"cmp"
	"slices"

	"github.com/cespare/xxhash/v2"

	"zyklus/pipeline"
)

// What a partition has heard of its source, what it tells the group of that, and how far the others let it go.

// notice keeps what the group is told of an event: when its family was heard last, and a sample of customers.
func (a *attempt) notice(e *pipeline.Event, believable int64) {
	if e.Kind == pipeline.KindHeartbeat {
		return
	}
	if a.s.r.o.CheckKeys {
		a.sample.add(xxhash.Sum64(e.Customer))
	}
	if len(a.families) == 0 {
		return
	}
	at, family, later := min(e.At, believable), e.Kind.Family(), false
	for i, f := range a.families {
		if (f == "" || f == family) && at > a.last[i] {
			a.last[i], later = at, true
		}
	}
	if later && a.bounds != nil {
		a.hold()
	}
}

// hearOthers lets what all partitions have heard move time in this one, once it has been read up to when that was known:
// what others heard after a silence may be later than what this one has yet to read of that silence.
func (a *attempt) hearOthers() {
	if a.bounds != nil && a.reached >= a.bounds.at && a.past != a.bounds {
		a.past = a.bounds
		a.hold()
	}
}

// hold lets time come as far as the last judgement allows, and what this partition has heard since. Until a judgement is
// of all partitions the hold of the start stands: another one may have heard what bounds time, or that it stood still.
func (a *attempt) hold() {
	stall, hold := &a.s.r.o.Stall, pipeline.NoHold()
	if !stall.Required || a.blind() {
		return
	}
	for i, f := range a.families {
		last := a.lastHeard(i)
		if last > 0 {
			hold = hold.And(pipeline.Hold{Clock: last + stall.Limits[f].Milliseconds(), Settled: last})
		}
	}
	a.task.Hold(hold)
}

// lastHeard returns the last event of a family as far as it may move time, 0 for none. A stall that is over is not yet in a
// partition that it still held when it was read last: what came back then comes in any order.
func (a *attempt) lastHeard(i int) int64 {
	if a.bounds.stalled[i] {
		return a.bounds.last[i]
	}
	if over := a.bounds.judged[i].over; over != 0 && a.past != a.bounds && a.task.Stats().Watermark <= over {
		return over
	}
	last := a.last[i]
	if a.past != nil {
		last = max(last, a.past.last[i])
	}
	return cmp.Or(last, a.bounds.last[i])
}

// wallMoves reports whether the wall clock may move the Task's. Behind the re-keying stage markers say how far time has
// come. A source that was never heard bounds nothing: as long as another partition may hold what it brought, only events
// move time.
func (a *attempt) wallMoves() bool {
	stall := &a.s.r.o.Stall
	return !a.s.r.o.Rekeyed && (!stall.Required || a.bounds != nil && !a.bounds.unheard)
}

// blind reports whether it is not known yet what all partitions have heard of a required source: what one of them would
// hold back could be final by then.
func (a *attempt) blind() bool { return a.s.r.o.Stall.blind(a.bounds) }

func (s *Stall) blind(b *bounds) bool {
	return s.Required && len(s.Limits) > 0 && (b == nil || !b.known)
}

// note returns what the group is to be told.
func (a *attempt) note() *note {
	n := &note{watched: a.s.r.o.Stall.fingerprint(), reached: a.reached, last: slices.Clone(a.last), sample: slices.Clone(a.sample)}
	switch {
	case a.s.partition != 0:
	case a.bounds != nil:
		n.judged = a.bounds.judged
	default:
		n.judged = a.judged
	}
	return n
}

// recall takes over what the owner before had heard when it made its last checkpoint: it may have died before it told.
func (a *attempt) recall(n *note) {
	if n == nil {
		return
	}
	if n.watched == a.s.r.o.Stall.fingerprint() {
		copy(a.last, n.last)
		a.judged = n.judged
	}
	a.sample = slices.Clone(n.sample)
}
