package operators

import (
	"errors"
	"slices"
	"strings"

	"zyklus/pipeline"
)

// Layout 2 of the section: first expiry (0 if nothing waits), oldest order (0 if none), waiting events, older orders,
// refunds of those, then the orders by time. Of an order in a foreign currency the status is marked, and currency, rate
// and refunds in other currencies follow it. Layout 1 is the same without such orders, so its bytes are also bytes of
// layout 2 and stay as they are until an event changes them.
const (
	ledgerLayout = 2
	// statusForeign marks the status of an order in a foreign currency.
	statusForeign = 0x80
)

// Append implements pipeline.State.
func (s *ledgerState) Append(dst []byte) []byte {
	if len(s.raw) > 0 {
		return append(dst, s.raw...)
	}
	if len(s.orders) == 0 && len(s.waiting) == 0 && s.older == (older{}) {
		return dst
	}
	expires, oldest := s.expires, int64(0)
	if expires == pipeline.Never {
		expires = 0
	}
	if len(s.orders) > 0 {
		oldest = s.orders[0].at
	}
	dst = pipeline.AppendInt(pipeline.AppendInt(dst, expires), oldest)
	dst = pipeline.AppendUint(dst, uint64(len(s.waiting)))
	for _, w := range s.waiting {
		dst = pipeline.AppendBytes(pipeline.AppendInt(dst, w.expires), w.event)
	}
	for _, v := range [...]int64{s.older.orders, s.older.firstAt, s.older.lastAt, s.older.overflow} {
		dst = pipeline.AppendInt(dst, v)
	}
	dst = appendIDs(dst, s.adjusted)
	dst = pipeline.AppendUint(dst, uint64(len(s.orders)))
	for i := range s.orders {
		dst = s.orders[i].append(dst, oldest)
	}
	return dst
}

func (o *order) append(dst []byte, oldest int64) []byte {
	dst = pipeline.AppendBytes(dst, o.id)
	for _, v := range [...]int64{o.at - oldest, o.content - o.at, o.value, o.refunded} {
		dst = pipeline.AppendInt(dst, v)
	}
	if o.foreign() {
		dst = append(append(dst, o.status|statusForeign), o.currency[:]...)
		dst = pipeline.AppendInt(pipeline.AppendRate(dst, o.rate), o.other)
	} else {
		dst = append(dst, o.status)
	}
	dst = appendIDs(dst, o.refunds)
	dst = pipeline.AppendUint(dst, uint64(len(o.lines)))
	for i := range o.lines {
		l := &o.lines[i]
		dst = pipeline.AppendUint64(dst, l.product)
		dst = pipeline.AppendUint(dst, uint64(l.category))
		for _, v := range [...]int64{l.quantity, l.returned, l.amount} {
			dst = pipeline.AppendInt(dst, v)
		}
	}
	return dst
}

func appendIDs(dst []byte, ids []uint64) []byte {
	dst = pipeline.AppendUint(dst, uint64(len(ids)))
	for _, id := range ids {
		dst = pipeline.AppendUint64(dst, id)
	}
	return dst
}

func readIDs(ids []uint64, r *pipeline.Reader) []uint64 {
	for n := r.Count(); n > 0 && r.Err() == nil; n-- {
		ids = append(ids, r.Uint64())
	}
	return ids
}

// Decode implements pipeline.State. It leaves the orders encoded until an event needs them.
func (s *ledgerState) Decode(layout byte, src []byte, _ *pipeline.Customer) error {
	if layout != 1 && layout != ledgerLayout {
		return layoutError{layout}
	}
	r := pipeline.NewReader(src)
	if s.expires = r.Int(); s.expires == 0 {
		s.expires = pipeline.Never
	}
	s.raw = append(s.raw[:0], src...)
	return r.Err()
}

// mayShrink reports whether the oldest order, still encoded, has left the horizon, or there are very many.
func (s *ledgerState) mayShrink(c *pipeline.Customer) bool {
	r := pipeline.NewReader(s.raw)
	r.Int()
	oldest := r.Int()
	calendar := c.Job().Calendar
	return oldest != 0 && calendar.Day(c.AsOf)-calendar.Day(oldest) > HorizonDays
}

// Check implements pipeline.Checker.
func (s *ledgerState) Check(c *pipeline.Customer) error {
	if len(s.raw) > 0 {
		if err := s.decodeRaw(); err != nil {
			return err
		}
	}
	t := c.Totals
	if s.firstAndLast(&t); t != c.Totals {
		return errors.New("first and last order")
	}
	if s.expires != s.firstExpiry() || s.expires <= c.AsOf {
		return errors.New("first expiry")
	}
	for i := range s.waiting {
		if !s.decodeWaiting(i) || !s.scratch.Kind.Order() || !s.scratch.Sound() || i > 0 && s.waiting[i].expires < s.waiting[i-1].expires {
			return errors.New("waiting events")
		}
	}
	for i := range s.orders {
		if !s.orders[i].valid() || s.orders[i].at > c.AsOf || i > 0 && s.orders[i].at < s.orders[i-1].at {
			return errors.New("orders")
		}
	}
	return nil
}

// valid reports whether the ledger can have written the order.
func (o *order) valid() bool {
	for i := range o.lines {
		if l := &o.lines[i]; min(l.quantity, l.returned, l.amount) < 0 || max(l.quantity, l.returned, l.amount) > pipeline.MaxAmount {
			return false
		}
	}
	return o.at > 0 && o.money.valid() && o.status <= statusCancelled && len(o.lines) <= maxLines
}

func (m *money) valid() bool {
	if m.foreign() {
		worth, ok := m.rate.Convert(m.value)
		if !ok || m.other < 0 || m.other > worth {
			return false
		}
	}
	return m.refunded >= 0 && m.refunded <= m.value && m.value <= pipeline.MaxAmount
}

// decodeOrders decodes what Decode left encoded. The bytes were checked when they were restored.
func (s *ledgerState) decodeOrders() {
	if len(s.raw) == 0 {
		return
	}
	if err := s.decodeRaw(); err != nil {
		panic("BUG: ledger: " + err.Error())
	}
}

func (s *ledgerState) decodeRaw() error {
	r := pipeline.NewReader(s.raw)
	r.Int()
	oldest := r.Int()
	for n := r.Count(); n > 0 && r.Err() == nil; n-- {
		s.waiting = append(s.waiting, waiting{expires: r.Int(), event: slices.Clone(r.Bytes())})
	}
	s.older = older{r.Int(), r.Int(), r.Int(), r.Int()}
	s.adjusted = readIDs(s.adjusted, r)
	for n := r.Count(); n > 0 && r.Err() == nil; n-- {
		s.decodeOrder(r, oldest)
	}
	s.raw = s.raw[:0]
	return r.Err()
}

func (s *ledgerState) decodeOrder(r *pipeline.Reader, oldest int64) {
	if n := len(s.orders); n < cap(s.orders) {
		s.orders = s.orders[:n+1]
	} else {
		s.orders = append(s.orders, order{})
	}
	o := &s.orders[len(s.orders)-1]
	o.id = append(o.id[:0], r.Bytes()...)
	o.at = oldest + r.Int()
	o.content = o.at + r.Int()
	o.money = money{value: r.Int(), refunded: r.Int()}
	if o.status = r.Byte(); o.status&statusForeign != 0 {
		o.status &^= statusForeign
		o.currency, o.rate, o.other = r.Currency(), r.Rate(), r.Int()
	}
	o.refunds = readIDs(o.refunds[:0], r)
	o.lines = o.lines[:0]
	for n := r.Count(); n > 0 && r.Err() == nil; n-- {
		o.lines = append(o.lines, line{
			product: r.Uint64(), category: uint16(r.Uint()), quantity: r.Int(), returned: r.Int(), amount: r.Int(),
		})
	}
}

// WriteRow implements pipeline.RowWriter.
func (s *ledgerState) WriteRow(key []byte, c *pipeline.Customer, rows *pipeline.Rows) bool {
	s.decodeOrders()
	i := len(s.orders) - 1 // the last of an id: one beyond the horizon may still wait to leave
	for ; i >= 0 && string(s.orders[i].id) != string(key); i-- {
	}
	if i < 0 {
		return false
	}
	o := &s.orders[i]
	now := o.snapshot(nil)
	rows.Text(c.ID)
	rows.Text(o.id)
	rows.Int(o.at)
	rows.Int(o.content)
	rows.String(o.statusName())
	rows.Int(now.net + now.gone)
	rows.Int(now.gone)
	rows.Int(now.net)
	rows.Int(int64(len(o.lines)))
	rows.String(o.categories(c))
	o.writeOriginal(rows)
	return true
}

// writeOriginal appends the columns of the order's own currency.
func (o *order) writeOriginal(rows *pipeline.Rows) {
	if !o.foreign() {
		rows.String("")
		rows.Null()
		rows.Null()
		return
	}
	net := o.net()
	if !o.counts() {
		net = 0
	}
	rows.Text(o.currency[:])
	rows.Int(o.value)
	rows.Int(net)
}

func (o *order) statusName() string {
	switch {
	case o.status == statusCancelled:
		return "cancelled"
	case o.status == statusRefunded:
		return "refunded"
	case o.refunded > 0 || o.other > 0:
		return "partially_refunded"
	}
	return "completed"
}

// categories joins the order's distinct categories in the order of its lines.
func (o *order) categories(c *pipeline.Customer) string {
	var names []string
	for i := range o.lines {
		name := c.Names.Name(o.lines[i].category)
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}
