package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

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
			lines, err := d.query("SELECT source, family, toUnixTimestamp64Milli(last_event_at), limit_seconds, required, isNull(resumed_at) FROM v_source_stalls")
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
	records, _ := readCommitted(t, broker.addr, "zyklus-"+d.database+"-outputs", nil)
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
	if got := strings.Join(types, ", "); got != "zyklus.source.stalled shop/, zyklus.source.resumed shop/" {
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
