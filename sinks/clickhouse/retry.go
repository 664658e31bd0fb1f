package clickhouse

import (
	"context"
	"log/slog"
	"math/bits"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// Waits between attempts. An outage ends for us at most maxDelay after it has ended.
const (
	firstDelay = 100 * time.Millisecond
	maxDelay   = 5 * time.Second
	stopDelay  = 10 * time.Second
)

// delay is how long to wait after the attempt-th failure in a row (from 0): exponential, or long where a person must
// act, and spread by jitter in (0, 1] so that instances do not return in step.
func delay(c class, attempt int, jitter float64) time.Duration {
	d := maxDelay
	switch {
	case c == classStop:
		d = stopDelay
	case attempt < 6:
		d = min(firstDelay<<attempt, maxDelay)
	}
	return d/2 + time.Duration(float64(d/2)*jitter)
}

// sleep waits or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// attempts repeats one kind of statement until it succeeds.
type attempts struct {
	client *Client
	sleep  func(ctx context.Context, d time.Duration) error
	last   atomic.Pointer[problem] // nil while statements succeed
}

// do calls try until it returns nil, or returns ctx's error. No other error ends it: a row given up is a row lost.
func (a *attempts) do(ctx context.Context, what string, try func(context.Context) error) error {
	for attempt := 0; ; attempt++ {
		err := try(ctx)
		if err == nil {
			if a.last.Swap(nil) != nil {
				a.client.log.Info("ClickHouse answers again", "what", what, "failures", attempt)
			}
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := a.wait(ctx, what, err, attempt); err != nil {
			return err
		}
	}
}

// wait records a failure and sleeps.
func (a *attempts) wait(ctx context.Context, what string, err error, attempt int) error {
	c := classify(err)
	a.client.metrics.retries.WithLabelValues(string(c)).Inc()
	text := a.client.explain(err).Error()
	a.last.Store(&problem{text, err})
	d := delay(c, attempt, 1-rand.Float64())
	if bits.OnesCount(uint(attempt+1)) == 1 { // the 1st, 2nd, 4th, 8th … failure in a row
		level := slog.LevelWarn
		if c == classStop {
			level = slog.LevelError
		}
		a.client.log.Log(ctx, level, text, "what", what, "class", string(c), "failures", attempt+1, "retry_in", d.Round(time.Millisecond))
	}
	return a.sleep(ctx, d)
}

// health returns the error of the last attempt, nil if it succeeded.
func (a *attempts) health() error {
	if p := a.last.Load(); p != nil {
		return p
	}
	return nil
}
