package pipeline

import "slices"

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
}

// Bounds of what one Task captures before a checkpoint is due, and of what one customer's record holds of it, in bytes.
const (
	maxCaptured     = 32 << 20
	maxCapturedDays = 256 // of one customer
	maxDayBytes     = 96 << 10
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
			f.crowded = f.crowded || len(c.past) >= maxCapturedDays
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
	w.days = slices.DeleteFunc(w.days, func(d dayRow) bool { return d.version <= t.acked })
	for _, past := range [...][]pastDay{w.past, w.live.past} {
		for _, p := range past {
			if p.row != nil {
				w.putDay(dayRow{version, p.day, p.row})
			}
		}
	}
	for _, day := range w.publishedDays {
		if !hasDay(w.past, day) && !hasDay(w.live.past, day) {
			w.putDay(dayRow{version, day, nil})
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
		w.days[i-1] = d
		return
	}
	w.days = slices.Insert(w.days, i, d)
}

// appendPendingDays encodes the pending rows of w. A record must stay small however long the sink is away: beyond the bound
// every other row is given up, so that of the time in question fewer days can be asked. Withdrawals never are: a row that
// stands and is wrong is worse than one that is missing.
func (t *Task) appendPendingDays(dst []byte, w *work) []byte {
	for n := len(dst); ; dst = dst[:n] {
		dst = t.job.appendDays(dst, w.days, &t.sect)
		if len(dst)-n <= maxDayBytes {
			return dst
		}
		before, keep := len(w.days), true
		for i := len(w.days) - 1; i >= 0; i-- { // the newest is kept
			if w.days[i].row == nil {
				continue
			}
			if !keep {
				w.days[i].version = 0
			}
			keep = !keep
		}
		w.days = slices.DeleteFunc(w.days, func(d dayRow) bool { return d.version == 0 })
		if len(w.days) == before {
			return dst
		}
		t.stats.DaysLost += int64(before - len(w.days))
	}
}

// loadDays takes over the pending rows of a record that is brought to work, from its end.
func (t *Task) loadDays(w *work, src []byte) {
	w.live.capture = captureNone
	if t.job.dayTable == nil {
		return
	}
	w.live.capture = captureDay // in the fold that follows
	r, d := &t.days, dayRow{}
	for r.begin(t.job, src); r.next(&d); {
		if d.version <= t.acked {
			continue
		}
		if d.row != nil {
			d.row = w.keep(d.row)
		}
		w.days = append(w.days, d)
	}
	must(r.r.Err())
}

// keepDays remembers which days the fold of the record at rest has left: their rows are published.
func (t *Task) keepDays(w *work) {
	for _, p := range w.live.past {
		w.publishedDays = append(w.publishedDays, p.day)
	}
	w.live.capture = t.job.capture()
}

// dayRows appends the rows of the pending days at the end of a record that is projected, and returns how many.
func (t *Task) dayRows(slot uint32, id, src []byte) (n int) {
	if len(src) == 0 {
		return 0
	}
	t.project.shed = append(t.project.shed, slot)
	if t.job.dayTable == nil {
		return 0
	}
	rows := t.project.rows[t.job.dayTable]
	r, d := &t.days, dayRow{}
	for r.begin(t.job, src); r.next(&d); n++ {
		if d.version <= t.acked {
			continue
		}
		rows.Text(id)
		rows.Int(d.day)
		values := Reader{b: d.row}
		for i := range t.job.dayValues {
			v := Value{}
			if d.row != nil {
				v = readValue(&values, &t.job.dayValues[i])
			}
			rows.value(v)
		}
		rows.Int(int64(t.partition))
		rows.End(d.version, d.row == nil)
	}
	must(r.r.Err())
	return n
}

// shedDays drops the pending days from a record at rest once all are written: customers at rest stay small. Customers at
// work do so at the next checkpoint.
func (t *Task) shedDays(slot uint32) {
	if t.workOf[slot] != 0 {
		return
	}
	var h header
	record := t.slab.get(slot)
	must(readHeader(record, &h))
	_, days, err := readOutbox(t.outs[:0], h.outbox, t.acked)
	must(err)
	if len(days) == 0 {
		return
	}
	r, d := &t.days, dayRow{}
	for r.begin(t.job, days); r.next(&d); {
		if d.version > t.acked && t.job.dayTable != nil {
			return
		}
	}
	t.buf = append(t.buf[:0], record[:len(record)-len(days)]...)
	t.slab.put(slot, t.buf)
}
