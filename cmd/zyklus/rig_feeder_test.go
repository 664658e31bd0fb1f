package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"zyklus/bench/simulator"
	"zyklus/pipeline/kafka"
)

// feeder plays simulated time into a topic, slice by slice, each with its heartbeats, and remembers what it wrote.
type feeder struct {
	t        testing.TB
	play     *playback
	tape     *tape
	mu       sync.Mutex
	at       time.Time // simulated time reached
	stop     chan struct{}
	done     chan struct{}
	stopped  sync.Once
	err      error
	tooLate  float64       // share of events that come later than the lateness
	patience time.Duration // lateness under which the others come in time
}

const (
	feedSlice = 24 * time.Hour        // of simulated time
	feedPause = 30 * time.Millisecond // between two slices
)

// startFeeder begins to feed. Records that cannot be used are among what it writes.
func startFeeder(t testing.TB, broker, topic string, change ...func(*simulator.Config)) *feeder {
	t.Helper()
	return startFeederInto(t, broker, topic, func(f feed) feed { return f }, change...)
}

// startFeederInto is startFeeder with a feed that passes on to the topic's.
func startFeederInto(t testing.TB, broker, topic string, wrap func(feed) feed, change ...func(*simulator.Config)) *feeder {
	t.Helper()
	cfg := simulator.DefaultConfig()
	// Early enough that a slow machine does not come to the present: the future is not believed.
	cfg.Start = time.Date(2012, 1, 1, 0, 0, 0, 0, time.UTC)
	cfg.Customers, cfg.End, cfg.Arrivals.Span = 600, time.Time{}, 3*365*24*time.Hour
	cfg.Shares.Duplicated, cfg.Shares.Late, cfg.Shares.TooLate = 0.05, 0.1, 0.03
	cfg.Shares.Cancelled, cfg.Shares.Updated, cfg.Shares.Refunded = 0.05, 0.08, 0.15
	for _, c := range change {
		c(&cfg)
	}
	sim, err := simulator.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	out, err := openTopicFeed(context.Background(), kafka.Options{Brokers: strings.Split(broker, ","), Group: "feeder", Topic: topic},
		slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	f := &feeder{t: t, tape: &tape{feed: wrap(out)}, at: cfg.Start, stop: make(chan struct{}), done: make(chan struct{}),
		tooLate: cfg.Shares.TooLate, patience: cfg.TooLateMin * 2 / 3}
	f.play = &playback{sim: sim, feed: f.tape, now: time.Now}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	go func() {
		defer close(f.done)
		defer out.close()
		f.err = f.run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-f.done })
	return f
}

func (f *feeder) run(ctx context.Context) error {
	for n := 0; ; n++ {
		select {
		case <-f.stop:
			return f.settle(ctx)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(feedPause):
		}
		if n%10 == 0 {
			if err := f.tape.spoil(ctx, n/10, f.reached()); err != nil {
				return err
			}
		}
		to := f.reached().Add(feedSlice)
		if to.After(time.Now()) {
			return errors.New("simulated time has reached the present, and the future is not believed: begin earlier")
		}
		if err := f.play.until(ctx, to); err != nil {
			return err
		}
		f.mu.Lock()
		f.at = to
		f.mu.Unlock()
	}
}

// settle lets time go on until nothing is open: a refund waits for its order once the patience, and its dead letter until
// nothing can come before it.
func (f *feeder) settle(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = f.at.Add(2*f.patience + feedSlice)
	return f.play.heartbeat(ctx, f.at)
}

// reached is the simulated time up to which everything is in the topic.
func (f *feeder) reached() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.at
}

// finish stops feeding and returns the simulated time reached.
func (f *feeder) finish() time.Time {
	f.t.Helper()
	f.stopped.Do(func() { close(f.stop) })
	<-f.done
	if f.err != nil {
		f.t.Fatalf("feeding the topic: %v", f.err)
	}
	f.t.Logf("fed %d events up to %s", f.play.count, f.at.Format(time.DateOnly))
	return f.at
}
