package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/sourcegraph/conc"

	"zyklus/pipeline"
)

// eventually waits for a condition that another goroutine brings about.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
	}
}

// counted reads a counter.
func counted(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

// TestEngineGroupCommit: what waits goes together.
func TestEngineGroupCommit(t *testing.T) {
	const writers = 50
	c := migrated(t, server(t), testSchema())
	c.opts.Linger = 100 * time.Millisecond
	w := running(t, c)
	var wg conc.WaitGroup
	for p := range writers {
		wg.Go(func() { write(t, w, customers(p*10, p*10+10, 1, false), checkpoint(int64(p), 1)) })
	}
	wg.Wait()
	expect(t, c, "SELECT toString(count()) FROM {db}.v_customers", fmt.Sprint(writers*10))
	expect(t, c, "SELECT toString(count()) FROM {db}.v_checkpoints", fmt.Sprint(writers))
	if n := counted(t, c.metrics.inserts.WithLabelValues("customers")); n > writers/5 {
		t.Errorf("%v inserts for %d batches", n, writers)
	}
	if n := counted(t, c.metrics.rows.WithLabelValues("customers")); n != writers*10 {
		t.Errorf("counted %v rows", n)
	}
}

// TestEngineStopErrors: an error that a person must mend keeps the rows, holds `checkpoints` back and is told.
func TestEngineStopErrors(t *testing.T) { overBoth(t, testStopErrors) }

func testStopErrors(t *testing.T, o Options) {
	c := migrated(t, o, testSchema())
	w := running(t, c)
	ctx := context.Background()
	rename := func(from, to string) {
		if err := c.Exec(ctx, "RENAME TABLE "+c.table(from)+" TO "+c.table(to)); err != nil {
			t.Fatal(err)
		}
	}
	rename("phase_transitions", "away")
	transitions := pipeline.NewRows(transitionsTable())
	transitions.String("circle5")
	transitions.String("c1")
	transitions.Int(1_700_000_000_000)
	transitions.String("active")
	transitions.End(1, false)
	var wg conc.WaitGroup
	wg.Go(func() { write(t, w, customers(0, 3, 1, false), transitions, checkpoint(0, 1)) })
	eventually(t, "unhealthy", func() bool { return w.Healthy() != nil })
	if err := w.Healthy(); !strings.Contains(err.Error(), "table is missing: run `zyklus migrate`") {
		t.Error(err)
	}
	expect(t, c, "SELECT toString(count()) FROM {db}.checkpoints", "0")
	rename("away", "phase_transitions")
	wg.Wait()
	expect(t, c, "SELECT toString(count()) FROM {db}.checkpoints", "1")
	expect(t, c, "SELECT toString(count()) FROM {db}.phase_transitions", "1")
	if err := w.Healthy(); err != nil {
		t.Error(err)
	}
	if n := counted(t, c.metrics.retries.WithLabelValues(string(classStop))); n == 0 {
		t.Error("no retry counted")
	}
}

// TestEngineOutage cuts the line again and again while partitions write: nothing is lost, nothing appears twice.
func TestEngineOutage(t *testing.T) { overBoth(t, testOutage) }

func testOutage(t *testing.T, o Options) {
	const partitions, checkpoints, rows = 8, 30, 200
	direct := migrated(t, o, testSchema())
	line := newProxy(t, o.Addrs[0])
	o.Addrs = []string{line.addr()}
	w := running(t, open(t, o))

	var written atomic.Int64
	var wg conc.WaitGroup
	for p := range partitions {
		wg.Go(func() {
			for n := range checkpoints {
				from := (p*checkpoints + n) * rows
				write(t, w, customers(from, from+rows, int64(n+1), false), checkpoint(int64(p), int64(n+1)))
				written.Add(1)
			}
		})
	}
	for range 3 {
		before := written.Load()
		line.cut()
		eventually(t, "unhealthy while cut", func() bool { return w.Healthy() != nil })
		line.restore()
		eventually(t, "progress after", func() bool { return written.Load() > before+partitions || written.Load() == partitions*checkpoints })
	}
	wg.Wait()
	if err := w.Healthy(); err != nil {
		t.Error(err)
	}
	total := partitions * checkpoints * rows
	expect(t, direct, "SELECT toString(tuple(count(), uniqExact(customer_id), sum(orders))) FROM {db}.v_customers",
		fmt.Sprintf("(%d,%d,%d)", total, total, total*(total-1)/2))
	expect(t, direct, "SELECT toString(tuple(count(), min(version))) FROM {db}.checkpoints FINAL", fmt.Sprintf("(%d,%d)", partitions, checkpoints))
}

// TestEngineWriteEnds: a Write ends with its context or with the Writer, and the batch is the caller's again.
func TestEngineWriteEnds(t *testing.T) { overBoth(t, testWriteEnds) }

func testWriteEnds(t *testing.T, o Options) {
	migrated(t, o, testSchema())
	line := newProxy(t, o.Addrs[0])
	o.Addrs = []string{line.addr()}
	c := open(t, o)
	w := NewWriter(c)
	runCtx, stop := context.WithCancel(context.Background())
	defer stop()
	var wg conc.WaitGroup
	wg.Go(func() { _ = w.Run(runCtx) })
	line.cut()

	batch := &pipeline.Batch{Tables: []*pipeline.Rows{customers(0, 100, 1, false)}}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := w.Write(ctx, batch); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	batch.Tables[0].Reset()
	customer(batch.Tables[0], 7, 2, false)

	wg.Go(func() {
		if err := w.Write(context.Background(), batch); !errors.Is(err, ErrStopped) || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	time.Sleep(20 * time.Millisecond)
	stop()
	wg.Wait()
}

// TestEngineServerComesLate: a Writer whose server was away at the start checks the schema before it writes, and what has
// waited is written. A server that lacks something ends it before.
func TestEngineServerComesLate(t *testing.T) {
	overBoth(t, func(t *testing.T, o Options) {
		direct := migrated(t, o, testSchema())
		line := newProxy(t, o.Addrs[0])
		o.Addrs = []string{line.addr()}
		late := func() *Writer {
			t.Helper()
			c, err := New(o, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			line.cut()
			w := NewWaitingWriter(c, testSchema())
			if err := w.Meet(context.Background()); !Away(err) {
				t.Errorf("nobody answers, and it is not away: %v", err)
			}
			if w.Healthy() == nil {
				t.Error("healthy though nobody has answered")
			}
			return w
		}

		w := late()
		run(t, w)
		eventually(t, "tried again", func() bool { return counted(t, w.client.metrics.retries.WithLabelValues(string(classNetwork))) > 2 })
		var wg conc.WaitGroup
		wg.Go(func() { write(t, w, customers(0, 10, 1, false), checkpoint(0, 1)) })
		wg.Go(func() {
			if v, err := w.Version(context.Background(), "events", 7); v != 0 || err != nil {
				t.Errorf("got %d, %v", v, err)
			}
		})
		expect(t, direct, "SELECT toString(count()) FROM {db}.customers", "0")
		line.restore()
		wg.Wait()
		if err := w.Healthy(); err != nil {
			t.Error(err)
		}
		expect(t, direct, "SELECT toString(tuple(count(), sum(orders))) FROM {db}.v_customers", "(10,45)")

		w = late()
		if err := direct.Exec(context.Background(), "ALTER TABLE "+direct.table("customers")+" DROP COLUMN note"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		wg.Go(func() {
			if err := w.Write(ctx, &pipeline.Batch{Tables: []*pipeline.Rows{customers(10, 20, 1, false)}}); !errors.Is(err, context.Canceled) {
				t.Errorf("write: %v", err)
			}
		})
		wg.Go(func() {
			if _, err := w.Version(ctx, "events", 7); !errors.Is(err, context.Canceled) {
				t.Errorf("version: %v", err)
			}
		})
		line.restore()
		if err := w.Run(ctx); err == nil || Away(err) || !strings.Contains(err.Error(), "to do: add column customers.note") {
			t.Errorf("got %v", err)
		}
		cancel()
		wg.Wait()
		expect(t, direct, "SELECT toString(count()) FROM {db}.customers", "10")
	})
}
