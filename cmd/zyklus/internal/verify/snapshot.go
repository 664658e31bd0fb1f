package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"zyklus/bench/oracle"
	"zyklus/pipeline"
	"zyklus/pipeline/kafka"
)

// snapshot is one partition as of a checkpoint, as far as the sample goes.
type snapshot struct {
	v         *Verifier
	partition int32
	picker    *picker
	next      int64 // offset of the changelog to go on from
	records   map[string]pipeline.Change
	meta      *pipeline.Meta  // nil without a checkpoint
	own       pipeline.Change // the record of meta
	history   *history
	acked     int64 // version up to which ClickHouse has everything
	looks     int   // begun after the first
	moving    bool  // some could not be judged the last time, because rows or timers are under way
}

func newSnapshot(v *Verifier, partition int32, p *picker) *snapshot {
	return &snapshot{v: v, partition: partition, picker: p, records: map[string]pipeline.Change{}, history: newHistory(v, partition, p.picks)}
}

// started begins a piece of work, but for those of later looks, which are many and short.
func (s *snapshot) started(what string, total int64, unit string) {
	if s.looks == 0 {
		s.v.Started(fmt.Sprintf("partition %d: %s", s.partition, what), total, unit)
	}
}

func (s *snapshot) progress(done, _ int64) {
	if s.looks == 0 {
		s.v.Progress(done)
	}
}

// advance goes on to a checkpoint, and in the input to its position. The first one is the last that there is. From then
// on it is the one that ClickHouse has acknowledged last: hardly anything has been written since, so its rows are there
// to compare with, however busy the instances are.
func (s *snapshot) advance(ctx context.Context) error {
	if s.looks > 0 {
		if err := s.ask(ctx); err != nil || s.acked <= s.meta.Version() {
			return err
		}
	}
	if err := s.changelog(ctx); err != nil || s.meta == nil {
		return err
	}
	if !s.v.Job.Fits(s.meta) {
		return errOther
	}
	if s.meta.Position > s.history.next {
		if err := s.input(ctx); err != nil {
			return err
		}
	}
	return s.ask(ctx)
}

// ask asks up to which version ClickHouse has everything.
func (s *snapshot) ask(ctx context.Context) error {
	stored, err := s.v.ClickHouse.Checkpoints(ctx, s.v.Kafka.Options().Topic)
	s.acked = max(s.meta.Acked, stored[s.partition].Version)
	return err
}

// errReached ends a reading at the checkpoint that was looked for.
var errReached = errors.New("reached")

func (s *snapshot) changelog(ctx context.Context) error {
	s.started("reading the changelog", 0, "records")
	extent, err := s.v.Kafka.Read(ctx, kafka.Reading{
		Topic: s.v.Kafka.Options().ChangelogTopic, Partition: s.partition, From: s.next, Each: s.change,
		Progress: s.progress,
	})
	switch {
	case errors.Is(err, errReached):
	case err != nil:
		return err
	default:
		s.next = extent.Next
	}
	s.picker.close()
	return nil
}

func (s *snapshot) input(ctx context.Context) error {
	s.started("reading the input", s.meta.Position-s.history.next, "records")
	extent, err := s.v.Kafka.Read(ctx, kafka.Reading{
		Topic: s.v.Kafka.Options().Topic, Partition: s.partition, From: s.history.next, To: s.meta.Position, Each: s.history.read,
		Progress: s.progress,
	})
	if err != nil {
		return err
	}
	place := pipeline.Place{Topic: s.meta.Topic, Position: s.meta.Position, Clock: s.meta.Clock}
	if err := s.v.Kafka.CheckTopic(ctx, s.partition, place); err != nil { // after the reading: what was read is of this topic
		return err
	}
	if extent.Next < s.meta.Position {
		return fmt.Errorf("the input ends at offset %d, the state was built up to %d: the topic was created anew or lost records: see zyklus admin accept-loss --help", extent.Next, s.meta.Position)
	}
	if s.history.next == 0 {
		s.history.begun = extent.Start > 0
	}
	s.history.next = s.meta.Position
	return nil
}

// change takes a record of the changelog.
func (s *snapshot) change(a *kafka.Arrival) error {
	customer, err := pipeline.ChangelogKey(a.Key)
	switch {
	case err != nil:
		return err
	case customer == nil:
		return s.checkpoint(a)
	case !s.picker.picks(customer):
		return nil
	}
	if _, known := s.records[string(customer)]; !known {
		if dropped, drop := s.picker.add(string(customer)); drop {
			delete(s.records, dropped)
			if dropped == string(customer) {
				return nil
			}
		}
	}
	s.records[string(customer)] = change(a)
	return nil
}

// checkpoint takes a partition's own record, which ends a checkpoint.
func (s *snapshot) checkpoint(a *kafka.Arrival) error {
	m, err := pipeline.ReadMeta(a.Value)
	if err != nil {
		return err
	}
	s.meta, s.own, s.history.lost = &m, change(a), a.Lost()
	s.history.checkpoint(&m)
	if s.looks > 0 && m.Version() >= s.acked {
		s.next = a.Offset + 1
		return errReached
	}
	return nil
}

// change copies a record.
func change(a *kafka.Arrival) pipeline.Change {
	return pipeline.Change{Key: bytes.Clone(a.Key), Value: bytes.Clone(a.Value)}
}

// customers lists everybody to verify, by id: those of the state, of the input, and, where all are asked for, of
// ClickHouse.
func (s *snapshot) customers(ctx context.Context) ([]string, error) {
	all := map[string]bool{}
	for id := range s.records {
		all[id] = true
	}
	for id := range s.history.lives {
		all[id] = true
	}
	if s.v.Sample.All {
		err := s.v.ClickHouse.Customers(ctx, s.partition, func(id string) error {
			all[id] = true
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return slices.Sorted(maps.Keys(all)), nil
}

// batch is some customers of a snapshot, with their rows.
type batch struct {
	s      *snapshot
	states map[string]*oracle.Row   // projected from the state
	broken map[string]error         // records that do not decode
	stores map[string]*oracle.Store // what ClickHouse held as of the snapshot, as far as it still tells
	newest map[string]int64         // greatest version of any row in ClickHouse
	last   func() (int64, error)    // version of the last checkpoint by now
}

// load reads the rows of customers. ClickHouse is read after the state, so it may be ahead, but behind only where it has
// not acknowledged.
func (s *snapshot) load(ctx context.Context, customers []string) (*batch, error) {
	b := &batch{
		s: s, states: map[string]*oracle.Row{}, broken: map[string]error{}, stores: map[string]*oracle.Store{}, newest: map[string]int64{},
	}
	if err := b.project(customers); err != nil {
		return nil, err
	}
	if err := b.read(ctx, customers, s.v.ClickHouse.Read); err != nil {
		return nil, err
	}
	newer := slices.DeleteFunc(slices.Clone(customers), func(id string) bool { return b.newest[id] <= s.meta.Version() })
	if err := b.read(ctx, newer, s.v.ClickHouse.ReadStored); err != nil {
		return nil, err
	}
	b.last = sync.OnceValues(func() (int64, error) {
		metas, err := s.v.Kafka.Metas(ctx)
		if m := metas[s.partition]; m != nil {
			return m.Version(), err
		}
		return 0, err
	})
	return b, nil
}

// read fills the stores of customers. What is newer than the snapshot is not compared, but told of. Transitions are read
// before customers, which is written before them: so whoever has lost one has a newer row there.
func (b *batch) read(ctx context.Context, customers []string, from func(context.Context, *pipeline.Table, []string) (*pipeline.Rows, error)) error {
	for _, id := range customers {
		b.stores[id] = oracle.NewStore()
	}
	for _, t := range slices.Backward(b.s.v.Job.Projected()) {
		rows, err := from(ctx, t, customers)
		if err != nil {
			return err
		}
		for _, row := range oracle.ReadRows(rows) {
			id := row.Get("customer_id").Text
			b.newest[id] = max(b.newest[id], row.Version)
			if store := b.stores[id]; store != nil && row.Version <= b.s.meta.Version() {
				store.Write([]oracle.Row{row})
			}
		}
	}
	for _, id := range customers {
		for _, rows := range b.stores[id].Tables {
			maps.DeleteFunc(rows, func(_ string, r oracle.Row) bool { return r.Deleted })
		}
	}
	return nil
}

// project takes the customers' rows from the state, and those aside whose records do not decode.
func (b *batch) project(customers []string) error {
	if b.restore(customers) == nil {
		return nil
	}
	for _, id := range customers {
		if _, err := b.s.v.Job.Inspect(b.s.records[id].Value, b.s.meta); err != nil && b.s.records[id].Key != nil {
			b.broken[id] = err
		}
	}
	return b.restore(customers)
}

// restore makes a Task of the customers and takes their rows from it.
func (b *batch) restore(customers []string) error {
	task := pipeline.NewTask(b.s.v.Job, b.s.v.Kafka.Options().Topic, b.s.partition)
	defer task.Close()
	if err := task.Restore(b.s.own.Key, b.s.own.Value); err != nil {
		return err
	}
	for _, id := range customers {
		record, known := b.s.records[id]
		if !known || b.broken[id] != nil {
			continue
		}
		if err := task.Restore(record.Key, record.Value); err != nil {
			return err
		}
	}
	if err := task.Restored(); err != nil {
		return err
	}
	if err := task.Republish(); err != nil {
		return err
	}
	for rows := task.NextBatch(batchCustomers); rows != nil; rows = task.NextBatch(batchCustomers) {
		for _, row := range oracle.BatchRows(rows) {
			if row.Table.Name == "customers" {
				b.states[row.Get("customer_id").Text] = &row
			}
		}
		task.Acknowledge()
	}
	return nil
}
