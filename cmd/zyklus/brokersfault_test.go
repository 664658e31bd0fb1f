package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"zyklus/bench/simulator"
)

// TestBrokersFail has three real brokers fail under a running pipeline in all the ways that need more than one of them:
// leaders move with their brokers alive, the leader of the input and of the changelog, the group's coordinator and a
// transaction's coordinator are killed, and a broker hangs. The process goes on through all of it.
func TestBrokersFail(t *testing.T) {
	t.Parallel()
	broker := startRealBrokers(t)
	r, admin := newRigOn(t, broker, func(c *simulator.Config) {
		c.Start = c.Start.AddDate(-8, 0, 0) // what lasts long must not reach the present
		c.Shares.TooLate = 0                // a visitor who is seen once, too late, has no row
	}), adminOf(t, broker)
	d := r.deploy("failing")
	changelog := "zyklus-" + d.database + "-changelog"
	checkpoints := r.checkpointsOf(d)
	p := r.run(d)
	p.awaitReady(time.Minute, "before any fault")
	r.await(p, d, r.feed.reached(), "before any fault")
	started := p.restored()

	// survive waits until everything fed until now is in the database, and says what that took.
	survive := func(when string) {
		t.Helper()
		began, restored := time.Now(), p.restored()
		r.await(p, d, r.feed.reached(), when)
		checkpoints.read()
		t.Logf("%s: all rows after %v; partitions restored: %d", when, time.Since(began).Round(10*time.Millisecond), p.restored()-restored)
	}
	for n := range 3 {
		admin.rotate(r.topic, changelog, "zyklus-"+d.database+"-dead-letters", "zyklus-"+d.database+"-outputs")
		survive(fmt.Sprintf("leaders moved, %d", n+1))
	}
	for _, fault := range []struct {
		name   string
		victim func() int
	}{
		{"the leader of the input killed", func() int { return admin.leader(r.topic, 0) }},
		{"the leader of the changelog killed", func() int { return admin.leader(changelog, 1) }},
		{"the coordinator of the group killed", func() int { return admin.coordinator(admin.FindGroupCoordinators, d.database) }},
		{"the coordinator of a transaction killed", func() int {
			return admin.coordinator(admin.FindTxnCoordinators, d.database+"/"+r.topic+"/2")
		}},
	} {
		victim := fault.victim()
		broker.real.kill(t, victim)
		survive(fault.name) // with the two that are left
		broker.start()
		survive(fault.name + " and started again")
	}
	if n := p.restored() - started; n > 0 {
		t.Errorf("partitions were restored %d times, though two of three brokers were always there", n)
	}

	cluster, hangs := broker.real.cluster, admin.leader(changelog, 0)
	frozen := time.Now()
	if err := cluster.Freeze(hangs); err != nil {
		t.Fatal(err)
	}
	survive("a broker hangs")
	time.Sleep(time.Until(frozen.Add(hangTime)))
	if err := cluster.Thaw(hangs); err != nil {
		t.Fatal(err)
	}
	survive("a broker hung for " + hangTime.String())

	r.finishAndCompare(p, d, checkpoints)
}

// hangTime is longer than the pipeline waits for any answer, of which 10 s to a produce request is the longest.
const hangTime = 25 * time.Second

// restored returns how often a partition was restored.
func (p *process) restored() int { return strings.Count(p.log.String(), "msg=restored") }
