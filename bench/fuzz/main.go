// Command fuzz runs every fuzz target of the module for a while, several side by side:
//
//	go run ./bench/fuzz -time 30s -jobs 2
//
// It finds the targets itself, and prints a line for each with the number of executions and of inputs that reached new
// code. What was reached is kept where `go test -fuzz` keeps it, in Go's build cache, so the next run goes on from there;
// an input that fails is written to the target's testdata/fuzz. The exit code is 1 if any target failed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"sync"
	"time"

	"github.com/sourcegraph/conc/pool"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// options are those of the command.
type options struct {
	time     time.Duration // for each target
	jobs     int           // targets side by side
	target   *regexp.Regexp
	workers  int    // processes of each target
	binaries string // folder of the test programs
	corpus   string // folder of what is kept
}

func run(ctx context.Context, args []string, out io.Writer) error {
	o := options{}
	flags := flag.NewFlagSet("fuzz", flag.ContinueOnError)
	flags.DurationVar(&o.time, "time", 30*time.Second, "how long each target runs")
	flags.IntVar(&o.jobs, "jobs", max(1, runtime.NumCPU()), "how many targets run side by side; the processors are shared among them")
	only := flags.String("target", "", "regular expression of the targets to run, all by default")
	cache := flags.String("corpus", "", "folder in which reached inputs are kept, by default that of go test")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var err error
	if o.target, err = regexp.Compile(*only); err != nil {
		return fmt.Errorf("-target: %w", err)
	}
	if o.jobs < 1 || o.time <= 0 {
		return errors.New("-jobs and -time must be positive")
	}
	o.workers = max(1, runtime.NumCPU()/o.jobs)
	if o.binaries, err = os.MkdirTemp("", "zyklus-fuzz-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(o.binaries) }()
	if o.corpus = *cache; o.corpus == "" {
		env, err := goCommand(ctx, "env", "GOCACHE")
		if err != nil {
			return err
		}
		o.corpus = filepath.Join(env[0], "fuzz")
	}
	if o.corpus, err = filepath.Abs(o.corpus); err != nil {
		return err
	}
	targets, err := o.find(ctx)
	if err != nil {
		return err
	}
	return o.all(ctx, targets, out)
}

// all runs the targets and prints their lines as they end.
func (o *options) all(ctx context.Context, targets []target, out io.Writer) error {
	if len(targets) == 0 {
		return errors.New("no fuzz target of that name")
	}
	var mu sync.Mutex
	failed, began := 0, time.Now()
	jobs := pool.New().WithMaxGoroutines(o.jobs)
	for _, t := range targets {
		jobs.Go(func() {
			if ctx.Err() != nil {
				return
			}
			r := o.fuzz(ctx, t)
			mu.Lock()
			defer mu.Unlock()
			if r.failure != "" {
				failed++
			}
			r.print(out, t)
		})
	}
	jobs.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	fmt.Fprintf(out, "targets=%d failed=%d seconds=%.0f\n", len(targets), failed, time.Since(began).Seconds())
	if failed > 0 {
		return fmt.Errorf("%d of %d fuzz targets failed", failed, len(targets))
	}
	return nil
}
