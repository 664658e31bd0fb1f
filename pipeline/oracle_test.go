package pipeline_test

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

// The oracle is a plain, slow reference: it sorts one customer's events, walks through them, and finds what silence does
// by trying all instants at which something could change. It shares nothing with Task and operators but the formula of
// the purchase model.
type oracle struct {
	zone     *time.Location
	lateness int64
	clock    int64
	art      models.Artefact

	now     int64 // instant of the last event or deadline
	orders  []*oracleOrder
	waiting []oracleWaiting

	adjust      int64 // refunds of orders beyond the horizon
	first, last int64
	touches     int64
	known       bool

	stays       []oracleStay
	transitions map[int64]oracleTransition
	letters     []string       // Raw of refused events
	days        map[int64]bool // on which something happened, but for the last
}

type oracleOrder struct {
	id              string
	at, content     int64
	currency        string   // "" is the reporting currency
	rate            *big.Rat // reporting minor units of a minor unit of the currency
	value, refunded int64    // minor units of the currency
	other           int64    // refunded in other currencies, reporting minor units
	// What it is worth and what came back, in reporting minor units, after the last event.
	worthNow, backNow int64
	status            string // completed, refunded, cancelled
	lines             []oracleLine
	refunds           map[uint64]bool
}

type oracleLine struct {
	product                    uint64
	category                   string
	quantity, returned, amount int64
}

type oracleWaiting struct {
	expires int64
	event   pipeline.Event
}

type oracleStay struct {
	phase string
	since int64
	cycle int64
}

type oracleTransition struct {
	from, to, cause string
	cycle           int64
}

// rate is that of an event's currency on its business day, or the last one within a week before; nil if there is none.
func (o *oracle) rate(e *pipeline.Event) *big.Rat {
	currency := currencyOf(e)
	if currency == "" {
		return big.NewRat(1, 1)
	}
	for day := o.day(e.At); day >= o.day(e.At)-7; day-- {
		text, ok := rateTexts()[time.Unix(day*86400, 0).UTC().Format("2006-01-02")+","+currency]
		if !ok {
			continue
		}
		rate, ok := new(big.Rat).SetString(text)
		if !ok {
			panic("rate " + text)
		}
		return rate.Mul(rate, map[string]*big.Rat{"USD": big.NewRat(1, 1), "GBP": big.NewRat(1, 1), "JPY": big.NewRat(100, 1), "KWD": big.NewRat(1, 10)}[currency])
	}
	return nil
}

func currencyOf(e *pipeline.Event) string { return strings.Trim(string(e.Currency[:]), "\x00") }

// times multiplies money by a rate and rounds half up, once.
func times(amount int64, by *big.Rat) int64 {
	x := new(big.Rat).Mul(big.NewRat(amount, 1), by)
	x.Add(x, big.NewRat(1, 2))
	return new(big.Int).Div(x.Num(), x.Denom()).Int64()
}

const dayMs = 24 * 3600 * 1000

// day numbers a civil day.
func (o *oracle) day(at int64) int64 {
	t := time.UnixMilli(at).In(o.zone)
	return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC).Unix() / 86400
}

func (o *oracle) midnight(day int64) int64 {
	return time.Date(1970, 1, 1+int(day), 0, 0, 0, 0, o.zone).UnixMilli()
}

// run folds the events of one customer and the silence up to the clock.
func (o *oracle) run(events []pipeline.Event) {
	events = slices.Clone(events)
	slices.SortFunc(events, func(a, b pipeline.Event) int {
		return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID))
	})
	events = slices.CompactFunc(events, func(a, b pipeline.Event) bool { return a.ID == b.ID })
	o.transitions, o.days = map[int64]oracleTransition{}, map[int64]bool{}
	for i := range events {
		if e := &events[i]; e.Kind == pipeline.KindOrderCompleted && o.rate(e) == nil {
			o.letters = append(o.letters, string(e.Raw))
			continue
		}
		o.silence(events[i].At - 1)
		o.event(&events[i])
		o.step(events[i].Kind.String())
	}
	o.silence(o.clock)
}

// silence lets everything happen that time alone does until an instant.
func (o *oracle) silence(until int64) {
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
func (o *oracle) move(at int64) {
	if o.now > 0 && o.day(at) > o.day(o.now) {
		o.days[o.day(o.now)] = true
	}
	o.now = at
}

// candidates are the instants from now on at which time could change something.
func (o *oracle) candidates(until int64) (at []int64) {
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
	for _, holds := range [...]func(int64) bool{
		func(t int64) bool { return f.daysSince(t) > 90 },
		func(t int64) bool { return f.daysSince(t) > 180 },
		func(t int64) bool { return f.daysSince(t) > 365 },
		func(t int64) bool { return f.overdue(t) > 3 },
		func(t int64) bool { return o.risk(f, t) >= o.art.RiskBands.Medium },
		func(t int64) bool { return o.risk(f, t) >= o.art.RiskBands.High },
	} {
		if holds(o.now) || !holds(until) {
			continue
		}
		n := sort.Search(int(until-o.now), func(i int) bool { return holds(o.now + int64(i)) })
		at = append(at, o.now+int64(n))
	}
	return at
}

// changes reports whether anything differs between now and a later instant with nothing in between.
func (o *oracle) changes(at int64) bool {
	for _, w := range o.waiting {
		if w.expires <= at {
			return true
		}
	}
	before, after := o.features(o.now), o.features(at)
	return before.windows != after.windows || before.band != after.band || before.phase() != after.phase()
}

func (o *oracle) expire() {
	for len(o.waiting) > 0 && o.waiting[0].expires <= o.now {
		e := o.waiting[0].event
		o.waiting = o.waiting[1:]
		if r := o.rate(&e); e.Kind == pipeline.KindOrderRefunded && e.HasAmount && o.beyond() && r != nil {
			o.adjust += min(times(e.Amount, r), max(o.features(o.now).net, 0))
			continue
		}
		o.letters = append(o.letters, string(e.Raw))
	}
}

// beyond reports whether an order has left the horizon.
func (o *oracle) beyond() bool {
	return slices.ContainsFunc(o.orders, func(r *oracleOrder) bool { return o.day(o.now)-o.day(r.at) > 400 })
}

func (o *oracle) find(id []byte) *oracleOrder {
	for _, r := range slices.Backward(o.orders) {
		if r.id == string(id) && o.day(o.now)-o.day(r.at) <= 400 {
			return r
		}
	}
	return nil
}

// event lets one event happen.
func (o *oracle) event(e *pipeline.Event) {
	o.move(e.At)
	o.touches++
	o.known = o.known || e.Known
	o.first, o.last = cmp.Or(o.first, e.At), e.At
	if !e.Kind.Order() {
		return
	}
	if e.Kind == pipeline.KindOrderCompleted {
		if o.find(e.OrderID) == nil {
			r := &oracleOrder{id: string(e.OrderID), at: e.At, status: "completed", refunds: map[uint64]bool{}}
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
		c := copyEvent(e)
		o.waiting = append(o.waiting, oracleWaiting{e.At + o.lateness, *c})
		return
	}
	o.change(r, e)
}

func (o *oracle) release(r *oracleOrder) {
	var rest []oracleWaiting
	for _, w := range o.waiting {
		if string(w.event.OrderID) == r.id {
			o.change(r, &w.event)
		} else {
			rest = append(rest, w)
		}
	}
	o.waiting = rest
}

func (r *oracleOrder) fill(e *pipeline.Event) {
	r.content, r.value, r.lines = e.At, e.Amount, nil
	for _, l := range e.Lines {
		r.lines = append(r.lines, oracleLine{l.Product, string(l.Category), l.Quantity, 0, l.Amount})
	}
}

func (o *oracle) change(r *oracleOrder, e *pipeline.Event) {
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

func (r *oracleOrder) limit() {
	r.refunded = min(r.refunded, r.value)
	r.other = min(r.other, r.worth()-r.share())
}

func (r *oracleOrder) worth() int64 {
	if r.currency == "" {
		return r.value
	}
	return times(r.value, r.rate)
}

// share is the refunds in the order's own currency.
func (r *oracleOrder) share() int64 {
	if r.value == 0 {
		return 0
	}
	return times(r.worth(), big.NewRat(r.refunded, r.value))
}

func (r *oracleOrder) back() int64 {
	if r.currency == "" {
		return r.refunded
	}
	return min(r.worth(), r.share()+r.other)
}

// price computes what the order counts for once an event: asked for at every candidate, fractions would take all the time.
func (r *oracleOrder) price() { r.worthNow, r.backNow = r.worth(), r.back() }

func (r *oracleOrder) refund(e *pipeline.Event, rate *big.Rat) {
	// give takes minor units of the event's currency.
	give := func(amount int64) {
		switch {
		case amount == 0:
		case currencyOf(e) == r.currency:
			r.refunded = min(r.value, r.refunded+amount)
		case r.currency == "":
			r.refunded = min(r.value, r.refunded+times(amount, rate))
		default:
			r.other += times(amount, rate)
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
func (r *oracleOrder) giveBack(back pipeline.Line) (amount int64) {
	left := back.Quantity
	for i := range r.lines {
		l := &r.lines[i]
		n := min(left, l.quantity-l.returned)
		if l.product != back.Product || n <= 0 {
			continue
		}
		if !back.HasAmount {
			amount += l.amount*(l.returned+n)/l.quantity - l.amount*l.returned/l.quantity
		}
		l.returned += n
		left -= n
	}
	taken := back.Quantity - left
	if len(r.lines) == 0 {
		taken = back.Quantity
	}
	if back.HasAmount {
		amount += back.Amount * taken / back.Quantity
	}
	return amount
}

// original is what the columns of the order's own currency hold.
func (r *oracleOrder) original() string {
	net := int64(0)
	switch {
	case r.currency == "":
		return " - -"
	case r.status == "completed" && r.other == 0:
		net = r.value - r.refunded
	case r.status == "completed":
		net = max(0, r.value-r.refunded-times(r.value, big.NewRat(r.other, r.worth())))
	}
	return fmt.Sprint(r.currency, " ", r.value, " ", net)
}

func (o *oracle) counting() (list []*oracleOrder) {
	for _, r := range o.orders {
		if r.status == "completed" {
			list = append(list, r)
		}
	}
	return list
}

// step decides the phase.
func (o *oracle) step(cause string) {
	phase := o.features(o.now).phase()
	var top oracleStay
	if n := len(o.stays); n > 0 {
		top = o.stays[n-1]
	}
	if phase == top.phase {
		return
	}
	if len(o.stays) > 0 && top.since == o.now { // a second change at the same instant replaces the first
		o.stays = o.stays[:len(o.stays)-1]
		delete(o.transitions, o.now)
		top = oracleStay{}
		if n := len(o.stays); n > 0 {
			top = o.stays[n-1]
		}
		if top.phase == phase {
			return
		}
	}
	stay := oracleStay{phase, o.now, max(top.cycle, 1)}
	if top.phase == "former" && (phase == "new" || phase == "active" || phase == "prospect") {
		stay.cycle++
	}
	o.stays = append(o.stays, stay)
	o.transitions[o.now] = oracleTransition{top.phase, phase, cause, stay.cycle}
}

// oracleFeatures is a customer at an instant.
type oracleFeatures struct {
	at                    int64
	orders, net, refunded int64
	first, last           int64
	days, span            int64
	gap                   float64
	birth                 int64
	windows               [8]int64
	band                  string
}

func (f *oracleFeatures) daysSince(at int64) float64 { return float64(at-f.last) / dayMs }

func (o *oracle) features(at int64) *oracleFeatures {
	f := &oracleFeatures{at: at, net: -o.adjust, refunded: o.adjust}
	today, days := o.day(at), map[int64]bool{}
	for _, r := range o.orders {
		if r.status != "completed" {
			f.refunded += r.worthNow
			continue
		}
		d := o.day(r.at)
		f.orders++
		f.net += r.worthNow - r.backNow
		f.refunded += r.backNow
		f.first = min(cmp.Or(f.first, r.at), r.at)
		f.last = max(f.last, r.at)
		days[d] = true
		for i, n := range [...]int64{7, 30, 90, 365} {
			if d > today-n {
				f.windows[2*i]++
				f.windows[2*i+1] += r.worthNow - r.backNow
			}
		}
	}
	if f.days = int64(len(days)); f.days == 0 {
		return f
	}
	f.span = o.day(f.last) - o.day(f.first)
	f.gap = (60 + float64(f.span)) / (1 + float64(f.days-1))
	f.birth = o.midnight(o.day(f.first))
	f.band = "low"
	if risk := o.risk(f, at); risk >= o.art.RiskBands.High {
		f.band = "high"
	} else if risk >= o.art.RiskBands.Medium {
		f.band = "medium"
	}
	return f
}

func (o *oracle) risk(f *oracleFeatures, at int64) float64 {
	return o.art.MBG.ChurnRisk(float64(f.days-1), float64(f.span)/7, float64(at-f.birth)/(7*dayMs), 90.0/7)
}

// overdue divides once: then three gaps are over at the exact millisecond.
func (f *oracleFeatures) overdue(at int64) float64 {
	return float64(at-f.last) * float64(f.days) / ((60 + float64(f.span)) * dayMs)
}

// phase is role5, written by hand.
func (f *oracleFeatures) phase() string {
	if f.orders == 0 {
		return "prospect"
	}
	since := f.daysSince(f.at)
	switch {
	case since > 365:
		return "former"
	case f.overdue(f.at) > 3, since > 180, f.orders == 1 && since > 90:
		return "inactive"
	case f.orders == 1:
		return "new"
	}
	return "active"
}

// compare tells how the rows of a customer differ from what the oracle says.
func (o *oracle) compare(s *store, id string) error {
	row, ok := s.tables["customers"][id+"|"]
	if !ok && o.now == 0 {
		return nil // nothing but refused orders
	}
	if !ok {
		return fmt.Errorf("customer %s has no row", id)
	}
	if err := o.compareRow(&row, id); err != nil {
		return err
	}
	if err := o.compareOrders(s, id); err != nil {
		return err
	}
	return o.compareTransitions(s, id)
}

// compareRow tells how the customer's row differs, in customers or of a day.
func (o *oracle) compareRow(row *row, id string) error {
	f := o.features(o.now)
	top, previous := o.stays[len(o.stays)-1], ""
	if n := len(o.stays); n > 1 {
		previous = o.stays[n-2].phase
	}
	for column, want := range map[string]any{
		"as_of": o.now, "orders": f.orders, "net_value_minor": f.net, "refunded_value_minor": f.refunded,
		"known": map[bool]int{true: 1}[o.known], "touches": o.touches, "first_seen_at": o.first, "last_seen_at": o.last, "purchase_days": f.days,
		"orders_7d": f.windows[0], "net_value_7d_minor": f.windows[1], "orders_30d": f.windows[2], "net_value_30d_minor": f.windows[3],
		"orders_90d": f.windows[4], "net_value_90d_minor": f.windows[5], "orders_365d": f.windows[6], "net_value_365d_minor": f.windows[7],
		"churn_risk_band": f.band, "role5_phase": top.phase, "role5_since": top.since, "role5_cycle": top.cycle,
		"role5_previous_phase": previous,
	} {
		if got := row.get(column).String(); got != fmt.Sprint(want) {
			return fmt.Errorf("customer %s: %s is %s, want %v", id, column, got, want)
		}
	}
	if err := o.compareScores(row, f); err != nil {
		return fmt.Errorf("customer %s: %w", id, err)
	}
	return nil
}

func (o *oracle) compareScores(row *row, f *oracleFeatures) error {
	if f.orders == 0 {
		for _, column := range []string{"first_order_at", "last_order_at", "days_since_last_order", "churn_risk", "p_alive", "expected_orders", "overdue_ratio"} {
			if !row.get(column).null {
				return fmt.Errorf("%s is %v, want NULL", column, row.get(column))
			}
		}
		return nil
	}
	x, tx, t := float64(f.days-1), float64(f.span)/7, float64(o.now-f.birth)/(7*dayMs)
	for column, want := range map[string]float64{
		"days_since_last_order": f.daysSince(o.now), "expected_gap_days": f.gap, "overdue_ratio": f.overdue(o.now),
		"churn_risk": o.risk(f, o.now), "p_alive": o.art.MBG.PAlive(x, tx, t), "expected_orders": o.art.MBG.Expected(x, tx, t, 90.0/7),
	} {
		if got := row.get(column); got.null || !close(got.f, want) {
			return fmt.Errorf("%s is %v, want %v", column, got, want)
		}
	}
	for column, want := range map[string]int64{
		"first_order_at": f.first, "last_order_at": f.last, "first_purchase_day_at": f.birth,
		"repeat_purchase_days": f.days - 1, "purchase_span_days": f.span,
		"expected_next_order_at": f.last + int64(math.Round(f.gap*dayMs)),
	} {
		if got := row.get(column); got.null || got.i != want {
			return fmt.Errorf("%s is %v, want %v", column, got, want)
		}
	}
	return o.compareCategories(row)
}

func close(a, b float64) bool { return math.Abs(a-b) <= 1e-9*max(1, math.Abs(a), math.Abs(b)) }

// compareCategories checks the probabilities, best first: which of two equal ones comes first is left open.
func (o *oracle) compareCategories(row *row) error {
	weights, total := map[string]float64{}, 0.5
	for _, r := range o.counting() {
		for _, name := range r.categories(false) {
			w := math.Exp2(float64(r.at-o.now) / dayMs / 180)
			weights[name] += w
			total += w
		}
	}
	for name, share := range map[string]float64{"books": 0.25, "hats": 0.125, "shoes": 0.625} {
		weights[name] += 0.5 * share
	}
	var p []float64
	for _, w := range weights {
		p = append(p, w/total)
	}
	slices.Sort(p)
	slices.Reverse(p)
	for i := range 3 {
		name, got := row.get(fmt.Sprintf("next_category_%d", i+1)), row.get(fmt.Sprintf("next_category_%d_probability", i+1))
		if !close(got.f, p[i]) || !close(weights[name.s]/total, got.f) {
			return fmt.Errorf("next category %d is %v with %v, want %v of %v", i+1, name, got, p[i], weights)
		}
	}
	return nil
}

// categories lists the distinct ones in the order of the lines; what came back is left out unless all is asked for.
func (r *oracleOrder) categories(all bool) (names []string) {
	for _, l := range r.lines {
		if l.category != "" && (all || l.returned < l.quantity) && !slices.Contains(names, l.category) {
			names = append(names, l.category)
		}
	}
	return names
}

func (o *oracle) compareOrders(s *store, id string) error {
	want := map[string]string{}
	for _, r := range o.orders {
		status, gone := r.status, r.worth()
		if status == "completed" {
			if gone = r.back(); gone > 0 {
				status = "partially_refunded"
			}
		}
		want[id+"|"+r.id+"|"] = fmt.Sprint(id, " ", r.id, " ", r.at, " ", r.content, " ", status, " ", r.worth(), " ", gone, " ",
			r.worth()-gone, " ", len(r.lines), " ", strings.Join(r.categories(true), ","), " ", r.original())
	}
	return compareRows(s, "orders", id, want)
}

// compareRows compares all rows of a customer in a table, printed.
func compareRows(s *store, table, id string, want map[string]string) error {
	got := map[string]string{}
	for k, r := range s.tables[table] {
		if r.get("customer_id").s == id && !r.deleted {
			got[k] = printed(&r)
		}
	}
	for k, w := range want {
		if got[k] != w {
			return fmt.Errorf("%s: got %q, want %q", table, got[k], w)
		}
	}
	for k, g := range got {
		if want[k] == "" {
			return fmt.Errorf("%s: %q should not be there", table, g)
		}
	}
	return nil
}

func printed(r *row) string {
	var parts []string
	for i, c := range r.cells {
		if r.table.Columns[i].Name != "partition" {
			parts = append(parts, c.String())
		}
	}
	return strings.Join(parts, " ")
}

func (o *oracle) compareTransitions(s *store, id string) error {
	marks := map[string]string{"": "", "inactive": "at_risk", "former": "lost", "prospect": "none", "new": "none", "active": "none"}
	want := map[string]string{}
	for at, t := range o.transitions {
		want[fmt.Sprintf("role5|%s|%d|", id, at)] = fmt.Sprint("role5 ", id, " ", at, " ", t.from, " ", t.to, " ", marks[t.from], " ", marks[t.to],
			" ", t.cause, " ", t.to, " ", t.cycle, " 1 0")
	}
	return compareRows(s, "phase_transitions", id, want)
}
