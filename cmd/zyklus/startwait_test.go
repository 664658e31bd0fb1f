package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// lastLine is what a process said last.
func (p *process) lastLine() string { return tail(p.log.String(), 1) }

// stopsWhileWaiting holds a process that waits to /healthz, and to stopping at once, in order.
func (p *process) stopsWhileWaiting(when string) {
	p.t.Helper()
	if code, text, err := get(p.health() + "/healthz"); code != http.StatusOK {
		p.t.Errorf("%s: /healthz is %d %q %v", when, code, text, err)
	}
	began := time.Now()
	if code := p.stop(20 * time.Second); code != 0 || strings.Contains(p.log.String(), "level=ERROR") {
		p.t.Errorf("%s: it ended with %d\n%s", when, code, tail(p.log.String(), 10))
	}
	p.t.Logf("%s: stopped within %v", when, time.Since(began).Round(time.Millisecond))
}

// startsAndGoesOn is goesOn for a pipeline that has just been started: its partitions run without having compared.
func (l *ledgerOfCheckpoints) startsAndGoesOn(p *process, missing, when string) {
	l.rig.t.Helper()
	p.awaitNotReady(time.Minute, missing, when)
	eventually(l.rig.t, time.Minute, when+": all partitions run", func() error {
		if n := strings.Count(p.log.String(), "the partition runs, its rows wait"); n < rigPartitions {
			return fmt.Errorf("%d do: %w", n, p.alive())
		}
		code, text, err := get(p.served() + "/metrics")
		if err == nil && !strings.Contains(text, "\nzyklus_events_total") {
			err = fmt.Errorf("metrics say nothing of them yet: %d", code)
		}
		return err
	})
	l.goesOn(p, missing, when)
}

// TestNobodyAnswers starts a pipeline whose addresses lead nowhere: it says so at once, names both, and waits.
func TestNobodyAnswers(t *testing.T) {
	kafka, clickhouse := nobody(t), nobody(t)
	for name, c := range map[string]struct{ kafka, clickhouse, protocol, why string }{
		"nobody listens, http":   {kafka, clickhouse, "http", "connection refused"},
		"nobody listens, native": {kafka, clickhouse, "native", "connection refused"},
		"no such host":           {"kafka.invalid:9092", "clickhouse.invalid:9000", "native", `host "clickhouse.invalid" is not known`},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, []string{"ZYKLUS_CLICKHOUSE_PASSWORD=" + secret}, "run", "--brokers", c.kafka, "--clickhouse-addr", c.clickhouse,
				"--set", "clickhouse.protocol="+c.protocol, "--set", "log.format=text", "--http-addr", "127.0.0.1:0")
			broker, database := "no kafka broker answers at "+c.kafka+": check address", "no ClickHouse at "+c.clickhouse+": "+c.why
			p.awaitNotReady(30*time.Second, "waiting for kafka: "+broker, "nobody answers")
			p.awaitNotReady(30*time.Second, database, "nobody answers")
			warned := strings.ReplaceAll(p.log.String(), `\"`, `"`)
			for _, line := range []string{broker, database} {
				if !slices.ContainsFunc(strings.Split(warned, "\n"), func(l string) bool { return strings.Contains(l, "level=WARN") && strings.Contains(l, line) }) {
					t.Errorf("no warning says %q\n%s", line, warned)
				}
			}
			p.stopsWhileWaiting("nobody answers")
			if strings.Contains(p.log.String(), "msg=running") || strings.Contains(p.log.String(), secret) {
				t.Error(p.log.String())
			}
		})
	}
}

// TestStartWithoutClickHouse starts pipelines while ClickHouse is away, each after the one before it was killed or stopped:
// timers, checkpoints and outputs go on, and no row is missing in the end. The last one finds the brokers away, too.
func TestStartWithoutClickHouse(t *testing.T) {
	t.Parallel()
	r := newRig(t, longAgo)
	d := r.deploy("without")
	checkpoints := r.checkpointsOf(d)
	p := r.run(d, static("one"))
	r.await(p, d, r.feed.reached(), "before any fault")
	p.kill()
	r.engine.kill()

	missing := "no ClickHouse at " + r.engine.addr + ": connection refused"
	for n := range 2 {
		p = r.run(d, static("one"))
		checkpoints.startsAndGoesOn(p, missing, fmt.Sprintf("started while ClickHouse is away, %d", n+1))
		p.kill()
	}
	p = r.run(d, static("one"))
	checkpoints.startsAndGoesOn(p, missing, "started while ClickHouse is away, after two that were killed")
	p.steady("while ClickHouse is away")
	p.stopsWhileWaiting("while ClickHouse is away")

	r.broker.kill()
	p = r.run(d, static("one"))
	p.awaitNotReady(30*time.Second, "waiting for kafka: no kafka broker answers at "+r.broker.addr, "without brokers")
	p.awaitNotReady(30*time.Second, missing, "without brokers")
	p.stopsWhileWaiting("without brokers")
	p = r.run(d, static("one"))
	p.awaitNotReady(30*time.Second, "waiting for kafka: no kafka broker answers at "+r.broker.addr, "without brokers, again")
	r.broker.start()
	checkpoints.startsAndGoesOn(p, missing, "with brokers that came later")
	r.engine.start()
	p.awaitReady(time.Minute, "with everything there")
	r.finishAndCompare(p, d, checkpoints)
}

// TestStartBeforeMistake starts pipelines while ClickHouse is away, which comes back as one that nothing may be written to:
// they end with the line that a start gives today, and no row is written.
func TestStartBeforeMistake(t *testing.T) {
	t.Parallel()
	r := newRig(t, longAgo)
	d, f := r.behind("mistaken")
	checkpoints := r.checkpointsOf(d)
	p := r.run(d, static("one"))
	r.await(p, d, r.feed.reached(), "before any fault")
	if code := p.stop(20 * time.Second); code != 0 {
		t.Fatalf("the pipeline ended with %d", code)
	}
	rows := func() string {
		var lines []string
		for _, table := range []string{"customers", "checkpoints", "dead_letters"} {
			lines = append(lines, table+"\t"+one(t, d, "SELECT concat(toString(count()), ' rows, up to version ', toString(max(version))) FROM "+table+" FINAL"))
		}
		return strings.Join(lines, "\n")
	}
	before := rows()
	f.close()
	for _, mistake := range []struct {
		name, want string
		make, undo func()
	}{
		{"an older schema", "database \"mistaken\" is not up to date: run `zyklus migrate` (to do: add column customers.churn_risk)",
			func() { d.mustQuery(t, "ALTER TABLE customers DROP COLUMN churn_risk"); f.open() },
			func() {
				f.close()
				f.speak()
				succeed(t, "migrate", "--config", d.config, "--clickhouse-addr", d.engine)
			}},
		{"a newer schema", "was migrated by a newer zyklus (to version 99, this one knows 1): run that version or a later one",
			func() {
				d.mustQuery(t, "INSERT INTO schema_migrations (version, name) VALUES (99, 'step 99: of a later version')")
				f.open()
			},
			func() {
				f.close()
				d.mustQuery(t, "ALTER TABLE schema_migrations DELETE WHERE version = 99 SETTINGS mutations_sync = 1")
			}},
		{"a database that is missing", "database \"mistaken\" does not exist",
			func() { d.mustQuery(t, "RENAME DATABASE mistaken TO elsewhere"); f.open() },
			func() {
				f.close()
				if _, err := d.queryIn("default", "RENAME DATABASE elsewhere TO mistaken"); err != nil {
					t.Fatal(err)
				}
			}},
	} {
		p := r.run(d, static("one"))
		checkpoints.startsAndGoesOn(p, "connection refused", "before "+mistake.name)
		mistake.make()
		if code := p.wait(time.Minute); code != 1 || !strings.Contains(p.lastLine(), mistake.want) {
			t.Errorf("%s: it ended with %d\n%s", mistake.name, code, tail(p.log.String(), 10))
		}
		code, _, log := runZyklus(t, nil, "run", "--config", d.config)
		if line := tail(log, 1); code != 1 || line != p.lastLine() {
			t.Errorf("%s: a start ends with %d and the line\n%s\nthe one that waited said\n%s", mistake.name, code, line, p.lastLine())
		}
		mistake.undo()
		if after := rows(); after != before {
			t.Errorf("%s: rows were\n%s\nand are\n%s", mistake.name, before, after)
		}
	}

	p = r.run(d, static("one"))
	checkpoints.startsAndGoesOn(p, "connection refused", "before a wrong password")
	refuse(t, f.addr)
	if code := p.wait(time.Minute); code != 1 || !strings.Contains(p.lastLine(), `zyklus: ClickHouse refuses user "default": wrong user name or password`) {
		t.Errorf("a wrong password: it ended with %d\n%s", code, tail(p.log.String(), 10))
	}
}

// refuse answers every statement as a server does that does not know the password.
func refuse(t *testing.T, addr string) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	stub := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-ClickHouse-Exception-Code", "516")
		w.WriteHeader(http.StatusForbidden)
	}))
	_ = stub.Listener.Close()
	stub.Listener = l
	stub.Start()
	t.Cleanup(stub.Close)
}
