package main

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"sync/atomic"
	"time"

	dto "github.com/prometheus/client_model/go"

	"zyklus/cmd/zyklus/internal/view"
	"zyklus/sinks/clickhouse"
)

// board collects what the demo shows: figures from the metrics, rows from ClickHouse.
type board struct {
	fed   atomic.Int64 // events of the history, once all are in the topic
	fedAt atomic.Int64 // Unix nanoseconds

	done     time.Time // when the history had been processed; zero until then
	doneAt   int64     // events processed by then
	previous int64     // events processed when the rate was last taken
	looked   time.Time
	rate     float64 // events per second

	written   time.Time // event time up to which ClickHouse has everything
	writtenAt time.Time // when that was first seen
	lost      int64     // customers lost within the last day of the clock
	changes   []view.Change
	notice    string
}

// historyFed notes that the whole history is in the topic.
func (b *board) historyFed(events int64) {
	b.fedAt.Store(time.Now().UnixNano())
	b.fed.Store(events)
}

// figures are sums over the partitions.
type figures struct {
	events, rows, transitions, withdrawn, deadLetters, customers, stateBytes int64
	clock                                                                    time.Time // the slowest partition's
	phases                                                                   map[string]int64
	causes                                                                   map[string]int64
}

// figures reads the metrics.
func (d *demo) figures() (f figures, err error) {
	families, err := d.service.metrics.Gather()
	if err != nil {
		return f, err
	}
	f.phases, f.causes = map[string]int64{}, map[string]int64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			f.add(family.GetName(), m)
		}
	}
	return f, nil
}

func (f *figures) add(name string, m *dto.Metric) {
	count, gauge := int64(m.GetCounter().GetValue()), m.GetGauge().GetValue()
	switch name {
	case "zyklus_events_total":
		f.events += count
	case "zyklus_clickhouse_rows_total":
		f.rows += count
	case "zyklus_withdrawn_total":
		f.withdrawn += count
	case "zyklus_dead_letters_total":
		f.deadLetters += count
	case "zyklus_customers":
		f.customers += int64(gauge)
	case "zyklus_state_bytes":
		f.stateBytes += int64(gauge)
	case "zyklus_phase_customers":
		f.phases[label(m, "phase")] += int64(gauge)
	case "zyklus_transitions_total":
		f.transitions += count
		f.causes[label(m, "cause")] += count
	case "zyklus_clock_seconds":
		if t := time.UnixMilli(int64(gauge * 1000)).UTC(); f.clock.IsZero() || t.Before(f.clock) {
			f.clock = t
		}
	}
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// summary says what was done, from ClickHouse itself. The pipeline has stopped.
func (d *demo) summary(ctx context.Context, f figures) string {
	var b strings.Builder
	took := time.Since(d.begin)
	fmt.Fprintf(&b, "\nran %s: %d events, %d rows written, %d transitions, %d withdrawn, %d dead letters\n",
		took.Round(time.Millisecond), f.events, f.rows, f.transitions, f.withdrawn, f.deadLetters)
	if !d.board.done.IsZero() {
		seconds := d.board.done.Sub(d.begin).Seconds()
		fmt.Fprintf(&b, "history: %d events in %.1f s, %.0f events/s\n", d.board.doneAt, seconds, float64(d.board.doneAt)/seconds)
	} else {
		fmt.Fprintf(&b, "history: not finished, %.0f events/s\n", float64(f.events)/took.Seconds())
	}
	fmt.Fprintf(&b, "customers: %d, %d bytes each at rest\n", f.customers, f.stateBytes/max(1, f.customers))
	b.WriteString("transitions by cause:\n")
	causes, err := d.causes(ctx)
	if err != nil {
		fmt.Fprintf(&b, "  cannot be read from ClickHouse: %v\n", err)
	}
	for _, c := range causes {
		fmt.Fprintf(&b, "  %-20s %d\n", c.name, c.n)
	}
	return b.String()
}

type counted struct {
	name string
	n    uint64
}

// causes counts the transitions that stand, by cause.
func (d *demo) causes(ctx context.Context) (list []counted, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	client, err := clickhouse.Open(ctx, clickhouseOptions(d.cfg), d.log, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = client.Close() }()
	rows, err := client.Query(ctx, "SELECT cause, count() FROM "+d.cfg.ClickHouse.Database+".v_phase_transitions GROUP BY cause")
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var c counted
		if err := rows.Scan(&c.name, &c.n); err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	sort.Slice(list, func(i, k int) bool { return list[i].n > list[k].n })
	return list, rows.Err()
}
