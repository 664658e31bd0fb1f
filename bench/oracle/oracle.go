// Package oracle says what final rows must be. It is a plain, slow program that shares nothing with operators and Task
// but the type of an event and the formula of the purchase model: it sorts one customer's events, walks through them,
// and finds what silence does by trying all instants at which something could change. Tests and `zyklus admin verify`
// compare with it.
//
// Beside the Oracle it holds what such a comparison needs: the Store, which keeps rows as ClickHouse does, and the
// History, a random one that sits on the edges.
package oracle

import (
	"cmp"
	"fmt"
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

// course is a customer's way through one lifecycle.
type course struct {
	lifecycle   Lifecycle
	stays       []stay
	transitions map[int64]transition
	rule        string // that matched last: another one is a change even if it leads to the same phase
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

type order struct {
	id              string
	at, content     int64
	currency        string   // "" is the reporting currency
	rate            *big.Rat // reporting minor units of a minor unit of the currency
	value, refunded int64    // minor units of the currency
	other           int64    // refunded in other currencies, reporting minor units
	// What it is worth and what came back, in reporting minor units, after the last event.
	worthNow, backNow int64
	status            string // completed, refunded, cancelled
	lines             []line
	refunds           map[uint64]bool
}

type line struct {
	product                    uint64
	category                   string
	quantity, returned, amount int64
}

type waiting struct {
	expires int64
	event   pipeline.Event
}

type stay struct {
	phase string
	since int64
	cycle int64
}

type transition struct {
	from, to, cause, rule string
	cycle                 int64
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

func (r *order) fill(e *pipeline.Event) {
	r.content, r.value, r.lines = e.At, e.Amount, nil
	for _, l := range e.Lines {
		r.lines = append(r.lines, line{l.Product, string(l.Category), l.Quantity, 0, l.Amount})
	}
}

func (o *Oracle) change(r *order, e *pipeline.Event) {
	defer r.price()
	rate := o.rate(e)
	if currencyOf(e) == r.currency {
		rate = r.rate
	}
	switch e.Kind {
	case pipeline.KindOrderUpdated:
		switch {
		case e.At < r.content:
			return
		case rate == nil:
			o.letters = append(o.letters, string(e.Raw))
			return
		case currencyOf(e) != r.currency:
			back := r.back()
			r.currency, r.rate, r.refunded, r.other = currencyOf(e), rate, 0, back
			if r.currency == "" {
				r.refunded, r.other = back, 0
			}
		}
		r.fill(e)
		r.limit()
	case pipeline.KindOrderCancelled:
		r.status = "cancelled"
	case pipeline.KindOrderRefunded:
		named := len(e.Lines) == 0 && e.HasAmount
		for _, l := range e.Lines {
			named = named || l.HasAmount
		}
		switch {
		case r.refunds[e.ID]:
		case named && rate == nil:
			o.letters = append(o.letters, string(e.Raw))
		default:
			r.refunds[e.ID] = true
			r.refund(e, rate)
			r.limit()
		}
	}
}

func (r *order) limit() {
	r.refunded = min(r.refunded, r.value)
	r.other = min(r.other, r.worth()-r.share())
}

func (r *order) worth() int64 {
	if r.currency == "" {
		return r.value
	}
	return Times(r.value, r.rate)
}

// share is the refunds in the order's own currency.
func (r *order) share() int64 {
	if r.value == 0 {
		return 0
	}
	return Times(r.worth(), big.NewRat(r.refunded, r.value))
}

func (r *order) back() int64 {
	if r.currency == "" {
		return r.refunded
	}
	return min(r.worth(), r.share()+r.other)
}

// price computes what the order counts for once an event: asked for at every candidate, fractions would take all the time.
func (r *order) price() { r.worthNow, r.backNow = r.worth(), r.back() }

func (r *order) refund(e *pipeline.Event, rate *big.Rat) {
	// give takes minor units of the event's currency.
	give := func(amount int64) {
		switch {
		case amount == 0:
		case currencyOf(e) == r.currency:
			r.refunded = min(r.value, r.refunded+amount)
		case r.currency == "":
			r.refunded = min(r.value, r.refunded+Times(amount, rate))
		default:
			r.other += Times(amount, rate)
		}
	}
	whole := false
	switch {
	case len(e.Lines) > 0:
		named := int64(0) // converted together, once
		for _, l := range e.Lines {
			if amount := r.giveBack(l); l.HasAmount {
				named += amount
			} else {
				r.refunded = min(r.value, r.refunded+amount)
			}
		}
		give(named)
		whole = len(r.lines) > 0
		for _, l := range r.lines {
			whole = whole && l.returned >= l.quantity
		}
	case e.HasAmount:
		give(e.Amount)
	default:
		whole = true
		r.refunded = r.value
	}
	emptied := r.value > 0 && r.refunded == r.value || r.other > 0 && r.worth() > 0 && r.back() == r.worth()
	if r.status == "completed" && (whole || emptied) {
		r.status, r.refunded = "refunded", r.value
	}
}

// giveBack returns what one returned line is worth.
func (r *order) giveBack(back pipeline.Line) (amount int64) {
	left := back.Quantity
	for i := range r.lines {
		l := &r.lines[i]
		n := min(left, l.quantity-l.returned)
		if l.product != back.Product || n <= 0 {
			continue
		}
		if !back.HasAmount {
			amount += part(l.amount, l.returned+n, l.quantity) - part(l.amount, l.returned, l.quantity)
		}
		l.returned += n
		left -= n
	}
	taken := back.Quantity - left
	if len(r.lines) == 0 {
		taken = back.Quantity
	}
	if back.HasAmount && back.Quantity > 0 {
		amount += part(back.Amount, taken, back.Quantity)
	}
	return amount
}

// part returns amount * n / of, rounded down.
func part(amount, n, of int64) int64 {
	product := new(big.Int).Mul(big.NewInt(amount), big.NewInt(n))
	return product.Div(product, big.NewInt(of)).Int64()
}

// original is what the columns of the order's own currency hold.
func (r *order) original() string {
	net := int64(0)
	switch {
	case r.currency == "":
		return " - -"
	case r.status == "completed" && r.other == 0:
		net = r.value - r.refunded
	case r.status == "completed":
		net = max(0, r.value-r.refunded-Times(r.value, big.NewRat(r.other, r.worth())))
	}
	return fmt.Sprint(r.currency, " ", r.value, " ", net)
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

func (c *course) step(now int64, phase, rule, cause string) {
	c.rule = rule
	top := c.top()
	if phase == top.phase {
		return
	}
	if len(c.stays) > 0 && top.since == now { // a second change at the same instant replaces the first
		c.stays = c.stays[:len(c.stays)-1]
		delete(c.transitions, now)
		if top = c.top(); top.phase == phase {
			return
		}
	}
	next := stay{phase, now, max(top.cycle, 1)}
	if top.phase != "" && c.lifecycle.StartsCycle(top.phase, phase) {
		next.cycle++
	}
	c.stays = append(c.stays, next)
	c.transitions[now] = transition{top.phase, phase, cause, rule, next.cycle}
}

func (c *course) top() stay {
	if n := len(c.stays); n > 0 {
		return c.stays[n-1]
	}
	return stay{}
}

// previous is the phase before the present one.
func (c *course) previous() string {
	if n := len(c.stays); n > 1 {
		return c.stays[n-2].phase
	}
	return ""
}
