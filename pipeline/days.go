package pipeline

import (
	"cmp"
	"slices"
)

// A customer's row of a business day is the row of `customers` as it stood when the day ended. Only the fold knows when
// that is: one checkpoint may span months. So a fold that leaves a day on which something changed captures the row there
// and then, as bytes, and these travel in the record until the sink has them. The day that a customer is still in needs
// no bytes: its row is the one in `customers`.

// capture says what a fold does on leaving a day.
type capture byte

const (
	captureNone capture = iota // nothing
	captureDay                 // it notes the day: the row was captured when the fold was made first
	captureRow
)

// pastDay is a business day that the present fold has left behind.
type pastDay struct {
	day int64
	row []byte // values in the layout of the job; nil of captureDay
}

// dayRow is a row of `customer_days` that is published but not known to be written.
type dayRow struct {
	version int64
	day     int64
	row     []byte // nil withdraws the row of the day
	// corrects says that a row of the day was published before.
	corrects bool
}

// Bounds of what one Task captures before a checkpoint is due, and of what one customer's record holds of it, in bytes.
const (
	maxCaptured = 32 << 20
	maxDayBytes = 256 << 10
)

// passDay is called before something happens at an instant that may lie after the end of the customer's day.
func (c *Customer) passDay(f *Fold, at int64) {
	calendar := c.job.Calendar
	if c.AsOf > 0 {
		day := calendar.Day(c.AsOf)
		if c.dayEnd = calendar.Midnight(day + 1); at < c.dayEnd {
			return
		}
		c.past = append(c.past, pastDay{day: day})
		if c.capture == captureRow {
			n := len(c.pastBytes)
			e := rowEncoder{dst: c.pastBytes, columns: c.job.dayValues}
			c.values(&e)
			c.pastBytes = e.dst
			c.past[len(c.past)-1].row = e.dst[n:len(e.dst):len(e.dst)]
			f.captured += len(e.dst) - n
			f.crowded = f.crowded || len(c.pastBytes) >= maxDayBytes // three times what they will take
		}
	}
	c.dayEnd = calendar.Midnight(calendar.Day(at) + 1)
}

// values hands the values of the customer's row to a sink, in the order of the job's columns: all but the customer's id
// and the partition.
func (c *Customer) values(sink interface{ value(Value) }) {
	for _, f := range c.job.columns {
		sink.value(f.field.Value(c.states[f.operator], c, c.AsOf))
	}
	for i := range c.Phases {
		p := &c.Phases[i]
		sink.value(Value{Text: c.job.Phase(i, p.Phase)})
		sink.value(Value{Int: p.Since})
		sink.value(Value{Text: c.job.Phase(i, p.Previous.Phase)})
		sink.value(Value{Int: p.Cycle})
	}
	sink.value(Value{Int: int64(c.job.Artefact.Version)})
	sink.value(Value{Int: c.AsOf})
}

// forget drops what was captured beyond the first n days, of an event that turned out to change nothing.
func (c *Customer) forget(n int) { c.past, c.dayEnd = c.past[:n], 0 }

// publishDays puts the days that folds have left since the last checkpoint into the pending rows, and withdraws those
// that a fold published before but leaves no more.
func (t *Task) publishDays(w *work, version int64) {
	for _, past := range [...][]pastDay{w.past, w.live.past} {
		for _, p := range past {
			if p.row != nil {
				w.putDay(dayRow{version, p.day, p.row, slices.Contains(w.publishedDays, p.day)})
			}
		}
	}
	for _, day := range w.publishedDays {
		if !hasDay(w.past, day) && !hasDay(w.live.past, day) {
			w.putDay(dayRow{version: version, day: day})
		}
	}
}

func hasDay(past []pastDay, day int64) bool {
	return slices.ContainsFunc(past, func(p pastDay) bool { return p.day == day })
}

// putDay keeps one pending row for each day, the last, in the order of the days.
func (w *work) putDay(d dayRow) {
	i := len(w.days)
	for i > 0 && w.days[i-1].day > d.day {
		i--
	}
	if i > 0 && w.days[i-1].day == d.day {
		before := &w.days[i-1]
		d.corrects = d.corrects || before.corrects || before.row == nil
		*before = d
		return
	}
	w.days = slices.Insert(w.days, i, d)
}

// appendPendingDays encodes the pending rows of w. A record must stay small whatever one fold captures (crowd): beyond the
// bound every other row is given up, so that of the time in question fewer days can be asked. Withdrawals never are, and a row
// that corrects one leaves a withdrawal: a row that stands and is wrong is worse than one that is missing.
func (t *Task) appendPendingDays(dst []byte, w *work, version int64) []byte {
	n := len(dst)
	dst = t.appendDays(append(dst, chunksAfter(t.acked, w.chunks)...), w.days)
	if len(dst)-n <= maxDayBytes {
		return dst
	}
	fresh := w.days
	w.days = nil
	t.eachDay(w.chunks, func(d *dayReader) {
		w.putDay(dayRow{d.version, d.day, d.row(), d.corrects})
	})
	for _, d := range fresh {
		w.putDay(d)
	}
	for { // of days that were corrected the last row alone is left: that may do
		byVersion := slices.Clone(w.days)
		slices.SortStableFunc(byVersion, func(a, b dayRow) int { return cmp.Compare(a.version, b.version) })
		dst = t.appendDays(dst[:n], byVersion)
		if len(dst)-n <= maxDayBytes {
			return dst
		}
		lost := 0
		if w.days, lost = everyOther(w.days, version); lost == 0 {
			return dst
		}
		t.stats.DaysLost += int64(lost)
	}
}

// everyOther keeps the last row and every other one before it, and all withdrawals. A row that is given up may have been
// written, unacknowledged: its withdrawal is of a later version, that of the checkpoint.
func everyOther(days []dayRow, version int64) (kept []dayRow, lost int) {
	keep := true
	for _, d := range slices.Backward(days) {
		switch {
		case d.row == nil || keep:
			kept = append(kept, d)
		case d.corrects:
			kept = append(kept, dayRow{version: version, day: d.day})
			fallthrough
		default:
			lost++
		}
		keep = keep != (d.row != nil)
	}
	slices.Reverse(kept)
	return kept, lost
}

// eachDay calls use for each pending row of a record that this Task wrote.
func (t *Task) eachDay(chunks []byte, use func(*dayReader)) {
	r := &t.days
	for r.begin(t.job, chunksAfter(t.acked, chunks)); r.next(); {
		use(r)
	}
	must(r.Err())
}

// loadDays takes over the pending rows of a record that is brought to work, as they are.
func (t *Task) loadDays(w *work, chunks []byte) {
	w.live.capture = captureNone
	w.chunksAtRest = len(chunks)
	if t.job.dayTable != nil {
		w.live.capture = captureDay // in the fold that follows
		w.chunks = append(w.chunks, chunksAfter(t.acked, chunks)...)
	}
}

// keepDays remembers which days the fold of the record at rest has left: their rows are published.
func (t *Task) keepDays(w *work) {
	for _, p := range w.live.past {
		w.publishedDays = append(w.publishedDays, p.day)
	}
	w.live.capture = t.job.capture()
}

// dayRows appends the rows of the pending days of a record that is projected, and returns how many.
func (t *Task) dayRows(slot uint32, id, chunks []byte) (n int) {
	if len(chunks) == 0 {
		return 0
	}
	t.project.shed = append(t.project.shed, slot)
	if t.job.dayTable == nil {
		return 0
	}
	rows, latest := t.project.rows[t.job.dayTable], t.latest(chunks)
	t.eachDay(chunks, func(d *dayReader) {
		if v, ok := latest[d.day]; ok && v != d.version {
			return
		}
		rows.Text(id)
		rows.Int(d.day)
		for i := range d.values {
			v := Value{}
			if !d.deleted {
				v = d.values[i]
			}
			rows.value(v)
		}
		rows.Int(int64(t.partition))
		rows.End(d.version, d.deleted)
		n++
	})
	return n
}

// latest returns the version of the last row of each day, or nil where no day has two: chunks overlap only where a past day
// has changed once more.
func (t *Task) latest(chunks []byte) (latest map[int64]int64) {
	last, overlap, r := int64(-1), false, &t.days
	r.begin(t.job, chunksAfter(t.acked, chunks))
	for r.skim = true; r.next(); last = r.day {
		overlap = overlap || r.day <= last
	}
	if !overlap {
		return nil
	}
	latest = map[int64]int64{}
	r.begin(t.job, chunksAfter(t.acked, chunks))
	for r.skim = true; r.next(); {
		latest[r.day] = r.version
	}
	return latest
}

// shedDays drops the pending days from a record at rest once all are written: customers at rest stay small. It reports
// whether there are none any more. Customers at work drop theirs at the next checkpoint.
func (t *Task) shedDays(slot uint32) (none bool) {
	if t.workOf[slot] != 0 {
		return false
	}
	var h header
	record := t.slab.get(slot)
	must(readHeader(record, &h))
	_, chunks, err := readOutbox(t.outs[:0], h.outbox, t.acked)
	must(err)
	if len(chunks) == 0 {
		return true
	}
	if t.job.dayTable != nil && len(chunksAfter(t.acked, chunks)) > 0 {
		return false
	}
	t.pending -= int64(len(chunks))
	t.buf = append(t.buf[:0], record[:len(record)-len(chunks)]...)
	t.slab.put(slot, t.buf)
	return true
}
