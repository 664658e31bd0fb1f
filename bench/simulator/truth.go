package simulator

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"time"
)

// Truth is what no pipeline can see: what a customer is and will do, as of an instant.
type Truth struct {
	Customer string // user id, else anonymous id: the key of his events
	Role     Role
	Joined   time.Time // first visit; in the future if he has not come yet

	// AliveAt is true for a buyer who goes on buying: who did not leave after an order up to the instant. A buyer
	// before his first order is alive; prospects and anonymous visitors are not.
	AliveAt bool
	DiedAt  time.Time // instant of the order after which he left; zero while AliveAt, and for those who never buy

	Rate      float64   // orders per week while alive, averaged over the seasons; 0 for those who never buy
	Leave     float64   // chance to leave after an order, 0 to 1
	Orders    int       // placed up to the instant, cancelled ones included
	LastOrder time.Time // zero without orders

	// Tastes are his shares of the categories without seasons, in the order of Config.Categories; their sum is one.
	Tastes []float64
	// TrueNextCategory is the probability of the category of the next line he buys (or product he looks at without
	// buying) in the month of the instant: tastes times the seasons of the categories; the sum is one.
	TrueNextCategory []float64
}

// Truth returns the truth about customer i, from 0 to NumCustomers-1, as of an instant. It does not depend on how far
// Next has come. From Config.End on the answer is that of the end. It costs what playing the customer's orders costs,
// about 0.2 µs each.
func (s *Simulator) Truth(i int, at time.Time) Truth {
	tastes := make([]uint16, len(s.shop.categories))
	c := s.newCustomer(i, tastes)
	until := min(max(at.UnixMilli(), s.start), s.end-1)
	last, orders := int64(0), 0
	for c.order <= until {
		last = c.order
		orders++
		s.afterOrder(&c)
	}
	t := Truth{
		Customer: string(s.appendCustomer(nil, uint32(i), c.role)), Role: c.role, Joined: instant(c.joined),
		AliveAt: c.role == Buyer && c.died == never, Rate: c.rate, Leave: c.leave, Orders: orders,
		Tastes: shares(tastes, nil), TrueNextCategory: shares(tastes, s.shop.tilt[s.season.monthAt(until)]),
	}
	if c.died != never {
		t.DiedAt = instant(c.died)
	}
	if orders > 0 {
		t.LastOrder = instant(last)
	}
	return t
}

func instant(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// shares scales whole parts, weighted by tilt unless that is nil, to the sum one.
func shares(parts []uint16, tilt []uint32) []float64 {
	weights, sum := make([]float64, len(parts)), 0.0
	for i, part := range parts {
		weights[i] = float64(part)
		if tilt != nil {
			weights[i] *= float64(tilt[i])
		}
		sum += weights[i]
	}
	for i := range weights {
		weights[i] /= sum
	}
	return weights
}

// WriteTruth writes the truth about all customers as CSV with a header: customer, role, joined, alive, died,
// rate_per_week, leave, orders, last_order, then taste:<category> and next:<category> for each category. Times are
// RFC 3339 in UTC, empty where there is none. The instant is Config.End, or without end the arrival of the last event
// that Next returned.
func (s *Simulator) WriteTruth(w io.Writer) error {
	at := instant(s.reached)
	if !s.cfg.End.IsZero() {
		at = s.cfg.End
	}
	out := csv.NewWriter(w)
	if err := out.Write(s.truthHeader()); err != nil {
		return fmt.Errorf("write truth header: %w", err)
	}
	for i := range s.customers {
		if err := out.Write(s.Truth(i, at).row()); err != nil {
			return fmt.Errorf("write truth of customer %d: %w", i, err)
		}
	}
	out.Flush()
	if err := out.Error(); err != nil {
		return fmt.Errorf("write truth: %w", err)
	}
	return nil
}

func (s *Simulator) truthHeader() []string {
	header := []string{
		"customer", "role", "joined", "alive", "died", "rate_per_week", "leave", "orders", "last_order",
	}
	for _, prefix := range []string{"taste:", "next:"} {
		for _, c := range s.shop.categories {
			header = append(header, prefix+c.Name)
		}
	}
	return header
}

func (t Truth) row() []string {
	row := []string{
		t.Customer, t.Role.String(), timeCell(t.Joined), strconv.FormatBool(t.AliveAt), timeCell(t.DiedAt),
		shareCell(t.Rate), shareCell(t.Leave), strconv.Itoa(t.Orders), timeCell(t.LastOrder),
	}
	for _, list := range [][]float64{t.Tastes, t.TrueNextCategory} {
		for _, v := range list {
			row = append(row, shareCell(v))
		}
	}
	return row
}

func timeCell(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format("2006-01-02T15:04:05.000Z")
}

func shareCell(v float64) string { return strconv.FormatFloat(v, 'g', 9, 64) }
