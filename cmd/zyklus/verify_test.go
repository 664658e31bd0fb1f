package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"zyklus/bench/simulator"
	"zyklus/cmd/zyklus/internal/verify"
	"zyklus/pipeline"
	"zyklus/pipeline/kafka"
)

// verifies runs admin verify, which must exit with a code, and returns what it reports.
func verifies(t testing.TB, d deployment, code int, args ...string) *verify.Report {
	t.Helper()
	got, out, log := cli(t, append([]string{"admin", "verify", "--config", d.config, "--output", "json"}, args...)...)
	r := &verify.Report{}
	if err := json.Unmarshal([]byte(out), r); err != nil {
		t.Fatalf("admin verify %v: exit %d, %v\n%s%s", args, got, err, out, log)
	}
	if got != code {
		t.Errorf("admin verify %v: exit %d, want %d: %s\n%s", args, got, code, tail(log, 3), out)
	}
	for _, diff := range r.Differences {
		if diff.Customer != "" && strings.Contains(log, diff.Customer) {
			t.Errorf("the log names a customer:\n%s", log)
		}
	}
	return r
}

// sums adds up what a report says of all partitions.
func sums(r *verify.Report) (all verify.Partition) {
	all.Totals, all.Unknown = map[verify.Reason]int64{}, map[verify.Reason]int64{}
	for _, p := range r.Partitions {
		all.Customers += p.Customers
		all.Exact += p.Exact
		all.Records += p.Records
		all.Differ += p.Differ
		for reason, n := range p.Totals {
			all.Totals[reason] += n
		}
		for reason, n := range p.Unknown {
			all.Unknown[reason] += n
		}
	}
	return all
}

// TestVerify: a messy history agrees with the oracle while the pipeline runs, after a kill and when it has stopped; what
// is then tampered with is named.
func TestVerify(t *testing.T) {
	r := newRig(t, func(c *simulator.Config) { c.Customers = 200 })
	d := r.deploy("verified")
	p := r.run(d, static("one"))
	r.await(p, d, r.feed.reached(), "at the beginning")
	running := sums(verifies(t, d, 0, "--all", "--least", "0"))
	p.kill()
	p = r.run(d, static("one"))
	p.awaitReady(time.Minute, "after a kill")
	verifies(t, d, 0, "--share", "0.3", "--partitions", "1-2", "--least", "0")
	early, _ := readCommitted(t, r.broker.addr, "zyklus-"+d.database+"-changelog", nil) // some is compacted later
	at := r.feed.finish()
	r.await(p, d, at, "at the end")
	if code := p.stop(20 * time.Second); code != 0 {
		t.Errorf("the pipeline ended with %d", code)
	}
	all := sums(verifies(t, d, 0, "--all"))
	t.Logf("while it ran: %+v\nafterwards:   %+v", running, all)
	if n := whole(t, one(t, d, "SELECT count() FROM v_customers")); all.Customers < n || all.Exact*2 < n || running.Exact == 0 {
		t.Errorf("%d customers, verified were %+v", n, all)
	}
	if all.Totals["late"] == 0 || all.Unknown["in_motion"] > 0 {
		t.Errorf("of events that came later than allowed only totals can be told, and nothing runs: %+v", all)
	}
	first, second := verifies(t, d, 0), verifies(t, d, 0)
	if a, b := fmt.Sprint(first), fmt.Sprint(second); a != b || sums(first).Customers == 0 {
		t.Errorf("a sample differs from the next:\n%s\n%s", a, b)
	}
	t.Run("usage", func(t *testing.T) {
		fails(t, 2, problem("--share"), "admin", "verify", "--share", "2")
		fails(t, 2, problem("all", "customer"), "admin", "verify", "--all", "--customer", "x")
		fails(t, 2, problem("--least"), "admin", "verify", "--least", "1.5")
		fails(t, 2, problem("no partition 9"), "admin", "verify", "--partitions", "9", "--config", d.config)
		fails(t, 1, problem("not all of these customers are there"), "admin", "verify", "--customer", "nobody", "--config", d.config)
	})
	t.Run("tampered", func(t *testing.T) { r.tamper(t, d, early) })
}

// tamper changes one thing after the other, each of another customer. early are records of the changelog.
func (r *rig) tamper(t *testing.T, d deployment, early []*kgo.Record) {
	t.Helper()
	records, _ := readCommitted(t, r.broker.addr, "zyklus-"+d.database+"-changelog", nil)
	first, last := map[string]*kgo.Record{}, map[string]*kgo.Record{}
	for _, rec := range slices.Concat(early, records) {
		if id, err := pipeline.ChangelogKey(rec.Key); err == nil && id != nil {
			if first[string(id)] == nil {
				first[string(id)] = rec
			}
			last[string(id)] = rec
		}
	}
	var exact []string // with orders, and transitions
	for _, id := range d.mustQuery(t, "SELECT customer_id FROM v_customers WHERE orders > 1 ORDER BY customer_id LIMIT 40") {
		_, out, log := cli(t, "admin", "verify", "--config", d.config, "--output", "json", "--customer", id)
		var alone verify.Report
		if err := json.Unmarshal([]byte(out), &alone); err != nil {
			t.Fatalf("%v\n%s%s", err, out, log)
		}
		if alone.Sum.Exact == 1 && !bytes.Equal(first[id].Value, last[id].Value) {
			if exact = append(exact, id); len(exact) == 5 {
				break
			}
		}
	}
	produce := func(rec *kgo.Record, value []byte) {
		cl := kafkaClient(t, r.broker.addr, kgo.RecordPartitioner(kgo.ManualPartitioner()))
		defer cl.Close()
		err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: rec.Topic, Partition: rec.Partition, Key: rec.Key, Value: value}).FirstErr()
		if err != nil {
			t.Fatal(err)
		}
	}
	wrong := map[string]bool{}
	for i, step := range []struct {
		table, column string // that must be named
		do            func(id string)
	}{
		{"customers", "net_value_minor", func(id string) {
			d.mustQuery(t, "INSERT INTO customers SELECT * REPLACE (net_value_minor + 1 AS net_value_minor, version + 1 AS version) FROM customers FINAL WHERE customer_id = '"+id+"'")
		}},
		{"phase_transitions", "", func(id string) {
			d.mustQuery(t, "INSERT INTO phase_transitions SELECT * REPLACE (1 AS is_deleted) FROM phase_transitions FINAL WHERE customer_id = '"+id+"' ORDER BY at LIMIT 1")
		}},
		{"customer_days", "touches", func(id string) {
			d.mustQuery(t, "INSERT INTO customer_days SELECT * REPLACE (touches + 1 AS touches) FROM customer_days FINAL WHERE customer_id = '"+id+"' ORDER BY day LIMIT 1")
		}},
		{"customers", "as_of", func(id string) { produce(last[id], first[id].Value) }}, // an update is lost
		{"changelog", "", func(id string) { produce(last[id], last[id].Value[:len(last[id].Value)/2]) }},
	} {
		id := exact[i]
		step.do(id)
		wrong[id] = true
		report := verifies(t, d, 1, "--all", "--limit", "1000")
		found, named := map[string]bool{}, false
		for _, diff := range report.Differences {
			found[diff.Customer] = true
			named = named || diff.Customer == id && diff.Table == step.table && (step.column == "" || diff.Column == step.column)
		}
		if !named || !maps.Equal(found, wrong) || report.Sum.Differ != int64(len(wrong)) {
			t.Errorf("%s.%s of %s was changed, of %v; differences are %+v", step.table, step.column, id, slices.Collect(maps.Keys(wrong)), report.Differences)
		}
	}
	d.mustQuery(t, "INSERT INTO customers (customer_id, partition, version) VALUES ('ghost', 1, 1)")
	if report := verifies(t, d, 1, "--all", "--partitions", "1", "--limit", "1000"); !slices.ContainsFunc(report.Differences, func(diff verify.Difference) bool { return diff.Customer == "ghost" }) {
		t.Errorf("a customer that nobody knows is not found: %+v", report.Differences)
	}
	code, out, _ := cli(t, "admin", "verify", "--config", d.config, "--customer", exact[0])
	if code != 1 || !strings.Contains(out, "customers.net_value_minor") || !strings.Contains(out, exact[0]) ||
		!strings.HasSuffix(out, "\n1 customers: 0 agree exactly, 0 by totals only, 0 are not verifiable (0 of them in motion), 1 differ\n") {
		t.Errorf("exit %d\n%s", code, out)
	}
}

// TestVerifyWallClock: events of the present, some late, twice or out of order, agree while the wall clock goes on, also
// once the topic has lost its beginning.
func TestVerifyWallClock(t *testing.T) { onBrokers(t, verifyWallClock) }

func verifyWallClock(t *testing.T, broker *part) {
	r := &rig{t: t, broker: broker, engine: startPart(t, "clickhouse"), topic: "events" + broker.suffix}
	topicOn(t, r.broker.addr, r.topic, 2, map[string]string{"message.timestamp.type": "LogAppendTime"})
	d := deploy(t, "wall"+broker.suffix, r.topic, r.broker.addr, r.engine.addr, "")
	succeed(t, "migrate", "--config", d.config)
	rates := file(t, "rates.csv", time.Now().Add(-50*time.Hour).UTC().Format("date,currency,rate\n# a comment\n2006-01-02, USD ,0.9137\n2006-01-02,JPY,0.00613\n"))
	settings := []string{"--set", "source.clock=wall", "--set", "source.lateness=20s", "--set", "rates.file=" + rates}
	p := start(t, []string{"ZYKLUS_KAFKA_CHECKPOINT_INTERVAL=100ms"}, append([]string{"run", "--config", d.config}, settings...)...)
	as := append([]string{"--all"}, settings...)
	cl := kafkaClient(t, r.broker.addr)
	defer cl.Close()
	produced, records := 0, 0
	send := func(customer int, ago time.Duration, event string) {
		produced++
		value := fmt.Sprintf(`{"type":"track","event":%q,"userId":"c%d","messageId":"m%d","timestamp":%q,"properties":{"order_id":"o%d","total":%d,"currency":%q}}`,
			event, customer, produced/11*11, time.Now().Add(-ago).UTC().Format("2006-01-02T15:04:05.000Z"), produced/3, produced, []string{"EUR", "USD", "JPY"}[produced%3])
		rec := &kgo.Record{Topic: r.topic, Key: fmt.Appendf(nil, "c%d", customer), Value: []byte(value)}
		if produced%11 > 0 {
			rec.Value = bytes.Replace(rec.Value, fmt.Appendf(nil, `"m%d"`, produced/11*11), fmt.Appendf(nil, `"m%d"`, produced), 1)
		}
		for range 1 + produced%2 { // every other twice
			if err := cl.ProduceSync(t.Context(), rec).FirstErr(); err != nil {
				t.Fatal(err)
			}
			records++
		}
	}
	for i := range 240 {
		event := []string{"Order Completed", "Product Viewed", "Order Refunded", "Order Completed"}[i%4]
		send(i%40, time.Duration(i%5)*time.Second, event)
	}
	send(1, time.Hour, "Order Completed") // late
	send(2, -time.Hour, "Order Completed")
	eventually(t, time.Minute, "all is written", func() error {
		_ = p.alive()
		lines, err := d.query("SELECT sum(position) FROM v_checkpoints")
		if err == nil && lines[0] != fmt.Sprint(records) {
			err = fmt.Errorf("%v of %d", lines, records)
		}
		return err
	})
	report := verifies(t, d, 0, as...)
	if notices := strings.Join(report.Notices, "\n"); strings.Contains(notices, "CreateTime") != (broker.real == nil) || len(report.Notices) > 1 {
		t.Errorf("only the embedded broker stamps no records, but notices are %q", notices)
	}
	all := sums(report)
	if all.Customers != 40 || all.Exact < 35 || len(all.Unknown) > 1 {
		t.Errorf("%+v", all)
	}
	equal(t, "customers with orders in other currencies", one(t, d, "SELECT uniqExact(customer_id) > 10 FROM v_orders WHERE currency IN ('USD', 'JPY')"), "1")
	if code := p.stop(20 * time.Second); code != 0 {
		t.Errorf("the pipeline ended with %d", code)
	}
	after := sums(verifies(t, d, 0, as...))
	if after.Exact < 35 || after.Unknown["in_motion"] > 0 {
		t.Errorf("%+v", after)
	}
	r.tamperUnstamped(t, d, as)
	offsets := kadm.Offsets{}
	offsets.AddOffset(r.topic, 0, 60, -1)
	offsets.AddOffset(r.topic, 1, 60, -1)
	if _, err := kadm.NewClient(cl).DeleteRecords(context.Background(), offsets); err != nil {
		t.Fatal(err)
	}
	if cut := sums(verifies(t, d, exitUnsure, as...)); cut.Unknown["before_the_topic"] < 10 {
		t.Errorf("without the beginning of the topic: %+v", cut)
	}
}

// tamperUnstamped changes what follows from no order or amount, of customers whose records do not tell when they came.
// None of their events is missing in the state, so none came late, and that is no excuse.
func (r *rig) tamperUnstamped(t *testing.T, d deployment, as []string) {
	t.Helper()
	wrong := map[string]bool{}
	for i, sql := range []string{
		"INSERT INTO phase_transitions SELECT * REPLACE ('tampered' AS rule) FROM phase_transitions FINAL WHERE customer_id = '%s' ORDER BY at LIMIT 1",
		"INSERT INTO orders SELECT * REPLACE (1 AS is_deleted) FROM orders FINAL WHERE customer_id = '%s' ORDER BY order_id LIMIT 1",
	} {
		id := fmt.Sprint("c", 16+4*i) // they have orders
		wrong[id] = true
		d.mustQuery(t, fmt.Sprintf(sql, id))
	}
	report, found := verifies(t, d, 1, append(as, "--limit", "1000")...), map[string]bool{}
	for _, diff := range report.Differences {
		found[diff.Customer] = true
	}
	if !maps.Equal(found, wrong) {
		t.Errorf("of %v rows were changed, found is %+v", slices.Collect(maps.Keys(wrong)), report.Differences)
	}
}

// TestVerifyTellsNothing: while ClickHouse is behind with all customers, that is not called agreement.
func TestVerifyTellsNothing(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("runs real processes")
	}
	broker, engine := startPart(t, "broker"), startPart(t, "clickhouse")
	s := newSource(t, broker.addr, map[string]int{"events": 1})
	d := deploy(t, "behind", "events", broker.addr, engine.addr, "")
	succeed(t, "migrate", "--config", d.config)
	if empty := verifies(t, d, exitUnsure); empty.Sum.Customers != 0 {
		t.Errorf("%+v", empty.Sum)
	}
	s.sell("events", 30)
	s.through(d, 1, nil)
	p := start(t, nil, "run", "--config", d.config)
	p.awaitReady(time.Minute, "before ClickHouse goes")
	engine.kill()
	s.sell("events", 30)
	admin, err := kafka.NewAdmin(t.Context(), kafka.Options{Brokers: []string{broker.addr}, Group: "behind", Topic: "events"})
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	eventually(t, time.Minute, "all is committed", func() error {
		_ = p.alive()
		lags, err := admin.Lags(t.Context())
		if err == nil && lags[0].Records() > 0 {
			err = fmt.Errorf("%d records are not", lags[0].Records())
		}
		return err
	})
	p.kill()
	engine.start()
	behind := verifies(t, d, exitUnsure, "--all")
	if behind.Sum.InMotion != 5 || behind.Sum.Told() != 0 {
		t.Errorf("all customers have rows that are not in ClickHouse: %+v", behind.Sum)
	}
	code, _, log := cli(t, "admin", "verify", "--config", d.config)
	if code != exitUnsure || !strings.Contains(log, "only 0 of 5 customers could be verified, 5 were in motion: repeat it when ClickHouse has caught up (zyklus admin lag)") {
		t.Errorf("exit %d\n%s", code, log)
	}
	s.through(d, 1, nil)
	if after := verifies(t, d, 0, "--all"); after.Sum.Exact != 5 {
		t.Errorf("%+v", after.Sum)
	}
}

// TestVerifyWithoutState: a partition whose changelog was emptied, or that nobody has begun, does not pass for one without
// customers, however many of the others agree; nor does one of which nothing but rows is left.
func TestVerifyWithoutState(t *testing.T) {
	if testing.Short() {
		t.Skip("runs real processes")
	}
	broker, engine := startPart(t, "broker"), startPart(t, "clickhouse")
	s := newSource(t, broker.addr, map[string]int{"events": 2})
	d := deploy(t, "stateless", "events", broker.addr, engine.addr, "")
	succeed(t, "migrate", "--config", d.config)
	if empty := verifies(t, d, exitUnsure, "--all"); empty.Sum.Stateless != 0 {
		t.Errorf("there is nothing yet: %+v", empty.Sum)
	}
	s.write("events", 1, `{"type":"heartbeat"}`)
	if begun := verifies(t, d, 1, "--all"); begun.Sum.Stateless != 1 || begun.Differences[0].Partition != 1 {
		t.Errorf("of partition 1 there are records, and nobody has begun it: %+v", begun)
	}
	s.sell("events", 30)
	s.through(d, 2, nil)
	if all := verifies(t, d, 0, "--all"); all.Sum.Exact != 10 || all.Sum.Stateless != 0 {
		t.Errorf("%+v", all.Sum)
	}
	adm := kadm.NewClient(kafkaClient(t, broker.addr))
	empty := func(topic string, partition int32) {
		t.Helper()
		ends, err := adm.ListEndOffsets(t.Context(), topic)
		if err == nil {
			offsets := ends.Offsets()
			offsets.KeepFunc(func(o kadm.Offset) bool { return o.Partition == partition })
			_, err = adm.DeleteRecords(t.Context(), offsets)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	lost := func(want string) {
		t.Helper()
		r := verifies(t, d, 1, "--all")
		if r.Sum.Stateless != 1 || r.Sum.Exact != 5 || len(r.Differences) != 1 {
			t.Fatalf("the changelog of partition 0 is empty: %+v", r)
		}
		if diff := r.Differences[0]; diff.Partition != 0 || diff.Table != "changelog" || diff.Oracle != want || diff.State != "" || !strings.HasPrefix(diff.ClickHouse, "rows up to version 1.") {
			t.Errorf("%+v", diff)
		}
	}
	empty("zyklus-stateless-changelog", 0)
	lost("a state of what the topic holds")
	code, out, log := cli(t, "admin", "verify", "--config", d.config, "--customer", "c-0-1")
	if code != 1 || !strings.Contains(log, "partitions with records or rows, but without state: 1;") || !strings.Contains(out, "rows up to version 1.") {
		t.Errorf("exit %d\n%s%s", code, out, log)
	}
	empty("events", 0)
	lost("")
}
