package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"zyklus/bench/simulator"
)

// part is an embedded part in a process of its own, which can be killed and started again where it was. Or it is the
// cluster of real brokers, then addr lists their addresses, separated by commas.
type part struct {
	t               testing.TB
	kind, addr, dir string
	p               *process

	real   *realBrokers // nil for an embedded part
	suffix string       // of names that others on the same brokers must not have
}

func startPart(t testing.TB, kind string) *part {
	t.Helper()
	part := &part{t: t, kind: kind, addr: "127.0.0.1:0", dir: t.TempDir()}
	part.start()
	return part
}

// start starts what was killed.
func (p *part) start() {
	p.t.Helper()
	if p.real != nil {
		p.real.start(p.t)
		return
	}
	p.p = start(p.t, nil, "embedded", p.kind, "--listen", p.addr, "--data-dir", p.dir)
	p.addr = p.p.ready()
}

// kill ends the part's process, of several brokers one. What is left of the cluster goes on.
func (p *part) kill() {
	p.t.Helper()
	if p.real != nil {
		p.real.killNext(p.t)
		return
	}
	p.p.kill()
}

// killAll ends all processes of the part.
func (p *part) killAll() {
	p.t.Helper()
	if p.real != nil {
		p.real.killAll(p.t)
		return
	}
	p.p.kill()
}

// rigPartitions is the number of partitions of a rig's topic.
const rigPartitions = 4

// rig is a broker and an engine in processes of their own, and a topic that is fed with simulated time.
type rig struct {
	t              testing.TB
	broker, engine *part
	topic          string
	feed           *feeder
}

func newRig(t testing.TB, change ...func(*simulator.Config)) *rig {
	t.Helper()
	if testing.Short() {
		t.Skip("runs real processes")
	}
	return newRigOn(t, startPart(t, "broker"), change...)
}

// newRigOn is newRig on brokers that run.
func newRigOn(t testing.TB, broker *part, change ...func(*simulator.Config)) *rig {
	t.Helper()
	r := &rig{t: t, broker: broker, engine: startPart(t, "clickhouse"), topic: "events" + broker.suffix}
	topicOn(t, r.broker.addr, r.topic, rigPartitions, map[string]string{"message.timestamp.type": "LogAppendTime"})
	r.feed = startFeeder(t, r.broker.addr, r.topic, change...)
	return r
}

// deploy makes a group with its own database.
func (r *rig) deploy(name string) deployment {
	r.t.Helper()
	d := r.configure(name+r.broker.suffix, r.engine.addr)
	if code, out, log := runZyklus(r.t, nil, "migrate", "--config", d.config); code != 0 {
		r.t.Fatalf("migrate of %s ended with %d\n%s\n%s", name, code, out, log)
	}
	return d
}

// configure writes the configuration of a deployment, with as much lateness as the feed needs. The engine may be something
// that stands before it.
func (r *rig) configure(name, engine string) deployment {
	r.t.Helper()
	d := deploy(r.t, name, r.topic, r.broker.addr, engine, "")
	if r.feed == nil {
		return d
	}
	text, err := os.ReadFile(d.config)
	if err == nil {
		text = bytes.Replace(text, []byte("clock: events"), fmt.Appendf(nil, "clock: events, lateness: %v", r.feed.patience), 1)
		err = os.WriteFile(d.config, text, 0o644)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

// run starts the pipeline of a deployment, with checkpoints every 100 ms.
func (r *rig) run(d deployment, env ...string) *process {
	r.t.Helper()
	return start(r.t, append([]string{"ZYKLUS_KAFKA_CHECKPOINT_INTERVAL=100ms"}, env...), "run", "--config", d.config)
}

// static makes a process a static member of the group, so that a killed one is replaced at once: others are waited
// for until their session times out.
func static(name string) string { return "ZYKLUS_KAFKA_INSTANCE_ID=" + name }

// finishAndCompare stops feeding and does what compareAt does.
func (r *rig) finishAndCompare(p *process, d deployment, checkpoints *ledgerOfCheckpoints) {
	r.t.Helper()
	at := r.feed.finish()
	r.await(p, d, at, "at the end")
	r.compareAt(p, d, checkpoints, at)
}

// compareAt stops the last process, which has written everything up to an instant, and compares what it leaves with a run
// that nothing happened to, and with the input. checkpoints may be nil.
func (r *rig) compareAt(p *process, d deployment, checkpoints *ledgerOfCheckpoints, at time.Time) {
	r.t.Helper()
	r.awaitLetters(d)
	if code := p.stop(20 * time.Second); code != 0 {
		r.t.Errorf("the last run of %s ended with %d\n%s", d.database, code, tail(p.log.String(), 20))
	}
	if checkpoints != nil {
		checkpoints.checkNoFuture("at the end")
	}
	r.agrees(d)
	r.compare(r.control("control", at), d)
	r.checkAccount(d)
}

// agrees holds the state and all rows of a deployment that has stopped against the oracle, customer by customer. Of those
// of whom an event may have come too late only totals follow: half agree exactly, and everybody where none does.
func (r *rig) agrees(d deployment) {
	r.t.Helper()
	all := sums(verifies(r.t, d, 0, "--all"))
	floor := all.Customers
	if r.feed.tooLate > 0 {
		floor /= 2
	}
	if all.Customers == 0 || all.Exact < floor || all.Unknown["in_motion"] > 0 {
		r.t.Errorf("%s stands still, and at least %d customers should agree exactly: %+v", d.database, floor, all)
	}
	r.t.Logf("%s was verified: %+v", d.database, all)
}

// control runs a deployment that nothing happens to over all that was fed, and stops it.
func (r *rig) control(name string, at time.Time) deployment {
	r.t.Helper()
	d := r.deploy(name)
	p := start(r.t, nil, "run", "--config", d.config)
	d.awaitClock(r.t, rigPartitions, at)
	r.awaitLetters(d)
	if code := p.stop(20 * time.Second); code != 0 {
		r.t.Fatalf("the control run ended with %d\n%s", code, tail(p.log.String(), 20))
	}
	return d
}

// served returns where a running pipeline serves its health and metrics, as its log says.
func (p *process) served() string {
	p.t.Helper()
	return p.serves(`msg=running .*http=(http://\S+)`)
}

// health returns where a pipeline serves its health, which may still wait for what it needs to run.
func (p *process) health() string {
	p.t.Helper()
	return p.serves(`http=(http://\S+)`)
}

func (p *process) serves(line string) string {
	p.t.Helper()
	find, url := regexp.MustCompile(line), ""
	eventually(p.t, time.Minute, "the pipeline's log says where it serves its health", func() error {
		if m := find.FindStringSubmatch(p.log.String()); m != nil {
			url = m[1]
			return nil
		}
		return p.alive()
	})
	return url
}

// alive returns an error that tells the end of the process's log, if it has ended.
func (p *process) alive() error {
	select {
	case <-p.exited:
		p.t.Fatalf("zyklus has ended (%v)\n%s", p.err, tail(p.log.String(), 30))
	default:
	}
	return errors.New("not yet")
}

// await waits until a running pipeline has written everything up to an instant.
func (r *rig) await(p *process, d deployment, at time.Time, when string) {
	r.t.Helper()
	sql := fmt.Sprintf("SELECT countIf(clock >= fromUnixTimestamp64Milli(%d)), min(clock), max(clock) FROM v_checkpoints", at.UnixMilli())
	eventually(r.t, 3*time.Minute, fmt.Sprintf("%s: all rows of %s up to %s", when, d.database, at.Format(time.RFC3339)), func() error {
		_ = p.alive()
		lines, err := d.query(sql)
		if err == nil && !strings.HasPrefix(lines[0], strconv.Itoa(rigPartitions)+"\t") {
			code, reason := readiness(p.served())
			err = fmt.Errorf("partitions that are there, least and greatest clock: %s; /readyz: %d %s", lines[0], code, reason)
		}
		return err
	})
}

// awaitReady waits until /readyz says so.
func (p *process) awaitReady(within time.Duration, when string) {
	p.t.Helper()
	url := p.served()
	eventually(p.t, within, when+": /readyz is 200", func() error {
		_ = p.alive()
		if code, reason := readiness(url); code != http.StatusOK {
			return fmt.Errorf("%d %s", code, reason)
		}
		return nil
	})
}

// awaitNotReady waits until /readyz is 503 with a reason that names what is missing.
func (p *process) awaitNotReady(within time.Duration, names, when string) {
	p.t.Helper()
	url := p.health()
	eventually(p.t, within, when+": /readyz is 503 and names "+names, func() error {
		_ = p.alive()
		if code, reason := readiness(url); code != http.StatusServiceUnavailable || !strings.Contains(reason, names) {
			return fmt.Errorf("it is %d %q", code, reason)
		}
		return nil
	})
}

// readiness asks /readyz.
func readiness(url string) (code int, reason string) {
	code, reason, err := get(url + "/readyz")
	if err != nil {
		return 0, err.Error()
	}
	return code, strings.TrimSpace(reason)
}

func get(url string) (int, string, error) {
	resp, err := (&http.Client{Timeout: 10 * time.Second}).Get(url)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// metric returns the sum of a metric over its labels, or over those lines only that have certain ones, such as cause="deadline".
func metric(t testing.TB, url, name string, labels ...string) (sum float64) {
	t.Helper()
	code, text, err := get(url + "/metrics")
	if err != nil || code != http.StatusOK {
		t.Fatalf("%s/metrics: %d %v", url, code, err)
	}
	found := false
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		found = true
		if slices.ContainsFunc(labels, func(l string) bool { return !strings.Contains(rest, l) }) {
			continue
		}
		fields := strings.Fields(rest)
		v, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		if err != nil {
			t.Fatalf("metric %q: %v", line, err)
		}
		sum += v
	}
	if !found {
		t.Fatalf("there is no metric %s", name)
	}
	return sum
}

// awaitKilled waits until a process has killed itself at its crash point.
func (p *process) awaitKilled(within time.Duration) {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(within):
		p.t.Fatalf("zyklus has not come to its crash point within %v\n%s", within, tail(p.log.String(), 30))
	}
	var exit *exec.ExitError
	if !errors.As(p.err, &exit) || !exit.Sys().(syscall.WaitStatus).Signaled() {
		p.t.Fatalf("zyklus has ended by itself (%v) instead of at its crash point\n%s", p.err, tail(p.log.String(), 30))
	}
}
