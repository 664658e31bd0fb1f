package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"zyklus/bench/simulator"
	"zyklus/pipeline/kafka"
)

// longAgo begins simulated time so early that a test of some minutes does not come to the present: the future is not
// believed.
func longAgo(c *simulator.Config) {
	c.Start, c.Arrivals.Span, c.Customers = time.Date(2005, 1, 1, 0, 0, 0, 0, time.UTC), 8*365*24*time.Hour, 1200
}

// TestKilledInRestoreAndRevoke kills instances while they restore, and while they make the last checkpoint of partitions
// that another instance is to have.
func TestKilledInRestoreAndRevoke(t *testing.T) { onBrokers(t, killedInRestoreAndRevoke) }

func killedInRestoreAndRevoke(t *testing.T, broker *part) {
	r := newRigOn(t, broker, longAgo)
	d := r.deploy("moved")
	checkpoints := r.checkpointsOf(d)
	killed := func(p *process, at string) {
		t.Helper()
		p.awaitKilled(time.Minute)
		checkpoints.checkNoFuture("killed at " + at)
	}
	first := r.run(d, static("first"), "ZYKLUS_CRASH=committed:12")
	killed(first, "committed:12")
	for _, at := range []string{"restoring:1", "restoring:3", "restoring:40", "restoring:90"} {
		killed(r.run(d, static("first"), "ZYKLUS_CRASH="+at), at)
	}
	for _, at := range []string{"revoked:1", "revoked:1,produced:1", "revoked:1,committed:1", "revoked:1,written:1", "revoked:2,committed:2"} {
		first = r.run(d, static("first"), "ZYKLUS_CRASH="+at)
		first.awaitReady(time.Minute, "before "+at)
		second := r.run(d)
		first.awaitKilled(time.Minute)
		checkpoints.read()
		first = r.run(d, static("first"))
		r.await(first, d, r.feed.reached(), "after "+at)
		if code := second.stop(20 * time.Second); code != 0 {
			t.Errorf("after %s: the other instance ended with %d\n%s", at, code, tail(second.log.String(), 20))
		}
		first.kill()
		checkpoints.checkNoFuture("after " + at)
	}
	first = r.run(d, static("first"))
	r.finishAndCompare(first, d, checkpoints)
}

// TestKilledInAWaveOfDeadlines lets a year pass at once, so that the deadlines of some thousands of customers are due
// together, and kills the pipeline while it works them off.
func TestKilledInAWaveOfDeadlines(t *testing.T) {
	t.Parallel()
	r := newRig(t, longAgo, func(c *simulator.Config) {
		c.Customers, c.Arrivals.Span, c.Shares.TooLate = 4000, 300*24*time.Hour, 0
	})
	d := r.deploy("wave")
	checkpoints := r.checkpointsOf(d)
	p := r.run(d, static("wave"))
	eventually(t, time.Minute, "there are some thousands of customers", func() error {
		_ = p.alive()
		lines, err := d.query("SELECT count() >= 3000, count() FROM v_customers")
		if err == nil && !strings.HasPrefix(lines[0], "1") {
			err = fmt.Errorf("%s", lines[0])
		}
		return err
	})
	at := r.feed.finish()
	r.await(p, d, at, "before the year")
	p.kill()
	at = at.AddDate(1, 0, 0)
	out, err := openTopicFeed(context.Background(), kafka.Options{Brokers: strings.Split(r.broker.addr, ","), Group: "feeder", Topic: r.topic}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer out.close()
	if err := out.Heartbeat(context.Background(), simulator.Heartbeat(nil, at)); err != nil {
		t.Fatal(err)
	}
	reached := 0
	for _, step := range []string{"timers:1", "timers:2,encoded:1", "timers:2,produced:1", "timers:1,committed:1"} {
		p = r.run(d, static("wave"), "ZYKLUS_CRASH="+step)
		select {
		case <-p.exited:
			p.awaitKilled(time.Minute)
			reached++
		case <-time.After(20 * time.Second): // other partitions go on until the kill: the wave may be over
			p.kill()
			t.Logf("the wave was over before %s", step)
		}
		checkpoints.checkNoFuture("killed at " + step)
	}
	if reached < 2 {
		t.Errorf("the pipeline was killed in the wave %d times only", reached)
	}
	p = r.run(d, static("wave"))
	r.await(p, d, at, "after the year")
	r.compareAt(p, d, checkpoints, at)
}

// TestKilledWhileClickHouseIsSlow kills the pipeline while its inserts are held up half way and while ClickHouse is away.
func TestKilledWhileClickHouseIsSlow(t *testing.T) {
	t.Parallel()
	r := newRig(t, longAgo)
	d := r.deploy("slow")
	v := openValve(t, r.engine)
	through := d
	through.config = r.configure("slow", v.addr).config
	checkpoints := r.checkpointsOf(d)
	for i, hold := range []int64{1, 30_000, 80_000} {
		p := r.run(through, static("slow"))
		p.awaitReady(time.Minute, "before inserts are held up")
		v.holdAfter(hold)
		v.awaitHeld(t)
		checkpoints.read()
		was := checkpoints.position()
		eventually(t, time.Minute, "checkpoints go on without ClickHouse", func() error {
			_ = p.alive()
			if checkpoints.read(); checkpoints.position() < was+20 {
				return fmt.Errorf("positions sum up to %d after %d", checkpoints.position(), was)
			}
			return nil
		})
		p.kill()
		v.release()
		checkpoints.checkNoFuture(fmt.Sprintf("killed while an insert was held up, the %d. time", i+1))
	}
	p := r.run(through, static("slow"))
	p.awaitReady(time.Minute, "before ClickHouse is away")
	r.engine.p.kill()
	p.awaitNotReady(30*time.Second, "ClickHouse", "without ClickHouse")
	p.kill()
	r.engine.start()
	p = r.run(through, static("slow"), "ZYKLUS_CRASH=written:1")
	p.awaitKilled(time.Minute)
	p = r.run(through, static("slow"))
	r.finishAndCompare(p, d, checkpoints)
}

// TestStaticInstances: a killed instance comes back under its instance id before its session ends, and no partition moves;
// of two processes with the same id the older ends; one that does not come back is given up by admin leave.
func TestStaticInstances(t *testing.T) { onBrokers(t, staticInstances) }

func staticInstances(t *testing.T, broker *part) {
	r := newRigOn(t, broker)
	d := r.deploy("named")
	one, two := r.run(d, static("one")), r.run(d, static("two"))
	eventually(t, time.Minute, "both instances have partitions", func() error {
		if a, b := partitionsOf(t, one), partitionsOf(t, two); a != 2 || b != 2 {
			return fmt.Errorf("the first has %d, the second %d", a, b)
		}
		return nil
	})
	members := answer[leaving](t, "admin", "leave", "--config", d.config).Members
	owned := owners(members, d.database)
	two.kill()
	moved := moves(one)
	two = r.run(d, static("two"))
	r.await(two, d, r.feed.reached(), "with the second instance replaced")
	if now := moves(one); now != moved {
		t.Errorf("partitions of the first instance have moved %d times, %d before the restart of the other:\n%s", now, moved, tail(one.log.String(), 20))
	}
	if now := owners(answer[leaving](t, "admin", "leave", "--config", d.config).Members, d.database); fmt.Sprint(now) != fmt.Sprint(owned) {
		t.Errorf("partitions are owned by %v, were by %v", now, owned)
	}

	twin := r.run(d, static("two"))
	if code := two.wait(time.Minute); code != 1 || !strings.Contains(two.log.String(), "another process has joined group "+d.database+" with the instance id two: give each its own") {
		t.Errorf("the older of two instances with one id ended with %d\n%s", code, tail(two.log.String(), 10))
	}
	r.await(twin, d, r.feed.reached(), "with the newer of two instances with one id")

	twin.kill()
	r.leave(t, d, "two", one)
	r.finishAndCompare(one, d, nil)
}

// TestLeaveByTheBrokersProtocol is admin leave where the brokers divide the partitions.
func TestLeaveByTheBrokersProtocol(t *testing.T) { onBrokers(t, leaveByTheBrokersProtocol) }

func leaveByTheBrokersProtocol(t *testing.T, broker *part) {
	r := newRigOn(t, broker)
	d := r.deploy("kip848")
	consumer := "ZYKLUS_KAFKA_GROUP_PROTOCOL=consumer"
	one, two := r.run(d, static("one"), consumer), r.run(d, static("two"), consumer)
	eventually(t, time.Minute, "both instances have partitions", func() error {
		if a, b := partitionsOf(t, one), partitionsOf(t, two); a != 2 || b != 2 {
			return fmt.Errorf("the first has %d, the second %d", a, b)
		}
		return nil
	})
	two.kill()
	twin := r.run(d, static("two"), consumer)
	twin.awaitNotReady(time.Minute, "zyklus admin leave two ends it at once", "while the place of a killed instance is kept")
	r.leave(t, d, "two", one, twin)
	twin.awaitReady(time.Minute, "once its place is free")
	at := r.feed.finish()
	r.await(one, d, at, "at the end")
	r.awaitLetters(d)
	for _, p := range []*process{one, twin} {
		if code := p.stop(20 * time.Second); code != 0 {
			t.Errorf("an instance ended with %d", code)
		}
	}
	r.agrees(d)
	r.compare(r.control("control", at), d)
	r.checkAccount(d)
}

// moves counts the partitions that an instance has got and given up.
func moves(p *process) int {
	log := p.log.String()
	return strings.Count(log, "msg=restored") + strings.Count(log, "partitions revoked") + strings.Count(log, "partitions lost")
}

// leave takes a killed instance out of the group, and waits until one of the others has gone on with its partitions, which
// is sooner than its session ends.
func (r *rig) leave(t *testing.T, d deployment, instance string, others ...*process) {
	t.Helper()
	if code, out, log := cli(t, "admin", "leave", instance, "--config", d.config); code != 2 ||
		!strings.Contains(out, "would be taken out") || !strings.Contains(log, "nothing was changed: repeat with --yes") {
		t.Errorf("without --yes: exit %d\n%s%s", code, out, log)
	}
	fails(t, 1, problem("there is no member", "without arguments"), "admin", "leave", "nobody", "--yes", "--config", d.config)
	restored := func() (n int) {
		for _, p := range others {
			n += p.restored()
		}
		return n
	}
	before := restored()
	out := answer[leaving](t, "admin", "leave", instance, "--yes", "--config", d.config)
	var groups []string
	for _, m := range out.Members {
		groups = append(groups, m.Group)
		if m.Instance != instance {
			t.Errorf("taken out was %+v", m)
		}
	}
	slices.Sort(groups)
	if want := []string{d.database, d.database + "-dead-letters", d.database + "-source-stalls"}; !out.Left || !slices.Equal(groups, want) {
		t.Errorf("%s was taken out of %v, wanted %v", instance, groups, want)
	}
	eventually(t, 30*time.Second, "the partitions are taken over before a session ends", func() error {
		if restored() == before {
			return errors.New("none is restored")
		}
		return nil
	})
	r.await(others[0], d, r.feed.reached(), "after admin leave")
}

// owners lists who owns what in a group.
func owners(members []kafka.Member, group string) (list []string) {
	for _, m := range members {
		if m.Group == group {
			list = append(list, m.Instance+": "+owned(m.Owns))
		}
	}
	slices.Sort(list)
	return list
}

// TestRekeyedSourceGrows gives a source that is re-keyed more partitions while it is read: the pipeline says what to do, and
// goes on with all of them.
func TestRekeyedSourceGrows(t *testing.T) { onBrokers(t, rekeyedSourceGrows) }

func rekeyedSourceGrows(t *testing.T, broker *part) {
	r := &rig{t: t, broker: broker, engine: startPart(t, "clickhouse"), topic: "grown" + broker.suffix}
	topicOn(t, r.broker.addr, r.topic, 2, map[string]string{"message.timestamp.type": "LogAppendTime"})
	r.feed = startFeeder(t, r.broker.addr, r.topic, func(c *simulator.Config) { c.Shares.TooLate, c.Customers = 0, 250 })
	d := deploySources(t, r, "growing", "kafka: {partitions: 3}", "  grown: {topic: "+r.topic+", key: other}")
	p := r.run(d)
	d.awaitClock(t, 3, r.feed.reached())
	at := r.feed.finish() // one that goes on writes to a topic of two partitions
	cl := kafkaClient(t, r.broker.addr)
	if _, err := kadm.NewClient(cl).UpdatePartitions(context.Background(), 4, r.topic); err != nil {
		t.Fatal(err)
	}
	cl.Close()
	if code := p.wait(time.Minute); code != 1 || !strings.Contains(p.log.String(), "topic "+r.topic+" has been given more partitions (2, now 4): run zyklus migrate") {
		t.Errorf("the pipeline ended with %d\n%s", code, tail(p.log.String(), 10))
	}
	fails(t, 1, problem("given more partitions", "run zyklus migrate"), "run", "--config", d.config)
	succeed(t, "migrate", "--config", d.config)
	p = r.run(d)
	out, err := openTopicFeed(context.Background(), kafka.Options{Brokers: strings.Split(r.broker.addr, ","), Group: "feeder", Topic: r.topic}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer out.close()
	at = at.Add(time.Hour)
	for i := range 200 {
		id := fmt.Sprintf("grown-%d", i)
		value := fmt.Appendf(nil, `{"type":"track","event":"Order Completed","userId":%q,"messageId":%[1]q,"timestamp":%q,"properties":{"order_id":%[1]q,"revenue":10}}`,
			id, at.Format(time.RFC3339))
		if err := out.Produce(context.Background(), []byte(id), value, at); err != nil {
			t.Fatal(err)
		}
	}
	at = at.Add(time.Hour)
	if err := out.Heartbeat(context.Background(), simulator.Heartbeat(nil, at)); err != nil {
		t.Fatal(err)
	}
	d.awaitClock(t, 3, at)
	if n := d.mustQuery(t, "SELECT count(), sum(orders) FROM v_customers WHERE startsWith(customer_id, 'grown-')"); n[0] != "200\t200" {
		t.Errorf("customers of the grown topic and their orders: %s", n[0])
	}
	if code := p.stop(20 * time.Second); code != 0 {
		t.Errorf("the pipeline ended with %d\n%s", code, tail(p.log.String(), 20))
	}
}

// valve is a way to a part that can be held up.
type valve struct {
	addr string
	part *part

	mu   sync.Mutex
	left int64         // bytes that still pass towards the part; -1 for any number
	held chan struct{} // closed once bytes are held up
	open chan struct{} // closed while they pass
}

func openValve(t testing.TB, p *part) *valve {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := &valve{addr: l.Addr().String(), part: p, left: -1, held: make(chan struct{}), open: make(chan struct{})}
	close(v.open)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { v.pass(c) })
		}
	})
	t.Cleanup(func() {
		v.release()
		_ = l.Close()
	})
	return v
}

// pass carries one connection until either side ends it.
func (v *valve) pass(c net.Conn) {
	defer func() { _ = c.Close() }()
	to, err := net.Dial("tcp", v.part.addr)
	if err != nil {
		return
	}
	defer func() { _ = to.Close() }()
	go func() {
		_, _ = io.Copy(c, to)
		_ = c.Close()
		_ = to.Close()
	}()
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		if n > 0 {
			<-v.gate(int64(n))
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// gate returns what is closed when n more bytes may pass.
func (v *valve) gate(n int64) <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.left >= 0 {
		if v.left -= n; v.left <= 0 {
			v.left = 0
			select {
			case <-v.held:
			default:
				close(v.held)
			}
			return v.open
		}
	}
	passes := make(chan struct{})
	close(passes)
	return passes
}

// holdAfter lets so many bytes pass and then none.
func (v *valve) holdAfter(bytes int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.left, v.held, v.open = bytes, make(chan struct{}), make(chan struct{})
}

func (v *valve) awaitHeld(t testing.TB) {
	t.Helper()
	v.mu.Lock()
	held := v.held
	v.mu.Unlock()
	select {
	case <-held:
	case <-time.After(time.Minute):
		t.Fatal("nothing comes to the valve")
	}
}

func (v *valve) release() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.left = -1
	select {
	case <-v.open:
	default:
		close(v.open)
	}
}
