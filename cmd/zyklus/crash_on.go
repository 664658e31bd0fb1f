//go:build crashpoints

package main

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// crashAt and freezeAt are taken out of the environment before the configuration sees variables that are no settings.
var crashAt, freezeAt = taken("ZYKLUS_CRASH"), taken("ZYKLUS_FREEZE")

func taken(name string) string {
	value := os.Getenv(name)
	_ = os.Unsetenv(name)
	return value
}

// beforeCommit is how long a process lives on that is killed before its commit: a row of that checkpoint, if anything
// wrote one too early, is in ClickHouse by then.
const beforeCommit = 250 * time.Millisecond

// crashPoint kills this process, or makes it stand still until it is woken by SIGCONT, at the n-th time of a step:
// ZYKLUS_CRASH=committed:3, ZYKLUS_FREEZE=produced:1. Steps that must come before are written before it: revoked:1,produced:1
// is the first time that a checkpoint is produced after a partition was revoked. It is built for crash tests only.
func crashPoint() func(step string) {
	crash, freeze := newTrap(crashAt), newTrap(freezeAt)
	if crash == nil && freeze == nil {
		return nil
	}
	return func(at string) {
		if crash.sprung(at) {
			if at == "encoded" || at == "produced" {
				time.Sleep(beforeCommit)
			}
			_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
			select {}
		}
		if freeze.sprung(at) {
			_ = syscall.Kill(syscall.Getpid(), syscall.SIGSTOP)
		}
	}
}

// trap waits for steps, one after another.
type trap struct {
	mu    sync.Mutex
	steps []string // each with its count, such as committed:3
	seen  int      // times of the first of them
}

func newTrap(text string) *trap {
	if text == "" {
		return nil
	}
	return &trap{steps: strings.Split(text, ",")}
}

// sprung reports whether the last of the steps has come now.
func (t *trap) sprung(at string) bool {
	if t == nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.steps) == 0 {
		return false
	}
	step, count, _ := strings.Cut(t.steps[0], ":")
	n, err := strconv.Atoi(count)
	if err != nil {
		panic("a crash point is no step:count: " + t.steps[0])
	}
	if at != step {
		return false
	}
	if t.seen++; t.seen < n {
		return false
	}
	t.steps, t.seen = t.steps[1:], 0
	return len(t.steps) == 0
}
