package main

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"zyklus/bench/simulator"
)

// faultSeed is the seed of the plans of faults.
const faultSeed = 5

// behind puts a proxy between a deployment's pipeline and the engine. Queries of the test go past it.
func (r *rig) behind(name string) (deployment, *faulty) {
	r.t.Helper()
	f := startFaulty(r.t, r.engine.addr)
	d := r.configure(name, f.addr)
	d.engine = r.engine.addr
	succeed(r.t, "migrate", "--config", d.config)
	return d, f
}

// steady holds that nothing happened to a member's place in the group since its start: no partition was lost, revoked or
// dropped and restored, and it was assigned partitions once.
func (p *process) steady(when string) {
	p.t.Helper()
	for _, line := range strings.Split(p.log.String(), "\n") {
		for _, bad := range []string{"partitions lost", "partitions revoked", "is dropped and restored", "msg=group", "group manage loop errored"} {
			if strings.Contains(line, bad) {
				p.t.Errorf("%s: %s", when, line)
			}
		}
	}
	if n := strings.Count(p.log.String(), `msg="partitions assigned"`); n != 1 {
		p.t.Errorf("%s: partitions were assigned %d times", when, n)
	}
}

// advance is how far a pipeline and its checkpoints have come.
type advance struct {
	events, position float64
	deadlines        float64
	letters          int
	byPartition      map[int32]int64
	heard            map[int32]int64
}

func (l *ledgerOfCheckpoints) progress(p *process) advance {
	l.rig.t.Helper()
	l.read()
	return advance{
		events: metric(l.rig.t, p.served(), "zyklus_events_total"), position: float64(l.position()),
		deadlines: deadlines(l.rig.t, p.served()), letters: len(l.rig.letters(l.d)),
		byPartition: maps.Clone(l.reached), heard: maps.Clone(l.heard),
	}
}

// deadlines is how many transitions a pipeline has published because of silence. The fold of an event fires what was due
// before it, too: that nobody is left out who stays silent, its checkpoints tell (ledgerOfCheckpoints.heard).
func deadlines(t testing.TB, url string) float64 {
	t.Helper()
	if _, text, err := get(url + "/metrics"); err == nil && !strings.Contains(text, "\nzyklus_transitions_total{") {
		return 0 // nobody has changed yet
	}
	return metric(t, url, "zyklus_transitions_total", `cause="deadline"`)
}

// goesOn holds a pipeline whose ClickHouse takes no rows to what must go on all the same: events, deadlines, the checkpoints
// of every partition, and the outputs on Kafka. /readyz names what is missing, and memory is bounded.
func (l *ledgerOfCheckpoints) goesOn(p *process, missing, when string) {
	t := l.rig.t
	t.Helper()
	p.awaitNotReady(30*time.Second, missing, when)
	before := l.progress(p)
	eventually(t, time.Minute, when+": events, deadlines, checkpoints of all partitions, and dead letters go on", func() error {
		_ = p.alive()
		now := l.progress(p)
		if now.events < before.events+100 || now.position < before.position+100 || now.letters < before.letters+2 ||
			now.deadlines == before.deadlines {
			return fmt.Errorf("%+v after %+v", now, before)
		}
		for partition := range int32(rigPartitions) {
			if now.byPartition[partition] <= before.byPartition[partition] {
				return fmt.Errorf("partition %d stands at %d", partition, now.byPartition[partition])
			}
			if now.heard[partition] <= before.heard[partition] {
				return fmt.Errorf("deadlines of partition %d have fired up to %d", partition, now.heard[partition])
			}
		}
		return nil
	})
	p.awaitNotReady(time.Second, missing, when+", later")
	if pending := metric(t, p.served(), "zyklus_rows_pending"); pending == 0 {
		t.Errorf("%s: zyklus_rows_pending is 0", when)
	}
	if mb := metric(t, p.served(), "process_resident_memory_bytes") / (1 << 20); mb > 400 {
		t.Errorf("%s: the process holds %.0f MB", when, mb)
	}
}

// TestInsertFaults does everything to inserts that can happen between a client and a server: rows stored whose answer is
// lost or comes too late, inserts that arrive after they have been made again, bodies cut at any place, exceptions, and
// pages of whatever stands in between. Each happens once to each table, whatever was in the insert; rows that withdraw
// others are among them.
func TestInsertFaults(t *testing.T) {
	t.Parallel()
	for _, compression := range []string{"none", "lz4"} {
		t.Run(compression, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, outOfOrder)
			d, f := r.behind("faults_" + compression)
			p := r.run(d, "ZYKLUS_CLICKHOUSE_INSERT_TIMEOUT=1s", "ZYKLUS_CLICKHOUSE_COMPRESSION="+compression)
			r.await(p, d, r.feed.reached(), "before any fault")
			tables := []string{"customers", "customer_days", "orders", "phase_transitions", "dead_letters", "checkpoints"}
			t.Logf("seed %d", faultSeed)
			plan, left := onceEach(rand.New(rand.NewPCG(faultSeed, 0)), tables...)
			f.set(func(f *faulty) { f.plan = plan })
			eventually(t, 4*time.Minute, "every fault has happened", func() error {
				_ = p.alive()
				if n := left(); n > 0 {
					return fmt.Errorf("%d inserts are left", n)
				}
				return nil
			})
			p.awaitReady(30*time.Second, "after all faults")
			for _, class := range []string{"overload", "network"} {
				if n := metric(t, p.served(), "zyklus_clickhouse_retries_total", `class="`+class+`"`); n < 10 {
					t.Errorf("%v attempts were counted as made again for errors of class %s", n, class)
				}
			}
			p.steady("while inserts failed")
			r.finishAndCompare(p, d, nil)
			d.hasWithdrawn(t)
			f.set(func(f *faulty) {
				for _, table := range tables {
					if len(f.done[table]) != len(everyFault(rand.New(rand.NewPCG(0, 0)))) {
						t.Errorf("of the faults, %v happened to %s", f.done[table], table)
					}
				}
			})
		})
	}
}

// sessionDays is simulated time that takes longer than the group waits for a silent member, which is 10 s.
const sessionDays = 400

// TestClickHouseSilent takes ClickHouse away in the ways in which it can be: it takes requests and does not answer, and it
// refuses connections. Meanwhile a second instance is killed: the first one takes its partitions over and goes on with
// them, too.
func TestClickHouseSilent(t *testing.T) {
	t.Parallel()
	r := newRig(t, longAgo, func(c *simulator.Config) { c.Arrivals.Span = 18 * 365 * 24 * time.Hour })
	d, f := r.behind("silent")
	checkpoints := r.checkpointsOf(d)
	first := r.run(d, "ZYKLUS_CLICKHOUSE_INSERT_TIMEOUT=2s")
	r.await(first, d, r.feed.reached(), "before any fault")

	f.shutUp()
	began := r.feed.reached()
	checkpoints.goesOn(first, "does not answer in time", "while ClickHouse is silent")
	eventually(t, time.Minute, "ClickHouse is silent for longer than a member may be", func() error {
		if days := r.feed.reached().Sub(began) / (24 * time.Hour); days < sessionDays {
			return fmt.Errorf("%d days", days)
		}
		return nil
	})
	f.speak()
	first.awaitReady(time.Minute, "after ClickHouse answers again")
	first.steady("while ClickHouse was silent")

	second := r.run(d)
	eventually(t, time.Minute, "both instances have partitions", func() error {
		if a, b := partitionsOf(t, first), partitionsOf(t, second); a == 0 || b == 0 || a+b != rigPartitions {
			return fmt.Errorf("the first has %d, the second %d", a, b)
		}
		return nil
	})
	r.await(second, d, r.feed.reached(), "with two instances")
	f.close()
	first.awaitNotReady(30*time.Second, "connection refused", "while ClickHouse refuses connections")
	second.kill()
	eventually(t, time.Minute, "the first instance has all partitions", func() error {
		if n := partitionsOf(t, first); n != rigPartitions {
			return fmt.Errorf("it has %d", n)
		}
		return nil
	})
	checkpoints.goesOn(first, "connection refused", "with partitions taken over while ClickHouse refuses connections")
	f.open()
	first.awaitReady(time.Minute, "after ClickHouse is back")
	r.finishAndCompare(first, d, nil)
}

// TestReplicaLags lets a replica that is behind answer the question for the version that is stored, through restarts: no
// state is refused for it, and nothing is lost. What is newer than the state is still refused.
func TestReplicaLags(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	d, f := r.behind("lags")
	asked, question := 0, "SELECT max(version) FROM `lags`.`checkpoints` WHERE "
	f.set(func(f *faulty) {
		f.rewrite = func(sql string) string {
			f.mu.Lock()
			defer f.mu.Unlock()
			if strings.HasPrefix(sql, question) {
				asked++
				return strings.Replace(sql, question, question+fmt.Sprintf("bitAnd(version, 0xffffff) %% %d = 0 AND ", asked+1), 1)
			}
			return sql
		}
	})
	for n := range 4 {
		p := r.run(d, static("lags"), "ZYKLUS_CRASH=committed:"+strconv.Itoa(8+3*n))
		p.awaitKilled(time.Minute)
	}
	p := r.run(d, static("lags"))
	r.finishAndCompare(p, d, nil)
	f.set(func(*faulty) {
		if asked < 5*rigPartitions/2 {
			t.Errorf("the replica was asked %d times only", asked)
		}
	})

	d.mustQuery(t, "INSERT INTO checkpoints SELECT * REPLACE (version + 1 AS version) FROM checkpoints WHERE partition = 2 ORDER BY version DESC LIMIT 1")
	f.set(func(f *faulty) { f.rewrite = nil })
	p = r.run(d, static("lags"))
	if code := p.wait(time.Minute); code == 0 || !regexp.MustCompile(`state of events partition 2 is older \(lineage 1 checkpoint \d+\) than the database`).MatchString(p.log.String()) {
		t.Errorf("with a newer row in the database the pipeline ended with %d\n%s", code, tail(p.log.String(), 10))
	}
}

// TestTooManyParts provokes what a server says when merges are behind.
func TestTooManyParts(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	d := r.deploy("parts")
	checkpoints := r.checkpointsOf(d)
	p := r.run(d)
	r.await(p, d, r.feed.reached(), "before any fault")

	d.mustQuery(t, "SYSTEM STOP MERGES customers")
	d.mustQuery(t, "ALTER TABLE customers MODIFY SETTING parts_to_throw_insert = 3, parts_to_delay_insert = 2, max_delay_to_insert = 1")
	checkpoints.goesOn(p, "too many parts", "while merges are stopped")
	d.mustQuery(t, "SYSTEM START MERGES customers")
	d.mustQuery(t, "ALTER TABLE customers RESET SETTING parts_to_throw_insert, parts_to_delay_insert, max_delay_to_insert")
	p.awaitReady(time.Minute, "after merges run again")
	r.await(p, d, r.feed.reached(), "after merges run again")

	p.steady("while inserts failed")
	r.finishAndCompare(p, d, nil)
}

// TestSchemaChanges: a database that is older than the binary, at its start and under its feet, and one that is newer.
func TestSchemaChanges(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	d, _ := r.behind("schema")
	checkpoints := r.checkpointsOf(d)
	d.mustQuery(t, "ALTER TABLE customers DROP COLUMN churn_risk")
	refused := func(when, want string) {
		t.Helper()
		if code, _, log := runZyklus(t, nil, "run", "--config", d.config); code == 0 || !strings.Contains(log, want) {
			t.Errorf("%s: run ended with %d, wanted an error with %q\n%s", when, code, want, tail(log, 5))
		}
	}
	refused("with a column missing", "run `zyklus migrate` (to do: add column customers.churn_risk)")
	succeed(t, "migrate", "--config", d.config)

	p := r.run(d)
	r.await(p, d, r.feed.reached(), "before any change")
	d.mustQuery(t, "RENAME TABLE orders TO orders_away")
	checkpoints.goesOn(p, "table is missing: run `zyklus migrate`", "without a table")
	d.mustQuery(t, "RENAME TABLE orders_away TO orders")
	p.awaitReady(time.Minute, "with the table back")

	d.mustQuery(t, "ALTER TABLE customers DROP COLUMN churn_risk")
	checkpoints.goesOn(p, "column is missing: run `zyklus migrate`", "without a column")
	succeed(t, "migrate", "--config", d.config)
	p.awaitReady(time.Minute, "with the column back")
	p.steady("while the schema was changed")

	newer(t, d)
	if code := p.stop(20 * time.Second); code != 0 {
		t.Errorf("the pipeline ended with %d", code)
	}
	p = r.run(d)
	at := r.feed.finish()
	r.await(p, d, at, "on a newer schema")
	r.awaitLetters(d)
	if code := p.stop(20 * time.Second); code != 0 {
		t.Errorf("the pipeline ended with %d", code)
	}
	succeed(t, "admin", "republish", "--config", d.config) // rows written before the column was dropped
	if lines := d.mustQuery(t, "SELECT countIf(added = 'newer'), count() FROM v_orders"); !regexp.MustCompile(`^([1-9]\d*)\t\d+$`).MatchString(lines[0]) {
		t.Errorf("rows with the newer column's default, and all: %s", lines[0])
	}
	succeed(t, "migrate", "--config", d.config) // takes the newer view back: no row is touched
	r.agrees(d)
	r.compare(r.control("schema_control", at), d)
	r.checkAccount(d)

	d.mustQuery(t, "INSERT INTO schema_migrations (version, name) VALUES (99, 'step 99: of a later version')")
	const later = "was migrated by a newer zyklus (to version 99, this one knows 1): run that version or a later one"
	refused("after a later migration", later)
	if code, _, log := runZyklus(t, nil, "migrate", "--config", d.config); code == 0 || !strings.Contains(log, later) {
		t.Errorf("migrate after a later migration ended with %d\n%s", code, tail(log, 5))
	}
}

// newer does to a database what a later version would that has one column more.
func newer(t *testing.T, d deployment) {
	t.Helper()
	d.mustQuery(t, "ALTER TABLE orders ADD COLUMN added String DEFAULT 'newer' AFTER customer_id")
	create := d.mustQuery(t, "SELECT create_table_query FROM system.tables WHERE database = currentDatabase() AND name = 'v_orders' FORMAT TSVRaw")[0]
	create = strings.Replace(create, "CREATE VIEW", "CREATE OR REPLACE VIEW", 1)
	create = strings.Replace(create, "(", "(`added` String, ", 1)
	create = strings.Replace(create, "AS SELECT ", "AS SELECT t.added AS added, ", 1)
	d.mustQuery(t, create)
	d.mustQuery(t, "INSERT INTO schema_migrations (version, name, checksum) VALUES (1, 'create view v_orders', 'of a later version')")
	if n := one(t, d, "SELECT count() FROM system.columns WHERE database = currentDatabase() AND table = 'v_orders' AND name = 'added'"); n != "1" {
		t.Fatalf("the newer view has %s columns of the newer name", n)
	}
}
