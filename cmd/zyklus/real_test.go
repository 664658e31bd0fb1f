package main

import (
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The tests of this file load real data by the binary and compare what stands in ClickHouse with plain SQL over the raw
// file. The SQL knows the rules only, nothing of the pipeline. The data may not be copied into the repository.

// realFile returns the path of a file of the folder shared/data beside the repository, or of data in ZYKLUS_SHARED.
func realFile(t *testing.T, name string) string {
	t.Helper()
	shared := os.Getenv("ZYKLUS_SHARED")
	if shared == "" {
		shared = filepath.Join("..", "..", "..", "shared")
	}
	path := filepath.Join(shared, "data", name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("SKIPPED: NO REAL DATA: %v; set ZYKLUS_SHARED to the folder that holds data/%s", err, name)
	}
	return path
}

// realCase is one data set. All SQL is over the table raw of the deployment's database, into which its file goes as it is.
type realCase struct {
	file, preset, currency string
	columns                string // of raw
	orders                 string // customer_id, order_id ('' if the file has none), at (ms), net (minor units), lines, of each order of raw
	dates                  []string
}

func TestRealCDNOW(t *testing.T) {
	reference := realFile(t, "reference_mbgnbd.csv")
	c := realCase{
		file: realFile(t, "cdnow_sample.csv.gz"), preset: "cdnow", currency: "USD",
		columns: "customer_id String, date Date, quantity UInt32, value Decimal(18, 2), master_id String",
		orders: `SELECT customer_id, '' AS order_id, toInt64(toUnixTimestamp(toDateTime(date, 'UTC'))) * 1000 AS at,
			toInt64(value * 100) AS net, toUInt64(1) AS lines FROM raw`,
		dates: []string{"1997-09-30", "1998-06-30", "1999-06-30"},
	}
	days := map[string]string{} // sum of purchase days by date
	c.run(t, func(t *testing.T, d deployment, date string) {
		days[date] = one(t, d, "SELECT sum(purchase_days) FROM v_customers")
		if date != "1997-09-30" {
			return
		}
		equal(t, "customers, those with a repeat purchase, and their repeat purchases until the end of the calibration",
			one(t, d, "SELECT count(), countIf(repeat_purchase_days > 0), sum(repeat_purchase_days) FROM v_customers"),
			"2357\t946\t2457")
		d.checkPAlive(t, reference)
	}, func(t *testing.T, d deployment) {
		equal(t, "CDs, value and customers of the file", one(t, d, "SELECT sum(quantity), sum(value), uniqExact(customer_id) FROM raw"), "16479\t244091.94\t2357")
		equal(t, "value, orders and customers", one(t, d, "SELECT sum(net_value), sum(orders), count() FROM v_customers"), "244091.94\t6919\t2357")
		equal(t, "purchase days of the next 39 weeks", fmt.Sprint(whole(t, days["1998-06-30"])-whole(t, days["1997-09-30"])), "1882")
		equal(t, "customers that have not left within a year of silence", one(t, d, "SELECT count() FROM v_customers WHERE role5_phase NOT IN ('former', 'inactive')"), "0")
	})
}

func TestRealCompleteJourney(t *testing.T) {
	c := realCase{
		file: realFile(t, "complete_journey_sample.csv.gz"), preset: "complete-journey", currency: "USD",
		columns: `household_id String, basket_id String, ts DateTime('UTC'), store_id String, product_id String,
			department String, product_category String, product_type String, brand String, quantity UInt32,
			sales_value Float64, retail_disc Float64, coupon_disc Float64, coupon_match_disc Float64`,
		orders: `SELECT household_id AS customer_id, basket_id AS order_id, toInt64(toUnixTimestamp(min(ts))) * 1000 AS at,
			toInt64(round(sum(sales_value) * 100)) AS net, count() AS lines FROM raw GROUP BY household_id, basket_id`,
		dates: []string{"2017-04-01", "2017-10-01", "2018-06-01"},
	}
	c.run(t, func(*testing.T, deployment, string) {}, func(t *testing.T, d deployment) {
		equal(t, "lines, baskets and households of the file", one(t, d, "SELECT count(), uniqExact(basket_id), uniqExact(household_id) FROM raw"), "75000\t47243\t2377")
		equal(t, "orders, customers and value", one(t, d, "SELECT sum(orders), count(), sum(net_value) FROM v_customers"), "47243\t2377\t233935.24")
		// The file has the time of New York, which the preset takes for UTC: a basket's day is that on the receipt.
		none(t, d, "categories of a basket", `SELECT * FROM
			(SELECT basket_id AS id, arraySort(groupUniqArrayIf(product_category, product_category != '')) AS categories FROM raw
				WHERE basket_id NOT IN (SELECT basket_id FROM raw WHERE product_category LIKE '%,%') GROUP BY id) AS r
			INNER JOIN (SELECT order_id AS id, arrayFilter(c -> c != '', arraySort(splitByChar(',', o.categories))) AS categories FROM v_orders AS o) AS v USING id
			WHERE r.categories != v.categories`)
	})
}

// run loads the file up to one date after the other. check runs at each of them, finally at the last.
func (c realCase) run(t *testing.T, check func(*testing.T, deployment, string), finally func(*testing.T, deployment)) {
	const partitions = 4
	dir := t.TempDir()
	broker, _ := startBroker(t, filepath.Join(dir, "kafka"))
	engine, _ := startClickHouse(t, filepath.Join(dir, "clickhouse"))
	topicOn(t, broker, "events", partitions, nil)
	name := strings.ReplaceAll(c.preset, "-", "_")
	d := deploy(t, name, "events", broker, engine, "currency: "+c.currency)
	succeed(t, "migrate", "--config", d.config)
	d.insertCSV(t, c.columns, c.file)
	pipeline := start(t, nil, "run", "--config", d.config)
	for i, date := range c.dates {
		args := []string{"load", c.file, "--preset", c.preset, "--config", d.config, "--advance-to", date}
		if i > 0 {
			args = append(args, "--after", c.dates[i-1])
		}
		text := succeed(t, args...)
		at, err := time.Parse(time.DateOnly, date)
		if err != nil {
			t.Fatal(err)
		}
		d.awaitClock(t, partitions, at)
		if strings.Contains(text, "refused") {
			t.Errorf("load to %s: %s", date, text)
		}
		t.Run(date, func(t *testing.T) {
			e := expectation{orders: c.orders, at: at.UnixMilli()}
			e.checkCustomers(t, d)
			e.checkOrders(t, d)
			e.checkTransitions(t, d)
			check(t, d, date)
		})
	}
	t.Run("sums", func(t *testing.T) { finally(t, d) })
	equal(t, "dead letters", one(t, d, "SELECT count() FROM v_dead_letters"), "0")
	if code := pipeline.stop(time.Minute); code != 0 {
		t.Errorf("run ended with %d\n%s", code, tail(pipeline.log.String(), 10))
	}
}

// expectation is what the raw orders say at an instant, Unix ms.
type expectation struct {
	orders string
	at     int64
}

// customers is plain SQL over the orders known at the instant: one row per customer, its columns named as in
// v_customers, money in minor units, instants in ms.
func (e expectation) customers() string {
	windows := ""
	for _, days := range []int{7, 30, 90, 365} {
		windows += fmt.Sprintf(", countIf(day > today - %[1]d) AS orders_%[1]dd, sumIf(net, day > today - %[1]d) AS net_value_%[1]dd", days)
	}
	return fmt.Sprintf(`SELECT o.customer_id AS customer_id, count() AS orders, sum(net) AS net_value, min(o.at) AS first_order_at,
			max(o.at) AS last_order_at, uniqExact(day) AS purchase_days, max(day) - min(day) AS span%s
		FROM (SELECT *, toDate(fromUnixTimestamp64Milli(at), 'UTC') AS day,
				toDate(fromUnixTimestamp64Milli(toInt64(%[2]d)), 'UTC') AS today FROM (%[3]s) WHERE at <= %[2]d) AS o
		GROUP BY customer_id`, windows, e.at, e.orders)
}

// role5 is the rule of the preset as SQL, over orders, purchase_days and span of a customer, silent for so many
// milliseconds. The expected gap is (60 * 1 + span) / (1 + repeat purchase days).
func role5(silent string) string {
	return strings.NewReplacer("SILENT", silent, "DAY", "86400000").Replace(`multiIf(
		orders = 0, 'prospect',
		SILENT > 365 * DAY, 'former',
		SILENT * purchase_days > 3 * (60 + span) * DAY OR SILENT > 180 * DAY OR orders = 1 AND SILENT > 90 * DAY, 'inactive',
		orders = 1, 'new',
		'active')`)
}

// checkCustomers compares every column that follows from the orders, and the phase, customer by customer.
func (e expectation) checkCustomers(t *testing.T, d deployment) {
	t.Helper()
	columns := []string{"orders", "net_value", "purchase_days", "first_order_at", "last_order_at"}
	for _, days := range []int{7, 30, 90, 365} {
		columns = append(columns, fmt.Sprintf("orders_%dd", days), fmt.Sprintf("net_value_%dd", days))
	}
	stored := make([]string, len(columns))
	for i, c := range columns {
		switch {
		case strings.HasPrefix(c, "net_value"):
			stored[i] = "toInt64(" + c + " * 100)"
		case strings.HasSuffix(c, "_at"):
			stored[i] = "toUnixTimestamp64Milli(assumeNotNull(" + c + "))"
		default:
			stored[i] = c
		}
	}
	silent := fmt.Sprintf("(%d - last_order_at)", e.at)
	none(t, d, "customers that differ", fmt.Sprintf(`
		SELECT customer_id, w.all AS want, g.all AS got
		FROM (SELECT customer_id, toString((%s, purchase_days - 1, span, %s, toInt64(%d))) AS all FROM (%s)) AS w
		FULL OUTER JOIN (SELECT customer_id, toString((%s, assumeNotNull(repeat_purchase_days), assumeNotNull(purchase_span_days),
			role5_phase, toUnixTimestamp64Milli(clock))) AS all FROM v_customers) AS g USING customer_id
		WHERE w.all != g.all`,
		strings.Join(columns, ", "), role5(silent), e.at, e.customers(), strings.Join(stored, ", ")))
	near := func(got, want string) string {
		return fmt.Sprintf("abs(%[1]s - %[2]s) > 1e-12 * abs(%[2]s)", got, want)
	}
	none(t, d, "customers whose cadence differs", fmt.Sprintf(`
		SELECT customer_id, days_since_last_order_now, expected_gap_days, overdue_ratio_now, silence, gap
		FROM (SELECT customer_id, %s / 86400000 AS silence, (60 + span) / purchase_days AS gap FROM (%s)) AS w
		FULL OUTER JOIN v_customers AS g USING customer_id
		WHERE ifNull(%s OR %s OR %s, true)`, silent, e.customers(),
		near("days_since_last_order_now", "silence"), near("expected_gap_days", "gap"), near("overdue_ratio_now", "(silence / gap)")))
}

// checkOrders compares the table of orders, which has one row per order of the file.
func (e expectation) checkOrders(t *testing.T, d deployment) {
	t.Helper()
	none(t, d, "orders that differ", fmt.Sprintf(`
		SELECT customer_id, id, at, net, lines, w.n, g.n
		FROM (SELECT customer_id, order_id AS id, at, net, lines, count() AS n FROM (%[1]s) WHERE at <= %[2]d
			GROUP BY customer_id, id, at, net, lines) AS w
		FULL OUTER JOIN (SELECT customer_id, if((SELECT count() FROM (%[1]s) WHERE order_id != '') > 0, order_id, '') AS id,
				toUnixTimestamp64Milli(o.at) AS at, toInt64(net_value * 100) AS net, toUInt64(lines) AS lines, count() AS n
			FROM v_orders AS o WHERE status = 'completed' AND value = net_value AND refunded = 0
			GROUP BY customer_id, id, at, net, lines) AS g
		USING (customer_id, id, at, net, lines) WHERE w.n != g.n`, e.orders, e.at))
	equal(t, "orders and their ids", one(t, d, "SELECT count(), uniqExact(order_id) FROM v_orders"),
		one(t, d, fmt.Sprintf("SELECT count(), count() FROM (%s) WHERE at <= %d", e.orders, e.at)))
}

// checkTransitions: each customer's transitions are a chain from nothing to the present phase, and each of them happened
// at its instant: the rule gives the phase after from the orders until then, and the phase before a millisecond earlier.
func (e expectation) checkTransitions(t *testing.T, d deployment) {
	t.Helper()
	none(t, d, "customers whose last transition does not lead to their phase", `
		SELECT customer_id, phase, since, previous, last, c.role5_phase, c.role5_since, c.role5_previous_phase
		FROM (SELECT customer_id, argMax(to_phase, at) AS phase, max(at) AS since, argMax(from_phase, at) AS previous, max(cycle) AS last
			FROM v_phase_transitions WHERE lifecycle = 'role5' GROUP BY customer_id) AS l
		FULL OUTER JOIN v_customers AS c USING customer_id
		WHERE phase != c.role5_phase OR since != c.role5_since OR previous != c.role5_previous_phase OR last != c.role5_cycle`)
	none(t, d, "gaps in the chain of transitions", `
		SELECT * FROM (SELECT customer_id, at, from_phase, to_phase,
			lagInFrame(to_phase) OVER w AS before, lagInFrame(at) OVER w AS earlier
			FROM v_phase_transitions WINDOW w AS (PARTITION BY lifecycle, customer_id ORDER BY at))
		WHERE from_phase != before OR from_phase = to_phase OR at = earlier`)
	none(t, d, "instants with more than one transition", `
		SELECT customer_id, at, count() FROM v_phase_transitions GROUP BY lifecycle, customer_id, at HAVING count() > 1`)
	none(t, d, "transitions that the rule does not give at their instant", fmt.Sprintf(`
		WITH o AS (%s)
		SELECT customer_id, instant, from_phase, to_phase, cause, want_from, want_to, rule FROM (
			SELECT *, %s AS want_to, if(cause = 'deadline', %s, from_phase) AS want_from FROM (
				SELECT tr.customer_id AS customer_id, toUnixTimestamp64Milli(tr.at) AS instant, from_phase, to_phase, cause, rule, count() AS orders,
					max(o.at) AS last, uniqExact(intDiv(o.at, 86400000)) AS purchase_days,
					intDiv(max(o.at), 86400000) - intDiv(min(o.at), 86400000) AS span
				FROM v_phase_transitions AS tr INNER JOIN o ON o.customer_id = tr.customer_id
				WHERE o.at <= toUnixTimestamp64Milli(tr.at)
				GROUP BY tr.customer_id, instant, from_phase, to_phase, cause, rule))
		WHERE to_phase != want_to OR from_phase != want_from OR rule != to_phase OR instant > %d
			OR (cause = 'order.completed') != (last = instant) OR cause NOT IN ('deadline', 'order.completed')`,
		e.orders, role5("(instant - last)"), role5("(instant - last - 1)"), e.at))
}

// checkPAlive compares P(alive) as it stands in the view with the published formula evaluated to 22 digits.
func (d deployment) checkPAlive(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r := csv.NewReader(bytes.NewReader(text))
	r.Comment = '#'
	rows, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows[1:] { // customer_id, x, t_x_days, T_days, p_alive, …
		got := strings.Split(one(t, d, `SELECT repeat_purchase_days, purchase_span_days,
			dateDiff('day', assumeNotNull(first_purchase_day_at), clock), p_alive_now FROM v_customers WHERE customer_id = '`+row[0]+"'"), "\t")
		equal(t, "x, t_x and T of customer "+row[0], strings.Join(got[:3], " "), strings.Join(row[1:4], " "))
		p, want := decimal(t, got[3]), decimal(t, row[4])
		if math.Abs(p-want) > 1e-9*want {
			t.Errorf("p_alive_now of customer %s is %v, not %v", row[0], p, want)
		}
	}
	if len(rows) != 21 {
		t.Errorf("%d customers are in the reference, not 20", len(rows)-1)
	}
}

// insertCSV puts a gzipped CSV file into a new table raw, without any code of ours in between.
func (d deployment) insertCSV(t *testing.T, columns, path string) {
	t.Helper()
	d.mustQuery(t, "CREATE TABLE raw ("+columns+") ENGINE = MergeTree ORDER BY tuple()")
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	text, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post("http://"+d.engine+"/?database="+d.database+"&query="+url.QueryEscape("INSERT INTO raw FORMAT CSVWithNames"), "text/csv", text)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if answer, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		t.Fatalf("insert %s: %s", path, answer)
	}
}

// succeed runs zyklus to its end, which must be a good one, and returns what it printed.
func succeed(t testing.TB, args ...string) string {
	t.Helper()
	code, out, log := runZyklus(t, nil, args...)
	if code != 0 {
		t.Fatalf("zyklus %s: exit %d\n%s%s", strings.Join(args, " "), code, out, log)
	}
	return out
}

// one returns the only row of an answer.
func one(t *testing.T, d deployment, sql string) string {
	t.Helper()
	lines := d.mustQuery(t, sql)
	if len(lines) != 1 {
		t.Fatalf("%d rows: %s", len(lines), sql)
	}
	return lines[0]
}

// none fails for every row of an answer and shows the first ones.
func none(t *testing.T, d deployment, what, sql string) {
	t.Helper()
	if lines := d.mustQuery(t, sql); len(lines) > 0 {
		t.Errorf("%s: %d\n%s", what, len(lines), strings.Join(lines[:min(5, len(lines))], "\n"))
	}
}

func equal(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %s, not %s", what, got, want)
	}
}

func decimal(t *testing.T, text string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func whole(t *testing.T, text string) int64 {
	t.Helper()
	v, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
