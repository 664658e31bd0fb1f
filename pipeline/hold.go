package pipeline

// Hold bounds how far time may come in a partition while a required source is silent: what does not arrive may have
// happened all the same, so its absence must not be taken for silence of customers.
//
// Events later than Clock are accepted and kept, but wait to be folded. Settled is the instant of the last event of
// the source that has been silent longest: the watermark stays behind it by the allowed lateness, so that whatever the
// source brings when it returns finds its place in order.
type Hold struct {
	Clock   int64 // the clock does not pass it, Unix milliseconds
	Settled int64 // the watermark does not pass it less the allowed lateness, Unix milliseconds
}

// NoHold is the Hold that holds nothing.
func NoHold() Hold { return Hold{Clock: Never, Settled: Never} }

// And returns the stricter of two holds, bound by bound.
func (h Hold) And(o Hold) Hold {
	return Hold{Clock: min(h.Clock, o.Clock), Settled: min(h.Settled, o.Settled)}
}

// Hold replaces the bounds in force. A clock that is past them stands still; it never goes back.
func (t *Task) Hold(h Hold) {
	t.hold = h
	t.observe(t.clock)
}

// Mark takes what a channel of the re-keying stage says of time. What was heard of each channel is part of the state: one
// that has nothing more to say does not say it again.
func (t *Task) Mark(m *Marker) {
	t.moved = true
	if clock, hold, ok := t.channels.Take(m); ok {
		t.hold = hold
		t.observe(max(clock, t.clock))
	}
}

// horizon is the instant up to which open events are folded into the live record: time has come there, or may. Behind
// the re-keying stage events may be far ahead of the slowest channel: each that it brings would fold all of them again.
func (t *Task) horizon(w *work) int64 {
	limit := t.hold.Clock
	if t.job.rekeyed {
		limit = min(limit, t.clock+t.job.Lateness)
	}
	return max(limit, t.clock, w.live.AsOf)
}

// catchUp folds the open events that the hold kept back and does no longer.
func (t *Task) catchUp(w *work) {
	if n := until(w.open, t.horizon(w)); n > w.folded {
		must(w.live.foldOpen(&t.fold, w.open[w.folded:n], &t.event, true))
		w.folded, w.changed = n, true
	}
}
