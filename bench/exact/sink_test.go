package exact

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"zyklus/bench/oracle"
	"zyklus/pipeline"
)

// database stands for ClickHouse and all that may befall it.
type database struct {
	w *world

	mu     sync.Mutex
	store  *oracle.Store
	reader *oracle.FinalReader
	away   chan struct{} // closed while it takes rows
	faults []string
	stale  int           // questions for a version that a replica which lags answers
	last   *oracle.Store // what must not change any more
}

func newDatabase(w *world) *database {
	d := &database{w: w, store: oracle.NewStore(), reader: oracle.NewFinalReader(w.history.Setting()), away: make(chan struct{})}
	close(d.away)
	return d
}

// leave takes the database away until come.
func (d *database) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-d.away:
		d.away = make(chan struct{})
	default:
	}
}

func (d *database) come() {
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-d.away:
	default:
		close(d.away)
	}
}

// reach waits until the database is there for a member.
func (d *database) reach(ctx context.Context, m *member) error {
	for {
		if err := m.cable.pass(ctx); err != nil {
			<-ctx.Done() // nobody is there any more to see an error
			return ctx.Err()
		}
		d.mu.Lock()
		away := d.away
		d.mu.Unlock()
		select {
		case <-away:
			return nil
		case <-m.cable.cut:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// put stores rows. Only a writer whom others may have replaced may be late.
func (d *database) put(rows []oracle.Row, suspect bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if suspect {
		rows = d.fresh(rows)
	}
	if d.w.guard != nil {
		if err := d.w.guard.refuses(d.w, rows); err != nil {
			d.faults = append(d.faults, err.Error())
		}
	}
	d.store.Write(rows)
	if err := d.reader.Read(d.store); err != nil {
		d.faults = append(d.faults, err.Error())
	}
}

// fresh leaves out rows that lose against what is stored.
func (d *database) fresh(rows []oracle.Row) (kept []oracle.Row) {
	for i := range rows {
		old, ok := d.store.Tables[rows[i].Table.Name][rows[i].Key()]
		if !ok || rows[i].Version >= old.Version {
			kept = append(kept, rows[i])
		}
	}
	return kept
}

// version is the greatest one stored for a partition.
func (d *database) version(partition int32) (v int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stale > 0 {
		d.stale--
		return 0
	}
	for _, r := range d.store.Tables["checkpoints"] {
		if r.Get("partition").Int == int64(partition) {
			v = max(v, r.Version)
		}
	}
	return v
}

// place is how far a partition is written.
type place struct{ clock, position int64 }

// reached is how far partitions are written.
func (d *database) reached() map[int64]place {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := map[int64]place{}
	for _, r := range d.store.Tables["checkpoints"] {
		all[r.Get("partition").Int] = place{r.Get("clock").Int, r.Get("position").Int}
	}
	return all
}

// sink is a member's way to the database.
type sink struct {
	d *database
	m *member
}

// Version implements pipeline.Sink.
func (s sink) Version(ctx context.Context, _ string, partition int32) (int64, error) {
	if err := s.d.reach(ctx, s.m); err != nil {
		return 0, err
	}
	return s.d.version(partition), nil
}

// Write implements pipeline.Sink: it tries until it is sure, and what it tried may have happened.
func (s sink) Write(ctx context.Context, b *pipeline.Batch) error {
	rows := oracle.BatchRows(b)
	for {
		if err := s.d.reach(ctx, s.m); err != nil {
			s.haunt(rows)
			return err
		}
		n, sure := s.d.w.outcome(len(rows))
		s.d.put(rows[:n], s.m.suspect.Load())
		if sure {
			return nil
		}
		if err := wait(ctx, time.Duration(s.d.w.dice(2000))*time.Millisecond); err != nil {
			s.haunt(rows)
			return err
		}
	}
}

// haunt lets an insert that was on its way when its writer died arrive much later, if chance will have it.
func (s sink) haunt(rows []oracle.Row) {
	if s.d.w.dice(2) == 0 {
		return
	}
	after := time.Duration(s.d.w.dice(60_000)) * time.Millisecond
	s.d.w.ghosts.Go(func() {
		if wait(s.d.w.ctx, after) == nil {
			s.d.put(rows, true)
		}
	})
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *database) count() (rows int) {
	for _, table := range oracle.FinalTables() {
		rows += len(d.store.Tables[table])
	}
	return rows
}

// wrong returns what was wrong with the rows on the way.
func (d *database) wrong() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, fault := range append(d.faults, d.store.Faults...) {
		return fmt.Errorf("rows on the way: %s", fault)
	}
	return nil
}

// remember keeps what is stored: from here on nothing happens.
func (d *database) remember() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last = oracle.NewStore()
	for _, table := range oracle.FinalTables() {
		d.last.Tables[table] = maps.Clone(d.store.Tables[table])
	}
}

// unchanged returns what those have done who woke or arrived when all was over.
func (d *database) unchanged() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, table := range oracle.FinalTables() {
		if changed := d.store.Same(d.last, table, ""); changed != "" {
			return fmt.Errorf("after the end: %s", changed)
		}
	}
	return nil
}
