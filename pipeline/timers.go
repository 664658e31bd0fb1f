package pipeline

import "math/bits"

// timers waits for the deadline of each slot: one per customer, in a hierarchy of wheels whose buckets hold slots.
// A bucket may hold a slot whose deadline has moved on; it is dropped or put back when the bucket comes up. So moving
// a deadline later costs nothing, and moving it earlier one append.
type timers struct {
	now       int64   // tick up to which buckets have been opened
	deadlines []int64 // by slot, Unix ms; Never if none
	where     []int16 // by slot: bucket that holds its live entry, -1 if none
	buckets   [wheelLevels * wheelSize][]uint32
	due       []uint32 // opened but not yet taken
	later     []uint32 // opened, due within the present tick but not yet
	armed     int
}

const (
	tickMillis  = 1024
	wheelBits   = 6
	wheelSize   = 1 << wheelBits
	wheelLevels = 6 // 2^36 ticks, more than two thousand years
	nowhere     = -1
	inDue       = -2
)

func tickOf(at int64) int64 { return at >> 10 }

// reset forgets all deadlines and starts at an instant.
func (w *timers) reset(now int64) { *w = timers{now: tickOf(now)} }

// arm sets the deadline of a slot; Never disarms it.
func (w *timers) arm(slot uint32, at int64) {
	for int(slot) >= len(w.deadlines) {
		w.deadlines = append(w.deadlines, Never)
		w.where = append(w.where, nowhere)
	}
	w.armed += int(boolInt(at != Never)) - int(boolInt(w.deadlines[slot] != Never))
	old := w.deadlines[slot]
	w.deadlines[slot] = at
	if at == Never || w.where[slot] == inDue || (w.where[slot] >= 0 && at >= old) {
		return // the entry that is there comes up no later, and looks again
	}
	w.place(slot, at)
}

// place puts an entry for a slot into the bucket of an instant.
func (w *timers) place(slot uint32, at int64) {
	tick := tickOf(at)
	if tick <= w.now {
		w.due = append(w.due, slot)
		w.where[slot] = inDue
		return
	}
	level := (bits.Len64(uint64(tick^w.now)) - 1) / wheelBits
	if level >= wheelLevels {
		level, tick = wheelLevels-1, w.now-1 // farther than the wheels reach: look again a whole turn later
	}
	b := level*wheelSize + int(tick>>(level*wheelBits))&(wheelSize-1)
	w.buckets[b] = append(w.buckets[b], slot)
	w.where[slot] = int16(b)
}

// advance opens all buckets up to an instant, so that take returns what they held.
func (w *timers) advance(now int64) {
	w.due = append(w.due, w.later...)
	w.later = w.later[:0]
	for target := tickOf(now); w.now < target; {
		w.now = w.nextTick(target)
		w.open()
	}
}

// nextTick returns the next tick at which a bucket must be opened, or target if it comes first.
func (w *timers) nextTick(target int64) int64 {
	best := target
	for level := range wheelLevels {
		shift := level * wheelBits
		at := w.now >> shift
		for i := int64(1); i <= wheelSize; i++ {
			if (at+i)<<shift >= best {
				break
			}
			if len(w.buckets[level*wheelSize+int(at+i)&(wheelSize-1)]) > 0 {
				best = (at + i) << shift
				break
			}
		}
	}
	return best
}

// open empties the buckets that begin at the present tick: what is due goes to due, the rest to lower levels.
func (w *timers) open() {
	for level := wheelLevels - 1; level >= 0; level-- {
		shift := level * wheelBits
		if w.now&(1<<shift-1) != 0 {
			continue
		}
		b := level*wheelSize + int(w.now>>shift)&(wheelSize-1)
		entries := w.buckets[b]
		w.buckets[b] = nil
		for _, slot := range entries {
			if int(w.where[slot]) != b {
				continue // re-armed to come up earlier elsewhere
			}
			w.where[slot] = nowhere
			if at := w.deadlines[slot]; at != Never {
				w.place(slot, at)
			}
		}
	}
}

// take returns a slot whose deadline is not later than now and disarms it.
func (w *timers) take(now int64) (slot uint32, ok bool) {
	for n := len(w.due); n > 0; n = len(w.due) {
		slot = w.due[n-1]
		w.due = w.due[:n-1]
		at := w.deadlines[slot]
		if at != Never && at > now && tickOf(at) <= w.now {
			w.later = append(w.later, slot)
			continue
		}
		w.where[slot] = nowhere
		if at == Never {
			continue
		}
		if at <= now {
			w.deadlines[slot] = Never
			w.armed--
			return slot, true
		}
		w.place(slot, at)
	}
	return 0, false
}
