package e2e

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"zyklus/pipeline/kafka"
)

// The load of BenchmarkFreshness.
const (
	perSecond = 1000
	seconds   = 30
	silences  = 200
)

// BenchmarkFreshness measures, at a thousand events a second with the wall clock, how long it takes from an order's
// arrival in the topic until its row can be read, and from the instant of a silent transition until its row can.
func BenchmarkFreshness(b *testing.B) {
	ctx := context.Background()
	zyklus := build(b)
	broker := part(b, zyklus, "embedded", "broker", "--listen", "127.0.0.1:0", "--data-dir", b.TempDir())
	engine := part(b, zyklus, "embedded", "clickhouse", "--listen", "127.0.0.1:0", "--data-dir", b.TempDir())
	o := kafka.Options{Brokers: []string{broker}, Group: "bench", Topic: "events"}
	if err := kafka.EnsureTopics(ctx, o, partitions); err != nil {
		b.Fatal(err)
	}
	p := startPipeline(b, o, engine, "EUR", true)
	defer p.stop()
	producer, err := kafka.NewProducer(ctx, o, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer producer.Close()
	time.Sleep(3 * time.Second) // the group has formed

	silent := foreSilence(b, producer, time.Now())
	w := watch{orders: map[string]time.Time{}, silent: silent}
	begin := time.Now()
	for n := 0; n < perSecond*seconds || time.Since(begin) < seconds*time.Second+5*time.Second; {
		for ; n < perSecond*seconds && n < int(time.Since(begin).Seconds()*perSecond); n++ {
			now := time.Now()
			id, key := fmt.Sprintf("o%d", n), fmt.Sprintf("c%05d", n*7919%20000)
			value := order(id, key, now)
			if n%2 == 1 {
				value = view(id, key, now)
			} else if n%20 == 0 {
				w.orders[id] = now
			}
			if err := producer.Produce(ctx, []byte(key), []byte(value), now); err != nil {
				b.Fatal(err)
			}
		}
		w.look(b, p)
	}
	report(b, "row", w.rows)
	report(b, "silence", w.silences)
	b.ReportMetric(float64(len(w.orders)+len(w.silent)), "not-seen")
	b.ReportMetric(0, "ns/op")
}

// foreSilence orders once for each of some customers, so long ago that they fall silent one after the other from now on:
// a one-time buyer is inactive after 90 days and a millisecond.
func foreSilence(b *testing.B, producer *kafka.Producer, now time.Time) map[string]time.Time {
	silent := map[string]time.Time{}
	for i := range silences {
		at := now.Add(8*time.Second + time.Duration(i)*100*time.Millisecond).Truncate(time.Millisecond)
		id := fmt.Sprintf("s%d", i)
		silent[id] = at.Add(time.Millisecond)
		value := order("o-"+id, id, at.Add(-90*24*time.Hour))
		if err := producer.Produce(context.Background(), []byte(id), []byte(value), now); err != nil {
			b.Fatal(err)
		}
	}
	if err := producer.Flush(context.Background()); err != nil {
		b.Fatal(err)
	}
	return silent
}

func order(id, customer string, at time.Time) string {
	return fmt.Sprintf(`{"type":"track","event":"Order Completed","userId":"%s","messageId":"m-%s","timestamp":"%s","properties":{"order_id":"%s","total":129.90,"currency":"EUR","products":[{"product_id":"p12","category":"shoes","price":64.95,"quantity":2}]}}`,
		customer, id, at.UTC().Format("2006-01-02T15:04:05.000Z"), id)
}

func view(id, customer string, at time.Time) string {
	return fmt.Sprintf(`{"type":"track","event":"Product Viewed","userId":"%s","messageId":"m-%s","timestamp":"%s","properties":{"product_id":"p12","category":"shoes","price":64.95,"currency":"EUR"}}`,
		customer, id, at.UTC().Format("2006-01-02T15:04:05.000Z"))
}

// watch looks for rows that have not been seen yet.
type watch struct {
	orders, silent map[string]time.Time // expected, by id
	rows, silences []time.Duration
}

func (w *watch) look(b *testing.B, p *running) {
	w.rows = append(w.rows, seen(b, p, w.orders, "SELECT order_id FROM bench.orders WHERE startsWith(order_id, 'o') AND order_id IN (?)")...)
	w.silences = append(w.silences, seen(b, p, w.silent, "SELECT customer_id FROM bench.phase_transitions WHERE cause = 'deadline' AND customer_id IN (?)")...)
}

// seen asks which of the expected rows are there, and forgets those.
func seen(b *testing.B, p *running, expected map[string]time.Time, sql string) (took []time.Duration) {
	if len(expected) == 0 {
		return nil
	}
	ids := make([]string, 0, len(expected))
	for id := range expected {
		ids = append(ids, id)
	}
	rows, err := p.client.Query(context.Background(), sql, ids)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	for now := time.Now(); rows.Next(); {
		var id string
		if err := rows.Scan(&id); err != nil {
			b.Fatal(err)
		}
		if at, ok := expected[id]; ok {
			took = append(took, now.Sub(at))
			delete(expected, id)
		}
	}
	return took
}

func report(b *testing.B, name string, took []time.Duration) {
	if len(took) == 0 {
		b.Fatalf("no %s was seen", name)
	}
	slices.Sort(took)
	at := func(q float64) float64 { return took[int(q*float64(len(took)-1))].Seconds() }
	b.ReportMetric(at(0.5), name+"-p50-s")
	b.ReportMetric(at(0.99), name+"-p99-s")
	b.ReportMetric(float64(len(took)), name+"s")
}
