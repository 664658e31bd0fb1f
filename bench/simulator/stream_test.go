package simulator

import (
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"time"
)

// message is all that an event may hold; unknown members fail the test.
type message struct {
	Type, Event, Name, UserID, AnonymousID, MessageID, Timestamp string
	Context                                                      struct{ Channel string }
	Traits                                                       *struct{ Email, Country string }
	Properties                                                   *properties
}

type properties struct {
	OrderID                       string `json:"order_id"`
	Total, Revenue, Shipping, Tax *json.Number
	Value, Price, Quantity        *json.Number
	Currency, ProductID, Category string
	Path, URL, Referrer           string
	Products                      []productLine
}

type productLine struct {
	ProductID string `json:"product_id"`
	Category  string
	Price     json.Number
	Quantity  int64
}

func cents(t *testing.T, n *json.Number) int64 {
	t.Helper()
	if n == nil {
		t.Fatal("an amount is missing")
	}
	var whole, part int64
	if c, err := fmt.Sscanf(n.String(), "%d.%2d", &whole, &part); c != 2 || err != nil {
		t.Fatalf("amount %q", n.String())
	}
	return whole*100 + part
}

// audit follows a whole stream and holds what the package promises about it.
type audit struct {
	t        *testing.T
	s        *Simulator
	values   map[string]string // by message id
	copies   map[string]int
	revenue  map[string]int64 // by order id, as last stated; refunds are not subtracted
	orders   map[string]time.Time
	byKind   map[string]int
	last     map[string]time.Time // last order by customer
	perOrder map[string]int       // orders by customer
	events   int
	late     int
	tooLate  int
	arrival  time.Time
}

func TestStream(t *testing.T) {
	cfg := small()
	cfg.Customers = 4000
	a := &audit{
		t: t, s: mustNew(t, cfg), values: map[string]string{}, copies: map[string]int{}, revenue: map[string]int64{},
		orders: map[string]time.Time{}, byKind: map[string]int{}, last: map[string]time.Time{},
		perOrder: map[string]int{},
	}
	var e Event
	for a.s.Next(&e) {
		a.times(e)
		a.content(e)
		if t.Failed() {
			t.Fatalf("at event %d: %s", a.events, e.Value)
		}
	}
	a.followUps(cfg)
	a.shares(cfg)
	a.truth(cfg)
}

func (a *audit) times(e Event) {
	cfg := a.s.cfg
	if e.Arrival.Before(a.arrival) {
		a.t.Errorf("arrival %v after %v", e.Arrival, a.arrival)
	}
	a.arrival = e.Arrival
	if e.At.Before(cfg.Start) || !e.At.Before(cfg.End) {
		a.t.Errorf("event time %v", e.At)
	}
	delay := e.Arrival.Sub(e.At)
	switch {
	case delay < 0 || delay > cfg.TooLateMax:
		a.t.Errorf("arrives %v late", delay)
	case delay >= cfg.TooLateMin:
		a.tooLate++
	case delay > cfg.MaxDelay:
		a.t.Errorf("arrives %v late", delay)
	case delay > 500*time.Millisecond:
		a.late++
	}
	a.events++
}

func (a *audit) content(e Event) {
	var raw map[string]json.RawMessage
	var m message
	if err := json.Unmarshal(e.Value, &raw); err != nil {
		a.t.Fatalf("%v: %s", err, e.Value)
	}
	if err := json.Unmarshal(e.Value, &m); err != nil {
		a.t.Fatalf("%v: %s", err, e.Value)
	}
	if m.UserID+m.AnonymousID != string(e.Key) || m.Type == "" || m.MessageID == "" {
		a.t.Errorf("key %s", e.Key)
	}
	if m.Timestamp != e.At.Format("2006-01-02T15:04:05.000Z") {
		a.t.Errorf("timestamp is not %v", e.At)
	}
	if (m.Type == "identify") != (m.Traits != nil) || (m.Type == "identify") == (m.Properties != nil) {
		a.t.Error("traits or properties are missing")
	}
	a.copies[m.MessageID]++
	if before, ok := a.values[m.MessageID]; ok {
		if before != string(e.Value) {
			a.t.Errorf("the duplicate differs from %s", before)
		}
		return
	}
	a.values[m.MessageID] = string(e.Value)
	a.byKind[m.Type+" "+m.Event]++
	if m.Event == "Order Completed" || m.Event == "Order Updated" {
		a.order(m, e)
	}
}

func (a *audit) order(m message, e Event) {
	p, sum := m.Properties, int64(0)
	for _, l := range p.Products {
		if l.Category == "" || l.ProductID == "" || l.Quantity < 1 {
			a.t.Errorf("line %+v", l)
		}
		sum += cents(a.t, &l.Price) * l.Quantity
	}
	net := cents(a.t, p.Total) - cents(a.t, p.Shipping) - cents(a.t, p.Tax)
	if net != sum || sum == 0 || p.Revenue != nil && cents(a.t, p.Revenue) != sum || p.Currency != "EUR" {
		a.t.Errorf("the lines sum to %d, the amounts to %d", sum, net)
	}
	if _, ok := a.revenue[p.OrderID]; !ok || m.Event == "Order Updated" {
		a.revenue[p.OrderID] = sum
	}
	if m.Event == "Order Updated" {
		return
	}
	key := string(e.Key)
	a.orders[p.OrderID] = e.At
	a.perOrder[key]++
	if e.At.After(a.last[key]) {
		a.last[key] = e.At
	}
}

// followUps checks that what changes an order comes after it and takes no more than there is.
func (a *audit) followUps(cfg Config) {
	for _, value := range a.values {
		var m message
		if err := json.Unmarshal([]byte(value), &m); err != nil {
			a.t.Fatal(err)
		}
		if m.Event != "Order Updated" && m.Event != "Order Cancelled" && m.Event != "Order Refunded" {
			continue
		}
		p := m.Properties
		ordered, ok := a.orders[p.OrderID]
		at, err := time.Parse(time.RFC3339, m.Timestamp)
		if err != nil || !ok || !at.After(ordered) {
			a.t.Fatalf("order at %v, %v: %s", ordered, err, value)
		}
		taken := int64(0)
		switch {
		case m.Event != "Order Refunded":
		case p.Products != nil:
			taken = cents(a.t, &p.Products[0].Price) * p.Products[0].Quantity
			a.byKind["lines"]++
		case p.Total != nil:
			taken = cents(a.t, p.Total)
			a.byKind["amount"]++
		default:
			a.byKind["whole"]++
		}
		if taken < 0 || taken > a.revenue[p.OrderID] {
			a.t.Fatalf("takes %d of %d: %s", taken, a.revenue[p.OrderID], value)
		}
	}
}

// near fails unless a share of n is the expected one within five standard errors.
func (a *audit) near(name string, count, n int, want float64) {
	got := float64(count) / float64(n)
	if math.Abs(got-want) > 5*math.Sqrt(want*(1-want)/float64(n)) {
		a.t.Errorf("%s: %d of %d is %.4f, not %.4f", name, count, n, got, want)
	}
}

func (a *audit) shares(cfg Config) {
	twice := 0
	for _, n := range a.copies {
		if n > 2 {
			a.t.Errorf("an event was delivered %d times", n)
		}
		twice += n - 1
	}
	unique, orders := len(a.values), a.byKind["track Order Completed"]
	a.near("duplicated", twice, unique, cfg.Shares.Duplicated)
	a.near("too late", a.tooLate, a.events, cfg.Shares.TooLate)
	// Nearly every duplicate arrives later than half a second after it happened.
	a.near("late", a.late-twice, unique, cfg.Shares.Late)
	a.near("cancelled", a.byKind["track Order Cancelled"], orders, cfg.Shares.Cancelled)
	a.near("updated", a.byKind["track Order Updated"], orders, cfg.Shares.Updated*(1-cfg.Shares.Cancelled))
	refunds := a.byKind["track Order Refunded"]
	if share := float64(refunds) / float64(orders); share < 0.05 || share > 0.07 { // some come after the end
		a.t.Errorf("refunded: %.4f", share)
	}
	a.near("whole", a.byKind["whole"], refunds, cfg.Shares.RefundWhole)
	a.near("amount", a.byKind["amount"], refunds, cfg.Shares.RefundAmount)
	looks := a.byKind["page "] + a.byKind["track Product Viewed"]
	if share := float64(looks) / float64(unique); share < 0.3 || share > 0.42 {
		a.t.Errorf("views and pages: %.4f", share)
	}
}

// truth compares the stream with what Truth says: the same orders, none after death, and roles as configured.
func (a *audit) truth(cfg Config) {
	roles := map[Role]int{}
	for i := range a.s.NumCustomers() {
		tr := a.s.Truth(i, cfg.End)
		roles[tr.Role]++
		if tr.Orders != a.perOrder[tr.Customer] || !tr.LastOrder.Equal(a.last[tr.Customer]) {
			a.t.Fatalf("customer %s: %d orders until %v, truth %+v", tr.Customer, a.perOrder[tr.Customer],
				a.last[tr.Customer], tr)
		}
		if !tr.DiedAt.IsZero() && a.last[tr.Customer].After(tr.DiedAt) {
			a.t.Fatalf("customer %s bought after he died: %+v", tr.Customer, tr)
		}
	}
	a.near("prospects", roles[Prospect], cfg.Customers, cfg.Shares.Prospects)
	a.near("anonymous", roles[Anonymous], cfg.Customers, cfg.Shares.Anonymous)
}

// TestProcess holds orders to the MBG/NBD model: without seasons, the orders of all customers in a year after their
// first one are as many as rates and chances to leave say.
func TestProcess(t *testing.T) {
	cfg := small()
	cfg.Customers, cfg.End = 6000, time.Time{}
	cfg.Shares.Prospects, cfg.Shares.Anonymous = 0, 0
	s := mustNew(t, cfg)
	expected, got, variance := 0.0, 0.0, 0.0
	for i := range s.NumCustomers() {
		c := s.newCustomer(i, make([]uint16, len(cfg.Categories)))
		end := c.order + 364*dayMs
		first := c.order
		for c.order <= end {
			if c.order > first {
				got++
			}
			s.afterOrder(&c)
		}
		// Given rate and chance, survivors' orders thin out as exp(-rate * leave * t); the first may be the last.
		mean := 52 * c.rate
		if loss := 52 * c.rate * c.leave; loss > 1e-9 {
			mean *= (1 - math.Exp(-loss)) / loss
		}
		expected += mean * (1 - c.leave)
		variance += mean * (1 + mean)
	}
	if math.Abs(got-expected) > 5*math.Sqrt(variance)+0.01*expected {
		t.Errorf("%v orders, expected %.0f", got, expected)
	}
}

// TestTastes holds the products bought to the tastes and peaks.
func TestTastes(t *testing.T) {
	cfg := small()
	s := mustNew(t, cfg)
	const n = 100_000
	for month := range 12 {
		at := time.Date(2024, time.Month(month+1), 15, 0, 0, 0, 0, time.UTC)
		want, counts := s.Truth(5, at).TrueNextCategory, make([]int, len(cfg.Categories))
		random := newStream(9, 9, 9, uint32(month))
		for range n {
			counts[s.drawCategory(5, month, &random)]++
		}
		for c := range counts {
			if got := float64(counts[c]) / n; math.Abs(got-want[c]) > 0.01 {
				t.Errorf("month %d, category %d: %.4f, not %.4f", month, c, got, want[c])
			}
		}
	}
}
