package main

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// TestKilledBetweenTheStepsOfACheckpoint kills the pipeline with SIGKILL again and again while events come, at each step
// of a checkpoint and at random moments, and the broker and the engine once. In the end all tables equal those of a run
// that nothing happened to, and the orders equal those of the input. Before each new start no table holds a row of a
// checkpoint that was not committed.
func TestKilledBetweenTheStepsOfACheckpoint(t *testing.T) {
	r := newRig(t)
	d := r.deploy("killed")
	checkpoints := r.checkpointsOf(d)
	for _, at := range []string{
		"encoded:1", "produced:1", "committed:1", "written:1", "encoded:6", "produced:10", "committed:7", "written:5",
		"produced:33", "committed:22", "encoded:40", "written:17",
	} {
		p := r.run(d, static("killed"), "ZYKLUS_CRASH="+at)
		p.awaitKilled(time.Minute)
		checkpoints.checkNoFuture("killed at " + at)
	}
	chance := rand.New(rand.NewPCG(1, 2))
	for range 4 {
		pause := time.Duration(100+chance.IntN(900)) * time.Millisecond
		p := r.run(d, static("killed"))
		p.served()
		time.Sleep(pause)
		p.kill()
		checkpoints.checkNoFuture(fmt.Sprintf("killed %v after its start", pause))
	}
	p := r.run(d, static("killed"))
	url := p.served()
	goesOn := func(after string) {
		t.Helper()
		at := r.feed.reached()
		d.awaitClock(t, rigPartitions, at)
		if err := p.alive(); metric(t, url, "zyklus_events_total") == 0 {
			t.Fatalf("after %s: no events, %v", after, err)
		}
	}
	r.broker.p.kill()
	time.Sleep(300 * time.Millisecond)
	r.broker.start()
	goesOn("a kill of the broker")
	r.engine.p.kill()
	time.Sleep(300 * time.Millisecond)
	r.engine.start()
	goesOn("a kill of the engine")

	at := r.feed.finish()
	d.awaitClock(t, rigPartitions, at)
	if code := p.stop(20 * time.Second); code != 0 {
		t.Errorf("the last run ended with %d", code)
	}
	checkpoints.checkNoFuture("at the end")
	control := r.control("control", at)
	r.compare(control, d)
	r.checkAccount(d)
}
