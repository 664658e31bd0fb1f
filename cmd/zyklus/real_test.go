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
// file, and with what bench/oracle/twin says of its orders. The SQL knows the rules only, nothing of the pipeline. The data may not be copied into the repository.

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
	// orders says of each order of raw: customer_id, order_id ('' if the file has none), at (ms), net (minor units), and lines of
	// product, category, quantity in thousandths and amount.
	orders string
	dates  []string
}

func TestRealCDNOW(t *testing.T) {
	reference := realFile(t, "reference_mbgnbd.csv")
	c := realCase{
		file: realFile(t, "cdnow_sample.csv.gz"), preset: "cdnow", currency: "USD",
		columns: "customer_id String, date Date, quantity UInt32, value Decimal(18, 2), master_id String",
		orders: `SELECT customer_id, '' AS order_id, toInt64(toUnixTimestamp(toDateTime(date, 'UTC'))) * 1000 AS at,
			toInt64(value * 100) AS net, [('', 'CDs', toInt64(quantity) * 1000, NULL)] AS lines FROM raw`,
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
			toInt64(round(sum(sales_value) * 100)) AS net,
			groupArray((product_id, product_category, toInt64(quantity) * 1000, NULL)) AS lines FROM raw GROUP BY household_id, basket_id`,
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
	w := newTwin(t, d, "UTC", 10*time.Minute)
	w.arrivals = fmt.Sprintf(`CREATE OR REPLACE TABLE arrivals ENGINE = MergeTree ORDER BY (customer, at) AS
		SELECT 0 AS partition, rowNumberInAllBlocks() AS position, position AS id, customer_id AS customer, true AS known, at, 'order.completed' AS kind,
			if(order_id != '', order_id, toString(position)) AS order_id, '' AS currency, 100 AS unit, CAST(net, 'Nullable(Int64)') AS amount,
			CAST(lines, 'Array(Tuple(product String, category String, quantity Int64, amount Nullable(Int64)))') AS lines
		FROM (%s)`, strings.ReplaceAll(c.orders, "FROM raw", "FROM "+name+".raw"))
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
			w.t = t
			w.at(at)
			w.compare("customers", "scores", "phase_transitions")
			c.checkOrders(t, d, at)
			check(t, d, date)
		})
	}
	t.Run("sums", func(t *testing.T) { finally(t, d) })
	equal(t, "dead letters", one(t, d, "SELECT count() FROM v_dead_letters"), "0")
	if code := pipeline.stop(time.Minute); code != 0 {
		t.Errorf("run ended with %d\n%s", code, tail(pipeline.log.String(), 10))
	}
}

// checkOrders compares the table of orders, which has one row per order of the file.
func (c realCase) checkOrders(t *testing.T, d deployment, at time.Time) {
	t.Helper()
	none(t, d, "orders that differ", fmt.Sprintf(`
		SELECT customer_id, id, at, net, lines, w.n, g.n
		FROM (SELECT customer_id, order_id AS id, at, net, length(o.lines) AS lines, count() AS n FROM (%[1]s) AS o WHERE at <= %[2]d
			GROUP BY customer_id, id, at, net, lines) AS w
		FULL OUTER JOIN (SELECT customer_id, if((SELECT count() FROM (%[1]s) WHERE order_id != '') > 0, order_id, '') AS id,
				toUnixTimestamp64Milli(o.at) AS at, toInt64(net_value * 100) AS net, toUInt64(lines) AS lines, count() AS n
			FROM v_orders AS o WHERE status = 'completed' AND value = net_value AND refunded = 0
			GROUP BY customer_id, id, at, net, lines) AS g
		USING (customer_id, id, at, net, lines) WHERE w.n != g.n`, c.orders, at.UnixMilli()))
	equal(t, "orders and their ids", one(t, d, "SELECT count(), uniqExact(order_id) FROM v_orders"),
		one(t, d, fmt.Sprintf("SELECT count(), count() FROM (%s) WHERE at <= %d", c.orders, at.UnixMilli())))
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
