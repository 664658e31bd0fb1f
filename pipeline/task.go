package pipeline

import (
	"fmt"
	"slices"
)

// Task is all of one partition: its customers, clock, timers and position. It does no I/O and reads no clock, and what
// it produces is a function of the events and instants it is given. One goroutine owns it.
//
// A Task lives through: Restore for each record of its changelog, Restored, then any number of rounds of Process,
// AdvanceClock, Drain and Checkpoint, as checkpoint.go describes.
type Task struct {
	job       *Job
	topic     string
	partition int32

	slab    *slab
	timers  timers
	workOf  []int32 // by slot: index in works plus one
	works   []*work // touched since the last checkpoint, in order of first touch
	spare   []*work
	dirty   []uint32 // slots whose rows are to be written
	isDirty []bool   // by slot

	clock     int64
	watermark int64
	hold      Hold // in force
	channels  Channels
	heard     int64 // instant up to which all timers have fired, not later than clock
	source    TopicID
	position  int64
	lineage   uint64
	number    uint64 // last checkpoint made
	moved     bool   // clock or position moved since then
	letters   []DeadLetter

	acked     int64      // version up to which the sink has everything
	await     int64      // version that the sink must have before anything more is to happen
	pending   int64      // bytes of pending days at rest
	committed checkpoint // last committed
	project   projection
	stats     Stats

	fold      Fold
	event     Event     // for decoding open events
	scratch   *Customer // for settling and projecting
	opens     []openEvent
	outs      []outboxRow
	days      dayReader
	buf, sect []byte
	same      []byte // of sameBut
	arena     []byte
}

// checkpoint is what a `checkpoints` row says.
type checkpoint struct {
	number                     uint64
	position, clock, watermark int64
}

// work is a customer at work: touched since the last checkpoint.
type work struct {
	slot int32
	live *Customer
	// settled and open are as at rest, but for events accepted since.
	settled   []byte
	settledTo int64 // AsOf of settled: nothing may be folded in before
	open      []openEvent
	folded    int // so many of open are folded into live; the others are later than the hold
	openBytes int
	outbox    []outboxRow

	published     []Transition // of the fold since the settled point, as of the last checkpoint
	corrected     []Transition // made by events later than allowed since the last checkpoint
	letters       []DeadLetter // of settled folds since the last checkpoint
	past          []pastDay    // left by them
	days          []dayRow     // published since the last checkpoint
	chunks        []byte       // pending days of earlier checkpoints
	chunksAtRest  int          // bytes of pending days of the record at rest
	taken         int          // about how many bytes events since the last checkpoint may add to the record
	publishedDays []int64      // left by the fold since the settled point, as of the last checkpoint
	touched       []RowKey     // of settled folds since the last checkpoint
	rowVersion    int64
	phases        []byte // live phases as of the last checkpoint
	memory        []byte // of open events and keys
	changed       bool   // the customer's row may differ from that of the last checkpoint
}

// NewTask returns the Task of a partition of which nothing is known yet.
func NewTask(job *Job, topic string, partition int32) *Task {
	t := &Task{
		job: job, topic: topic, partition: partition,
		slab: newSlab(recordID), position: -1, lineage: 1, scratch: newCustomer(job),
		watermark: -job.Lateness, hold: NoHold(),
	}
	if job.held {
		t.hold = Hold{}
	}
	t.stats.init(job)
	t.timers.reset(0)
	return t
}

// Position returns the offset of the next record to consume; -1 if there is no state and the topic is to be read from
// its beginning.
func (t *Task) Position() int64 { return t.position }

// SetPosition says that all records before next have been dealt with.
func (t *Task) SetPosition(next int64) {
	t.moved = t.moved || next != t.position
	t.position = next
}

// TopicID identifies the topic that Position is an offset of; zero if it is not known yet.
func (t *Task) TopicID() TopicID { return t.source }

// SetTopicID says of which topic positions are.
func (t *Task) SetTopicID(id TopicID) {
	t.moved = t.moved || id != t.source
	t.source = id
}

// Version returns the version of the last checkpoint, 0 if there is none.
func (t *Task) Version() int64 {
	if t.number == 0 {
		return 0
	}
	return Version(t.lineage, t.number)
}

// Reject takes a record that could not be decoded: it becomes a dead letter.
func (t *Task) Reject(l DeadLetter) {
	if l.At == 0 {
		l.At = t.clock
	}
	t.letters = append(t.letters, l)
	t.stats.DeadLetters[l.Kind]++
}

// Ignore counts a record of an id that is no person.
func (t *Task) Ignore() { t.stats.Ignored++ }

// AdvanceClock lets the wall clock (Unix milliseconds), or what the re-keying stage says of time, move the partition's
// clock. The caller does so only while there is nothing left to fetch: else what has happened already would look like
// silence.
func (t *Task) AdvanceClock(now int64) {
	if t.job.wallClock {
		t.observe(now)
	}
}

// observe moves the clock on, as far as the hold allows, and the watermark with it.
func (t *Task) observe(at int64) {
	if at = min(at, t.hold.Clock); at > t.clock {
		t.clock, t.moved = at, true
	}
	if w := min(t.clock, t.hold.Settled) - t.job.Lateness; w > t.watermark {
		t.watermark, t.moved = w, true
	}
}

// Watermark returns the instant before which everything is final, Unix milliseconds.
func (t *Task) Watermark() int64 { return t.watermark }

// Process folds one event in. believable is the latest instant that is no future to the record, Unix milliseconds: its
// append time, or the wall clock when it was fetched. The allowed clock skew is added here.
func (t *Task) Process(e *Event, believable int64) {
	t.stats.Events++
	if l, ok := future(e, believable, t.job.skew); ok {
		t.Reject(l)
		return
	}
	if !t.job.rekeyed {
		t.observe(e.At)
	}
	if e.Kind == KindHeartbeat {
		return
	}
	late := e.At <= t.Watermark()
	if late && !e.Kind.Order() {
		t.stats.Late++
		return
	}
	if l, refused := t.job.price(e); refused {
		t.Reject(l)
		return
	}
	w := t.touch(e.Customer)
	w.taken += e.weight()
	t.fold.crowded = t.fold.crowded || w.taken >= maxTaken
	switch {
	case !late && e.At <= w.settledTo && !e.Kind.Order():
		t.stats.Late++ // settled early
	case late || e.At <= w.settledTo:
		t.correct(w, e)
	case w.has(e):
		t.stats.Duplicates++
	default:
		t.accept(w, e)
	}
}

// future returns the dead letter of an event that is later than what is believed.
func future(e *Event, believable, skew int64) (l DeadLetter, ok bool) {
	if e.At <= believable+skew {
		return l, false
	}
	return DeadLetter{
		Kind: ErrTimeInFuture, Cause: fmt.Sprintf("event time is %d s later than the record was appended", (e.At-believable)/1000),
		At: e.At, Key: slices.Clone(e.Customer), Value: slices.Clone(e.Raw), Origin: e.Origin,
	}, true
}

// accept takes an event that is later than the settled point: folded onto the live record if it is in order, else by
// folding the live record again.
func (t *Task) accept(w *work, e *Event) {
	t.buf = AppendEvent(t.buf[:0], e)
	o := openEvent{at: e.At, id: e.ID, kind: e.Kind, bytes: w.keep(t.buf)}
	i := len(w.open)
	for i > 0 && o.before(&w.open[i-1]) {
		i--
	}
	last := i == len(w.open) && w.folded == i && e.At > w.live.lastFire
	w.open = slices.Insert(w.open, i, o)
	switch {
	case i >= w.folded && e.At > t.horizon(w):
		// waits until the hold lets time come to it
	case last:
		w.live.advance(&t.fold, e.At, false)
		w.live.apply(&t.fold, e, e.At, false)
		w.folded++
	default:
		t.refold(w)
		t.stats.Refolds++
	}
	w.changed = true
	w.openBytes += len(o.bytes)
	for len(w.open) > MaxOpen || w.openBytes > maxOpenBytes {
		t.force(w)
	}
}

// keep copies bytes into the memory of w, where they stay until it is reused.
func (w *work) keep(b []byte) []byte {
	n := len(w.memory)
	w.memory = append(w.memory, b...)
	return w.memory[n:len(w.memory):len(w.memory)]
}

// refold folds the live record again from the settled one.
func (t *Task) refold(w *work) {
	horizon := t.horizon(w)
	must(w.live.decodeSettled(w.live.ID, w.settled))
	w.folded = until(w.open, horizon)
	must(w.live.foldOpen(&t.fold, w.open[:w.folded], &t.event, true))
	w.changed = true
}

// until counts the open events not later than an instant.
func until(open []openEvent, to int64) int {
	n := len(open)
	for n > 0 && open[n-1].at > to {
		n--
	}
	return n
}

// force settles the older half of the open events of a customer that has too many, before the watermark passes them.
func (t *Task) force(w *work) {
	t.stats.Forced++
	t.keepSettled(w, t.settleNow(w, w.open[len(w.open)/2].at))
	t.refold(w)
}

// settle folds the settled record up to an instant, in the scratch customer, and drops the open events it took. With
// fire, deadlines may happen on the way.
func (t *Task) settle(w *work, to int64, fire bool) *Customer {
	r, n := t.scratch, until(w.open, to)
	must(r.decodeSettled(w.live.ID, w.settled))
	must(r.foldOpen(&t.fold, w.open[:n], &t.event, fire))
	if fire {
		r.advance(&t.fold, to, true)
	}
	for i := range n {
		w.openBytes -= len(w.open[i].bytes)
	}
	w.open = slices.Delete(w.open, 0, n)
	w.folded = max(w.folded-n, 0)
	return r
}

// settleNow settles for good, with the deadlines on the way: what the fold leaves behind is to be published.
func (t *Task) settleNow(w *work, to int64) *Customer {
	t.scratch.capture = t.job.capture()
	return t.settle(w, to, true)
}

// keepSettled makes r the settled record of w and takes over what its fold produced.
func (t *Task) keepSettled(w *work, r *Customer) {
	w.corrected = append(w.corrected, r.transitions...)
	w.letters = append(w.letters, r.letters...)
	for _, k := range r.touched {
		w.touched = append(w.touched, RowKey{Table: k.Table, Key: w.keep(k.Key)})
	}
	for _, p := range r.past {
		w.past = append(w.past, pastDay{p.day, w.keep(p.row)})
	}
	r.capture = captureNone
	t.encodeSettled(w, r)
}

// encodeSettled encodes r as the settled record of w.
func (t *Task) encodeSettled(w *work, r *Customer) {
	for i, s := range r.states {
		if rw, ok := s.(RowWriter); ok {
			table := t.job.tableOf[i]
			rw.Compact(r, func(key []byte) bool { return w.pending(table, key) })
		}
	}
	w.settled = r.appendSettled(w.settled[:0], &t.sect)
	w.settledTo = r.AsOf
}

// pending reports whether a history row of an operator is yet to be written, or to be published.
func (w *work) pending(table int, key []byte) bool {
	for i := range w.outbox {
		if o := &w.outbox[i]; o.table == table && string(o.key) == string(key) {
			return true
		}
	}
	return hasKey(w.touched, key) || hasKey(w.live.touched, key)
}

// hasKey reports whether a key is among those of any table: one too many is kept a little longer, no more.
func hasKey(keys []RowKey, key []byte) bool {
	for i := range keys {
		if string(keys[i].Key) == string(key) {
			return true
		}
	}
	return false
}

// has reports whether the event is among the open ones already. Those are the only memory of event ids: what comes
// again later is late, and order events are idempotent by order id.
func (w *work) has(e *Event) bool {
	for i := len(w.open) - 1; i >= 0; i-- {
		if w.open[i].id == e.ID {
			return true
		}
	}
	return false
}

// touch returns the customer at work, loading or creating it.
func (t *Task) touch(id []byte) *work {
	slot, ok := t.slab.find(id)
	if !ok {
		t.buf = appendHeader(t.buf[:0], &header{id: id, deadline: Never})
		t.buf = append(t.buf, 0, 0) // no open events, no outbox
		slot = t.slab.add(id, t.buf)
		t.workOf = append(t.workOf, 0)
		t.isDirty = append(t.isDirty, false)
		t.stats.Customers++
	}
	return t.touchSlot(slot)
}

func (t *Task) touchSlot(slot uint32) *work {
	if i := t.workOf[slot]; i > 0 {
		return t.works[i-1]
	}
	w := t.newWork()
	w.slot = int32(slot)
	var h header
	must(readHeader(t.slab.get(slot), &h))
	w.rowVersion = h.rowVersion
	w.phases = append(w.phases[:0], h.phases...)
	w.settled = append(w.settled[:0], h.settled...)
	w.settledTo = settledAsOf(h.settled)
	var err error
	t.opens, err = readOpen(t.opens[:0], h.open)
	must(err)
	for _, o := range t.opens {
		o.bytes = w.keep(o.bytes) // the slab's memory moves on
		w.open = append(w.open, o)
		w.openBytes += len(o.bytes)
	}
	t.outs, h.outbox, err = readOutbox(t.outs[:0], h.outbox, t.acked)
	must(err)
	for _, o := range t.outs {
		o.key = w.keep(o.key)
		w.outbox = append(w.outbox, o)
	}
	t.loadDays(w, h.outbox)
	w.folded = until(w.open, h.liveAsOf)
	must(w.live.load(&t.fold, &h, w.open, &t.event))
	w.published = append(w.published[:0], w.live.transitions...)
	t.keepDays(w)
	w.live.touched = w.live.touched[:0] // announced when those events were new
	w.live.moved = false
	t.works = append(t.works, w)
	t.workOf[slot] = int32(len(t.works))
	return w
}

func settledAsOf(settled []byte) int64 {
	r := Reader{b: settled}
	if len(settled) == 0 {
		return 0
	}
	return r.Int()
}

func (t *Task) newWork() *work {
	n := len(t.spare)
	if n == 0 {
		return &work{live: newCustomer(t.job)}
	}
	w := t.spare[n-1]
	t.spare = t.spare[:n-1]
	w.open, w.outbox, w.corrected, w.letters, w.touched = w.open[:0], w.outbox[:0], w.corrected[:0], w.letters[:0], w.touched[:0]
	w.changed, w.openBytes, w.folded, w.taken, w.memory = false, 0, 0, 0, w.memory[:0]
	w.past, w.days, w.chunks, w.publishedDays = w.past[:0], w.days[:0], w.chunks[:0], w.publishedDays[:0]
	return w
}

// Drain wakes customers whose deadline the clock has reached, at most max of them, and reports whether more are due.
func (t *Task) Drain(max int) (more bool) {
	t.timers.advance(t.clock)
	for ; max > 0; max-- {
		slot, ok := t.timers.take(t.clock)
		if !ok {
			break
		}
		t.stats.Fired++
		w := t.touchSlot(slot)
		t.catchUp(w)
		w.live.advance(&t.fold, t.clock, true)
		if t.Full() {
			return true
		}
	}
	if len(t.timers.due) > 0 {
		return true
	}
	if t.heard != t.clock {
		t.heard, t.moved = t.clock, true
	}
	return false
}

// Full reports whether so much is at work that a checkpoint is due before its time.
func (t *Task) Full() bool {
	return len(t.works) >= t.job.workingSet || len(t.letters) >= 1<<12 || t.fold.captured >= maxCaptured || t.fold.crowded
}

// Crowded reports whether what waits for the sink has made a customer's record so large that nothing more is to happen
// before the sink has taken it: then neither Process nor Drain is to be called, and nothing needs to be given up.
func (t *Task) Crowded() bool { return t.await > t.acked }

// Pending reports whether anything has changed since the last checkpoint.
func (t *Task) Pending() bool { return t.moved || len(t.works) > 0 || len(t.letters) > 0 }

// Stats returns the Task's figures, for reading in its own goroutine.
func (t *Task) Stats() *Stats {
	s := &t.stats
	s.Clock, s.Watermark = t.clock, t.Watermark()
	s.StateBytes, s.StateHeld = t.slab.bytes, t.slab.held
	s.WorkingSet, s.Timers, s.TimersDue = int64(len(t.works)), int64(t.timers.armed), int64(len(t.timers.due))
	s.RowsPending, s.BytesPending = int64(len(t.dirty)+len(t.project.queue)), t.pending
	return s
}

// Close releases the Task's memory.
func (t *Task) Close() { *t = Task{job: t.job} }

// must turns an error about bytes that this Task itself wrote into a panic: they were checked when they were restored.
func must(err error) {
	if err != nil {
		panic("BUG: " + err.Error())
	}
}
