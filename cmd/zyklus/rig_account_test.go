package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// tape is a feed that remembers what went through it.
type tape struct {
	feed
	values []string
	bad    int // records that cannot be used
	strays int // refunds of orders that do not exist
}

func (t *tape) Produce(ctx context.Context, key, value []byte, at time.Time) error {
	t.values = append(t.values, string(value))
	return t.feed.Produce(ctx, key, value, at)
}

// spoil writes one record that cannot be used, and a refund of an order that does not exist.
func (t *tape) spoil(ctx context.Context, n int, at time.Time) error {
	t.bad++
	t.strays++
	refund := fmt.Appendf(nil, `{"type":"track","event":"Order Refunded","userId":"stray-%d","messageId":"stray-%d","timestamp":%q,"properties":{"order_id":"none-%[2]d","total":1}}`,
		n%7, n, at.Format(time.RFC3339))
	if err := t.feed.Produce(ctx, fmt.Appendf(nil, "stray-%d", n%7), refund, at); err != nil {
		return err
	}
	values := []string{`not JSON`, `{"type":"track","event":"Order Completed","userId":"c1","timestamp":"2024-01-01T`,
		`{"type":"track","event":"No Such Event","userId":"c1","timestamp":"2024-01-01T00:00:00Z"}`, ``}
	return t.feed.Produce(ctx, fmt.Appendf(nil, "bad-%d", n), []byte(values[n%len(values)]), time.Now())
}

// account is what the input says about orders, found without any code of the pipeline.
type account struct {
	orders    map[string]int64 // value in cents, by customer and order id
	undone    map[string]bool  // cancelled, or refunded as a whole
	customers map[string]bool
}

// account reads the tape. Changes of orders in refused (by message id) are left out: they are dead letters.
func (t *tape) account(tb testing.TB, refused map[string]bool) account {
	tb.Helper()
	a := account{orders: map[string]int64{}, undone: map[string]bool{}, customers: map[string]bool{}}
	latest, refunded, seen := map[string]string{}, map[string]int64{}, map[string]bool{}
	for _, value := range t.values {
		var e struct {
			UserID, AnonymousID, MessageID, Event, Timestamp string
			Properties                                       struct {
				OrderID                       string `json:"order_id"`
				Total, Revenue, Shipping, Tax *float64
				Products                      []struct{ Price, Quantity float64 }
			}
		}
		if err := json.Unmarshal([]byte(value), &e); err != nil {
			tb.Fatalf("tape: %v\n%s", err, value)
		}
		a.customers[e.UserID+e.AnonymousID] = true
		p, id := &e.Properties, e.UserID+"\t"+e.Properties.OrderID
		if refused[e.MessageID] || seen[e.MessageID] {
			continue
		}
		seen[e.MessageID] = true
		switch e.Event {
		case "Order Completed", "Order Updated":
			if e.Timestamp < latest[id] {
				continue
			}
			latest[id] = e.Timestamp
			v := p.Revenue
			if v == nil {
				rest := *p.Total - *p.Shipping - *p.Tax
				v = &rest
			}
			a.orders[id] = cents(*v)
		case "Order Cancelled":
			a.undone[id] = true
		case "Order Refunded":
			switch {
			case p.Total != nil:
				refunded[id] += cents(*p.Total)
			case len(p.Products) == 0:
				a.undone[id] = true
			}
			for _, line := range p.Products {
				refunded[id] += cents(line.Price * line.Quantity)
			}
		}
	}
	for id, sum := range refunded {
		if sum >= a.orders[id] {
			a.undone[id] = true
		}
	}
	return a
}

func cents(v float64) int64 { return int64(math.Round(v * 100)) }

// checkAccount compares a deployment's rows with what the input says.
func (r *rig) checkAccount(d deployment) {
	r.t.Helper()
	refused := map[string]bool{}
	for _, line := range d.mustQuery(r.t, "SELECT JSONExtractString(value, 'messageId') FROM v_dead_letters WHERE error IN ('order_unknown', 'order_too_old')") {
		refused[line] = true
	}
	a := r.feed.tape.account(r.t, refused)
	var want []string
	for id, value := range a.orders {
		status := "kept"
		if a.undone[id] {
			status = "undone"
		}
		want = append(want, fmt.Sprintf("%s\t%s\t%d", id, status, value))
	}
	slices.Sort(want)
	got := d.mustQuery(r.t, "SELECT customer_id, order_id, status IN ('cancelled', 'refunded') ? 'undone' : 'kept', toInt64(value * 100) FROM v_orders ORDER BY customer_id, order_id")
	diffLines(r.t, "orders by the input and by "+d.database+" (customer, order, state, cents)", want, got)
	kept := map[string]int{}
	for id := range a.orders {
		if !a.undone[id] {
			customer, _, _ := strings.Cut(id, "\t")
			kept[customer]++
		}
	}
	want = want[:0]
	for customer := range maps.Keys(a.customers) {
		want = append(want, fmt.Sprintf("%s\t%d", customer, kept[customer]))
	}
	slices.Sort(want)
	got = d.mustQuery(r.t, "SELECT customer_id, orders FROM v_customers WHERE NOT startsWith(customer_id, 'stray-') ORDER BY customer_id")
	diffLines(r.t, "customers by the input and by "+d.database+" (customer, net orders)", want, got)
	bad := d.mustQuery(r.t, "SELECT count() FROM v_dead_letters WHERE error NOT IN ('order_unknown', 'order_too_old')")
	if bad[0] != strconv.Itoa(r.feed.tape.bad) {
		r.t.Errorf("%s has %s dead letters of records that cannot be used, %d were written", d.database, bad[0], r.feed.tape.bad)
	}
	strays := d.mustQuery(r.t, "SELECT count() FROM v_dead_letters WHERE error = 'order_unknown' AND startsWith(key, 'stray-')")
	if strays[0] != strconv.Itoa(r.feed.tape.strays) {
		r.t.Errorf("%s has %s dead letters of refunds without an order, %d were written", d.database, strays[0], r.feed.tape.strays)
	}
	r.t.Logf("%s was compared with the input: %d orders, %d customers, %d bad records", d.database, len(a.orders), len(a.customers), r.feed.tape.bad)
}

// diffLines reports lines that are in one sorted list only.
func diffLines(t testing.TB, what string, want, got []string) {
	t.Helper()
	in := func(list []string) map[string]int {
		m := map[string]int{}
		for _, l := range list {
			m[l]++
		}
		return m
	}
	w, g := in(want), in(got)
	var diffs []string
	for l, n := range w {
		if g[l] < n {
			diffs = append(diffs, "- "+l)
		}
	}
	for l, n := range g {
		if w[l] < n {
			diffs = append(diffs, "+ "+l)
		}
	}
	if len(diffs) == 0 {
		return
	}
	slices.SortFunc(diffs, func(a, b string) int { return strings.Compare(a[2:]+a[:1], b[2:]+b[:1]) })
	t.Errorf("%s differ: %d lines wanted (-), %d found (+), %d differ, of these the first:\n%s",
		what, len(want), len(got), len(diffs), strings.Join(diffs[:min(12, len(diffs))], "\n"))
}

// compare compares all tables of two deployments of the same topic, column by column.
func (r *rig) compare(want, got deployment) {
	r.t.Helper()
	r.awaitLetters(got)
	for _, table := range []struct{ name, except, key string }{
		{"v_customers", "", "customer_id"},
		{"v_phase_transitions", "", "lifecycle, customer_id, at"},
		{"v_orders", "", "customer_id, order_id"},
		{"v_customer_days", "", "customer_id, day"},
		{"v_dead_letters", "EXCEPT (received_at)", "topic, partition, position"}, // when it was written
		{"v_checkpoints", "EXCEPT (lineage, number)", "topic, partition"},        // how often it was written
	} {
		sql := fmt.Sprintf("SELECT * %s FROM %s ORDER BY %s FORMAT TSVWithNames", table.except, table.name, table.key)
		a, b := want.mustQuery(r.t, sql), got.mustQuery(r.t, sql)
		if len(a) < 2 {
			r.t.Errorf("%s of %s is empty: there is nothing to compare", table.name, want.database)
		}
		r.compareRows(table.name, strings.Count(table.key, ",")+1, want.database, got.database, a, b)
	}
	r.checkVersions(got)
	a, b := r.letters(want), r.letters(got)
	if len(a) != len(b) {
		r.t.Errorf("the dead-letter topic of %s holds %d committed records, that of %s %d", want.database, len(a), got.database, len(b))
	}
}

// compareRows reports what differs between two answers whose first line names the columns, of which the first are the
// key.
func (r *rig) compareRows(table string, keys int, nameA, nameB string, a, b []string) {
	r.t.Helper()
	names, rowsA, rowsB := strings.Split(a[0], "\t"), byKey(a[1:], keys), byKey(b[1:], keys)
	var missing, extra, examples []string
	rows, counts := 0, map[string]int{}
	for _, key := range slices.Sorted(maps.Keys(rowsA)) {
		va, vb := rowsA[key], rowsB[key]
		if vb == nil {
			missing = append(missing, key)
			continue
		}
		if slices.Equal(va, vb) {
			continue
		}
		rows++
		for c := range va {
			if va[c] != vb[c] {
				counts[names[c]]++
				examples = append(examples, fmt.Sprintf("%s: %s is %s in %s, %s in %s", key, names[c], va[c], nameA, vb[c], nameB))
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(rowsB)) {
		if rowsA[key] == nil {
			extra = append(extra, key)
		}
	}
	first := func(list []string) string { return strings.Join(list[:min(8, len(list))], "\n  ") }
	if len(missing) > 0 {
		r.t.Errorf("%s: %d of %d rows of %s are not in %s, the first:\n  %s", table, len(missing), len(rowsA), nameA, nameB, first(missing))
	}
	if len(extra) > 0 {
		r.t.Errorf("%s: %d of %d rows of %s are not in %s, the first:\n  %s", table, len(extra), len(rowsB), nameB, nameA, first(extra))
	}
	if rows > 0 {
		r.t.Errorf("%s: %d of %d rows differ, by column %v; the first:\n  %s", table, rows, len(rowsA), counts, first(examples))
	}
	if doubled := len(b) - 1 - len(rowsB); doubled > 0 {
		r.t.Errorf("%s of %s has %d rows more than keys", table, nameB, doubled)
	}
}

// byKey splits rows into columns.
func byKey(lines []string, keys int) map[string][]string {
	m := make(map[string][]string, len(lines))
	for _, line := range lines {
		columns := strings.Split(line, "\t")
		m[strings.Join(columns[:keys], " ")] = columns
	}
	return m
}
