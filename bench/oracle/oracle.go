// Package oracle says what final rows must be. It is a plain, slow program that shares nothing with operators and Task
// but the type of an event and the formula of the purchase model: it sorts one customer's events, walks through them,
// and finds what silence does by trying all instants at which something could change. Tests and `zyklus admin verify`
// compare with it.
//
// Beside the Oracle it holds what such a comparison needs: the Store, which keeps rows as ClickHouse does, and the
// History, a random one that sits on the edges.
//
// Package twin says the same once more, in SQL over the records of the topic: all of the table of orders, all transitions of
// role5, and of customers and their days all but what is named there, with the reasons: the instant of as_of and what varies
// with it, expected_orders, other lifecycles, events later than allowed, and a few ways of money that go step by step. The tests
// of cmd/zyklus hold a deployment against both, so the two check each other.
package oracle

import (
	"cmp"
	"math"
	"math/big"
	"slices"
	"sort"
	"strings"
	"time"

	"zyklus/models"
	"zyklus/pipeline"
)

// Setting is what a deployment fixes.
type Setting struct {
	Zone     *time.Location // of business days
	Lateness time.Duration  // how long a refund waits for its order
	Artefact models.Artefact
	// Rate is the price in the reporting currency of one unit of a currency on a date (2006-01-02), as the table of
	// rates has it; "" where it has none.
	Rate       func(date, currency string) string
	Currency   string // the reporting one; empty for one of hundredths
	RateDays   int64  // how many days older than an order its rate may be; 0 for 7
	Lifecycles []Lifecycle
}

// Oracle is one customer.
type Oracle struct {
	Setting

	// OnDay, which may be nil, is called when a day on which something changed has ended: the Oracle is then as it was at
	// the day's end. The day is one of Days.
	OnDay func(day int64)

	now     int64 // instant of the last event or deadline
	orders  []*order
	waiting []waiting

	adjust      int64 // refunds of orders beyond the horizon
	first, last int64
	touches     int64
	known       bool

	courses []course       // by lifecycle
	letters []string       // Raw of refused events
	days    map[int64]bool // on which something happened, but for the last
}

// New returns a customer of whom nothing is known.
func New(s Setting) *Oracle {
	o := &Oracle{Setting: s, days: map[int64]bool{}}
	for _, l := range s.Lifecycles {
		o.courses = append(o.courses, course{lifecycle: l, transitions: map[int64]transition{}})
	}
	return o
}

// Known reports whether anything has happened to the customer but refused events.
func (o *Oracle) Known() bool { return o.now > 0 }

// Touches counts the events that have happened so far, each once.
func (o *Oracle) Touches() int64 { return o.touches }

// DeadLetters returns the Raw of the events that were refused so far.
func (o *Oracle) DeadLetters() []string { return o.letters }

// Days returns the business days on which something changed, as days since 1970, but for the last one.
func (o *Oracle) Days() []int64 {
	var list []int64
	for d := range o.days {
		list = append(list, d)
	}
	slices.Sort(list)
	return list
}

type waiting struct {
	expires int64
	event   pipeline.Event
}

// rate is that of an event's currency on its business day, or the last one before if that is not too old; nil if there is
// none.
func (o *Oracle) rate(e *pipeline.Event) *big.Rat {
	currency := currencyOf(e)
	if currency == "" {
		return big.NewRat(1, 1)
	}
	for day := o.day(e.At); day >= o.day(e.At)-cmp.Or(o.RateDays, 7); day-- {
		text := o.Rate(time.Unix(day*86400, 0).UTC().Format(time.DateOnly), currency)
		if text == "" {
			continue
		}
		rate, ok := new(big.Rat).SetString(text)
		if !ok {
			panic("rate " + text)
		}
		return rate.Mul(rate, hundredths(currency)).Quo(rate, hundredths(o.Currency))
	}
	return nil
}

// hundredths is the ratio of a currency's minor unit to the hundredth, by ISO 4217.
func hundredths(currency string) *big.Rat {
	switch currency {
	case "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF":
		return big.NewRat(100, 1)
	case "BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND":
		return big.NewRat(1, 10)
	case "CLF", "UYW":
		return big.NewRat(1, 100)
	}
	return big.NewRat(1, 1)
}

func currencyOf(e *pipeline.Event) string { return strings.Trim(string(e.Currency[:]), "\x00") }

// Times multiplies money by a rate and rounds half up, once.
func Times(amount int64, by *big.Rat) int64 {
	x := new(big.Rat).Mul(big.NewRat(amount, 1), by)
	x.Add(x, big.NewRat(1, 2))
	return new(big.Int).Div(x.Num(), x.Denom()).Int64()
}

const dayMs = 24 * 3600 * 1000

// day numbers a civil day.
func (o *Oracle) day(at int64) int64 {
	t := time.UnixMilli(at).In(o.Zone)
	return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC).Unix() / 86400
}

func (o *Oracle) midnight(day int64) int64 {
	return time.Date(1970, 1, 1+int(day), 0, 0, 0, 0, o.Zone).UnixMilli()
}

// Run folds the events of one customer, in whatever order they are given and however often each is, and the silence up
// to an instant, Unix milliseconds.
func (o *Oracle) Run(events []pipeline.Event, until int64) {
	events = slices.Clone(events)
	slices.SortFunc(events, func(a, b pipeline.Event) int {
		return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID))
	})
	events = slices.CompactFunc(events, func(a, b pipeline.Event) bool { return a.ID == b.ID })
	for i := range events {
		if e := &events[i]; e.Kind == pipeline.KindOrderCompleted && o.rate(e) == nil {
			o.letters = append(o.letters, string(e.Raw))
			continue
		}
		o.Silence(events[i].At - 1)
		o.event(&events[i])
		o.step(events[i].Kind.String())
	}
	o.Silence(until)
}

// Silence lets everything happen that time alone does until an instant.
func (o *Oracle) Silence(until int64) {
	for o.now > 0 {
		next := int64(math.MaxInt64)
		for _, at := range o.candidates(until) {
			if at >= o.now && at <= until && at < next && o.changes(at) {
				next = at
			}
		}
		if next == math.MaxInt64 {
			return
		}
		o.move(next)
		o.expire()
		o.step("deadline")
	}
}

// move goes on to the next instant at which something happens.
func (o *Oracle) move(at int64) {
	if today := o.day(o.now); o.now > 0 && o.day(at) > today {
		if o.days[today] = true; o.OnDay != nil {
			o.OnDay(today)
		}
	}
	o.now = at
}

// candidates are the instants from now on at which time could change something.
func (o *Oracle) candidates(until int64) (at []int64) {
	for _, w := range o.waiting {
		at = append(at, max(w.expires, o.now)) // events of the very instant come first
	}
	seen := map[int64]bool{}
	for _, r := range o.orders {
		if d := o.day(r.at); !seen[d] {
			seen[d] = true
			for _, n := range [...]int64{7, 30, 90, 365} {
				at = append(at, o.midnight(d+n))
			}
		}
	}
	if len(o.counting()) == 0 {
		return at
	}
	f := o.features(o.now)
	flips := []func(int64) bool{
		func(t int64) bool { return f.risk(t) >= o.Artefact.RiskBands.Medium },
		func(t int64) bool { return f.risk(t) >= o.Artefact.RiskBands.High },
	}
	for i := range o.courses {
		flips = append(flips, o.courses[i].lifecycle.Flips(f)...)
	}
	for _, holds := range flips {
		if before := holds(o.now); holds(until) != before {
			n := sort.Search(int(until-o.now), func(i int) bool { return holds(o.now+int64(i)) != before })
			at = append(at, o.now+int64(n))
		}
	}
	return at
}

// changes reports whether anything differs between now and a later instant with nothing in between.
func (o *Oracle) changes(at int64) bool {
	for _, w := range o.waiting {
		if w.expires <= at {
			return true
		}
	}
	before, after := o.features(o.now), o.features(at)
	for i := range o.courses {
		if _, rule := o.courses[i].lifecycle.Phase(after, at); rule != o.courses[i].rule {
			return true
		}
	}
	return before.windows != after.windows || before.band != after.band
}

func (o *Oracle) expire() {
	for len(o.waiting) > 0 && o.waiting[0].expires <= o.now {
		e := o.waiting[0].event
		o.waiting = o.waiting[1:]
		if r := o.rate(&e); e.Kind == pipeline.KindOrderRefunded && e.HasAmount && o.beyond() && r != nil {
			o.adjust += min(Times(e.Amount, r), max(o.features(o.now).net, 0))
			continue
		}
		o.letters = append(o.letters, string(e.Raw))
	}
}

// beyond reports whether an order has left the horizon.
func (o *Oracle) beyond() bool {
	return slices.ContainsFunc(o.orders, func(r *order) bool { return o.day(o.now)-o.day(r.at) > 400 })
}

func (o *Oracle) find(id []byte) *order {
	for _, r := range slices.Backward(o.orders) {
		if r.id == string(id) && o.day(o.now)-o.day(r.at) <= 400 {
			return r
		}
	}
	return nil
}

// event lets one event happen.
func (o *Oracle) event(e *pipeline.Event) {
	o.move(e.At)
	o.touches++
	o.known = o.known || e.Known
	o.first, o.last = cmp.Or(o.first, e.At), e.At
	if !e.Kind.Order() {
		return
	}
	if e.Kind == pipeline.KindOrderCompleted {
		if o.find(e.OrderID) == nil {
			r := &order{id: string(e.OrderID), at: e.At, status: "completed", refunds: map[uint64]bool{}}
			r.currency, r.rate = currencyOf(e), o.rate(e)
			r.fill(e)
			r.price()
			o.orders = append(o.orders, r)
			o.release(r)
		}
		return
	}
	r := o.find(e.OrderID)
	if r == nil {
		c := CopyEvent(e)
		o.waiting = append(o.waiting, waiting{e.At + o.Lateness.Milliseconds(), *c})
		return
	}
	o.change(r, e)
}

func (o *Oracle) release(r *order) {
	var rest []waiting
	for _, w := range o.waiting {
		if string(w.event.OrderID) == r.id {
			o.change(r, &w.event)
		} else {
			rest = append(rest, w)
		}
	}
	o.waiting = rest
}

func (o *Oracle) counting() (list []*order) {
	for _, r := range o.orders {
		if r.status == "completed" {
			list = append(list, r)
		}
	}
	return list
}

// step decides the phases.
func (o *Oracle) step(cause string) {
	f := o.features(o.now)
	for i := range o.courses {
		phase, rule := o.courses[i].lifecycle.Phase(f, o.now)
		o.courses[i].step(o.now, phase, rule, cause)
	}
}
