package oracle

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Compare tells how the rows of a customer differ from what the oracle says, in customers, orders and
// phase_transitions.
func (o *Oracle) Compare(s *Store, id string) error {
	row, ok := s.Tables["customers"][id+"|"]
	if !ok && !o.Known() {
		return nil
	}
	if !ok {
		return fmt.Errorf("customer %s has no row", id)
	}
	return errors.Join(o.CompareRow(&row), o.CompareHistory(s, id))
}

// CompareHistory is Compare without the row in customers.
func (o *Oracle) CompareHistory(s *Store, id string) error {
	return errors.Join(o.compareOrders(s, id), o.compareTransitions(s, id))
}

// CompareRow tells how the customer's row differs, in customers or of a day.
func (o *Oracle) CompareRow(row *Row) error {
	f := o.features(o.now)
	wants := map[string]any{
		"as_of": o.now, "orders": f.orders, "net_value_minor": f.net, "refunded_value_minor": f.refunded,
		"known": map[bool]int{true: 1}[o.known], "touches": o.touches, "first_seen_at": o.first, "last_seen_at": o.last, "purchase_days": f.days,
		"orders_7d": f.windows[0], "net_value_7d_minor": f.windows[1], "orders_30d": f.windows[2], "net_value_30d_minor": f.windows[3],
		"orders_90d": f.windows[4], "net_value_90d_minor": f.windows[5], "orders_365d": f.windows[6], "net_value_365d_minor": f.windows[7],
		"churn_risk_band": f.band, "artefact_version": o.Artefact.Version,
	}
	for i := range o.courses {
		c := &o.courses[i]
		id, top := c.lifecycle.ID(), c.top()
		wants[id+"_phase"], wants[id+"_since"], wants[id+"_cycle"], wants[id+"_previous_phase"] = top.phase, top.since, top.cycle, c.previous()
	}
	for _, column := range sortedKeys(wants) {
		if got, want := row.Get(column).String(), fmt.Sprint(wants[column]); got != want {
			return differs(row, column, want)
		}
	}
	return o.compareScores(row, f)
}

// CompareTotals tells how what no order of arrival may change differs: orders and money.
func (o *Oracle) CompareTotals(row *Row, at int64) error {
	f := o.features(at)
	for column, want := range map[string]int64{
		"orders": f.orders, "net_value_minor": f.net, "refunded_value_minor": f.refunded,
		"first_order_at": f.first, "last_order_at": f.last, "purchase_days": f.days,
	} {
		if row.Get(column).Int != want {
			return differs(row, column, want)
		}
	}
	return nil
}

// undefined are the columns that are NULL without an order.
var undefined = []string{
	"first_order_at", "last_order_at", "days_since_last_order", "expected_gap_days", "overdue_ratio", "expected_next_order_at",
	"repeat_purchase_days", "purchase_span_days", "first_purchase_day_at", "p_alive", "churn_risk", "churn_risk_rises_at", "expected_orders",
}

func (o *Oracle) compareScores(row *Row, f *Features) error {
	if f.orders == 0 {
		for _, column := range undefined {
			if !row.Get(column).Null {
				return differs(row, column, "NULL")
			}
		}
		return o.compareCategories(row)
	}
	x, tx, t := f.btyd(o.now)
	for column, want := range map[string]float64{
		"days_since_last_order": f.daysSince(o.now), "expected_gap_days": f.gap, "overdue_ratio": f.overdue(o.now),
		"churn_risk": f.risk(o.now), "p_alive": f.alive(o.now), "expected_orders": o.Artefact.MBG.Expected(x, tx, t, o.Artefact.HorizonDays/7),
	} {
		if got := row.Get(column); got.Null || !close(got.Float, want) {
			return differs(row, column, want)
		}
	}
	for column, want := range map[string]int64{
		"first_order_at": f.first, "last_order_at": f.last, "first_purchase_day_at": f.birth,
		"repeat_purchase_days": f.days - 1, "purchase_span_days": f.span,
		"expected_next_order_at": f.last + int64(math.Round(f.gap*dayMs)),
	} {
		if got := row.Get(column); got.Null || got.Int != want {
			return differs(row, column, want)
		}
	}
	rises, ever := f.rises(o.now)
	if got := row.Get("churn_risk_rises_at"); got.Null == ever || ever && got.Int != rises {
		return differs(row, "churn_risk_rises_at", Cell{Null: !ever, Type: got.Type, Int: rises})
	}
	return o.compareCategories(row)
}

func close(a, b float64) bool { return math.Abs(a-b) <= 1e-9*max(1, math.Abs(a), math.Abs(b)) }

// compareCategories checks names, probabilities and reasons, best first: which of two equal ones comes first is left open.
func (o *Oracle) compareCategories(row *Row) error {
	personal, popular := o.inclinations()
	weights, total := map[string]float64{}, 0.0
	for _, of := range []map[string]float64{personal, popular} {
		for name, w := range of {
			weights[name] += w
			total += w
		}
	}
	var p []float64
	for _, w := range weights {
		p = append(p, w/total)
	}
	slices.Sort(p)
	slices.Reverse(p)
	named := map[string]bool{}
	for i := range 3 {
		column := fmt.Sprintf("next_category_%d", i+1)
		name, probability, reason := row.Get(column), row.Get(column+"_probability"), row.Get(column+"_reason")
		if i >= len(p) { // there may be fewer categories
			for _, c := range []struct{ column, got, want string }{
				{column, name.Text, ""}, {column + "_probability", probability.String(), "0"}, {column + "_reason", reason.Text, ""},
			} {
				if c.got != c.want {
					return differs(row, c.column, c.want)
				}
			}
			continue
		}
		_, known := weights[name.Text]
		switch own, others := personal[name.Text], popular[name.Text]; {
		case !known || named[name.Text]:
			return differs(row, column, fmt.Sprintf("another of %v", weights))
		case !close(probability.Float, p[i]) || !close(weights[name.Text]/total, probability.Float):
			return differs(row, column+"_probability", fmt.Sprintf("%v of %v, the name is %v", p[i], weights, name))
		case own > 0 && close(own, others) && (reason.Text == "personal" || reason.Text == "popular"):
			// on the edge, where rounding decides
		case reason.Text != map[bool]string{true: "personal", false: "popular"}[own > 0 && own > others]:
			return differs(row, column+"_reason", fmt.Sprintf("the one of %v personal, %v popular", own, others))
		}
		named[name.Text] = true
	}
	return nil
}

// inclinations are how much a customer's own orders and the artefact's popularity speak for each category.
func (o *Oracle) inclinations() (personal, popular map[string]float64) {
	personal, popular = map[string]float64{}, map[string]float64{}
	for _, r := range o.counting() {
		for _, name := range r.categories(false) {
			personal[name] += math.Exp2(float64(r.at-o.now) / dayMs / o.Artefact.Category.HalfLifeDays)
		}
	}
	for _, c := range o.Artefact.Category.Popularity {
		if w := o.Artefact.Category.Shrink * c.Share; w > 0 {
			popular[c.Name] = w
		}
	}
	return personal, popular
}

// categories lists the distinct ones in the order of the lines; what came back is left out unless all is asked for.
func (r *order) categories(all bool) (names []string) {
	for _, l := range r.lines {
		if l.category != "" && (all || l.returned < l.quantity) && !slices.Contains(names, l.category) {
			names = append(names, l.category)
		}
	}
	return names
}

func (o *Oracle) compareOrders(s *Store, id string) error {
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
func compareRows(s *Store, table, id string, want map[string]string) error {
	got := map[string]string{}
	for k, r := range s.Tables[table] {
		if r.Get("customer_id").Text == id && !r.Deleted {
			got[k] = printed(&r)
		}
	}
	for k, w := range want {
		if got[k] != w {
			return &Difference{Customer: id, Table: table, Key: k, Got: got[k], Want: w}
		}
	}
	for k, g := range got {
		if want[k] == "" {
			return &Difference{Customer: id, Table: table, Key: k, Got: g}
		}
	}
	return nil
}

func printed(r *Row) string {
	var parts []string
	for i, c := range r.Cells {
		if r.Table.Columns[i].Name != "partition" {
			parts = append(parts, c.String())
		}
	}
	return strings.Join(parts, " ")
}

func (o *Oracle) compareTransitions(s *Store, id string) error {
	want := map[string]string{}
	for i := range o.courses {
		l := o.courses[i].lifecycle
		for at, t := range o.courses[i].transitions {
			from := ""
			if t.from != "" {
				from = l.Churned(t.from)
			}
			want[fmt.Sprintf("%s|%s|%d|", l.ID(), id, at)] = fmt.Sprint(l.ID(), " ", id, " ", at, " ", t.from, " ", t.to, " ", from, " ", l.Churned(t.to),
				" ", t.cause, " ", t.rule, " ", t.cycle, " ", l.Version(), " ", o.Artefact.Version)
		}
	}
	return compareRows(s, "phase_transitions", id, want)
}
