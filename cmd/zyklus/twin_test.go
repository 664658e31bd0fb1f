package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"zyklus/bench/oracle"
	"zyklus/bench/oracle/twin"
	"zyklus/bench/simulator"
	"zyklus/pipeline"
)

// sqlTwin is a database in which SQL alone says what a deployment must hold.
type sqlTwin struct {
	t        *testing.T
	db       deployment
	of       deployment
	zone     string
	lateness time.Duration
	source   string         // the topic
	arrivals string         // statement that makes the table, in place of the one that reads the topic's records
	compared map[string]int // rows by table
}

// newTwin makes the database, with nothing that has happened and no rates.
func newTwin(t *testing.T, of deployment, zone string, lateness time.Duration) *sqlTwin {
	t.Helper()
	w := &sqlTwin{t: t, of: of, zone: zone, lateness: lateness, compared: map[string]int{}}
	w.db = deployment{database: of.database + "_twin", engine: of.engine}
	of.mustQuery(t, "CREATE DATABASE "+w.db.database)
	w.db.mustQuery(t, "CREATE TABLE raw (partition UInt32, position Int64, value String) ENGINE = MergeTree ORDER BY (partition, position)")
	w.db.mustQuery(t, "CREATE TABLE rates (date Date, currency String, rate Decimal(18, 6)) ENGINE = MergeTree ORDER BY (currency, date)")
	return w
}

// read takes the records of a topic as they are.
func (w *sqlTwin) read(broker, topic string) {
	w.t.Helper()
	w.source = topic
	var rows strings.Builder
	records, _ := readCommitted(w.t, broker, topic, nil)
	for _, r := range records {
		line, err := json.Marshal(map[string]any{"partition": r.Partition, "position": r.Offset, "value": string(r.Value)})
		if err != nil {
			w.t.Fatal(err)
		}
		rows.Write(append(line, '\n'))
	}
	w.db.mustQuery(w.t, "INSERT INTO raw FORMAT JSONEachRow\n"+rows.String())
}

// at has SQL say how everything stood at an instant.
func (w *sqlTwin) at(clock time.Time) {
	w.t.Helper()
	for _, s := range twin.Statements() {
		if s.Table == "arrivals" && w.arrivals != "" {
			s.SQL = w.arrivals
		}
		params := url.Values{
			"database": {w.db.database}, "param_clock": {fmt.Sprint(clock.UnixMilli())}, "param_zone": {w.zone},
			"param_lateness": {fmt.Sprint(w.lateness.Milliseconds())}, "param_source": {w.source}, "param_currency": {"EUR"},
		}
		resp, err := http.Post("http://"+w.db.engine+"/?"+params.Encode(), "text/plain", strings.NewReader(s.SQL))
		if err != nil {
			w.t.Fatal(err)
		}
		answer, _ := io.ReadAll(resp.Body)
		if _ = resp.Body.Close(); resp.StatusCode != http.StatusOK {
			w.t.Fatalf("%s: %s", s.Table, answer)
		}
	}
}

// compare holds views against what tables say.
func (w *sqlTwin) compare(tables ...string) {
	w.t.Helper()
	for _, v := range twin.Views() {
		if slices.Contains(tables, v.Table) {
			w.compareWith(v.Table, v.View, w.of.database+"."+v.View, v.Key)
		}
	}
	w.compareCategories("v_customers")
}

// compareWith compares a table with rows that have the columns of a view, by all columns that both have.
func (w *sqlTwin) compareWith(table, view, rows, key string) {
	w.t.Helper()
	columns := w.db.mustQuery(w.t, fmt.Sprintf(`SELECT name, type LIKE '%%Float%%' FROM system.columns WHERE database = '%s' AND table = '%s'
		AND name IN (SELECT name FROM system.columns WHERE database = '%s' AND table = '%s') ORDER BY position`, w.db.database, table, w.of.database, view))
	text := func(column string) string { return "ifNull(toString(" + column + "), 'NULL')" }
	var pairs, on, keys []string
	for _, line := range columns {
		name, real, _ := strings.Cut(line, "\t")
		said, found := "said."+name, "found."+name
		want := text(said)
		if real == "1" {
			want = fmt.Sprintf("if(ifNull(abs(%[1]s - %[2]s) <= 1e-9 * greatest(1, abs(%[1]s)), false), %[3]s, %[4]s)", said, found, text(found), want)
		}
		pairs = append(pairs, fmt.Sprintf("('%s', %s, %s)", name, want, text(found)))
	}
	for _, k := range strings.Split(key, ", ") {
		on = append(on, fmt.Sprintf("said.%[1]s = found.%[1]s", k))
		keys = append(keys, fmt.Sprintf("toString(coalesce(said.%[1]s, found.%[1]s))", k))
	}
	said := "(SELECT *, 1 AS there FROM " + table + " WHERE customer_id NOT IN (SELECT customer_id FROM unsaid))"
	found := "(SELECT *, 1 AS there FROM " + rows + " WHERE customer_id NOT IN (SELECT customer_id FROM unsaid))"
	if table == "scores" {
		found = strings.TrimSuffix(found, ")") + " AND orders > 0)"
	}
	lines := w.db.mustQuery(w.t, fmt.Sprintf(`SELECT key, difference.1, difference.2, difference.3 FROM (
			SELECT concat_ws(' ', %s) AS key, arrayJoin(if(isNull(said.there) OR isNull(found.there), [('the row', %s, %s)],
				arrayFilter(pair -> pair.2 != pair.3, [%s]))) AS difference
			FROM %s AS said FULL OUTER JOIN %s AS found ON %s)
		ORDER BY key SETTINGS join_use_nulls = 1`,
		strings.Join(keys, ", "), text("said.there"), text("found.there"), strings.Join(pairs, ", "), said, found, strings.Join(on, " AND ")))
	w.compared[table] += int(whole(w.t, one(w.t, w.db, "SELECT count() FROM "+said)))
	w.report(table, rows, lines)
}

// report tells how many values differ, by column, and the first ones.
func (w *sqlTwin) report(table, rows string, lines []string) {
	w.t.Helper()
	if len(lines) == 0 {
		return
	}
	counts := map[string]int{}
	for i, line := range lines {
		parts := strings.Split(line, "\t")
		counts[parts[1]]++
		lines[i] = fmt.Sprintf("%s: %s is %s, and %s by SQL", parts[0], parts[1], parts[3], parts[2])
	}
	w.t.Errorf("%s differs from what %s.sql says, in %v; the first:\n  %s", rows, table, counts, strings.Join(lines[:min(8, len(lines))], "\n  "))
}

// compareCategories compares the three next best categories. Which of two equal ones comes first is left open.
func (w *sqlTwin) compareCategories(rows string) {
	w.t.Helper()
	var proposals []string
	for i := range 3 {
		proposals = append(proposals, fmt.Sprintf("(toInt64(%[1]d), toString(next_category_%[1]d), next_category_%[1]d_probability)", i+1))
	}
	w.report("next_categories", rows, w.db.mustQuery(w.t, fmt.Sprintf(`
		SELECT f.customer_id, concat('next category ', toString(f.rank)), toString((r.category, r.probability, n.probability)), toString((f.name, f.probability))
		FROM (SELECT customer_id, p.1 AS rank, p.2 AS name, p.3 AS probability FROM %s.%s ARRAY JOIN [%s] AS p) AS f
		LEFT JOIN next_categories AS r ON r.customer_id = f.customer_id AND r.rank = f.rank
		LEFT JOIN next_categories AS n ON n.customer_id = f.customer_id AND n.category = f.name
		WHERE (abs(r.probability - f.probability) > 1e-9 OR abs(n.probability - f.probability) > 1e-9)
			AND f.customer_id NOT IN (SELECT customer_id FROM unsaid)
		ORDER BY f.customer_id, f.rank`, w.of.database, rows, strings.Join(proposals, ", "))))
}

// compareDay compares how everybody stood at the end of a day.
func (w *sqlTwin) compareDay(day string) {
	w.t.Helper()
	zone, err := time.LoadLocation(w.zone)
	if err != nil {
		w.t.Fatal(err)
	}
	at, err := time.ParseInLocation(time.DateOnly, day, zone)
	if err != nil {
		w.t.Fatal(err)
	}
	w.at(time.Date(at.Year(), at.Month(), at.Day()+1, 0, 0, 0, 0, zone).Add(-time.Millisecond))
	asOf := fmt.Sprintf("(SELECT * FROM %s.v_customer_days WHERE day <= '%s' ORDER BY customer_id, day DESC LIMIT 1 BY customer_id)", w.of.database, day)
	w.compareWith("customers", "v_customer_days", asOf, "customer_id")
	w.compareWith("scores", "v_customer_days", asOf, "customer_id")
}

// TestTwin: what the pipeline makes of a messy topic, killed and started again on the way, is what SQL says of its records; and
// what the oracle says, who is asked by admin verify.
func TestTwin(t *testing.T) {
	r := newRig(t, func(c *simulator.Config) { c.Customers, c.Shares.TooLate = 400, 0 })
	d := r.deploy("said")
	p := r.run(d, static("one"))
	eventually(t, 2*time.Minute, "three years have passed", func() error {
		if at := r.feed.reached(); at.Year() < 2015 {
			return fmt.Errorf("it is %v", at)
		}
		return nil
	})
	p.kill()
	p = r.run(d, static("one"))
	at := r.feed.finish()
	r.await(p, d, at, "at the end")
	r.awaitLetters(d)
	if code := p.stop(20 * time.Second); code != 0 {
		t.Errorf("the pipeline ended with %d", code)
	}
	w := newTwin(t, d, "UTC", 10*time.Minute)
	w.read(r.broker.addr, r.topic)
	for _, day := range []string{"2012-06-30", "2013-11-10", "2014-12-31"} {
		w.compareDay(day)
	}
	w.at(at)
	w.compare("customers", "scores", "orders", "phase_transitions")
	none(t, w.db, "customers about whom SQL does not say everything", "SELECT * FROM unsaid")
	t.Logf("%v; transitions %s", w.compared, w.db.mustQuery(t, "SELECT from_phase, to_phase, cause, count() FROM phase_transitions GROUP BY ALL ORDER BY ALL"))
	none(t, w.db, "ways of the life of an order that did not happen", `SELECT arrayJoin(['cancelled', 'refunded', 'partially_refunded', 'completed']) AS way
		WHERE way NOT IN (SELECT status FROM orders)`)
	none(t, w.db, "moves that did not happen", `SELECT arrayJoin([('prospect', 'new'), ('new', 'active'), ('active', 'inactive'), ('inactive', 'active'),
		('inactive', 'former'), ('former', 'active'), ('new', 'inactive')]) AS move WHERE move NOT IN (SELECT from_phase, to_phase FROM phase_transitions)`)
	if all := sums(verifies(t, d, 0, "--all")); all.Exact != all.Customers || all.Customers < 300 {
		t.Errorf("the oracle: %+v", all)
	}
}

// twinLateness is that of the histories that are played to TestTwinOfHistories.
const twinLateness = 5 * time.Hour

// TestTwinOfHistories does the same for random histories that sit on edges: equal instants, midnights of Berlin, thresholds to
// the millisecond, refunds before their orders, orders in foreign currencies, updates of what was refunded.
func TestTwinOfHistories(t *testing.T) {
	if testing.Short() {
		t.Skip("runs real processes")
	}
	r := &rig{t: t, broker: startPart(t, "broker"), engine: startPart(t, "clickhouse"), topic: "histories"}
	topicOn(t, r.broker.addr, r.topic, rigPartitions, nil)
	rates := file(t, "rates.csv", oracle.RateTable())
	d := deploy(t, "histories", r.topic, r.broker.addr, r.engine.addr, "time_zone: Europe/Berlin\nrates: {file: "+rates+"}")
	succeed(t, "migrate", "--config", d.config)
	end := r.playHistories(400)
	env := []string{"ZYKLUS_SOURCE_LATENESS=" + twinLateness.String()}
	p := r.run(d, env...)
	r.await(p, d, end, "at the end")
	r.awaitLetters(d)
	if code := p.stop(20 * time.Second); code != 0 {
		t.Errorf("the pipeline ended with %d", code)
	}
	w := newTwin(t, d, "Europe/Berlin", twinLateness)
	w.read(r.broker.addr, r.topic)
	w.db.mustQuery(t, "INSERT INTO rates FORMAT CSVWithNames\n"+oracle.RateTable())
	for _, day := range []string{"2023-10-28", "2024-03-31"} { // the days before and at a change of summer time
		w.compareDay(day)
	}
	w.at(end)
	w.compare("customers", "scores", "orders", "phase_transitions")
	t.Logf("%v, left out are %s", w.compared, w.db.mustQuery(t, "SELECT why, count() FROM unsaid GROUP BY why ORDER BY why"))
	equal(t, "whether SQL says everything about three in four", one(t, w.db, "SELECT count() < (SELECT count() FROM customers) / 4 FROM unsaid"), "1")
	if all := sums(verifies(t, d, 0, "--all", "--set", "source.lateness="+twinLateness.String())); all.Exact != all.Customers || all.Customers < 300 {
		t.Errorf("the oracle: %+v", all)
	}
}

// playHistories writes random histories into the topic, their events in the order in which they come, and returns the
// instant that time has come to.
func (r *rig) playHistories(n int) (end time.Time) {
	r.t.Helper()
	type arrival struct {
		at    int64
		value []byte
		key   string
	}
	var all []arrival
	past := time.Now().AddDate(0, -1, 0).UnixMilli()
	last := int64(0)
	for seed := uint64(1); n > 0; seed++ {
		h := oracle.NewHistory(seed, false)
		if h.Zone != "Europe/Berlin" || h.Lateness != twinLateness || h.End > past {
			continue
		}
		n--
		last = max(last, h.End)
		for _, a := range h.Log(0, 1) {
			if a.Event.Kind != pipeline.KindHeartbeat {
				id := fmt.Sprintf("h%d-%s", seed, a.Event.Customer)
				all = append(all, arrival{a.At, segmentJSON(r.t, id, a.Event), id})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b arrival) int { return int(max(-1, min(1, a.at-b.at))) })
	end = time.UnixMilli(last).Add(24 * time.Hour).UTC()
	cl := kafkaClient(r.t, r.broker.addr)
	defer cl.Close()
	manual := kafkaClient(r.t, r.broker.addr, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer manual.Close()
	for records := range slices.Chunk(all, 1000) {
		var batch []*kgo.Record
		for _, a := range records {
			batch = append(batch, &kgo.Record{Topic: r.topic, Key: []byte(a.key), Value: a.value})
		}
		if err := cl.ProduceSync(r.t.Context(), batch...).FirstErr(); err != nil {
			r.t.Fatal(err)
		}
	}
	for i := range int32(rigPartitions) {
		beat := &kgo.Record{Topic: r.topic, Partition: i, Value: simulator.Heartbeat(nil, end)}
		if err := manual.ProduceSync(r.t.Context(), beat).FirstErr(); err != nil {
			r.t.Fatal(err)
		}
	}
	return end
}

// segmentJSON writes an event of a history as a shop would.
func segmentJSON(t testing.TB, customer string, e *pipeline.Event) []byte {
	t.Helper()
	record := map[string]any{
		"type": "track", "messageId": strconv.FormatUint(e.ID, 16), "timestamp": time.UnixMilli(e.At).UTC().Format("2006-01-02T15:04:05.000Z"),
		map[bool]string{true: "userId", false: "anonymousId"}[e.Known]: customer,
	}
	names := map[pipeline.Kind]string{
		pipeline.KindProductViewed: "Product Viewed", pipeline.KindCartChanged: "Product Added", pipeline.KindCheckoutStarted: "Checkout Started",
		pipeline.KindOrderCompleted: "Order Completed", pipeline.KindOrderUpdated: "Order Updated", pipeline.KindOrderRefunded: "Order Refunded",
		pipeline.KindOrderCancelled: "Order Cancelled",
	}
	if calls := map[pipeline.Kind]string{pipeline.KindIdentified: "identify", pipeline.KindPageViewed: "page"}; calls[e.Kind] != "" {
		record["type"] = calls[e.Kind]
	} else {
		record["event"] = names[e.Kind]
	}
	if e.Kind.Order() {
		record["properties"] = orderJSON(e)
	}
	value, err := json.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// orderJSON is the properties of an order's event.
func orderJSON(e *pipeline.Event) map[string]any {
	p, unit := map[string]any{"order_id": string(e.OrderID), "currency": "EUR"}, 100.0
	if e.Foreign() {
		code := string(e.Currency[:])
		p["currency"] = code
		unit = map[string]float64{"JPY": 1, "KWD": 1000, "TND": 1000}[code]
		if unit == 0 {
			unit = 100
		}
	}
	number := func(v float64, digits int) json.Number { return json.Number(strconv.FormatFloat(v, 'f', digits, 64)) }
	if e.HasAmount {
		p[map[bool]string{true: "total", false: "revenue"}[e.Kind == pipeline.KindOrderRefunded]] = number(float64(e.Amount)/unit, 3)
	}
	var products []map[string]any
	for _, l := range e.Lines {
		quantity := float64(l.Quantity) / 1000
		product := map[string]any{"product_id": fmt.Sprintf("p%d", l.Product), "category": string(l.Category), "quantity": quantity}
		if l.HasAmount {
			product["price"] = number(float64(l.Amount)/unit/quantity, 6) // times quantity, it is the amount again
		}
		products = append(products, product)
	}
	if len(products) > 0 {
		p["products"] = products
	}
	return p
}
