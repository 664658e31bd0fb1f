package pipeline

import (
	"fmt"
	"slices"
)

// lastInstant is the end of the year 9999, Unix milliseconds: no instant is later.
const lastInstant = 253_402_300_799_999

// instant reports whether at can be an instant of the state.
func instant(at int64) bool { return at >= 0 && at <= lastInstant }

// check decodes all parts of a record that is restored, and holds them against what a fold could have written: later
// faults can then only be our own.
func (t *Task) check(h *header) (err error) {
	c := t.scratch
	if err = c.decodeSettled(h.id, h.settled); err != nil {
		return err
	}
	if err = c.check(); err != nil {
		return err
	}
	if h.rowVersion > Version(t.lineage, t.number) {
		return fmt.Errorf("%w: a customer of a checkpoint after the partition's", errCorrupt)
	}
	if !instant(h.liveAsOf) || c.AsOf > h.liveAsOf || h.deadline < h.liveAsOf || h.rowVersion < 0 {
		return fmt.Errorf("%w: instants of a customer", errCorrupt)
	}
	if !t.job.validPhases(h.phases) {
		return fmt.Errorf("%w: live phases", errCorrupt)
	}
	if err = t.checkOpen(h, c.AsOf); err != nil {
		return err
	}
	var days []byte
	if t.outs, days, err = readOutbox(t.outs[:0], h.outbox, 0); err != nil {
		return err
	}
	newest := Version(t.lineage, t.number)
	if i := slices.IndexFunc(t.outs, func(o outboxRow) bool { return o.version > newest || !t.job.validOutbox(&o) }); i >= 0 {
		return fmt.Errorf("%w: history row %d", errCorrupt, i)
	}
	return t.checkDays(days)
}

// checkDays checks the pending rows of days: all readable, one for a day. Rows under other columns are lost.
func (t *Task) checkDays(src []byte) error {
	r, version, day, newest := &t.days, int64(0), int64(-1), Version(t.lineage, t.number)
	for r.begin(t.job, src); r.next(); version, day = r.version, r.day {
		if r.version <= 0 || r.version < version || r.version == version && r.day <= day || r.day < 0 || r.day > lastInstant/DayMillis || r.version > newest {
			return fmt.Errorf("%w: rows of days are out of order", errCorrupt)
		}
	}
	if err := r.Err(); err != nil {
		return fmt.Errorf("rows of days: %w", err)
	}
	if t.job.dayTable != nil {
		t.stats.DaysLost += int64(r.lost)
	}
	return nil
}

// checkOpen checks the open events: in order and after the settled point.
func (t *Task) checkOpen(h *header, settledTo int64) (err error) {
	if t.opens, err = readOpen(t.opens[:0], h.open); err != nil {
		return err
	}
	for i := range t.opens {
		o := &t.opens[i]
		if err = DecodeEvent(o.bytes, &t.event); err != nil {
			return err
		}
		if !t.event.priced() || !t.event.Sound() {
			return fmt.Errorf("%w: open event %d has an amount out of range or no rate", errCorrupt, i)
		}
		if o.at <= settledTo || !instant(o.at) || i > 0 && !t.opens[i-1].before(o) {
			return fmt.Errorf("%w: open event %d is out of order", errCorrupt, i)
		}
	}
	return nil
}

// check holds a decoded customer against what a fold could have written.
func (c *Customer) check() error {
	t := &c.Totals
	ordered := t.Orders > 0 && t.FirstOrderAt <= t.LastOrderAt && t.LastOrderAt <= c.AsOf && t.PurchaseDays >= 1 && t.PurchaseDays <= t.Orders
	none := t.Orders == 0 && t.FirstOrderAt == 0 && t.LastOrderAt == 0 && t.PurchaseDays == 0
	if !instant(c.AsOf) || !instant(t.FirstOrderAt) || !ordered && !none || len(c.Names.list) > maxNames {
		return fmt.Errorf("%w: totals", errCorrupt)
	}
	for i := range c.Phases {
		p, l := &c.Phases[i], c.job.lifecycles[i]
		if max(p.Phase, p.Previous.Phase, p.Older) > len(l.Phases) || p.Rule >= len(l.Rules) || p.Since > c.AsOf {
			return fmt.Errorf("%w: phases in lifecycle %s", errCorrupt, l.ID)
		}
	}
	for i, s := range c.states {
		if checker, ok := s.(Checker); ok {
			if err := checker.Check(c); err != nil {
				return fmt.Errorf("section %s: %w", c.job.sections[i].Name, err)
			}
		}
	}
	return nil
}

// validPhases reports whether these can be the live phases of a customer, one byte for each lifecycle.
func (j *Job) validPhases(phases []byte) bool {
	if len(phases) > len(j.lifecycles) {
		return false
	}
	for i, p := range phases {
		if int(p) > len(j.lifecycles[i].Phases) {
			return false
		}
	}
	return true
}

func (j *Job) validOutbox(o *outboxRow) bool {
	if o.table > 0 {
		return o.table <= len(j.history)
	}
	t := &o.transition
	if t.Lifecycle >= len(j.lifecycles) {
		return false
	}
	l := j.lifecycles[t.Lifecycle]
	return max(t.From, t.To) <= len(l.Phases) && t.To > 0 && t.Rule < len(l.Rules)
}
