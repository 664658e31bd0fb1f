//go:build crashpoints

package main

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// crashAt is taken out of the environment before the configuration sees a variable that is no setting.
var crashAt = func() string {
	at := os.Getenv("ZYKLUS_CRASH")
	_ = os.Unsetenv("ZYKLUS_CRASH")
	return at
}()

// beforeCommit is how long a process lives on that is killed before its commit: a row of that checkpoint, if anything
// wrote one too early, is in ClickHouse by then.
const beforeCommit = 250 * time.Millisecond

// crashPoint kills this process at the n-th time of a step: ZYKLUS_CRASH=committed:3. It is built for crash tests only.
func crashPoint() func(step string) {
	step, count, ok := strings.Cut(crashAt, ":")
	n, err := strconv.ParseInt(count, 10, 64)
	if !ok || err != nil {
		return nil
	}
	var seen atomic.Int64
	return func(at string) {
		if at == step && seen.Add(1) == n {
			if step == "encoded" || step == "produced" {
				time.Sleep(beforeCommit)
			}
			_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
}
