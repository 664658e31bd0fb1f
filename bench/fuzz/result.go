package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// result is what a run of a target came to.
type result struct {
	executions, reached int64  // inputs run, and those of them that reached new code
	failure             string // empty if there is none: the end of the target's output
	input               string // name of the failing input, empty if none is known
}

const (
	// stopTime is how long a target may take to end once its time is over, and to gather its corpus before.
	stopTime = 5 * time.Minute
	// stuck is for how long a target may execute nothing: an input that takes longer hangs.
	stuck = 15 * time.Second
	// longest is how long a failing input may be to be printed, in bytes.
	longest = 10_000
)

// fuzz runs a target for its time. Inputs are not minimized: the engine would do so with each that reaches new code, and
// with coverage that varies a little from run to run, as that of the parsers of expressions, do nothing else.
func (o *options) fuzz(ctx context.Context, t target) result {
	limit, cancel := context.WithTimeout(ctx, o.time+stopTime)
	defer cancel()
	cmd := exec.CommandContext(limit, t.binary,
		"-test.run=^$", "-test.fuzz=^"+t.name+"$", "-test.fuzztime="+o.time.String(), "-test.fuzzminimizetime=0s",
		"-test.fuzzcachedir="+filepath.Join(o.corpus, t.pkg), "-test.parallel="+strconv.Itoa(o.workers), "-test.timeout=0",
	)
	cmd.Dir = t.dir
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 20 * time.Second
	text, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return result{} // the run as a whole is interrupted
	}
	r := parse(text)
	switch {
	case limit.Err() != nil:
		r.failure = "did not end in time\n" + tail(text)
	case err != nil && !onlyDeadline(text):
		r.failure = err.Error() + "\n" + tail(text)
	case r.failure == "" && r.executions == 0:
		r.failure = "executed nothing\n" + tail(text)
	}
	return r
}

// progress is the line that a target prints every three seconds.
var progress = regexp.MustCompile(`(?m)^fuzz: elapsed: (\S+), execs: (\d+) .*new interesting: (\d+)`)

// named is the line that names a failing input: a new one, or one of testdata.
var named = regexp.MustCompile(`(?:Failing input written to testdata/fuzz/|failure while testing seed corpus entry: )\w+/(\w+|seed#\d+)`)

// parse reads the output of a target. One that executed nothing for long hangs: the fuzzing engine would end it without a
// word.
func parse(text []byte) (r result) {
	var since time.Duration
	for _, m := range progress.FindAllSubmatch(text, -1) {
		at, _ := time.ParseDuration(string(m[1]))
		executions, _ := strconv.ParseInt(string(m[2]), 10, 64)
		if executions > r.executions {
			since = at
		}
		if at-since >= stuck {
			r.failure = fmt.Sprintf("an input hangs: nothing was executed for %v", at-since)
		}
		r.executions = executions
		r.reached, _ = strconv.ParseInt(string(m[3]), 10, 64)
	}
	if m := named.FindSubmatch(text); m != nil {
		r.input = string(m[1])
	}
	return r
}

// onlyDeadline reports whether all that a target complains of is that its time is over: the fuzzing engine now and then
// takes the end of -fuzztime for a failure (golang/go#75804).
func onlyDeadline(text []byte) bool {
	_, report, found := bytes.Cut(text, []byte("--- FAIL: "))
	lines := strings.Split(strings.TrimSpace(string(report)), "\n")
	return found && len(lines) == 3 && strings.TrimSpace(lines[1]) == context.DeadlineExceeded.Error() && lines[2] == "FAIL"
}

// tail returns the report of a failure, without progress and without more of a stack than helps.
func tail(text []byte) string {
	const most = 60
	var lines []string
	for _, line := range strings.Split(strings.TrimRight(string(text), "\n"), "\n") {
		if !strings.HasPrefix(line, "fuzz: ") {
			lines = append(lines, line)
		}
	}
	if len(lines) > most {
		lines = append(append(lines[:most/2:most/2], "    …"), lines[len(lines)-most/2:]...)
	}
	return strings.Join(lines, "\n")
}

// print writes the target's line, and under it the failure and how to see it again.
func (r *result) print(out io.Writer, t target) {
	verdict := "ok  "
	if r.failure != "" {
		verdict = "FAIL"
	}
	fmt.Fprintf(out, "%s %-28s %-34s %10d executions %5d new\n", verdict, t.path, t.name, r.executions, r.reached)
	if r.failure == "" {
		return
	}
	fmt.Fprintf(out, "    %s\n", strings.ReplaceAll(r.failure, "\n", "\n    "))
	again := fmt.Sprintf("go test %s -run '^$' -fuzz '^%s$'", t.path, t.name)
	if r.input != "" {
		again = fmt.Sprintf("go test %s -run '^%s$/^%s$'", t.path, t.name, r.input)
		path := filepath.Join("testdata", "fuzz", t.name, r.input)
		if text, err := os.ReadFile(filepath.Join(t.dir, path)); err == nil && len(text) < longest { // a machine of CI is gone afterwards
			fmt.Fprintf(out, "    %s:\n    %s\n", filepath.ToSlash(path), strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", "\n    "))
		}
	}
	fmt.Fprintf(out, "    again: %s\n", again)
}
