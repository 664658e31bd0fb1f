package pipeline_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"zyklus/bench/oracle"
	"zyklus/pipeline"
)

// TestCalendar holds business days against package time, in zones whose clocks go forward at midnight too.
func TestCalendar(t *testing.T) {
	for _, name := range []string{"UTC", "Europe/Berlin", "America/Sao_Paulo", "America/Havana", "Pacific/Apia", "Asia/Kathmandu", "Asia/Beirut"} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		c, r := pipeline.NewCalendar(zone), rand.New(rand.NewPCG(1, 1))
		for range 20_000 {
			at := time.Date(1990, 1, 2, 0, 0, 0, 0, zone).UnixMilli() + r.Int64N(100*365*dayMs)
			if r.IntN(2) == 0 { // the hours around a midnight
				at = c.Midnight(c.Day(at)) + r.Int64N(4*3600*1000) - 2*3600*1000
			}
			when := time.UnixMilli(at).In(zone)
			day := time.Date(when.Year(), when.Month(), when.Day(), 0, 0, 0, 0, time.UTC).Unix() / 86400
			if got := c.Day(at); got != day && !(name == "America/Havana" && when.Hour() == 23) { // a midnight that comes twice
				t.Fatalf("%s: %v is day %d, want %d", name, when, got, day)
			}
			if m := c.Midnight(day); c.Day(m) != day || c.Day(m-1) >= day {
				t.Fatalf("%s: day %d does not begin at %v", name, day, time.UnixMilli(m).In(zone))
			}
		}
	}
}

func TestLatenessOfZeroIsRefused(t *testing.T) {
	o := options(t)
	o.Lateness = 0
	if _, err := pipeline.NewJob(o); err == nil {
		t.Error("with no lateness every second event of an instant would be late")
	}
}

// TestLargeCustomer: whatever one customer does, the record stays below its bound, and totals are exact.
func TestLargeCustomer(t *testing.T) {
	for name, fill := range map[string]func(i int64, e *pipeline.Event){
		"refunds that wait": func(i int64, e *pipeline.Event) {
			e.Kind, e.Raw = pipeline.KindOrderRefunded, make([]byte, 16<<10)
		},
		"orders": func(_ int64, e *pipeline.Event) { e.Kind = pipeline.KindOrderCompleted },
		"categories of any length": func(i int64, e *pipeline.Event) {
			e.Kind = pipeline.KindOrderCompleted
			if i%100 == 98 { // after events that are open still, and one comes after it
				category := append(make([]byte, 600<<10), byte(i), byte(i>>8))
				e.Lines = []pipeline.Line{{Product: 1, Category: category, Quantity: 1000, Amount: 10, HasAmount: true}}
			}
		},
		"orders of many lines": func(i int64, e *pipeline.Event) {
			e.Kind = pipeline.KindOrderCompleted
			for p := range uint64(100) {
				e.Lines = append(e.Lines, pipeline.Line{Product: p, Category: fmt.Appendf(nil, "category %d", (i+int64(p))%300), Quantity: 1000, Amount: 10, HasAmount: true})
			}
		},
	} {
		task := pipeline.NewTask(newJob(t, setting{zone: "UTC", lateness: 10 * time.Minute}), "events", 0)
		at := time.Date(2024, 3, 1, 10, 0, 0, 0, time.UTC).UnixMilli()
		var durable changelog
		var orders int64
		for i := range int64(3000) {
			at += 20_000
			e := &pipeline.Event{At: at, ID: uint64(i + 1), Customer: []byte("bulk"), OrderID: fmt.Appendf(nil, "order %d", i), Amount: 10, HasAmount: true}
			fill(i, e)
			if e.Kind == pipeline.KindOrderCompleted {
				orders++
			}
			task.Process(e, at)
			if i%100 != 99 {
				continue
			}
			for task.Drain(10) {
			}
			cp := task.Checkpoint()
			for _, c := range cp.Changes {
				if len(c.Value) > 512<<10 {
					t.Fatalf("%s: a record of %d bytes", name, len(c.Value))
				}
			}
			durable.append(cp)
			task.Committed()
			for b := task.NextBatch(10_000); b != nil; b = task.NextBatch(10_000) {
				for _, r := range oracle.BatchRows(b) {
					if r.Table.Name == "customers" && r.Get("orders").Int != orders {
						t.Fatalf("%s: %v orders, want %d", name, r.Get("orders"), orders)
					}
				}
				task.Acknowledge()
			}
		}
		if _, err := durable.compacted().restore(newJob(t, setting{zone: "UTC", lateness: 10 * time.Minute}), 0); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLateOrderBeyondTheHorizon: an order that comes more than 400 days late finds the refund that waits for it.
func TestLateOrderBeyondTheHorizon(t *testing.T) {
	task := pipeline.NewTask(newJob(t, setting{zone: "UTC", lateness: 10 * time.Minute}), "events", 0)
	at := time.Date(2024, 3, 1, 10, 0, 0, 0, time.UTC).UnixMilli()
	refund := &pipeline.Event{Kind: pipeline.KindOrderRefunded, At: at, ID: 1, Customer: []byte("a"), OrderID: []byte("o"), Amount: 3, HasAmount: true}
	task.Process(refund, at)
	task.AdvanceClock(at + 15*60_000)
	old := at - 450*dayMs
	task.Process(&pipeline.Event{Kind: pipeline.KindOrderCompleted, At: old, ID: 2, Customer: []byte("a"), OrderID: []byte("o"), Amount: 10, HasAmount: true}, at)
	task.Checkpoint()
	task.Committed()
	found := false
	for _, r := range oracle.BatchRows(task.NextBatch(100)) {
		switch r.Table.Name {
		case "customers":
			if got := r.Get("net_value_minor").Int; got != 7 {
				t.Errorf("net value %d, want 7", got)
			}
		case "orders":
			found = true
		}
	}
	if !found {
		t.Error("the order has no row")
	}
}
