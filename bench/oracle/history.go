package oracle

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	_ "embed"

	"zyklus/models"
	"zyklus/models/lifecycle"
	"zyklus/pipeline"
)

// History is what a few customers do, and when it is heard of: a function of its seed.
type History struct {
	Zone     string // UTC or Europe/Berlin
	Lateness time.Duration
	Seed     uint64
	Events   []HistoryEvent
	End      int64 // the clock at last, Unix milliseconds
	Late     bool  // events may come later than allowed
}

// HistoryEvent is an event and how much later than it happened it comes, in milliseconds; more than once if it is
// duplicated.
type HistoryEvent struct {
	pipeline.Event
	Delays []int64
}

// Zones and Latenesses are what histories choose from.
var (
	Zones      = []string{"UTC", "Europe/Berlin"}
	Latenesses = []time.Duration{time.Millisecond, 10 * time.Minute, 5 * time.Hour, 3 * 24 * time.Hour}
)

// NewHistory returns the history of a seed. In a late one half of the customers have events that come later than allowed,
// all of orders.
func NewHistory(seed uint64, late bool) *History {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0)), History: &History{Seed: seed, Late: late}}
	g.Zone = Zones[g.IntN(len(Zones))]
	g.Lateness = Latenesses[g.IntN(len(Latenesses))]
	customers := 1 + g.IntN(4)
	if seed%8 == 7 {
		customers += 6 // partitions have several, however many there are
	}
	for c := range customers {
		g.Late = late && g.IntN(2) == 0
		g.customer(fmt.Sprintf("c%d", c))
	}
	g.Late = late
	for _, e := range g.Events {
		g.End = max(g.End, e.At)
		if late {
			g.End = max(g.End, e.At+slices.Max(e.Delays))
		}
	}
	if g.IntN(2) == 0 {
		g.End += g.gap()
	}
	return g.History
}

// generator makes histories that sit on edges: same instants, thresholds and midnights to the millisecond.
type generator struct {
	*rand.Rand
	*History
	now    int64
	orders []pastOrder
	past   []int64 // instants from which something is due
}

type pastOrder struct {
	id       string
	at       int64
	value    int64
	lines    []pipeline.Line
	currency [3]byte
}

func (g *generator) customer(id string) {
	g.now = time.Date(2023, time.Month(1+g.IntN(12)), 1+g.IntN(28), g.IntN(24), g.IntN(60), 0, 0, time.UTC).UnixMilli()
	g.orders, g.past = nil, nil
	shift := int64(0)
	if g.IntN(3) == 0 {
		shift = g.Lateness.Milliseconds() // how long refunds wait
	}
	for range 1 + g.IntN(14) {
		if g.Late { // all within the horizon
			g.now += g.Int64N(5 * dayMs)
		} else {
			g.now += g.gap()
		}
		if n := len(g.past); n > 0 && g.IntN(3) == 0 && !g.Late {
			g.now = max(g.now, g.edge(g.past[g.IntN(n)]))
		}
		g.past = append(g.past, g.now, g.now+shift)
		g.event(id)
	}
}

func (g *generator) gap() int64 {
	const second, day = 1000, dayMs
	switch g.IntN(8) {
	case 0:
		return 0
	case 1:
		return g.Int64N(20 * second)
	case 2:
		return g.Int64N(3600 * second)
	case 3:
		return g.Int64N(2 * g.Lateness.Milliseconds())
	case 4, 5:
		return g.Int64N(40 * day)
	case 6:
		return g.Int64N(130 * day)
	}
	return g.Int64N(500 * day)
}

// edge is an instant at or around which something that began earlier is due.
func (g *generator) edge(since int64) int64 {
	days := []int64{7, 30, 90, 180, 365, 400, 401}
	at := since + days[g.IntN(len(days))]*dayMs
	switch g.IntN(3) {
	case 0:
		at = since + g.Lateness.Milliseconds()
	case 1:
		at -= at % dayMs // midnight in UTC, or an hour or two after
	}
	return at + g.Int64N(3) - 1
}

func (g *generator) event(customer string) {
	e := pipeline.Event{At: g.now, ID: g.Uint64(), Customer: []byte(customer), Known: g.IntN(3) > 0}
	e.Raw = fmt.Appendf(nil, "raw %x", e.ID)
	kind := g.IntN(10)
	switch {
	case kind < 3:
		e.Kind = pipeline.KindIdentified + pipeline.Kind(g.IntN(5))
	case kind < 7 || len(g.orders) == 0 && (g.Late || kind < 9):
		g.order(&e)
	default:
		g.change(&e)
	}
	g.Events = append(g.Events, HistoryEvent{Event: e, Delays: g.delays(&e)})
}

// delays says when the event comes, and comes again.
func (g *generator) delays(e *pipeline.Event) []int64 {
	allowed := g.Lateness.Milliseconds()
	list := []int64{g.Int64N(allowed) * int64(g.IntN(2))}
	if g.Late && e.Kind == pipeline.KindOrderCompleted && g.IntN(2) == 0 {
		list[0] = g.Int64N(30 * dayMs)
	}
	if g.Late && e.Kind > pipeline.KindOrderCompleted {
		list[0] = 30*dayMs + g.Int64N(30*dayMs) // after its order, whenever that comes
	}
	for g.IntN(6) == 0 {
		list = append(list, list[0]+g.Int64N(2*allowed+1))
		if g.IntN(3) == 0 {
			list = append(list, list[0]+g.Int64N(100*dayMs))
		}
	}
	return list
}

func (g *generator) order(e *pipeline.Event) {
	e.Kind = pipeline.KindOrderCompleted
	o := pastOrder{id: fmt.Sprintf("o%d", len(g.orders)), at: e.At}
	if n := len(g.orders); n > 0 && g.IntN(6) == 0 && !g.Late {
		o.id = g.orders[g.IntN(n)].id // an order id twice
	}
	o.value, o.lines = g.content()
	o.currency = g.currency()
	e.Currency = o.currency
	e.OrderID, e.Amount, e.HasAmount, e.Lines = []byte(o.id), o.value, true, o.lines
	g.orders = append(g.orders, o)
}

// currency is a foreign one in two of five; of the last one there are no rates.
func (g *generator) currency() (code [3]byte) {
	if g.IntN(5) < 2 {
		copy(code[:], []string{"USD", "USD", "USD", "GBP", "GBP", "JPY", "JPY", "KWD", "KWD", "TND"}[g.IntN(10)])
	}
	return code
}

func (g *generator) content() (value int64, lines []pipeline.Line) {
	for range g.IntN(4) {
		l := pipeline.Line{Product: uint64(g.IntN(4)), Quantity: 1000 * int64(1+g.IntN(3)), Amount: g.Int64N(5000), HasAmount: true}
		l.Category = []byte([]string{"", "shoes", "hats", "books", "toys"}[g.IntN(5)])
		value += l.Amount
		lines = append(lines, l)
	}
	if g.IntN(3) == 0 {
		value = g.Int64N(10000)
	}
	return value, lines
}

// change is an update, refund or cancellation; one in five names an order that never came, or one that is to come.
func (g *generator) change(e *pipeline.Event) {
	o := pastOrder{id: fmt.Sprintf("o%d", len(g.orders))}
	if n := len(g.orders); n > 0 && (g.Late || g.IntN(5) > 0) {
		o = g.orders[g.IntN(n)]
	}
	e.OrderID = []byte(o.id)
	if e.Currency = o.currency; g.IntN(4) == 0 {
		e.Currency = g.currency()
	}
	switch g.IntN(6) {
	case 0:
		e.Kind = pipeline.KindOrderCancelled
	case 1:
		e.Kind = pipeline.KindOrderUpdated
		e.Amount, e.Lines = g.content()
		e.HasAmount = true
		if g.Late {
			e.Kind, e.Lines, e.Amount, e.HasAmount = pipeline.KindOrderRefunded, nil, 0, false
		}
	default:
		e.Kind = pipeline.KindOrderRefunded
		g.refund(e, &o)
	}
}

func (g *generator) refund(e *pipeline.Event, o *pastOrder) {
	kind := g.IntN(3)
	if kind == 1 && g.Late {
		kind = 0 // which of two refunds takes which line depends on their order
	}
	switch kind {
	case 0:
		e.Amount, e.HasAmount = g.Int64N(o.value+o.value/2+100), true
	case 1:
		for _, l := range o.lines {
			if g.IntN(3) > 0 {
				l.Quantity = min(l.Quantity, 1000*int64(1+g.IntN(2)))
				l.HasAmount = g.IntN(2) == 0
				e.Lines = append(e.Lines, l)
			}
		}
	}
}

// String prints the history as Go would not: one line an event.
func (h *History) String() string {
	s := fmt.Sprintf("zone %s, lateness %v, end %s\n", h.Zone, h.Lateness, stamp(h.End))
	for _, e := range h.Events {
		s += fmt.Sprintf("  %s %s %v %x order %s amount %d %s %v lines %v, comes after", stamp(e.At), e.Customer, e.Kind, e.ID, e.OrderID, e.Amount, e.Currency, e.HasAmount, e.Lines)
		for _, d := range e.Delays {
			s += fmt.Sprint(" ", time.Duration(d)*time.Millisecond)
		}
		s += "\n"
	}
	return s
}

func stamp(at int64) string { return time.UnixMilli(at).UTC().Format("2006-01-02 15:04:05.000") }

// Arrival is one record of the input topic.
type Arrival struct {
	At    int64 // when it comes, Unix milliseconds; 0 for the last one
	Event *pipeline.Event

	order uint64
}

// Log returns the records of one partition out of n in the order in which they come, the last one a heartbeat.
func (h *History) Log(partition, n int) (log []Arrival) {
	r := rand.New(rand.NewPCG(h.Seed, 1))
	refused := h.refused()
	for i := range h.Events {
		e := &h.Events[i]
		for _, d := range e.Delays {
			if d >= h.Lateness.Milliseconds() && (refused[string(e.Raw)] || h.mayOutlive(e, d)) {
				continue // a refused event that comes again may find its order, and should
			}
			if a := (Arrival{min(e.At+d, h.End), &e.Event, r.Uint64()}); h.Partition(e.Customer, n) == partition {
				log = append(log, a)
			}
		}
	}
	slices.SortFunc(log, func(a, b Arrival) int { return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.order, b.order)) })
	return append(log, Arrival{Event: &pipeline.Event{Kind: pipeline.KindHeartbeat, At: h.End}})
}

// Clean returns the records sorted and without duplicates.
func (h *History) Clean() (log []Arrival) {
	for i := range h.Events {
		log = append(log, Arrival{Event: &h.Events[i].Event})
	}
	slices.SortFunc(log, func(a, b Arrival) int {
		return cmp.Or(cmp.Compare(a.Event.At, b.Event.At), cmp.Compare(a.Event.Kind, b.Event.Kind), cmp.Compare(a.Event.ID, b.Event.ID))
	})
	return append(log, Arrival{Event: &pipeline.Event{Kind: pipeline.KindHeartbeat, At: h.End}})
}

// Partition is that of a customer among n.
func (h *History) Partition(customer []byte, n int) int { return int(customer[1]-'0') % n }

// Customers returns the ids of the customers, in order.
func (h *History) Customers() (ids []string) {
	for i := range h.Events {
		ids = append(ids, string(h.Events[i].Customer))
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// Punctual reports whether each event of a customer comes, for the first time, as late as is allowed or sooner: then all
// rows are those of the oracle. No other customer's events matter.
func (h *History) Punctual(customer string) bool {
	for i := range h.Events {
		if e := &h.Events[i]; string(e.Customer) == customer && slices.Min(e.Delays) >= h.Lateness.Milliseconds() {
			return false
		}
	}
	return true
}

// Oracle returns the oracle of one customer, told all that happens up to an instant.
func (h *History) Oracle(customer string, until int64) *Oracle {
	o := New(h.Setting())
	o.Run(h.of(customer, until), until)
	return o
}

// of returns the events of one customer up to an instant.
func (h *History) of(customer string, until int64) (events []pipeline.Event) {
	for _, e := range h.Events {
		if string(e.Customer) == customer && e.At <= until {
			events = append(events, e.Event)
		}
	}
	return events
}

// Setting is that of a deployment for the history.
func (h *History) Setting() Setting {
	zone, err := time.LoadLocation(h.Zone)
	if err != nil {
		panic(err)
	}
	return Setting{Zone: zone, Lateness: h.Lateness, Artefact: Artefact(), Rate: Rate, Lifecycles: []Lifecycle{RoleFive{}, habits()}}
}

// Lifecycles are those of histories: the preset role5, which the oracle knows by heart, and one that uses every kind of
// feature, which it reads.
func Lifecycles() []*lifecycle.Document {
	preset, err := lifecycle.Preset("role5")
	if err != nil {
		panic(err)
	}
	return []*lifecycle.Document{parse(preset), parse(habitsText)}
}

//go:embed habits.yaml
var habitsText []byte

func parse(text []byte) *lifecycle.Document {
	doc, err := lifecycle.Parse(text)
	if err != nil {
		panic(err)
	}
	return doc
}

var habits = sync.OnceValue(func() *Document {
	d, err := NewDocument(parse(habitsText))
	if err != nil {
		panic(err)
	}
	return d
})

// Artefact is the built-in one with some popularity, so that next categories are shrunk to it.
func Artefact() models.Artefact {
	a := models.BuiltIn()
	a.Category.Shrink = 0.5
	a.Category.Popularity = []models.CategoryShare{{Name: "books", Share: 0.25}, {Name: "hats", Share: 0.125}, {Name: "shoes", Share: 0.625}}
	return a
}

// refused returns the Raw of the events that end as dead letters.
func (h *History) refused() map[string]bool {
	all := map[string]bool{}
	for _, id := range h.Customers() {
		o := h.Oracle(id, h.End)
		o.Silence(h.Final())
		for _, raw := range o.letters {
			all[raw] = true
		}
	}
	return all
}

// mayOutlive reports whether an event may come again when the order that it found has left the horizon.
func (h *History) mayOutlive(e *HistoryEvent, delay int64) bool {
	for i := range h.Events {
		o := &h.Events[i]
		if o != e && string(o.Customer) == string(e.Customer) && string(o.OrderID) == string(e.OrderID) && e.At+delay > o.At+399*dayMs {
			return true
		}
	}
	return false
}

// Final is an instant at which nothing waits for its order any more.
func (h *History) Final() int64 { return h.End + 2*h.Lateness.Milliseconds() + 2*3600*1000 }

// CopyEvent makes a deep copy.
func CopyEvent(e *pipeline.Event) *pipeline.Event {
	c := *e
	c.Customer, c.OrderID, c.Raw = bytes.Clone(e.Customer), bytes.Clone(e.OrderID), bytes.Clone(e.Raw)
	c.Lines = slices.Clone(e.Lines)
	for i := range c.Lines {
		c.Lines[i].Category = bytes.Clone(c.Lines[i].Category)
	}
	return &c
}
