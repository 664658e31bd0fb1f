package main

import (
	"testing"
	"time"

	"zyklus/cmd/zyklus/internal/verify"
)

// TestVerify: a messy history agrees with the oracle while the pipeline runs, is killed, and afterwards.
func TestVerify(t *testing.T) {
	r := newRig(t)
	d := r.deploy("verified")
	p := r.run(d, static("one"))
	r.await(p, d, r.feed.reached(), "at the beginning")
	at0 := r.feed.finish()
	r.await(p, d, at0, "x")
	agree(t, d, "--all", "--limit", "60")
	t.FailNow()
	p.kill()
	p = r.run(d, static("one"))
	p.awaitReady(time.Minute, "after a kill")
	agree(t, d)
	at := r.feed.finish()
	r.await(p, d, at, "at the end")
	agree(t, d, "--all")
	if code := p.stop(20 * time.Second); code != 0 {
		t.Errorf("the pipeline ended with %d", code)
	}
	agree(t, d, "--all")
}

// agree verifies a deployment, which must not differ.
func agree(t *testing.T, d deployment, args ...string) *verify.Report {
	t.Helper()
	begin := time.Now()
	code, out, log := cli(t, append([]string{"admin", "verify", "--config", d.config}, args...)...)
	t.Logf("%v took %v\n%s", args, time.Since(begin), out)
	if code != 0 {
		t.Errorf("exit %d\n%s", code, tail(log, 5))
	}
	return nil
}
