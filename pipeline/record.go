package pipeline

import (
	"fmt"
)

// A customer at rest, format 1:
//
//	format  id  rowVersion  liveAsOf  deadline  wake, fired  live phases  settled  open events  outbox  [pending days]
//
// settled is the record folded up to the watermark, the open events come after it. The live record is not stored: it is
// the settled one, folded over the open events and advanced to liveAsOf. So is what was published since the settled
// point: the transitions of that fold.
const recordFormat = 1

// header is what can be read of a record without folding anything.
type header struct {
	id         []byte
	rowVersion int64  // checkpoint version of the customer's present row, 0 if it has none
	liveAsOf   int64  // instant up to which the live record was advanced
	deadline   int64  // next deadline of the live record
	wake       int64  // when there is something to settle, 0 if there is nothing
	fired      bool   // a deadline fired between the settled and the live record
	phases     []byte // live phase in each lifecycle
	settled    []byte
	open       []byte // count, then events
	outbox     []byte // count, then history rows not known to be written; then pending days (dayrow.go)
}

// recordID finds the customer id in a record.
func recordID(record []byte) []byte {
	r := Reader{b: record[1:]}
	return r.Bytes()
}

func appendHeader(dst []byte, h *header) []byte {
	dst = append(dst, recordFormat)
	dst = AppendBytes(dst, h.id)
	dst = AppendUint(dst, uint64(h.rowVersion))
	dst = AppendInt(dst, h.liveAsOf)
	deadline := h.deadline
	if deadline == Never {
		deadline = 0 // ten bytes less
	}
	dst = AppendUint(dst, uint64(deadline))
	dst = AppendUint(dst, uint64(h.wake)<<1|uint64(boolInt(h.fired)))
	dst = AppendBytes(dst, h.phases)
	return AppendBytes(dst, h.settled)
}

func readHeader(record []byte, h *header) error {
	r := Reader{b: record}
	if f := r.Byte(); f != recordFormat {
		return fmt.Errorf("%w: record format %d, this binary reads %d", errCorrupt, f, recordFormat)
	}
	h.id = r.Bytes()
	h.rowVersion = int64(r.Uint())
	h.liveAsOf = r.Int()
	if h.deadline = int64(r.Uint()); h.deadline == 0 {
		h.deadline = Never
	}
	wake := r.Uint()
	h.wake, h.fired = int64(wake>>1), wake&1 != 0
	h.phases = r.Bytes()
	h.settled = r.Bytes()
	h.open = r.b
	for n := r.Count(); n > 0 && !r.bad; n-- {
		r.Bytes()
	}
	h.outbox = r.b
	return r.Err()
}

// appendSettled encodes the customer's state.
func (c *Customer) appendSettled(dst []byte, scratch *[]byte) []byte {
	dst = AppendInt(dst, c.AsOf)
	t := &c.Totals
	for _, v := range [...]int64{t.Orders, t.Net, t.Refunded, t.FirstOrderAt, t.LastOrderAt, t.PurchaseDays} {
		dst = AppendInt(dst, v)
	}
	dst = AppendUint(dst, uint64(c.Names.Overflow))
	dst = AppendUint(dst, uint64(len(c.Names.list)))
	for _, n := range c.Names.list {
		dst = AppendBytes(dst, n)
	}
	dst = AppendUint(dst, uint64(len(c.Phases)))
	for i := range c.Phases {
		p := &c.Phases[i]
		dst = appendStay(appendStay(dst, p.Stay), p.Previous)
		dst = append(dst, byte(p.Older), byte(p.Rule))
	}
	for i, s := range c.states {
		*scratch = s.Append((*scratch)[:0])
		if len(*scratch) > 0 {
			section := c.job.sections[i]
			dst = append(dst, section.Tag, section.Layout)
			dst = AppendBytes(dst, *scratch)
		}
	}
	return append(dst, c.unknown...)
}

func appendStay(dst []byte, s Stay) []byte {
	dst = append(dst, byte(s.Phase))
	if s.Phase == 0 {
		return dst
	}
	return AppendInt(AppendInt(dst, s.Since), s.Cycle)
}

func readStay(r *Reader) (s Stay) {
	if s.Phase = int(r.Byte()); s.Phase != 0 {
		s.Since, s.Cycle = r.Int(), r.Int()
	}
	return s
}

// decodeSettled makes c the customer that appendSettled encoded. Empty bytes are a customer of whom nothing is known.
func (c *Customer) decodeSettled(id, src []byte) error {
	c.reset()
	c.ID = append(c.ID, id...)
	if len(src) == 0 {
		return nil
	}
	r := Reader{b: src}
	if err := c.decodeHead(&r); err != nil {
		return err
	}
	return c.readSections(&r)
}

// decodeHead reads what comes before the sections.
func (c *Customer) decodeHead(r *Reader) error {
	c.AsOf = r.Int()
	t := &c.Totals
	for _, v := range [...]*int64{&t.Orders, &t.Net, &t.Refunded, &t.FirstOrderAt, &t.LastOrderAt, &t.PurchaseDays} {
		*v = r.Int()
	}
	c.Names.Overflow = int64(r.Uint())
	for n := r.Count(); n > 0 && !r.bad; n-- {
		c.Names.add(r.Bytes())
	}
	if n := r.Count(); n != len(c.Phases) {
		return fmt.Errorf("%w: %d lifecycles in the record, %d in the job", errCorrupt, n, len(c.Phases))
	}
	for i := range c.Phases {
		p := &c.Phases[i]
		p.Stay, p.Previous = readStay(r), readStay(r)
		p.Older, p.Rule = int(r.Byte()), int(r.Byte())
	}
	return nil
}

func (c *Customer) readSections(r *Reader) error {
	for r.Len() > 0 {
		whole := r.b
		tag, layout := r.Byte(), r.Byte()
		body := r.Bytes()
		i := c.job.byTag[tag]
		if i == 0 {
			c.unknown = append(c.unknown, whole[:len(whole)-len(r.b)]...)
			continue
		}
		if err := c.states[i-1].Decode(layout, body, c); err != nil {
			return fmt.Errorf("section %s: %w", c.job.sections[i-1].Name, err)
		}
	}
	return r.Err()
}

// outboxRow is a history row that is published but not known to be written: a transition, or the key of a row that is
// built from the live record.
type outboxRow struct {
	version    int64
	table      int // 0 is phase_transitions, then the operators' tables
	deleted    bool
	transition Transition
	key        []byte
}

func appendOutbox(dst []byte, rows []outboxRow) []byte {
	dst = AppendUint(dst, uint64(len(rows)))
	for i := range rows {
		o := &rows[i]
		dst = append(AppendUint(dst, uint64(o.version)), byte(o.table), byte(boolInt(o.deleted)))
		if o.table > 0 {
			dst = AppendBytes(dst, o.key)
			continue
		}
		t := &o.transition
		dst = append(dst, byte(t.Lifecycle), byte(t.From), byte(t.To), byte(t.Rule), byte(t.Cause))
		dst = AppendInt(AppendInt(dst, t.At), t.Cycle)
	}
	return dst
}

// readOutbox appends the rows newer than a version to rows, whose keys alias src. The rest of src are pending days.
func readOutbox(rows []outboxRow, src []byte, newer int64) (_ []outboxRow, days []byte, err error) {
	r := Reader{b: src}
	for n := r.Count(); n > 0 && !r.bad; n-- {
		o := outboxRow{version: int64(r.Uint()), table: int(r.Byte()), deleted: r.Byte() != 0}
		if o.table > 0 {
			o.key = r.Bytes()
		} else {
			o.transition = Transition{
				Lifecycle: int(r.Byte()), From: int(r.Byte()), To: int(r.Byte()), Rule: int(r.Byte()), Cause: Cause(r.Byte()),
			}
			o.transition.At, o.transition.Cycle = r.Int(), r.Int()
		}
		if o.version > newer {
			rows = append(rows, o)
		}
	}
	return rows, r.b, r.Err()
}

// appendOpen encodes the open events.
func appendOpen(dst []byte, open []openEvent) []byte {
	dst = AppendUint(dst, uint64(len(open)))
	for i := range open {
		dst = AppendBytes(dst, open[i].bytes)
	}
	return dst
}

// readOpen appends the open events of a record to open. They alias src.
func readOpen(open []openEvent, src []byte) ([]openEvent, error) {
	r := Reader{b: src}
	for n := r.Count(); n > 0 && !r.bad; n-- {
		b := r.Bytes()
		head := Reader{b: b}
		o := openEvent{bytes: b, kind: Kind(head.Byte())}
		head.Byte()
		o.at, o.id = head.Int(), head.Uint64()
		open = append(open, o)
		if head.bad {
			r.fail()
		}
	}
	return open, r.Err()
}

// alarm is when to wake the customer.
func (h *header) alarm() int64 {
	if h.wake != 0 {
		return min(h.deadline, h.wake)
	}
	return h.deadline
}

// load makes c the live record of a record at rest, whose parts are in h. Output of the fold is kept in c. The deadline
// is as it was: where none fired since the settled point, none is computed.
func (c *Customer) load(f *Fold, h *header, open []openEvent, e *Event) error {
	if err := c.decodeSettled(h.id, h.settled); err != nil {
		return err
	}
	if err := c.foldOpen(f, open[:until(open, h.liveAsOf)], e, h.fired); err != nil {
		return err
	}
	if h.fired { // at its last instant too, unless that is an event's to which time had not come
		c.advance(f, h.liveAsOf, h.deadline > h.liveAsOf)
	}
	c.next, c.timed = h.deadline, h.deadline > c.AsOf
	return nil
}
