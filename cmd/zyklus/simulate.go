package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"zyklus/bench/simulator"
)

// simulateOptions are the flags of simulate.
type simulateOptions struct {
	customers  int
	seed       uint64
	rate       float64
	start, end string
	out, truth string
}

func simulateCommand() *cobra.Command {
	var o simulateOptions
	d := simulator.DefaultConfig()
	cmd := &cobra.Command{
		Use: "simulate", Short: "Write events of simulated customers to the topic or to a file", Args: noArguments,
		Long: `Write the events of simulated customers, in the order in which they arrive, to the source topic or to a file
(one JSON object a line). Equal flags give equal bytes. The customers have known truth: who is alive, how often each
buys, tastes per category; --truth writes it as CSV. There are seasons, refunds, cancellations, updates, duplicates
and late events. A heartbeat at the end says how far time has come; the source should have clock: events.`,
	}
	f := cmd.Flags()
	f.IntVar(&o.customers, "customers", d.Customers, "number of customers")
	f.Uint64Var(&o.seed, "seed", d.Seed, "seed of all chance")
	f.Float64Var(&o.rate, "rate", 0, "events per second at most; 0 is as fast as possible")
	f.StringVar(&o.start, "start", d.Start.Format(time.DateOnly), "first day")
	f.StringVar(&o.end, "end", d.End.Format(time.DateOnly), "day before which events happen")
	f.StringVar(&o.out, "out", "", "file to write to, - for standard output; without it events go to the topic")
	f.StringVar(&o.truth, "truth", "", "file for the customers' truth (CSV)")
	pick := sourceFlag(cmd)
	load := configured(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, log, err := load()
		if err != nil {
			return err
		}
		sim, until, err := o.simulator(cfg.Currency)
		if err != nil {
			return usageError{err}
		}
		var to feed
		if o.out != "" {
			w, done, err := create(o.out, cmd.OutOrStdout())
			if err != nil {
				return err
			}
			defer done()
			to = newFileFeed(w)
		} else {
			source, err := pick(cfg)
			if err != nil {
				return err
			}
			t, err := openTopicFeed(cmd.Context(), sourceOptions(cfg, &source), log)
			if err != nil {
				return err
			}
			defer t.close()
			to = t
		}
		begin := time.Now()
		p := &playback{sim: sim, feed: to, rate: o.rate, now: time.Now}
		if err := p.until(cmd.Context(), until); err != nil {
			return err
		}
		log.Info("simulated", "events", p.count, "customers", o.customers, "took", time.Since(begin).Round(time.Millisecond))
		return o.writeTruth(sim)
	}
	return cmd
}

// simulator returns the simulator and the instant by which everything has arrived.
func (o *simulateOptions) simulator(currency string) (*simulator.Simulator, time.Time, error) {
	cfg := simulator.DefaultConfig()
	cfg.Customers, cfg.Seed, cfg.Currency = o.customers, o.seed, currency
	var err error
	if cfg.Start, err = time.Parse(time.DateOnly, o.start); err != nil {
		return nil, time.Time{}, fmt.Errorf("--start: %q is not a date such as 2024-01-01", o.start)
	}
	if cfg.End, err = time.Parse(time.DateOnly, o.end); err != nil {
		return nil, time.Time{}, fmt.Errorf("--end: %q is not a date such as 2025-07-01", o.end)
	}
	sim, err := simulator.New(cfg)
	return sim, cfg.End.Add(cfg.MaxDelay), err
}

func (o *simulateOptions) writeTruth(sim *simulator.Simulator) error {
	if o.truth == "" {
		return nil
	}
	f, err := os.Create(o.truth)
	if err != nil {
		return fmt.Errorf("truth: %w", err)
	}
	if err := sim.WriteTruth(f); err != nil {
		_ = f.Close()
		return fmt.Errorf("truth: %w", err)
	}
	return f.Close()
}

// create opens a file for writing; - stands for standard output.
func create(path string, stdout io.Writer) (w io.Writer, done func(), err error) {
	if path == "-" {
		return stdout, func() {}, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, nil, err
	}
	return f, func() { _ = f.Close() }, nil
}

var _ feed = (*topicFeed)(nil)
var _ feed = (*fileFeed)(nil)
