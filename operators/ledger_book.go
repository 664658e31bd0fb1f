package operators

import (
	"math/bits"
	"slices"

	"zyklus/pipeline"
)

// snapshot is what an order counts for, money in minor units of the reporting currency.
type snapshot struct {
	orders, net, gone int64
	categories        []uint16 // ascending
}

// snapshot returns what the order counts for now. The categories are in the memory of the buffer.
func (o *order) snapshot(buffer []uint16) snapshot {
	s := snapshot{categories: buffer[:0]}
	if o.status == statusCancelled || o.status == statusRefunded {
		s.gone = o.worth()
		return s
	}
	s.orders, s.gone = 1, o.back()
	s.net = o.worth() - s.gone
	for i := range o.lines {
		l := &o.lines[i]
		if l.category == 0 || l.returned >= l.quantity && l.quantity > 0 {
			continue
		}
		if k, found := slices.BinarySearch(s.categories, l.category); !found {
			s.categories = slices.Insert(s.categories, k, l.category)
		}
	}
	return s
}

// book changes the totals by the difference between what the order counts for now and what it counted for.
func (s *ledgerState) book(f *pipeline.Fold, o *order, b pipeline.Booking, was snapshot) {
	now := o.snapshot(s.now)
	s.now = now.categories
	b.Orders, b.Net = now.orders-was.orders, now.net-was.net
	b.Gained, b.Lost = s.without(now.categories, was.categories), s.without(was.categories, now.categories)
	t := &f.Customer.Totals
	t.Net += b.Net
	t.Refunded += now.gone - was.gone
	if b.Orders != 0 {
		t.Orders += b.Orders
		if s.aloneOnDay(f, o) {
			t.PurchaseDays += b.Orders
		}
		s.firstAndLast(t)
	}
	f.Bookings = append(f.Bookings, b)
}

// without returns what is in a but not in b, in memory that lasts until the next event.
func (s *ledgerState) without(a, b []uint16) []uint16 {
	n := len(s.rest)
	for _, v := range a {
		if !slices.Contains(b, v) {
			s.rest = append(s.rest, v)
		}
	}
	return s.rest[n:len(s.rest):len(s.rest)]
}

// counts reports whether the order is a net order.
func (o *order) counts() bool { return o.status == statusCompleted }

// aloneOnDay reports whether no other net order falls on the order's business day.
func (s *ledgerState) aloneOnDay(f *pipeline.Fold, o *order) bool {
	calendar := f.Job().Calendar
	day := calendar.Day(o.at)
	for i := range s.orders {
		if other := &s.orders[i]; other != o && other.counts() && calendar.Day(other.at) == day {
			return false
		}
	}
	return true
}

// firstAndLast finds the first and last net order anew.
func (s *ledgerState) firstAndLast(t *pipeline.Totals) {
	t.FirstOrderAt, t.LastOrderAt = s.older.firstAt, s.older.lastAt
	for i := range s.orders {
		o := &s.orders[i]
		if !o.counts() {
			continue
		}
		if t.FirstOrderAt == 0 || o.at < t.FirstOrderAt {
			t.FirstOrderAt = o.at
		}
		t.LastOrderAt = max(t.LastOrderAt, o.at)
	}
}

// wait keeps an order event until its order comes, as long as the allowed lateness.
func (s *ledgerState) wait(f *pipeline.Fold, e *pipeline.Event) {
	w := waiting{expires: f.Now + max(f.Job().Lateness, 1), event: pipeline.AppendEvent(nil, e)}
	s.waiting = append(s.waiting, w)
	bytes := 0
	for i := range s.waiting {
		bytes += len(s.waiting[i].event)
	}
	for ; bytes > maxWaiting; bytes -= s.giveUpFirst(f) {
	}
	s.expires = s.firstExpiry() // they come by time, so the first expires first
	f.Reschedule()
}

// release applies what has been waiting for an order.
func (s *ledgerState) release(f *pipeline.Fold, o *order) {
	for i := 0; i < len(s.waiting); {
		if !s.decodeWaiting(i) || string(s.scratch.OrderID) != string(o.id) {
			i++
			continue
		}
		s.change(f, o, &s.scratch)
		s.waiting = slices.Delete(s.waiting, i, i+1)
	}
	s.expires = s.firstExpiry()
}

func (s *ledgerState) decodeWaiting(i int) bool {
	return pipeline.DecodeEvent(s.waiting[i].event, &s.scratch) == nil
}

// waits reports whether an event waits for its order already.
func (s *ledgerState) waits(id uint64) bool {
	for i := range s.waiting {
		if s.decodeWaiting(i) && s.scratch.ID == id {
			return true
		}
	}
	return false
}

func (s *ledgerState) firstExpiry() int64 {
	if len(s.waiting) == 0 {
		return pipeline.Never
	}
	return s.waiting[0].expires
}

// giveUp deals with an order event whose order never came. Where older orders have left the ledger it may belong to one
// of them: then a named amount corrects lifetime value, by the rate of the refund's own day if it is in a foreign
// currency. Else it is a dead letter.
func (s *ledgerState) giveUp(f *pipeline.Fold, e *pipeline.Event) {
	if e.Kind == pipeline.KindOrderRefunded && e.HasAmount && s.beyond(f) {
		if slices.Contains(s.adjusted, e.ID) || !s.convertible(f, &money{}, e) {
			return
		}
		if s.adjusted = append(s.adjusted, e.ID); len(s.adjusted) > maxAdjusted {
			s.adjusted = slices.Delete(s.adjusted, 0, 1)
		}
		t := &f.Customer.Totals
		back := min(converted(e, e.Amount), max(t.Net, 0))
		t.Net -= back
		t.Refunded += back
		return
	}
	f.Refuse(pipeline.DeadLetter{
		Kind: pipeline.ErrOrderUnknown, Cause: e.Kind.String() + " names an order that is not in the ledger",
		At: e.At, Money: e.Money(), Value: slices.Clone(e.Raw), Origin: e.Origin,
	})
}

// Deadline is the first expiry of what waits for its order.
func (s *ledgerState) Deadline(*pipeline.Fold) int64 { return s.expires }

// Fire gives up what has waited long enough.
func (s *ledgerState) Fire(f *pipeline.Fold) {
	if f.Now < s.expires {
		return
	}
	s.decodeOrders()
	for len(s.waiting) > 0 && s.waiting[0].expires <= f.Now {
		s.giveUpFirst(f)
	}
	s.expires = s.firstExpiry()
}

// giveUpFirst gives up the event that has waited longest, and returns its size.
func (s *ledgerState) giveUpFirst(f *pipeline.Fold) int {
	if s.decodeWaiting(0) {
		s.giveUp(f, &s.scratch)
	}
	size := len(s.waiting[0].event)
	s.waiting = slices.Delete(s.waiting, 0, 1)
	return size
}

// Compact implements pipeline.RowWriter: orders beyond the horizon leave the ledger once their rows are written.
func (s *ledgerState) Compact(c *pipeline.Customer, pending func(key []byte) bool) {
	if len(s.raw) > 0 && len(s.raw) <= maxBytes && !s.mayShrink(c) {
		return
	}
	s.decodeOrders()
	calendar := c.Job().Calendar
	oldest := calendar.Day(c.AsOf) - HorizonDays
	surplus := len(s.orders) - maxOrders
	n, bytes := 0, 0
	for i := range s.orders {
		bytes += s.orders[i].size()
	}
	for i := range s.orders {
		o := &s.orders[i]
		tooMany := i < surplus || bytes > maxBytes
		if (calendar.Day(o.at) >= oldest && !tooMany) || pending(o.id) {
			s.orders[n], s.orders[i] = s.orders[i], s.orders[n]
			n++
			continue
		}
		bytes -= o.size()
		if tooMany {
			s.older.overflow++
		}
		s.older.add(o)
	}
	s.orders = s.orders[:n]
}

// size is about how many bytes an order takes at rest.
func (o *order) size() int { return 32 + len(o.id) + 8*len(o.refunds) + 24*len(o.lines) }

func (r *older) add(o *order) {
	r.orders++
	if !o.counts() {
		return
	}
	if r.firstAt == 0 || o.at < r.firstAt {
		r.firstAt = o.at
	}
	r.lastAt = max(r.lastAt, o.at)
}

// mulDiv returns a*b/c and what is left, for values that are not negative, without overflow.
func mulDiv(a, b, c int64) (quotient, rest int64) {
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	q, r := bits.Div64(hi%uint64(c), lo, uint64(c))
	return int64(q), int64(r)
}
