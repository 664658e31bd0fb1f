package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"zyklus/cmd/zyklus/internal/view"
	"zyklus/sinks/clickhouse"
)

const (
	frame = 250 * time.Millisecond // between two looks at the metrics
	ask   = time.Second            // between two questions to ClickHouse
)

// show draws the live view, or a line a second where there is no terminal, until ctx ends.
func (d *demo) show(ctx context.Context) (err error) {
	v := view.New(d.out, view.Options{})
	if f, ok := d.out.(*os.File); ok {
		v = view.On(f)
	}
	defer func() {
		if cerr := v.Close(); err == nil {
			err = cerr
		}
	}()
	client, err := clickhouse.Open(ctx, clickhouseOptions(d.cfg), d.log, prometheus.NewRegistry())
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	b := &d.board
	for asked := (time.Time{}); ; {
		if err := sleepUntil(ctx, time.Now, time.Now().Add(frame)); err != nil {
			return err
		}
		f, err := d.figures()
		if err != nil {
			return err
		}
		now := time.Now()
		b.look(now, f, d.history)
		if now.Sub(asked) >= ask {
			asked = now
			b.notice = ""
			if err := d.board.read(ctx, client, d.cfg.ClickHouse.Database, f.clock); err != nil && ctx.Err() == nil {
				b.notice = "ClickHouse: " + err.Error()
			}
		}
		if err := v.Render(d.snapshot(now, f)); err != nil {
			return fmt.Errorf("draw: %w", err)
		}
	}
}

// look keeps what changes from moment to moment.
func (b *board) look(now time.Time, f figures, history time.Time) {
	if b.done.IsZero() && b.fed.Load() > 0 && !f.clock.Before(history) {
		b.done, b.doneAt = now, f.events
	}
	if past := now.Sub(b.looked); past >= time.Second {
		if !b.looked.IsZero() {
			b.rate = float64(f.events-b.previous) / past.Seconds()
		}
		b.looked, b.previous = now, f.events
	}
}

// read asks ClickHouse for what is worth showing.
func (b *board) read(ctx context.Context, client *clickhouse.Client, database string, clock time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	var written time.Time
	if err := scan(ctx, client, "SELECT min(clock) FROM "+database+".v_checkpoints", &written); err != nil {
		return err
	}
	if written.After(b.written) {
		b.written, b.writtenAt = written, time.Now()
	}
	var lost uint64
	if err := scan(ctx, client, fmt.Sprintf("SELECT count() FROM %s.v_phase_transitions WHERE to_churned = 'lost' AND at > fromUnixTimestamp64Milli(%d)",
		database, clock.Add(-24*time.Hour).UnixMilli()), &lost); err != nil {
		return err
	}
	b.lost = int64(lost)
	rows, err := client.Query(ctx, "SELECT at, customer_id, from_phase, to_phase, cause FROM "+database+
		".v_phase_transitions WHERE from_phase != '' ORDER BY at DESC LIMIT 12")
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	b.changes = b.changes[:0]
	for rows.Next() {
		var c view.Change
		if err := rows.Scan(&c.At, &c.Customer, &c.From, &c.To, &c.Cause); err != nil {
			return err
		}
		b.changes = append(b.changes, c)
	}
	return rows.Err()
}

// scan reads the one value of the one row of an answer.
func scan(ctx context.Context, client *clickhouse.Client, sql string, value any) error {
	rows, err := client.Query(ctx, sql)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := rows.Scan(value); err != nil {
			return err
		}
	}
	return rows.Err()
}

// snapshot is what the view shows.
func (d *demo) snapshot(now time.Time, f figures) view.Snapshot {
	b := &d.board
	s := view.Snapshot{
		Now: now, Clock: f.clock, Mode: view.ModeLive, Events: f.events, EventsPerSecond: b.rate, Rows: f.rows,
		Freshness: -1, ChurnedLastDay: b.lost, Changes: b.changes, Notice: b.notice,
		Addresses: d.addresses(), Queries: d.questions(),
	}
	if !b.writtenAt.IsZero() {
		s.Freshness = max(0, now.Sub(b.writtenAt)) // it may have been read since now
	}
	switch behind := now.Sub(f.clock); {
	case b.done.IsZero():
		s.Mode = view.ModeHistory
		s.Progress = max(0, min(1, f.clock.Sub(d.state.Start).Seconds()/demoHistory.Seconds()))
		if took := now.Sub(d.begin); s.Progress > 0.02 {
			s.ETA = time.Duration(float64(took) * (1 - s.Progress) / s.Progress)
		}
	case behind > 5*time.Second:
		s.Mode, s.Progress = view.ModeFast, 1
		s.ETA = time.Duration(float64(behind) / d.options.speed.Seconds())
	}
	for _, l := range d.service.job.Lifecycles() {
		for _, p := range l.Phases {
			s.Phases = append(s.Phases, view.PhaseCount{
				ID: p.ID, LabelEn: p.Labels.En, LabelDe: p.Labels.De, Customers: f.phases[p.ID], Churned: p.Churned,
			})
		}
	}
	return s
}
