package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"zyklus/pipeline/kafka"
)

// TestKilledBetweenTheStepsOfACheckpoint kills the pipeline with SIGKILL again and again while events come, at each step
// of a checkpoint and at random moments, and the broker and the engine once. In the end all tables equal those of a run
// that nothing happened to, and the orders equal those of the input. Before each new start no table holds a row of a
// checkpoint that was not committed. Somebody who reads final rows only never reads one that is withdrawn.
func TestKilledBetweenTheStepsOfACheckpoint(t *testing.T) { onBrokers(t, killedBetweenTheSteps) }

func killedBetweenTheSteps(t *testing.T, broker *part) {
	r := newRigOn(t, broker, outOfOrder)
	d := r.deploy("killed")
	checkpoints, reader := r.checkpointsOf(d), readFinal(t, d)
	chance := chance(t)
	steps := []string{"encoded:1", "produced:1", "committed:1", "written:1"}
	for range 2 {
		for _, step := range []string{"encoded", "produced", "committed", "written"} {
			steps = append(steps, fmt.Sprintf("%s:%d", step, 2+chance.IntN(35)))
		}
	}
	for _, at := range steps {
		p := r.run(d, static("killed"), "ZYKLUS_CRASH="+at)
		p.awaitKilled(time.Minute)
		checkpoints.checkNoFuture("killed at " + at)
	}
	for range 4 {
		pause := time.Duration(100+chance.IntN(900)) * time.Millisecond
		p := r.run(d, static("killed"))
		p.served()
		time.Sleep(pause)
		p.kill()
		checkpoints.checkNoFuture(fmt.Sprintf("killed %v after its start", pause))
	}
	p := r.run(d, static("killed"))
	p.awaitReady(time.Minute, "before the broker is killed")
	r.broker.kill()
	time.Sleep(300 * time.Millisecond)
	r.broker.start()
	r.await(p, d, r.feed.reached(), "after a kill of the broker")
	r.engine.p.kill()
	time.Sleep(300 * time.Millisecond)
	r.engine.start()
	r.await(p, d, r.feed.reached(), "after a kill of the engine")

	r.finishAndCompare(p, d, checkpoints)
	reader.check(t)
}

// chance is a source of chance whose seed ZYKLUS_SEED says.
func chance(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(1)
	if text := os.Getenv("ZYKLUS_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("ZYKLUS_SEED: %v", err)
		}
	}
	t.Logf("ZYKLUS_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 2))
}

// TestOutages takes ClickHouse and then the broker away from a running pipeline while events come.
func TestOutages(t *testing.T) { onBrokers(t, outages) }

func outages(t *testing.T, broker *part) {
	r := newRigOn(t, broker)
	d := r.deploy("outage")
	checkpoints := r.checkpointsOf(d)
	p := r.run(d)
	p.awaitReady(time.Minute, "before any outage")
	r.await(p, d, r.feed.reached(), "before any outage")

	r.engine.p.kill()
	gone := time.Now()
	checkpoints.goesOn(p, "ClickHouse", "without ClickHouse")
	time.Sleep(time.Until(gone.Add(8 * time.Second)))
	p.awaitNotReady(0, "ClickHouse", "8 s without ClickHouse")
	r.engine.start()
	p.awaitReady(30*time.Second, "after ClickHouse has come back")
	r.await(p, d, r.feed.reached(), "after ClickHouse has come back")

	r.broker.killAll()
	p.awaitNotReady(30*time.Second, "broker", "without the broker")
	r.broker.start()
	p.awaitReady(time.Minute, "after the broker has come back")
	r.await(p, d, r.feed.reached(), "after the broker has come back")

	r.finishAndCompare(p, d, nil)
}

// TestInstances runs two instances in one group, of which one comes, one goes, and one is killed and replaced.
func TestInstances(t *testing.T) {
	onBrokers(t, func(t *testing.T, broker *part) { instances(t, broker, kafka.ProtocolClassic) })
}

// TestInstancesByTheBrokersProtocol is the same where the brokers divide the partitions. There the place of the one that is
// killed is kept until its session ends.
func TestInstancesByTheBrokersProtocol(t *testing.T) {
	onBrokers(t, func(t *testing.T, broker *part) { instances(t, broker, kafka.ProtocolConsumer) })
}

func instances(t *testing.T, broker *part, protocol string) {
	r := newRigOn(t, broker)
	d := r.deploy("instances")
	broker.endSessionsAfter(6*time.Second, d)
	by := "ZYKLUS_KAFKA_GROUP_PROTOCOL=" + protocol
	checkpoints := r.checkpointsOf(d)
	first := r.run(d, by)
	r.await(first, d, r.feed.reached(), "with one instance")

	second := r.run(d, by, static("second"))
	eventually(t, time.Minute, "both instances have partitions", func() error {
		a, b := partitionsOf(t, first), partitionsOf(t, second)
		if a == 0 || b == 0 || a+b != rigPartitions {
			return fmt.Errorf("the first has %d, the second %d", a, b)
		}
		return nil
	})
	second.awaitReady(time.Minute, "the second instance")
	r.await(second, d, r.feed.reached(), "with two instances")
	checkpoints.read()

	if code := first.stop(20 * time.Second); code != 0 {
		t.Errorf("the first instance ended with %d\n%s", code, tail(first.log.String(), 20))
	}
	r.await(second, d, r.feed.reached(), "with the first instance stopped")

	second.kill()
	checkpoints.checkNoFuture("with the second instance killed")
	third := r.run(d, by, static("second"))
	r.await(third, d, r.feed.reached(), "with the second instance replaced")

	r.finishAndCompare(third, d, checkpoints)
}

// partitionsOf returns how many partitions a process runs.
func partitionsOf(t testing.TB, p *process) int {
	t.Helper()
	_, text, err := get(p.served() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(text, "\nzyklus_clock_seconds{")
}

// TestSignals: SIGTERM and SIGINT stop the pipeline within seconds with exit code 0 and a last checkpoint that is in
// ClickHouse, also while a part is away.
func TestSignals(t *testing.T) {
	r := newRig(t)
	d := r.deploy("signals")
	checkpoints := r.checkpointsOf(d)
	stop := func(sig syscall.Signal, within time.Duration, when string, away func()) {
		t.Helper()
		p := r.run(d)
		p.awaitReady(time.Minute, when)
		away()
		begin := time.Now()
		_ = p.cmd.Process.Signal(sig)
		if code := p.wait(within); code != 0 {
			t.Errorf("%v %s: exit code %d\n%s", sig, when, code, tail(p.log.String(), 20))
		}
		t.Logf("%v %s: ended after %v", sig, when, time.Since(begin).Round(10*time.Millisecond))
	}
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		stop(sig, 5*time.Second, "while events come", func() {})
		checkpoints.read()
		// The last checkpoint tells what ClickHouse has acknowledged, so it may have no row of its own.
		for _, line := range d.mustQuery(t, "SELECT partition, version, position FROM checkpoints FINAL") {
			var partition int32
			var version, position int64
			if _, err := fmt.Sscan(line, &partition, &version, &position); err != nil {
				t.Fatal(err)
			}
			if position != checkpoints.reached[partition] {
				t.Errorf("after %v: partition %d is committed up to %d (%s), but ClickHouse has it up to %d (%s)", sig, partition,
					checkpoints.reached[partition], versionName(checkpoints.versions[partition]), position, versionName(version))
			}
		}
	}
	stop(syscall.SIGTERM, 15*time.Second, "without ClickHouse", func() {
		r.engine.p.kill()
		time.Sleep(time.Second)
	})
	r.engine.start()
	stop(syscall.SIGTERM, 15*time.Second, "without the broker", func() {
		r.feed.finish()
		r.broker.p.kill()
		time.Sleep(time.Second)
	})
}

// TestDemoKilled kills the demo and starts it again on the same data.
func TestDemoKilled(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("runs real processes")
	}
	dir := t.TempDir()
	args := []string{"demo", "--data", dir, "--customers", "500", "--for"}
	p := start(t, nil, append(args, "60s")...)
	find, engine := regexp.MustCompile(`ClickHouse  http://(\S+)`), ""
	eventually(t, time.Minute, "the demo writes rows", func() error {
		_ = p.alive()
		m := find.FindStringSubmatch(p.out.String())
		if m == nil {
			return errors.New("it has not announced its addresses")
		}
		engine = m[1]
		_, err := count(engine)
		return err
	})
	child := childrenOf(t, p.cmd.Process.Pid)
	if len(child) != 1 {
		t.Fatalf("the demo has the child processes %v, not one: the engine", child)
	}
	before, err := count(engine)
	if err != nil {
		t.Fatal(err)
	}
	p.kill()
	eventually(t, 20*time.Second, "the engine's process ends after a kill of its parent", func() error {
		if err := syscall.Kill(child[0], 0); err == nil {
			return fmt.Errorf("process %d is there", child[0])
		}
		return nil
	})
	code, out, log := runZyklus(t, nil, append(args, "8s")...)
	if code != 0 {
		t.Fatalf("the demo started again on the data of a killed one ended with %d\n%s\n%s", code, tail(out, 10), tail(log, 20))
	}
	if !regexp.MustCompile(`ran .*: [0-9]+ events, [0-9]+ rows`).MatchString(out) {
		t.Errorf("the demo gives no summary\n%s", tail(out, 20))
	}
	if strings.Contains(log, "level\":\"WARN") || strings.Contains(log, "level\":\"ERROR") {
		t.Errorf("the demo started again warns\n%s", tail(log, 30))
	}
	e := &part{t: t, kind: "clickhouse", addr: "127.0.0.1:0", dir: filepath.Join(dir, "clickhouse")}
	e.start()
	after, err := count(e.addr)
	if err != nil || after < before {
		t.Errorf("%d customers after the second start, %d before (%v)", after, before, err)
	}
	d := deployment{database: "zyklus", engine: e.addr}
	clocks := d.mustQuery(t, "SELECT count(), dateDiff('hour', min(clock), max(clock)) FROM v_checkpoints")
	if clocks[0] != "4\t0" {
		t.Errorf("partitions, and hours between their clocks, after the second start: %s, wanted 4 and 0", clocks[0])
	}
}

// count returns the number of customers in a demo's database, an error if there are none.
func count(engine string) (int, error) {
	d := deployment{database: "zyklus", engine: engine}
	lines, err := d.query("SELECT count() FROM v_customers")
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(lines[0])
	if err == nil && n == 0 {
		err = errors.New("there are no customers")
	}
	return n, err
}

// childrenOf returns the processes that a process has started.
func childrenOf(t testing.TB, pid int) (children []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(stats) == 0 {
		t.Skip("needs /proc")
	}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		id, rest, _ := strings.Cut(string(text), " ")
		var state string
		var parent int
		_, err = fmt.Sscan(rest[strings.LastIndexByte(rest, ')')+1:], &state, &parent)
		if err == nil && parent == pid {
			child, _ := strconv.Atoi(id)
			children = append(children, child)
		}
	}
	return children
}
