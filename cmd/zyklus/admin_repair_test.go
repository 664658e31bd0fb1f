package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// holdInserts passes everything on to an engine but inserts into a table, which wait until the test ends. It returns the
// address, and a channel that is closed when the first of them has come.
func holdInserts(t *testing.T, engine, table string) (addr string, held chan struct{}) {
	t.Helper()
	held = make(chan struct{})
	first := make(chan struct{}, 1)
	first <- struct{}{}
	pass := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: engine})
	proxy := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Query().Get("query"), "INSERT INTO") || !strings.Contains(r.URL.Query().Get("query"), "`"+table+"`") {
			pass.ServeHTTP(w, r)
			return
		}
		select {
		case <-first:
			close(held)
		default:
		}
		<-r.Context().Done()
	})}
	l := occupied(t)
	go func() { _ = proxy.Serve(l) }()
	t.Cleanup(func() { _ = proxy.Close() })
	return l.Addr().String(), held
}

// TestRepairCDNOW: real orders, whose changelog is lost. Republishing refuses, rebuilding brings every row back, and a
// republishing that is stopped says how to go on.
func TestRepairCDNOW(t *testing.T) {
	orders := realFile(t, "cdnow_sample.csv.gz")
	const partitions = 2
	dir := t.TempDir()
	broker, _ := startBroker(t, filepath.Join(dir, "kafka"))
	engine, _ := startClickHouse(t, filepath.Join(dir, "clickhouse"))
	topicOn(t, broker, "events", partitions, nil)
	d, control := deploy(t, "cdnow", "events", broker, engine, "currency: USD"), deploy(t, "control", "events", broker, engine, "currency: USD")
	at := time.Date(1998, 7, 1, 0, 0, 0, 0, time.UTC)
	through := func(d deployment, lineage uint64) {
		t.Helper()
		p := start(t, nil, "run", "--config", d.config)
		sql := fmt.Sprintf("SELECT count() FROM checkpoints FINAL WHERE clock >= fromUnixTimestamp64Milli(%d) AND lineage = %d", at.UnixMilli(), lineage)
		eventually(t, 2*time.Minute, "all rows", func() error {
			_ = p.alive()
			lines, err := d.query(sql)
			if err == nil && lines[0] != fmt.Sprint(partitions) {
				err = fmt.Errorf("%v of %d partitions", lines, partitions)
			}
			return err
		})
		if code := p.stop(time.Minute); code != 0 {
			t.Errorf("run ended with %d\n%s", code, tail(p.log.String(), 10))
		}
	}
	succeed(t, "load", orders, "--preset", "cdnow", "--config", d.config, "--advance-to", "1998-07-01")
	for _, d := range []deployment{d, control} {
		succeed(t, "migrate", "--config", d.config)
		through(d, 1)
	}
	same := func(when string) {
		t.Helper()
		for _, table := range []string{"v_customers", "v_customer_days", "v_orders", "v_phase_transitions"} {
			sql := "SELECT * FROM " + table + " ORDER BY ALL"
			diffLines(t, table+" of the control run and "+when, control.mustQuery(t, sql), d.mustQuery(t, sql))
		}
	}
	same("at first")

	t.Run("stopped", func(t *testing.T) {
		addr, held := holdInserts(t, engine, "customers")
		p := start(t, nil, "admin", "republish", "--config", d.config, "--clickhouse-addr", addr)
		select {
		case <-held:
		case <-p.exited:
			t.Fatalf("it has ended\n%s", p.log.String())
		case <-time.After(time.Minute):
			t.Fatal("no rows have come")
		}
		if code := p.stop(20 * time.Second); code != 1 || !strings.Contains(p.log.String(), "go on with --from-partition 0") {
			t.Errorf("exit %d\n%s", code, p.log.String())
		}
	})
	t.Run("one customer", func(t *testing.T) {
		id := one(t, d, "SELECT min(customer_id) FROM v_customers")
		d.mustQuery(t, "TRUNCATE TABLE customers")
		before := d.mustQuery(t, "SELECT version FROM checkpoints ORDER BY partition, version")
		list := answer[[]republished](t, "admin", "republish", "--config", d.config, "--customer", id)
		if list[0].Customers+list[1].Customers != 1 {
			t.Errorf("%+v", list)
		}
		equal(t, "customers", one(t, d, "SELECT groupArray(customer_id) FROM v_customers"), "['"+id+"']")
		equal(t, "checkpoints", fmt.Sprint(d.mustQuery(t, "SELECT version FROM checkpoints ORDER BY partition, version")), fmt.Sprint(before))
		fails(t, 1, problem("no such customer"), "admin", "republish", "--config", d.config, "--customer", "nobody")
		succeed(t, "admin", "republish", "--config", d.config)
		same("after republishing")
	})

	adm := kadm.NewClient(kafkaClient(t, broker))
	if _, err := adm.DeleteTopic(context.Background(), "zyklus-cdnow-changelog"); err != nil {
		t.Fatal(err)
	}
	fails(t, 1, problem("topic zyklus-cdnow-changelog does not exist", "zyklus migrate"), "admin", "republish", "--config", d.config)
	succeed(t, "migrate", "--config", d.config)
	fails(t, 1, problem("older", "zyklus admin rebuild"), "admin", "republish", "--config", d.config)
	run := start(t, nil, "run", "--config", d.config)
	if code := run.wait(time.Minute); code != 1 || !strings.Contains(run.log.String(), "zyklus admin rebuild") {
		t.Errorf("without its changelog the pipeline ended with %d\n%s", code, run.log.String())
	}
	succeed(t, "admin", "rebuild", "--config", d.config, "--yes")
	same("before the rebuilt lineage has begun")
	through(d, 2)
	succeed(t, "admin", "rebuild", "--config", d.config, "--clean", "--yes")
	equal(t, "lineages", one(t, d, "SELECT arraySort(groupUniqArray(bitShiftRight(version, 40))) FROM orders"), "[2]")
	same("after the rebuild")
}

// TestRebuildOfWhatIsGone: a topic that has lost records is told, and needs consent.
func TestRebuildOfWhatIsGone(t *testing.T) { onBrokers(t, rebuildOfWhatIsGone) }

func rebuildOfWhatIsGone(t *testing.T, broker *part) {
	engine, _ := startClickHouse(t, t.TempDir())
	events := "events" + broker.suffix
	topicOn(t, broker.addr, events, 1, nil)
	d := deploy(t, "gone"+broker.suffix, events, broker.addr, engine, "")
	succeed(t, "migrate", "--config", d.config)
	end := time.Date(2024, 3, 1, 0, 0, 0, 0, time.UTC)
	succeed(t, "simulate", "--config", d.config, "--customers", "20", "--end", end.Format(time.DateOnly))
	p := start(t, nil, "run", "--config", d.config)
	d.awaitClock(t, 1, end)
	if code := p.stop(time.Minute); code != 0 {
		t.Errorf("run ended with %d", code)
	}
	cut := kadm.Offsets{}
	cut.AddOffset(events, 0, 10, -1)
	if _, err := kadm.NewClient(kafkaClient(t, broker.addr)).DeleteRecords(context.Background(), cut); err != nil {
		t.Fatal(err)
	}
	code, out, log := cli(t, "admin", "rebuild", "--config", d.config, "--yes")
	if code != 2 || !strings.Contains(out, "partition 0 begins at offset 10") || !strings.Contains(log, "--accept-loss") {
		t.Errorf("exit %d\n%s%s", code, out, log)
	}
	if l := answer[lagReport](t, "admin", "lag", "--config", d.config); l.Partitions[0].Lag != 0 || len(l.Notices) > 0 {
		t.Errorf("something was changed: %+v", l)
	}
	before := answer[lagReport](t, "admin", "lag", "--config", d.config).Partitions[0]
	for n := range 5 { // killed before it is recorded, and before fencing, deleting, creating and beginning
		start(t, []string{fmt.Sprintf("ZYKLUS_CRASH=rebuild:%d", n+1)}, "admin", "rebuild", "--config", d.config, "--yes", "--accept-loss").awaitKilled(time.Minute)
	}
	plan := answer[rebuildPlan](t, "admin", "rebuild", "--config", d.config, "--yes", "--accept-loss")
	if !plan.Done || len(plan.Lost) != 1 || plan.Lineage != 6 || plan.Partitions[0] != (rebuiltFrom{Start: 10, Position: before.Position, End: before.End}) {
		t.Errorf("%+v, before: %+v", plan, before)
	}
	if settings := topicSettings(t, kadm.NewClient(kafkaClient(t, broker.addr)), "zyklus-"+d.database+"-changelog"); settings["segment.bytes"] != "134217728" {
		t.Errorf("settings of the new changelog: %v", settings)
	}
	p = start(t, nil, "run", "--config", d.config)
	eventually(t, time.Minute, "the lineage is complete", func() error {
		_ = p.alive()
		if l := answer[lagReport](t, "admin", "lag", "--config", d.config); len(l.Notices) != 1 || !strings.Contains(l.Notices[0], "lineage 6 is complete") {
			return fmt.Errorf("%+v", l)
		}
		return nil
	})
}
