package pipeline

import (
	"bytes"
	"fmt"
	"slices"
)

// The changelog's keys: the partition's own record, and customers.
const (
	metaKey     = 0
	customerKey = 1
)

// Checkpoint encodes all touched customers and returns what the transaction is to hold. The result aliases the Task and
// is valid until Committed. Nothing else may be called in between.
func (t *Task) Checkpoint() *Checkpoint {
	t.number++
	t.arena = t.arena[:0]
	t.fold.captured, t.fold.crowded = 0, false
	c := &Checkpoint{
		Number: t.number, Position: t.position, Clock: t.clock, Watermark: t.Watermark(),
		Changes: make([]Change, 0, len(t.works)+1),
	}
	for _, w := range t.works {
		c.Changes = append(c.Changes, t.encode(w))
		t.workOf[w.slot] = 0
		t.spare = append(t.spare, w)
	}
	t.works = t.works[:0]
	c.Changes = append(c.Changes, Change{Key: []byte{metaKey}, Value: t.appendMeta(nil)})
	c.DeadLetters, t.letters = t.letters, nil
	t.moved = false
	return c
}

// Committed says that the transaction of the last Checkpoint is committed.
func (t *Task) Committed() {
	t.committed = checkpoint{t.number, t.position, t.heard, min(t.Watermark(), t.heard)}
}

// encode brings a customer at work to rest: advanced to the clock, settled up to the watermark.
func (t *Task) encode(w *work) Change {
	version := Version(t.lineage, t.number)
	live := w.live
	t.catchUp(w)
	live.advance(&t.fold, t.clock, true)
	if (live.moved || w.changed) && live.AsOf > 0 { // one of whom all events wait has no row yet
		w.rowVersion = version
		t.markDirty(uint32(w.slot))
	}
	h := header{rowVersion: w.rowVersion, liveAsOf: live.AsOf, deadline: live.deadline(&t.fold)}
	t.buf = t.buf[:0]
	for i := range live.Phases {
		t.buf = append(t.buf, byte(live.Phases[i].Phase))
	}
	t.stats.countPhases(w.phases, t.buf)
	w.phases = append(w.phases[:0], t.buf...)
	h.phases = w.phases
	t.publish(w, version)
	t.publishDays(w, version)
	t.settleAtRest(w)
	t.finishLetters(w)
	h.id, h.settled = live.ID, w.settled
	h.wake = t.settleAt(w)
	h.fired = live.lastFire > w.settledTo
	begin := len(t.arena)
	t.arena = append(append(t.arena, customerKey), live.ID...)
	value := len(t.arena)
	t.arena = appendHeader(t.arena, &h)
	t.arena = appendOpen(t.arena, w.open)
	t.arena = appendOutbox(t.arena, w.outbox)
	days := len(t.arena)
	t.arena = t.appendPendingDays(t.arena, w, version)
	t.pending += int64(len(t.arena) - days - w.chunksAtRest)
	t.crowd(version, len(t.arena)-value, len(w.outbox), len(t.arena)-days)
	t.slab.put(uint32(w.slot), t.arena[value:])
	t.timers.arm(uint32(w.slot), h.alarm())
	return Change{Key: t.arena[begin:value:value], Value: t.arena[value:len(t.arena):len(t.arena)]}
}

// settleAt returns when to wake a customer for what is still open, 0 if nothing is.
func (t *Task) settleAt(w *work) (at int64) {
	if last := w.unsettled(); last > t.Watermark() {
		at = max(last+t.job.Lateness, t.clock) // the watermark may be held, so that it is further behind
		at += settleGrain - at%settleGrain
	}
	if w.folded < len(w.open) { // later than the horizon, and so than the clock
		first := w.open[w.folded].at
		if t.job.rekeyed {
			first = max(first-t.job.Lateness, t.clock+1)
		}
		at = min(at, first)
	}
	return at
}

// unsettled returns the instant of the last open event or dead letter, 0 if there is none: once the watermark has passed
// it, there is something to settle.
func (w *work) unsettled() (at int64) {
	if n := len(w.open); n > 0 {
		at = w.open[n-1].at
	}
	if n := len(w.live.letters); n > 0 {
		at = max(at, w.live.letters[n-1].refused)
	}
	return at
}

// settleAtRest makes w.settled and w.open what they are to be at rest. What the fold between the old and the new settled
// point produced is final.
func (t *Task) settleAtRest(w *work) {
	live, watermark := w.live, t.Watermark()
	n := len(w.open)
	switch {
	case live.AsOf <= watermark && w.folded == n:
		w.letters = append(w.letters, live.letters...)
		w.open, w.folded = w.open[:0], 0
		t.encodeSettled(w, live)
	case (n == 0 || w.open[0].at > watermark) && (live.firstFire == 0 || live.firstFire > watermark):
		// nothing has passed the watermark
	default:
		r := t.settle(w, watermark, live.firstFire != 0 && live.firstFire <= watermark)
		w.letters = append(w.letters, r.letters...)
		t.encodeSettled(w, r)
	}
}

// publish compares the transitions of the live record with those published before, and puts the difference into the
// outbox: new and changed ones, and withdrawn ones.
func (t *Task) publish(w *work, version int64) {
	w.outbox = slices.DeleteFunc(w.outbox, func(o outboxRow) bool { return o.version <= t.acked })
	now := w.corrected
	if len(now) == 0 {
		now = w.live.transitions
	} else {
		now = append(now, w.live.transitions...)
	}
	for i := range now {
		tr := now[i]
		old := findTransition(w.published, tr)
		switch {
		case old >= 0 && w.published[old] == tr:
			// known already
		case tr.From == tr.To:
			t.withdraw(w, tr, version)
		default:
			t.stats.countTransition(tr)
			t.outboxTransition(w, outboxRow{version: version, transition: tr})
		}
	}
	for _, tr := range w.published {
		if tr.From != tr.To && findTransition(now, tr) < 0 {
			t.withdraw(w, tr, version)
		}
	}
	for _, keys := range [][]RowKey{w.touched, w.live.touched} {
		for _, k := range keys {
			t.outboxKey(w, k, version)
		}
	}
}

func (t *Task) withdraw(w *work, tr Transition, version int64) {
	t.stats.Withdrawn++
	t.outboxTransition(w, outboxRow{version: version, transition: tr, deleted: true})
}

// findTransition returns the index of the transition of the same lifecycle and instant, -1 if there is none.
func findTransition(list []Transition, tr Transition) int {
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].At == tr.At && list[i].Lifecycle == tr.Lifecycle {
			return i
		}
	}
	return -1
}

func (t *Task) outboxTransition(w *work, o outboxRow) {
	for i := range w.outbox {
		have := &w.outbox[i]
		if have.table == 0 && have.transition.At == o.transition.At && have.transition.Lifecycle == o.transition.Lifecycle {
			*have = o
			return
		}
	}
	w.outbox = append(w.outbox, o)
}

func (t *Task) outboxKey(w *work, k RowKey, version int64) {
	table := slices.Index(t.job.history, k.Table) + 1
	for i := range w.outbox {
		if o := &w.outbox[i]; o.table == table && bytes.Equal(o.key, k.Key) {
			o.version = version
			return
		}
	}
	w.outbox = append(w.outbox, outboxRow{version: version, table: table, key: k.Key})
}

// finishLetters hands over the dead letters of settled folds: they can no longer be undone.
func (t *Task) finishLetters(w *work) {
	for _, l := range w.letters {
		l.Key = slices.Clone(w.live.ID)
		t.stats.UnmatchedMoney += l.Money
		t.Reject(l)
	}
	w.letters = w.letters[:0]
}

func (t *Task) markDirty(slot uint32) {
	if !t.isDirty[slot] {
		t.isDirty[slot] = true
		t.dirty = append(t.dirty, slot)
	}
}

// appendMeta encodes what belongs to the partition as a whole.
func (t *Task) appendMeta(dst []byte) []byte {
	return (&Meta{
		Lineage: t.lineage, Number: t.number, Acked: t.acked, Position: t.position, Clock: t.clock, Heard: t.heard,
		Digest: t.job.digest, Watermark: t.watermark, Topic: t.source,
		Rekeyed: t.job.rekeyed, Hold: t.hold, Channels: t.channels,
	}).append(dst)
}

// Restore takes one record of the changelog, in the order of the log. Keys are never deleted: a nil value is an error.
func (t *Task) Restore(key, value []byte) error {
	if len(key) == 0 {
		return fmt.Errorf("%w: changelog record without key", errCorrupt)
	}
	switch key[0] {
	case metaKey:
		return t.readMeta(value)
	case customerKey:
		return t.restoreCustomer(key[1:], value)
	}
	return fmt.Errorf("%w: changelog key of kind %d", errCorrupt, key[0])
}

func (t *Task) readMeta(value []byte) error {
	m, err := ReadMeta(value)
	if err != nil {
		return err
	}
	t.lineage, t.number, t.acked = m.Lineage, m.Number, m.Acked
	t.position, t.clock, t.heard, t.source = m.Position, m.Clock, m.Heard, m.Topic
	if m.Digest != t.job.digest {
		return fmt.Errorf("the state was written under other lifecycles, another artefact or another time zone; "+
			"run with those, begin a new lineage with zyklus admin rebuild, or start again with a new group and database (digest %x, now %x)", m.Digest, t.job.digest)
	}
	t.watermark = t.job.Watermark(&m)
	switch {
	case t.job.rekeyed && m.Rekeyed:
		t.hold, t.channels = m.Hold, m.Channels
	case t.job.held:
		t.hold = Hold{Clock: t.clock, Settled: t.watermark + t.job.Lateness}
	}
	return nil
}

func (t *Task) restoreCustomer(id, value []byte) error {
	var h header
	if err := readHeader(value, &h); err != nil {
		return err
	}
	if !bytes.Equal(h.id, id) {
		return fmt.Errorf("%w: key and record name different customers", errCorrupt)
	}
	if len(value) > MaxRecord {
		return fmt.Errorf("%w: a record of %d bytes", errCorrupt, len(value))
	}
	slot, ok := t.slab.find(id)
	if ok {
		t.slab.put(slot, value)
		return nil
	}
	t.slab.add(id, value)
	t.workOf = append(t.workOf, 0)
	t.isDirty = append(t.isDirty, false)
	return nil
}

// Restored ends the restoration: it sets all timers and finds the rows that are to be written again. The error is about
// a record that does not decode.
func (t *Task) Restored() error {
	t.timers.reset(t.clock)
	var h header
	for slot := range uint32(t.slab.len()) {
		if err := readHeader(t.slab.get(slot), &h); err != nil {
			return err
		}
		if err := t.check(&h); err != nil {
			return err
		}
		t.timers.arm(slot, h.alarm())
		t.stats.countPhases(nil, h.phases)
		rows, chunks, err := readOutbox(t.outs[:0], h.outbox, t.acked)
		must(err)
		t.pending += int64(len(chunks))
		if h.rowVersion > t.acked {
			t.crowd(h.rowVersion, len(t.slab.get(slot)), len(rows), len(chunks))
			t.markDirty(slot)
			continue
		}
		t.shedDays(slot)
	}
	t.stats.Customers = int64(t.slab.len())
	t.Committed()
	t.moved = false
	return nil
}
