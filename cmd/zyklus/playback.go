package main

import (
	"context"
	"fmt"
	"time"

	"zyklus/bench/simulator"
)

// feed is where events go: the input topic, or a file.
type feed interface {
	// Produce hands over one record; it may wait for room. key and value may be reused when it returns.
	Produce(ctx context.Context, key, value []byte, at time.Time) error
	// Heartbeat says in every partition how far time has come, after all that was produced before.
	Heartbeat(ctx context.Context, value []byte) error
	// Flush returns when everything produced is stored.
	Flush(ctx context.Context) error
}

// playback feeds simulated events in the order of their arrival.
type playback struct {
	sim   *simulator.Simulator
	feed  feed
	rate  float64 // events per second at most, 0 for as fast as possible
	now   func() time.Time
	saved func(arrival time.Time) error // called after each flush
	after time.Time                     // events that arrive no later have been played before

	next  simulator.Event
	ready bool
	count int64
	begin time.Time
	beat  []byte
}

// until plays all events that arrive before an instant of simulated time, and then says that time has come so far.
func (p *playback) until(ctx context.Context, to time.Time) error {
	if p.begin.IsZero() {
		p.begin = p.now()
	}
	for p.ready || p.sim.Next(&p.next) {
		p.ready = true
		if !p.next.Arrival.Before(to) {
			break
		}
		p.ready = false
		if !p.next.Arrival.After(p.after) {
			continue
		}
		if err := p.feed.Produce(ctx, p.next.Key, p.next.Value, p.next.Arrival); err != nil {
			return fmt.Errorf("produce simulated event: %w", err)
		}
		p.count++
		if err := p.pace(ctx); err != nil {
			return err
		}
	}
	return p.heartbeat(ctx, to)
}

// heartbeat flushes, says that time has come to an instant, and remembers that.
func (p *playback) heartbeat(ctx context.Context, to time.Time) error {
	if err := p.feed.Flush(ctx); err != nil {
		return fmt.Errorf("flush simulated events: %w", err)
	}
	p.beat = simulator.Heartbeat(p.beat[:0], to)
	if err := p.feed.Heartbeat(ctx, p.beat); err != nil {
		return fmt.Errorf("produce heartbeat: %w", err)
	}
	if p.saved != nil {
		return p.saved(to)
	}
	return nil
}

// pace keeps to the rate, looking at the clock once per hundred events.
func (p *playback) pace(ctx context.Context) error {
	if p.rate <= 0 || p.count%max(1, min(100, int64(p.rate/20))) != 0 {
		return ctx.Err()
	}
	return sleepUntil(ctx, p.now, p.begin.Add(time.Duration(float64(p.count)/p.rate*float64(time.Second))))
}

// join plays on at a speed (simulated time per wall time) until simulated time meets the wall clock, and from then on
// along with it. It ends with ctx only.
func (p *playback) join(ctx context.Context, from time.Time, speed float64) error {
	const tick = 100 * time.Millisecond
	sim, wall := from, p.now()
	for {
		if err := sleepUntil(ctx, p.now, wall.Add(tick)); err != nil {
			return err
		}
		now := p.now()
		sim = sim.Add(time.Duration(float64(now.Sub(wall)) * speed))
		if sim.After(now) {
			sim = now
		}
		wall = now
		if err := p.until(ctx, sim.Truncate(time.Millisecond)); err != nil {
			return err
		}
	}
}

// sleepUntil waits for an instant of the wall clock.
func sleepUntil(ctx context.Context, now func() time.Time, at time.Time) error {
	wait := at.Sub(now())
	if wait <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
