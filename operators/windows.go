package operators

import (
	"errors"
	"fmt"

	"zyklus/models/lifecycle"
	"zyklus/pipeline"
)

// Windows keeps frequency and value over the last 7, 30, 90 and 365 business days, the present one included. Orders count
// on their own day; a refund lowers the day of its order.
type Windows struct{}

// windowDays are the lengths of the windows, ascending.
var windowDays = [...]int64{7, 30, 90, 365}

// maxDay is a day after the last instant, which keeps sums of days far from overflow.
const maxDay = 3_000_000

// pane is one business day with net orders or net value.
type pane struct {
	day, orders, net int64
}

// windows holds the panes of the longest window, by day.
type windows struct{ panes []pane }

// Section implements pipeline.Operator.
func (Windows) Section() pipeline.Section {
	s := pipeline.Section{Name: "windows", Tag: 3, Layout: 1}
	for _, days := range windowDays {
		s.Fields = append(s.Fields,
			windowField(days, "orders_%dd", pipeline.TypeCount, "orders", "Net orders", "Bestellungen", func(p *pane) int64 { return p.orders }),
			windowField(days, "net_value_%dd_minor", pipeline.TypeMoney, "minor units", "Net value of orders", "Nettowert", func(p *pane) int64 { return p.net }))
	}
	return s
}

func windowField(days int64, name string, t pipeline.Type, unit, en, de string, get func(*pane) int64) pipeline.Field {
	return pipeline.Field{
		Column: column(fmt.Sprintf(name, days), t, unit,
			fmt.Sprintf("%s over the last %d business days, the day of as_of included.", en, days)),
		Label:   pipeline.Labels{En: fmt.Sprintf("%s, %d days", en, days), De: fmt.Sprintf("%s, %d Tage", de, days)},
		Feature: true, Varies: lifecycle.Steps,
		Value: func(s pipeline.State, c *pipeline.Customer, at int64) pipeline.Value {
			return integer(s.(*windows).sum(c.Job().Calendar.Day(at)-days, get))
		},
		Crossing: func(s pipeline.State, c *pipeline.Customer, at int64, _ float64) int64 {
			return s.(*windows).leaves(c.Job().Calendar, at, days)
		},
	}
}

// sum adds up the panes after a day.
func (w *windows) sum(after int64, get func(*pane) int64) (sum int64) {
	for i := len(w.panes) - 1; i >= 0 && w.panes[i].day > after; i-- {
		sum += get(&w.panes[i])
	}
	return sum
}

// leaves returns the next midnight after at at which a pane leaves the window of so many days.
func (w *windows) leaves(calendar *pipeline.Calendar, at, days int64) int64 {
	today := calendar.Day(at)
	for i := range w.panes {
		if p := &w.panes[i]; p.day > today-days && (p.orders != 0 || p.net != 0) {
			return calendar.Midnight(p.day + days)
		}
	}
	return pipeline.Never
}

// NewState implements pipeline.Operator.
func (Windows) NewState() pipeline.State { return &windows{} }

func (w *windows) Reset() { w.panes = w.panes[:0] }

func (w *windows) Append(dst []byte) []byte {
	day := int64(0)
	for _, p := range w.panes {
		dst = pipeline.AppendInt(pipeline.AppendInt(pipeline.AppendInt(dst, p.day-day), p.orders), p.net)
		day = p.day
	}
	return dst
}

func (w *windows) Decode(layout byte, src []byte, _ *pipeline.Customer) error {
	if layout != 1 {
		return layoutError{layout}
	}
	day := int64(0)
	r := pipeline.NewReader(src)
	for r.Len() > 0 {
		step := r.Int()
		if step <= 0 || step > maxDay-day {
			return errors.New("the days are not in order")
		}
		day += step
		w.panes = append(w.panes, pane{day: day, orders: r.Int(), net: r.Int()})
	}
	return r.Err()
}

func (w *windows) Apply(f *pipeline.Fold, _ *pipeline.Event) {
	if len(f.Bookings) == 0 {
		return
	}
	calendar := f.Job().Calendar
	oldest := calendar.Day(f.Now) - windowDays[len(windowDays)-1] + 1
	for i := range f.Bookings {
		b := &f.Bookings[i]
		if day := calendar.Day(b.At); day >= oldest {
			p := w.pane(day)
			p.orders += b.Orders
			p.net += b.Net
		}
	}
	w.drop(oldest)
}

// pane returns the pane of a day, adding it in its place.
func (w *windows) pane(day int64) *pane {
	i := len(w.panes)
	for i > 0 && w.panes[i-1].day > day {
		i--
	}
	if i > 0 && w.panes[i-1].day == day {
		return &w.panes[i-1]
	}
	w.panes = append(w.panes, pane{})
	copy(w.panes[i+1:], w.panes[i:])
	w.panes[i] = pane{day: day}
	return &w.panes[i]
}

// drop removes the panes before a day and the empty ones.
func (w *windows) drop(oldest int64) {
	kept := w.panes[:0]
	for _, p := range w.panes {
		if p.day >= oldest && (p.orders != 0 || p.net != 0) {
			kept = append(kept, p)
		}
	}
	w.panes = kept
}

func (w *windows) Deadline(f *pipeline.Fold) int64 {
	next := pipeline.Never
	if len(w.panes) == 0 {
		return next
	}
	for _, days := range windowDays {
		next = min(next, w.leaves(f.Job().Calendar, f.Now, days))
	}
	return next
}

func (w *windows) Fire(f *pipeline.Fold) {
	if len(w.panes) > 0 {
		w.drop(f.Job().Calendar.Day(f.Now) - windowDays[len(windowDays)-1] + 1)
	}
}
