package clickhouse

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
)

func TestDelay(t *testing.T) {
	for _, tc := range []struct {
		class   class
		attempt int
		want    time.Duration // at full jitter
	}{
		{classOverload, 0, 100 * time.Millisecond},
		{classNetwork, 3, 800 * time.Millisecond},
		{classUnknown, 6, 5 * time.Second},
		{classOverload, 1 << 20, 5 * time.Second},
		{classStop, 0, 10 * time.Second},
	} {
		if got := delay(tc.class, tc.attempt, 1); got != tc.want {
			t.Errorf("%s %d: got %v, want %v", tc.class, tc.attempt, got, tc.want)
		}
		if got := delay(tc.class, tc.attempt, 0); got != tc.want/2 {
			t.Errorf("%s %d without jitter: got %v, want %v", tc.class, tc.attempt, got, tc.want/2)
		}
	}
}

func TestAttempts(t *testing.T) {
	c := &Client{opts: Options{}.withDefaults(), log: slog.New(slog.DiscardHandler), metrics: newMetrics()}
	failures := []error{&ch.Exception{Code: 252}, context.DeadlineExceeded, &ch.Exception{Code: 497, Message: "no INSERT"}}
	a := attempts{client: c}
	slept := 0
	a.sleep = func(context.Context, time.Duration) error {
		slept++
		if a.health() == nil {
			t.Error("healthy while failing")
		}
		return nil
	}
	err := a.do(context.Background(), "insert", func(context.Context) error {
		if len(failures) == 0 {
			return nil
		}
		err := failures[0]
		failures = failures[1:]
		return err
	})
	if err != nil || slept != 3 || a.health() != nil {
		t.Errorf("err %v, slept %d, health %v", err, slept, a.health())
	}
}

func TestAttemptsEndWithContext(t *testing.T) {
	c := &Client{opts: Options{}.withDefaults(), log: slog.New(slog.DiscardHandler), metrics: newMetrics()}
	ctx, cancel := context.WithCancel(context.Background())
	a := attempts{client: c, sleep: sleep}
	err := a.do(ctx, "insert", func(context.Context) error {
		cancel()
		return &ch.Exception{Code: 60}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
