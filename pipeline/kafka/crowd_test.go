package kafka

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"zyklus/pipeline"
)

// awaySink takes no rows before its gate is open.
type awaySink struct {
	*rowSink
	back chan struct{}
}

func (s awaySink) Write(ctx context.Context, b *pipeline.Batch) error {
	if err := await(ctx, s.back); err != nil {
		return err
	}
	return s.rowSink.Write(ctx, b)
}

// TestSinkAwayTooLong plays histories that do not fit into what may wait for the sink: reading stops before anything is
// given up or a record gets too large, though the partition goes on to be this member's. Once the sink is back the rows are
// those of a run that it never left.
func TestSinkAwayTooLong(t *testing.T) {
	daily := func(customers, days int64) (events []happening) {
		for d := range days {
			for c := range customers {
				at := spring + d*day + c*minute
				events = append(events, pageOf(fmt.Sprint("c-", c), fmt.Sprint(c, "/", d), at))
				if d%50 == c {
					events = append(events, orderOf(fmt.Sprint("c-", c), fmt.Sprint("o", c, "/", d), at+1, 1000))
				}
			}
		}
		return events
	}
	for name, c := range map[string]struct {
		events []happening
		limit  int64
	}{
		"one customer for years":     {daily(1, 6000), 0},
		"many customers for a month": {daily(40, 30), 50_000},
		"large orders of one":        {largeOrders(1300), 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			setUp := func(o *pipeline.Options) { o.Days, o.WallClock, o.WorkingSet = true, false, 16 }
			end := c.events[len(c.events)-1].at + 10*day
			want, got := newRealLab(t, 1, setUp), newRealLab(t, 1, setUp)
			for _, l := range []*realLab{want, got} {
				l.happen(c.events...)
				l.heartbeat(end)
				l.now.Store(end)
			}
			healthy := want.start()
			want.await(end, end)
			must(t, healthy.stop())

			reg, back := prometheus.NewPedanticRegistry(), make(chan struct{})
			r := got.start(func(o *Options, d *Deps) {
				o.MaxPending, d.Registerer, d.Sink = c.limit, reg, awaySink{got.rows, back}
			})
			awaitCount(t, reg, "zyklus_partitions_waiting", 1)
			stopped := r.snapshot()[0]
			if at, all := stopped.committed.Load(), got.end(0); at >= all {
				t.Errorf("all of %d records were read", all)
			}
			if c.limit > 0 {
				if n := r.pending.Load(); n < c.limit || n > 2*c.limit {
					t.Errorf("%d bytes wait, the limit is %d", n, c.limit)
				}
			}
			close(back)
			got.await(end, end)
			if now := r.snapshot()[0]; now != stopped {
				t.Error("the partition was lost meanwhile")
			}
			if n := count(t, reg, "zyklus_daily_rows_lost_total"); n != 0 {
				t.Errorf("%v rows were given up", n)
			}
			sameRows(t, want, got, "customers", "customer_days", "orders", "phase_transitions")
		})
	}
}

// largeOrders are orders of one customer, of as many lines as are kept, in the course of some hours.
func largeOrders(n int) (events []happening) {
	var lines []string
	for i := range 100 {
		lines = append(lines, fmt.Sprintf(`{"product_id":"p-%d","category":"c-%d","quantity":1,"price":1.25}`, i, i%7))
	}
	products := `"products":[` + strings.Join(lines, ",") + `],"order_id"`
	for i := range n {
		e := orderOf("wholesale", fmt.Sprint("w", i), spring+int64(i)*minute/6, 12500)
		e.value = strings.Replace(e.value, `"order_id"`, products, 1)
		events = append(events, e)
	}
	return events
}
