package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"zyklus/bench/simulator"
	"zyklus/pipeline/kafka"
)

// zombie is an instance that stands still for longer than its session while another takes its partitions over.
type zombie struct {
	name    string
	d       deployment // as it is asked
	through deployment // as the instance sees it
	env     []string
	heirEnv []string
	freeze  func(p *process) // nil: it freezes by itself
	wake    func()           // beside SIGCONT; may be nil
	p, heir *process
	commits *ledgerOfCheckpoints
}

// TestZombies freezes instances with SIGSTOP for longer than their sessions: while they run, by either protocol of the
// group; between writing a transaction and committing it; and in the middle of an insert. Woken, each is fenced, gives its
// partitions up without a trace, and takes part again.
func TestZombies(t *testing.T) { onBrokers(t, zombiesOn) }

func zombiesOn(t *testing.T, broker *part) {
	r := newRigOn(t, broker, longAgo, func(c *simulator.Config) { c.Customers = 400 })
	zombies, slowly := r.zombies(), "ZYKLUS_KAFKA_CHECKPOINT_INTERVAL=400ms" // eight instances run at once
	if broker.real == nil {
		alterBroker(t, broker.addr, "group.consumer.session.timeout.ms", "6000") // the real ones have been started with theirs
		zombies = append(zombies, r.zombieInserting())
	} else {
		slowly = "ZYKLUS_KAFKA_CHECKPOINT_INTERVAL=1s" // three brokers, too
	}
	for _, z := range zombies {
		z.p = r.run(z.through, append(z.env, slowly)...)
	}
	for _, z := range zombies {
		if z.freeze != nil {
			r.await(z.p, z.d, r.feed.reached(), "before "+z.name+" is frozen")
			z.freeze(z.p)
		}
		z.p.awaitStopped()
	}
	for _, z := range zombies {
		z.heir = r.run(z.d, append(z.heirEnv, slowly)...)
	}
	for _, z := range zombies {
		r.await(z.heir, z.d, r.feed.reached(), "with the heir of "+z.name)
		z.commits.read()
	}
	for _, z := range zombies {
		z.p.signal(syscall.SIGCONT)
		if z.wake != nil {
			z.wake()
		}
	}
	for _, z := range zombies {
		z.takesPart(t)
		z.commits.read() // its versions follow each other: the zombie has added none
		if code := z.heir.stop(time.Minute); code != 0 {
			t.Errorf("the heir of %s ended with %d\n%s", z.name, code, tail(z.heir.log.String(), 20))
		}
		r.await(z.p, z.d, r.feed.reached(), "with "+z.name+" alone")
	}
	at := r.feed.finish()
	control := r.control("control", at)
	for _, z := range zombies {
		r.await(z.p, z.d, at, z.name+" at the end")
		r.awaitLetters(z.d)
		if code := z.p.stop(time.Minute); code != 0 {
			t.Errorf("%s ended with %d", z.name, code)
		}
		z.commits.checkNoFuture(z.name + " at the end")
		r.agrees(z.d)
		r.compare(control, z.d)
		r.checkAccount(z.d)
	}
}

// zombies returns those that are frozen by what they do in Kafka.
func (r *rig) zombies() []*zombie {
	stop, consumer := func(p *process) { p.signal(syscall.SIGSTOP) }, []string{"ZYKLUS_KAFKA_GROUP_PROTOCOL=consumer"}
	return []*zombie{
		r.zombie("running", zombie{freeze: stop}),
		r.zombie("kip848", zombie{freeze: stop, env: consumer, heirEnv: consumer}),
		r.zombie("produced", zombie{env: []string{"ZYKLUS_FREEZE=produced:25"}}),
	}
}

// zombieInserting is frozen in the middle of an insert, which arrives when it wakes.
func (r *rig) zombieInserting() *zombie {
	v := openValve(r.t, r.engine)
	z := r.zombie("inserting", zombie{wake: v.release, freeze: func(p *process) {
		v.holdAfter(3000)
		v.awaitHeld(r.t)
		p.signal(syscall.SIGSTOP)
	}})
	z.through.config = r.configure(z.d.database, v.addr).config
	return z
}

// zombie deploys one.
func (r *rig) zombie(name string, z zombie) *zombie {
	z.name, z.d = name, r.deploy(name)
	z.through, z.commits = z.d, r.checkpointsOf(z.d)
	return &z
}

// takesPart waits until the woken instance has lost its partitions and has got some again, beside its heir.
func (z *zombie) takesPart(t *testing.T) {
	t.Helper()
	eventually(t, time.Minute, z.name+" is fenced and takes part again", func() error {
		_ = z.p.alive()
		if !strings.Contains(z.p.log.String(), "partitions lost: another process may own them") {
			return fmt.Errorf("it has not lost its partitions")
		}
		if a, b := partitionsOf(t, z.p), partitionsOf(t, z.heir); a == 0 || b == 0 || a+b > rigPartitions {
			return fmt.Errorf("it has %d partitions, its heir %d", a, b)
		}
		return nil
	})
	z.p.awaitReady(time.Minute, z.name+" after it was woken")
}

// TestZombieWithDueTimers freezes an instance that has committed a checkpoint and not sent its rows yet. While it stands
// still the deadlines of its customers pass, and nothing new comes: woken, it has timers to fire, rows to send, and no
// record to read. All of that is its heir's, which has done it.
func TestZombieWithDueTimers(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("runs real processes")
	}
	r := &rig{t: t, broker: startPart(t, "broker"), engine: startPart(t, "clickhouse"), topic: "silence"}
	topicOn(t, r.broker.addr, r.topic, rigPartitions, map[string]string{"message.timestamp.type": "LogAppendTime"})
	d := r.deploy("timers")
	z := &zombie{name: "timers", d: d, commits: r.checkpointsOf(d)}
	wall := "ZYKLUS_SOURCE_CLOCK=wall"
	// A single order makes a new customer for 90 days: silence is due from now on, fifty times a second.
	const orders = 2000
	out, err := openTopicFeed(context.Background(), kafka.Options{Brokers: []string{r.broker.addr}, Group: "feeder", Topic: r.topic}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer out.close()
	first := time.Now().UTC().AddDate(0, 0, -90).Add(3 * time.Second)
	for i := range orders {
		id, at := fmt.Sprintf("silent-%d", i), first.Add(time.Duration(i)*20*time.Millisecond)
		value := fmt.Appendf(nil, `{"type":"track","event":"Order Completed","userId":%q,"messageId":%[1]q,"timestamp":%q,"properties":{"order_id":%[1]q,"revenue":10}}`,
			id, at.Format("2006-01-02T15:04:05.000Z"))
		if err := out.Produce(context.Background(), []byte(id), value, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	z.p = r.run(d, wall, "ZYKLUS_FREEZE=committed:100")
	z.p.awaitStopped()
	frozen := time.Now()
	z.heir = r.run(d, wall)
	last := first.AddDate(0, 0, 90).Add(orders * 20 * time.Millisecond)
	all := fmt.Sprintf("SELECT count(), (SELECT min(clock) >= fromUnixTimestamp64Milli(%d) FROM v_checkpoints) FROM v_customers WHERE orders = 1", last.UnixMilli())
	eventually(t, 2*time.Minute, "the heir tells of all who fell silent", func() error {
		_ = z.heir.alive()
		lines, err := d.query(all)
		if err == nil && lines[0] != fmt.Sprintf("%d\t1", orders) {
			err = fmt.Errorf("customers, and whether all deadlines have come: %s", lines[0])
		}
		return err
	})
	silent := fmt.Sprintf("SELECT count() FROM v_phase_transitions WHERE at BETWEEN fromUnixTimestamp64Milli(%d) AND fromUnixTimestamp64Milli(%d)", frozen.UnixMilli(), last.UnixMilli())
	before := d.mustQuery(t, silent)
	if before[0] == "0" {
		t.Error("nobody fell silent while the instance stood still")
	}
	z.commits.read()
	z.p.signal(syscall.SIGCONT)
	z.takesPart(t)
	z.commits.read()
	if code := z.heir.stop(time.Minute); code != 0 {
		t.Errorf("the heir ended with %d", code)
	}
	z.p.awaitReady(time.Minute, "alone")
	if code := z.p.stop(time.Minute); code != 0 {
		t.Errorf("the zombie ended with %d", code)
	}
	z.commits.checkNoFuture("at the end")
	if after := d.mustQuery(t, silent); after[0] != before[0] {
		t.Errorf("%s fell silent meanwhile, %s before the zombie was woken", after[0], before[0])
	}
	r.checkVersions(d)
	control := r.deploy("control")
	p := start(t, []string{wall}, "run", "--config", control.config)
	eventually(t, time.Minute, "the control run is there", func() error {
		_ = p.alive()
		lines, err := control.query(all)
		if err == nil && lines[0] != fmt.Sprintf("%d\t1", orders) {
			err = fmt.Errorf("customers, and whether all deadlines have come: %s", lines[0])
		}
		return err
	})
	if code := p.stop(20 * time.Second); code != 0 {
		t.Errorf("the control run ended with %d", code)
	}
	reached := one(t, d, "SELECT toUnixTimestamp64Milli(least((SELECT min(clock) FROM timers.v_checkpoints), (SELECT min(clock) FROM control.v_checkpoints)))")
	// Both have brought those customers to the same instant who have not changed since.
	same := "customer_id NOT IN (SELECT customer_id FROM (SELECT * FROM timers.customers UNION ALL SELECT * FROM control.customers) WHERE as_of > fromUnixTimestamp64Milli(" + reached + "))"
	for _, table := range []struct{ name, except, where, key string }{
		{"v_phase_transitions", "", "1", "lifecycle, customer_id, at"},
		{"v_orders", "", "1", "customer_id, order_id"},
		{"v_customers", "EXCEPT ('^clock$|_now$')", same, "customer_id"},
		{"v_customer_days", "", same, "customer_id, day"},
	} {
		sql := fmt.Sprintf("SELECT * %s FROM %s WHERE %s ORDER BY %s FORMAT TSVWithNames", table.except, table.name, table.where, table.key)
		want := control.mustQuery(t, sql)
		if len(want) < orders*9/10 {
			t.Errorf("only %d rows of %s can be compared", len(want)-1, table.name)
		}
		r.compareRows(table.name, strings.Count(table.key, ",")+1, "control", "timers", want, d.mustQuery(t, sql))
	}
}

func (p *process) signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// awaitStopped waits until the process stands still.
func (p *process) awaitStopped() {
	p.t.Helper()
	path := fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid)
	if _, err := os.Stat(path); err != nil {
		p.t.Skip("needs /proc")
	}
	eventually(p.t, time.Minute, "the process stands still", func() error {
		_ = p.alive()
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if state := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))[0]; state != "T" {
			return fmt.Errorf("its state is %s", state)
		}
		return nil
	})
	p.t.Cleanup(func() { _ = p.cmd.Process.Signal(syscall.SIGCONT) })
}

// alterBroker changes a setting of the brokers.
func alterBroker(t testing.TB, broker, key, value string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cl := kafkaClient(t, broker)
	defer cl.Close()
	out, err := kadm.NewClient(cl).AlterBrokerConfigs(ctx, []kadm.AlterConfig{{Name: key, Value: &value}})
	if err == nil && len(out) > 0 {
		err = out[0].Err
	}
	if err != nil {
		t.Fatalf("%s: %v", key, err)
	}
}
