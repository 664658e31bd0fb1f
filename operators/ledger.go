package operators

import (
	"slices"

	"zyklus/models/lifecycle"
	"zyklus/pipeline"
)

// Ledger keeps a customer's orders by their ids. Completed, updated, refunded and cancelled change the same order, and
// every total follows from it: counts and value can go down. It writes Customer.Totals and the bookings of each event.
//
// An order takes part for HorizonDays business days after its own; then only totals remember it.
//
// An order in a foreign currency is kept in that currency with the rate of its day (order_money.go): totals and bookings
// are in the reporting currency.
type Ledger struct{ table *pipeline.Table }

// HorizonDays is how many business days after its own an order can still be changed.
const HorizonDays = 400

// Bounds of the ledger of one customer. What goes beyond them is merged into totals and counted.
const (
	maxOrders = 1000
	maxLines  = 100
	// maxWaiting bounds the bytes of events that wait for their orders; the first are given up early beyond it.
	maxWaiting = 128 << 10
	// maxBytes bounds the bytes of orders and lines, about; the oldest orders leave early beyond it.
	maxBytes = 256 << 10
)

// The states of an order, as stored.
const (
	statusCompleted byte = iota
	statusRefunded       // as a whole
	statusCancelled
)

// order is one order of the ledger.
type order struct {
	id      []byte
	at      int64 // its time: the event time of order.completed
	content int64 // event time of what it holds: order.completed or the last order.updated
	money
	status  byte
	lines   []line
	refunds []uint64 // ids of the refunds applied, so that one that comes again has no effect
}

// line is one product line.
type line struct {
	product  uint64
	category uint16 // in Customer.Names
	quantity int64  // thousandths
	returned int64  // thousandths
	amount   int64  // minor units of the order's currency
}

// waiting is an order event that came before its order.
type waiting struct {
	expires int64
	event   []byte // compact form
}

// ledger is the State. The orders of a customer are decoded only when an order event comes: most events are none.
type ledger struct {
	raw    []byte  // undecoded; nil once orders are decoded
	orders []order // by time
	older  older
	// adjusted are the ids of the last refunds that found no order and were taken from lifetime value.
	adjusted []uint64
	// waiting events by time; the first expiry is known without decoding.
	waiting []waiting
	expires int64
	scratch pipeline.Event
	// Memory for the categories of bookings: of the order before and after, and of the differences.
	was, now, rest []uint16
}

// older sums up the orders that have left the ledger: how many of any status, first and last of the net ones.
type older struct {
	orders, firstAt, lastAt, overflow int64
}

// maxAdjusted bounds the refunds of older orders that are remembered, so that one that comes again has no effect.
const maxAdjusted = 32

// NewLedger returns the operator.
func NewLedger() *Ledger {
	return &Ledger{table: &pipeline.Table{
		Name:    "orders",
		Comment: "Orders as they are now, net of refunds and cancellations: one row each.",
		Key:     []string{"customer_id", "order_id"},
		Columns: pipeline.WithVersion([]pipeline.Column{
			column("customer_id", pipeline.TypeString, "", "User id, else anonymous id."),
			column("order_id", pipeline.TypeString, "", "Order id."),
			column("at", pipeline.TypeInstant, "", "Time of the order."),
			column("updated_at", pipeline.TypeInstant, "", "Time of what the order holds: its own, or that of its last update. Of two updates of one instant that come later than allowed the first to come stands."),
			column("status", pipeline.TypeText, "", "completed, partially_refunded, refunded (as a whole) or cancelled."),
			column("value_minor", pipeline.TypeMoney, "minor units", "Value of the order before refunds."),
			column("refunded_minor", pipeline.TypeMoney, "minor units", "Of that, refunded or cancelled. A refund is taken of what the order holds when it is applied: one later than allowed after updates that are later than itself."),
			column("net_value_minor", pipeline.TypeMoney, "minor units", "Value less refunds; 0 if cancelled."),
			column("lines", pipeline.TypeCount, "lines", "Product lines, at most 100 are kept."),
			column("categories", pipeline.TypeString, "", "Distinct categories of its lines, joined by a comma."),
			column("currency", pipeline.TypeText, "", "Currency of the order, a code of ISO 4217; empty for the reporting currency. Amounts are converted at the rate of the order's business day."),
			optional("original_value_minor", pipeline.TypeInteger, "minor units of currency", "Value before refunds in the order's own currency; NULL for the reporting currency."),
			optional("original_net_minor", pipeline.TypeInteger, "minor units of currency", "Net value in the order's own currency, what was refunded in others taken at the order's rate; NULL for the reporting currency."),
		}),
	}}
}

// Section implements pipeline.Operator.
func (l *Ledger) Section() pipeline.Section {
	total := func(get func(*pipeline.Totals) int64) func(pipeline.State, *pipeline.Customer, int64) pipeline.Value {
		return func(_ pipeline.State, c *pipeline.Customer, _ int64) pipeline.Value { return integer(get(&c.Totals)) }
	}
	at := func(get func(*pipeline.Totals) int64) func(pipeline.State, *pipeline.Customer, int64) pipeline.Value {
		return func(_ pipeline.State, c *pipeline.Customer, _ int64) pipeline.Value { return instant(get(&c.Totals)) }
	}
	return pipeline.Section{
		Name: "ledger", Tag: 1, Layout: ledgerLayout, Table: l.table,
		Fields: []pipeline.Field{{
			Column: column("orders", pipeline.TypeCount, "orders", "Net orders over the lifetime: completed, neither cancelled nor refunded as a whole."),
			Label:  pipeline.Labels{En: "Orders", De: "Bestellungen"}, Feature: true,
			Value: total(func(t *pipeline.Totals) int64 { return t.Orders }),
		}, {
			Column: column("net_value_minor", pipeline.TypeMoney, "minor units", "Net value of all orders over the lifetime, after refunds and cancellations."),
			Label:  pipeline.Labels{En: "Net value", De: "Nettowert"}, Feature: true,
			Value: total(func(t *pipeline.Totals) int64 { return t.Net }),
		}, {
			Column: column("refunded_value_minor", pipeline.TypeMoney, "minor units", "Refunds and cancellations over the lifetime."),
			Label:  pipeline.Labels{En: "Refunded value", De: "Erstattet"}, Feature: true,
			Value: total(func(t *pipeline.Totals) int64 { return t.Refunded }),
		}, {
			Column: optional("first_order_at", pipeline.TypeInstant, "", "Time of the first net order."),
			Label:  pipeline.Labels{En: "First order", De: "Erste Bestellung"},
			Value:  at(func(t *pipeline.Totals) int64 { return t.FirstOrderAt }),
		}, {
			Column: optional("last_order_at", pipeline.TypeInstant, "", "Time of the last net order."),
			Label:  pipeline.Labels{En: "Last order", De: "Letzte Bestellung"},
			Value:  at(func(t *pipeline.Totals) int64 { return t.LastOrderAt }),
		}, {
			Column: optional("days_since_last_order", pipeline.TypeNumber, "days", "Recency: units of 24 hours since the last net order, at as_of. v_customers has it at the partition's clock."),
			Label:  pipeline.Labels{En: "Days since last order", De: "Tage seit letzter Bestellung"}, Feature: true, Varies: lifecycle.Rising,
			Value: func(_ pipeline.State, c *pipeline.Customer, at int64) pipeline.Value {
				if c.Totals.Orders == 0 {
					return null()
				}
				return number(daysSince(c.Totals.LastOrderAt, at))
			},
			Crossing: func(_ pipeline.State, c *pipeline.Customer, at int64, threshold float64) int64 {
				if c.Totals.Orders == 0 {
					return pipeline.Never
				}
				return crossing(at, c.Totals.LastOrderAt, threshold)
			},
		}},
	}
}

// NewState implements pipeline.Operator.
func (l *Ledger) NewState() pipeline.State { return &ledgerState{table: l.table} }

// ledgerState ties a ledger to the table that its rows go to.
type ledgerState struct {
	ledger
	table *pipeline.Table
}

var (
	_ pipeline.RowWriter = (*ledgerState)(nil)
	_ pipeline.Checker   = (*ledgerState)(nil)
)

func (s *ledgerState) Reset() {
	s.raw, s.orders, s.waiting, s.adjusted = s.raw[:0], s.orders[:0], s.waiting[:0], s.adjusted[:0]
	s.older, s.expires = older{}, pipeline.Never
}

// Apply changes the order that the event names.
func (s *ledgerState) Apply(f *pipeline.Fold, e *pipeline.Event) {
	if !e.Kind.Order() {
		return
	}
	s.decodeOrders()
	s.rest = s.rest[:0]
	if e.Kind == pipeline.KindOrderCompleted {
		s.complete(f, e)
		return
	}
	if o := s.find(f, e.OrderID); o != nil {
		s.change(f, o, e)
		return
	}
	switch {
	case !f.Late:
		s.wait(f, e)
	case !s.waits(e.ID):
		s.giveUp(f, e)
	}
}

// complete books a new order, and then what has been waiting for it.
func (s *ledgerState) complete(f *pipeline.Fold, e *pipeline.Event) {
	calendar := f.Job().Calendar
	if calendar.Day(f.Now)-calendar.Day(e.At) > HorizonDays && s.beyond(f) {
		f.Refuse(pipeline.DeadLetter{
			Kind: pipeline.ErrOrderTooOld, Cause: "the order is older than the ledger reaches back, and may be a repeat",
			At: e.At, Money: e.Money(), Value: slices.Clone(e.Raw), Origin: e.Origin,
		})
		return
	}
	if s.find(f, e.OrderID) != nil {
		return // order events are idempotent by order id
	}
	o := s.insert(e)
	o.currency, o.rate = e.Currency, e.Rate
	b := pipeline.Booking{At: o.at}
	s.fill(f, o, e)
	s.book(f, o, b, snapshot{})
	f.Touch(s.table, o.id)
	s.release(f, o)
}

// insert adds an order in its place by time, reusing memory.
func (s *ledgerState) insert(e *pipeline.Event) *order {
	n := len(s.orders)
	if n < cap(s.orders) {
		s.orders = s.orders[:n+1]
	} else {
		s.orders = append(s.orders, order{})
	}
	o := s.orders[n] // memory of an earlier order
	o = order{id: append(o.id[:0], e.OrderID...), at: e.At, lines: o.lines[:0], refunds: o.refunds[:0]}
	i := n
	for ; i > 0 && s.orders[i-1].at > o.at; i-- {
		s.orders[i] = s.orders[i-1]
	}
	s.orders[i] = o
	return &s.orders[i]
}

// fill sets what an order holds.
func (s *ledgerState) fill(f *pipeline.Fold, o *order, e *pipeline.Event) {
	o.content, o.value, o.lines = e.At, e.Amount, o.lines[:0]
	for i := range e.Lines {
		if i == maxLines {
			s.older.overflow++
			break
		}
		l := &e.Lines[i]
		o.lines = append(o.lines, line{
			product: l.Product, category: f.Customer.Names.Index(l.Category), quantity: l.Quantity, amount: l.Amount,
		})
	}
}

// change applies an update, refund or cancellation to its order.
func (s *ledgerState) change(f *pipeline.Fold, o *order, e *pipeline.Event) {
	was := o.snapshot(s.was)
	s.was = was.categories
	switch e.Kind {
	case pipeline.KindOrderUpdated:
		if e.At < o.content || f.Late && e.At == o.content && e.At > o.at {
			return // a later update, or a later completion, or this one has been folded in already
		}
		if !s.convertible(f, &o.money, e) {
			return
		}
		o.reprice(e)
		s.fill(f, o, e)
		o.limit()
	case pipeline.KindOrderCancelled:
		if o.status == statusCancelled {
			return
		}
		o.status = statusCancelled
	case pipeline.KindOrderRefunded:
		if slices.Contains(o.refunds, e.ID) || slices.Contains(s.adjusted, e.ID) || !s.convertible(f, &o.money, e) {
			return
		}
		o.refunds = append(o.refunds, e.ID)
		o.refund(e)
	}
	s.book(f, o, pipeline.Booking{At: o.at}, was)
	f.Touch(s.table, o.id)
}

// refund gives back lines, an amount, or the whole order; never more than is left of it.
func (o *order) refund(e *pipeline.Event) {
	whole := false
	switch {
	case len(e.Lines) > 0:
		own, named := o.returnLines(e.Lines)
		o.giveBack(own)
		o.giveBackIn(e, named)
		whole = o.allReturned()
	case e.HasAmount:
		o.giveBackIn(e, e.Amount)
	default:
		whole = true
		o.refunded = o.value
	}
	if o.status == statusCompleted && (whole || o.spent()) {
		o.status, o.refunded = statusRefunded, o.value
	}
	o.limit()
}

// returnLines takes lines back and returns their amounts: by the order's prices, and by the refund's where it names them.
func (o *order) returnLines(lines []pipeline.Line) (own, named int64) {
	for i := range lines {
		back := &lines[i]
		left := back.Quantity
		for k := range o.lines {
			l := &o.lines[k]
			if l.product != back.Product || left <= 0 || l.quantity <= l.returned {
				continue
			}
			n := min(left, l.quantity-l.returned)
			if !back.HasAmount {
				own += portion(l.amount, l.returned+n, l.quantity) - portion(l.amount, l.returned, l.quantity)
			}
			l.returned += n
			left -= n
		}
		if taken := back.Quantity - left; back.HasAmount && back.Quantity > 0 {
			if len(o.lines) == 0 || len(o.lines) == maxLines {
				taken = back.Quantity // the ledger does not know all lines
			}
			named += portion(back.Amount, taken, back.Quantity)
		}
	}
	return own, named
}

// portion returns amount * part / whole, rounded down; parts add up exactly when taken one after the other.
func portion(amount, part, whole int64) int64 {
	if part >= whole || whole == 0 {
		return amount
	}
	quotient, _ := mulDiv(amount, part, whole)
	return quotient
}

// allReturned reports whether every line has come back.
func (o *order) allReturned() bool {
	for i := range o.lines {
		if o.lines[i].returned < o.lines[i].quantity {
			return false
		}
	}
	return len(o.lines) > 0 && len(o.lines) < maxLines
}

// find returns the order of an id, if it has not left the horizon.
func (s *ledgerState) find(f *pipeline.Fold, id []byte) *order {
	calendar := f.Job().Calendar
	today := calendar.Day(f.Now)
	for i := len(s.orders) - 1; i >= 0; i-- {
		if o := &s.orders[i]; string(o.id) == string(id) {
			if today-calendar.Day(o.at) > HorizonDays {
				return nil
			}
			return o
		}
	}
	return nil
}

// beyond reports whether the customer has orders that have left the horizon.
func (s *ledgerState) beyond(f *pipeline.Fold) bool {
	if s.older.orders > 0 {
		return true
	}
	calendar := f.Job().Calendar
	return len(s.orders) > 0 && calendar.Day(f.Now)-calendar.Day(s.orders[0].at) > HorizonDays
}
