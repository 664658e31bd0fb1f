package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// stallRow asks for the rows of stalls.
const stallRow = "SELECT source, family, toUnixTimestamp64Milli(last_event_at), limit_seconds, required, isNull(resumed_at) FROM v_source_stalls"

// TestStalledSource: a required source falls silent under a real process. Time stands still, and the output event, the
// metric and the row say so; once it is back, they say that, and the rows are those of a process that came afterwards.
func TestStalledSource(t *testing.T) { onBrokers(t, stalledSource) }

func stalledSource(t *testing.T, broker *part) {
	engine, _ := startClickHouse(t, t.TempDir())
	events := "events" + broker.suffix
	s := newSource(t, broker.addr, map[string]int{events: 2})
	watched := func(name string) deployment {
		d := deploy(t, name+broker.suffix, events, broker.addr, engine, "")
		text, err := os.ReadFile(d.config)
		if err != nil {
			t.Fatal(err)
		}
		settings := "source: {topic: " + events + ", name: shop, clock: wall, stall_after: 10s, required: true, lateness: 1s}"
		if err := os.WriteFile(d.config, []byte(strings.Replace(string(text), "source: {topic: "+events+", clock: events}", settings, 1)), 0o644); err != nil {
			t.Fatal(err)
		}
		succeed(t, "migrate", "--config", d.config)
		return d
	}
	order := func(n int) time.Time {
		at := time.Now().UTC().Truncate(time.Millisecond)
		s.write(events, n%2, fmt.Sprintf(`{"type":"track","event":"Order Completed","userId":"c-%d","messageId":"m%d","timestamp":%q,"properties":{"order_id":"o%[2]d","revenue":10,"total":10}}`,
			n%4, n, at.Format("2006-01-02T15:04:05.000Z")))
		return at
	}
	d := watched("guarded")
	p := start(t, []string{"ZYKLUS_KAFKA_CHECKPOINT_INTERVAL=100ms"}, "run", "--config", d.config)
	p.awaitReady(time.Minute, "at the start")
	n, last := 0, time.Time{}
	for ; n < 20; n++ {
		last = order(n)
	}
	row := func(want string) {
		t.Helper()
		eventually(t, time.Minute, "the row of the stall", func() error {
			_ = p.alive()
			lines, err := d.query(stallRow)
			if err == nil && (len(lines) != 1 || lines[0] != want) {
				err = fmt.Errorf("%q, not %q", lines, want)
			}
			return err
		})
	}
	stalled := fmt.Sprintf("shop\t\t%d\t10\t1\t", last.UnixMilli())
	row(stalled + "1")
	if v := metric(t, p.served(), "zyklus_source_stalled"); v != 1 {
		t.Errorf("the metric is %v", v)
	}
	none(t, d, "clocks past the stall", fmt.Sprintf("SELECT partition, clock, watermark FROM v_checkpoints WHERE toUnixTimestamp64Milli(clock) > %d OR toUnixTimestamp64Milli(watermark) > %d", last.Add(10*time.Second).UnixMilli(), last.Add(-time.Second).UnixMilli()))
	for deadline := time.Now().Add(time.Minute); metric(t, p.served(), "zyklus_source_stalled") > 0 && time.Now().Before(deadline); n++ {
		order(n)
		time.Sleep(200 * time.Millisecond)
	}
	row(stalled + "0")
	if got := stallAlerts(t, broker.addr, d); got != "zyklus.source.stalled shop/, zyklus.source.resumed shop/" {
		t.Errorf("outputs: %s", got)
	}
	const rows = "SELECT customer_id, orders, net_value, role5_phase, first_seen_at, last_seen_at FROM v_customers ORDER BY customer_id"
	all := func(d deployment, p *process) []string {
		eventually(t, time.Minute, d.database+" has all orders", func() error {
			_ = p.alive()
			if got := s.sum(d); got != fmt.Sprintf("%d\t%d", n, 10*n) {
				return fmt.Errorf("%s of %d", got, n)
			}
			return nil
		})
		if code := p.stop(30 * time.Second); code != 0 {
			t.Errorf("run ended with %d\n%s", code, tail(p.log.String(), 10))
		}
		return append(d.mustQuery(t, rows), d.mustQuery(t, "SELECT * FROM v_phase_transitions ORDER BY ALL")...)
	}
	got := all(d, p)
	control := watched("control")
	diffLines(t, "rows of a process that came afterwards and of the one that was there", all(control, start(t, nil, "run", "--config", control.config)), got)
}

// stallAlerts lists what a deployment has put out about its sources.
func stallAlerts(t *testing.T, broker string, d deployment) string {
	t.Helper()
	records, _ := readCommitted(t, broker, "zyklus-"+d.database+"-outputs", nil)
	var types []string
	for _, r := range records {
		var e struct{ Type, Subject string }
		if err := json.Unmarshal(r.Value, &e); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(e.Type, "zyklus.source.") {
			types = append(types, e.Type+" "+e.Subject)
		}
	}
	return strings.Join(types, ", ")
}

// TestStalledSourceBehindRekeying: of two sources that are re-keyed the one with the orders falls silent, and the other
// goes on. What is due by the silence of customers waits, until the orders are there that they placed meanwhile.
func TestStalledSourceBehindRekeying(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("runs real processes")
	}
	broker, _ := startBroker(t, t.TempDir())
	engine, _ := startClickHouse(t, t.TempDir())
	s := newSource(t, broker, map[string]int{ordersTopic: 2, webTopic: 2})
	r := &rig{t: t, broker: &part{addr: broker}, engine: &part{addr: engine}, topic: "events"}
	d := deploySources(t, r, "held", "kafka: {partitions: 3}",
		"  shop: {topic: "+ordersTopic+", clock: wall, lateness: 5s, stall_after: 10s, required: true}",
		"  web: {topic: "+webTopic+", clock: wall, lateness: 5s}")
	orders, pages := 0, 0
	order := func(customer string, at time.Time) {
		orders++
		s.write(ordersTopic, orders%2, fmt.Sprintf(`{"type":"track","event":"Order Completed","userId":%q,"messageId":"m%d","timestamp":%q,"properties":{"order_id":"o%[2]d","revenue":10}}`,
			customer, orders, at.UTC().Format("2006-01-02T15:04:05.000Z")))
	}
	page := func() {
		pages++
		s.write(webTopic, pages%2, fmt.Sprintf(`{"type":"page","userId":"visitor-%d","messageId":"p%d","timestamp":%q}`,
			pages%5, pages, time.Now().UTC().Format("2006-01-02T15:04:05.000Z")))
		time.Sleep(100 * time.Millisecond)
	}
	last := time.Now().UTC().Truncate(time.Millisecond)
	hold := last.Add(10 * time.Second)
	// A single order makes a new customer for 90 days: of these some fall silent before the stall, and some in it.
	const silent, apart, days90 = 240, 50 * time.Millisecond, 90 * 24 * time.Hour
	due, over := hold.Add(-4*time.Second), hold.Add(8*time.Second)
	for i := range silent {
		order(fmt.Sprintf("silent-%d", i), due.Add(time.Duration(i)*apart-days90))
	}
	order("live", last)
	p := start(t, []string{"ZYKLUS_KAFKA_CHECKPOINT_INTERVAL=100ms"}, "run", "--config", d.config)
	p.awaitReady(time.Minute, "at the start")
	url, row := p.served(), ""
	for give := time.Now().Add(time.Minute); (time.Now().Before(over) || row == "") && time.Now().Before(give); page() {
		if lines, err := d.query(stallRow); err == nil && len(lines) == 1 {
			row = lines[0]
		}
	}
	stalled := fmt.Sprintf("shop\t\t%d\t10\t1\t", last.UnixMilli())
	equal(t, "the row of the stall", row, stalled+"1")
	if v := metric(t, url, "zyklus_source_stalled", `source="shop"`); v != 1 {
		t.Errorf("the metric is %v", v)
	}
	eventually(t, time.Minute, "the other source is read meanwhile", func() error {
		if n := metric(t, url, "zyklus_rekey_events_total", `input="`+webTopic+`"`); n < float64(pages) {
			return fmt.Errorf("%v of %d", n, pages)
		}
		return nil
	})
	const silence = "SELECT count() FROM v_phase_transitions WHERE cause = 'deadline'"
	before := int64(0)
	eventually(t, time.Minute, "those fall silent who are due before the stall", func() error {
		if before = whole(t, one(t, d, silence)); before == 0 {
			return p.alive()
		}
		return nil
	})
	none(t, d, "changes of phase while time stands", fmt.Sprintf("SELECT customer_id, at, cause FROM v_phase_transitions WHERE toUnixTimestamp64Milli(at) > %d", hold.UnixMilli()))
	none(t, d, "clocks past the stall", fmt.Sprintf("SELECT partition, clock FROM v_checkpoints WHERE toUnixTimestamp64Milli(clock) > %d", hold.UnixMilli()))

	bought := 0 // meanwhile, just before they would have fallen silent
	for i := range silent {
		if at := due.Add(time.Duration(i) * apart); at.After(hold.Add(time.Second)) && i%2 == 1 {
			order(fmt.Sprintf("silent-%d", i), at.Add(-10*time.Millisecond))
			bought++
		}
	}
	for give := time.Now().Add(time.Minute); metric(t, url, "zyklus_source_stalled", `source="shop"`) > 0 && time.Now().Before(give); page() {
		order("live", time.Now())
	}
	eventually(t, time.Minute, "all orders are there, and everybody is silent who placed none", func() error {
		_ = p.alive()
		lines, err := d.query("SELECT sum(orders), (" + silence + ") FROM v_customers")
		if want := fmt.Sprintf("%d\t%d", orders, silent-bought); err == nil && lines[0] != want {
			err = fmt.Errorf("%s, not %s", lines[0], want)
		}
		return err
	})
	t.Logf("%d fell silent before the stall, %d in it, %d placed an order in it", before, silent-bought-int(before), bought)
	if bought == 0 || silent-bought <= int(before) {
		t.Error("one of these is nobody")
	}
	equal(t, "the row of the stall once it is over", one(t, d, stallRow), stalled+"0")
	equal(t, "outputs", stallAlerts(t, broker, d), "zyklus.source.stalled shop/, zyklus.source.resumed shop/")
	if code := p.stop(30 * time.Second); code != 0 {
		t.Errorf("run ended with %d\n%s", code, tail(p.log.String(), 10))
	}
	none(t, d, "withdrawn transitions", "SELECT customer_id, at FROM phase_transitions WHERE is_deleted = 1")
	if all := sums(verifies(t, d, 0, "--all")); all.Exact != silent+1+5 || all.Customers != all.Exact {
		t.Errorf("verified: %+v", all)
	}
}
