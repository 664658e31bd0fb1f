package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"zyklus/bench/oracle"
	"zyklus/pipeline"
	"zyklus/pipeline/kafka"
	"zyklus/sinks/clickhouse"
)

// Verifier compares a deployment with the oracle. All fields are needed but Unread.
type Verifier struct {
	Kafka      *kafka.Admin
	ClickHouse *clickhouse.Client
	Job        *pipeline.Job
	// Setting is what the deployment fixes. Unread says which lifecycles are not in it, and why; then nothing that depends
	// on time can be recomputed exactly.
	Setting oracle.Setting
	Unread  []string
	// NewDecoder returns a decoder of the input; of no use where events are re-keyed.
	NewDecoder func() kafka.Decoder
	Rekeyed    bool
	WallClock  bool   // whether the wall clock moves time on
	Skew       int64  // how much later than its record an event is believed, milliseconds
	Currency   string // the reporting one
	Now        func() time.Time
	// Sample says which customers.
	Sample Sample
	// Limit is how many differences are told.
	Limit int
	// Started begins a piece of work of so many units, Progress says how many are done.
	Started  func(what string, total int64, unit string)
	Progress func(done int64)
}

// Report is what was found.
type Report struct {
	Partitions  []Partition  `json:"partitions"`
	Differences []Difference `json:"differences"` // the first ones
	Notices     []string     `json:"notices"`
	Sum         Sum          `json:"sum"`
}

// Sum counts the customers of all partitions.
type Sum struct {
	Customers int64 `json:"customers"`
	Exact     int64 `json:"exact"`
	Totals    int64 `json:"totals_only"`
	Unknown   int64 `json:"not_verifiable"`
	InMotion  int64 `json:"in_motion"` // of those not verifiable
	Differ    int64 `json:"differing"`
	// Stateless counts the partitions of which there are records or rows, and no state.
	Stateless int64 `json:"partitions_without_state"`
}

// Told counts the customers of whom at least the totals could be compared.
func (s *Sum) Told() int64 { return s.Exact + s.Totals + s.Differ }

func (s *Sum) add(p *Partition) {
	s.Customers += p.Customers
	s.Exact += p.Exact
	s.Differ += p.Differ
	for _, n := range p.Totals {
		s.Totals += n
	}
	for _, n := range p.Unknown {
		s.Unknown += n
	}
	s.InMotion += p.Unknown[inMotion]
}

// Partition is what was found in one partition: each customer is counted once.
type Partition struct {
	Partition int32  `json:"partition"`
	Version   string `json:"version"` // as of which it was compared; empty without state
	Clock     string `json:"clock"`
	Records   int64  `json:"records"` // read from the input
	Customers int64  `json:"customers"`
	Exact     int64  `json:"exact"`
	// Totals counts customers whose lifetime totals and chain of transitions agree, by the reason why no more can be told.
	Totals map[Reason]int64 `json:"totals_only"`
	// Unknown counts customers of whom no more could be told than that state and ClickHouse agree, and with what, by reason.
	Unknown map[Reason]int64 `json:"not_verifiable"`
	Differ  int64            `json:"differing"`
}

// Difference is one value that is not the same everywhere. Texts are empty where there is no such row, and "?" where it is
// not the question.
type Difference struct {
	Customer   string `json:"customer_id"`
	Partition  int32  `json:"partition"`
	Table      string `json:"table"`
	Key        string `json:"key"`
	Column     string `json:"column"` // empty for the row as a whole
	Oracle     string `json:"oracle"`
	State      string `json:"state"`
	ClickHouse string `json:"clickhouse"`
}

// How often customers that do not agree are looked at again, and how long apart: rows reach ClickHouse within a second or
// two.
const (
	looks = 7
	pause = 700 * time.Millisecond
)

// batchCustomers are judged together.
const batchCustomers = 256

// noticeUnstamped is about topics whose broker does not stamp records.
const noticeUnstamped = "records of the input keep their producers' time (message.timestamp.type is CreateTime, or the broker is embedded), so when they came is known only from checkpoints " +
	"that the changelog still holds: a customer whose state has not counted all of its older events may have had late ones, and is compared by totals only"

// Run verifies partitions, one after the other.
func (v *Verifier) Run(ctx context.Context, partitions []int32) (*Report, error) {
	r := &Report{Differences: []Difference{}, Notices: append([]string{}, v.Unread...)}
	for _, p := range partitions {
		if err := v.partition(ctx, r, p, len(partitions)); err != nil {
			return r, fmt.Errorf("partition %d: %w", p, err)
		}
	}
	return r, nil
}

func (v *Verifier) partition(ctx context.Context, r *Report, p int32, of int) error {
	out := Partition{Partition: p, Totals: map[Reason]int64{}, Unknown: map[Reason]int64{}}
	defer func() { r.Partitions = append(r.Partitions, out); r.Sum.add(&out) }()
	s := newSnapshot(v, p, v.Sample.picker(of))
	if err := s.advance(ctx); err != nil {
		return err
	}
	if s.meta == nil || s.meta.Position < 0 {
		return s.stateless(ctx, r)
	}
	customers, err := s.customers(ctx)
	if err != nil {
		return err
	}
	out.Customers = int64(len(customers))
	for ; len(customers) > 0; s.looks++ {
		final := s.looks == looks
		if s.looks > 0 {
			if err := wait(ctx, pause); err != nil {
				return err
			}
			moved, err := s.again(ctx)
			if err != nil {
				return err
			}
			final = final || !moved && !s.moving
		}
		if customers, err = s.judge(ctx, customers, r, &out, final); err != nil {
			return err
		}
	}
	out.Version, out.Clock = pipeline.VersionText(s.meta.Version()), time.UnixMilli(s.meta.Clock).UTC().Format("2006-01-02T15:04:05.000Z")
	out.Records = s.history.records
	if s.history.unstamped && v.WallClock && !v.Rekeyed && !slices.Contains(r.Notices, noticeUnstamped) {
		r.Notices = append(r.Notices, noticeUnstamped)
	}
	return nil
}

// stateless judges a partition without state, or with one that was begun anew and has read nothing: then there must be
// neither records nor rows.
func (s *snapshot) stateless(ctx context.Context, r *Report) error {
	topic, want := s.v.Kafka.Options().Topic, ""
	_, err := s.v.Kafka.Read(ctx, kafka.Reading{Topic: topic, Partition: s.partition, Each: func(*kafka.Arrival) error {
		want = "a state of what the topic holds"
		return errReached
	}})
	if err != nil && !errors.Is(err, errReached) {
		return err
	}
	stored, err := s.v.ClickHouse.Checkpoints(ctx, topic)
	if err != nil {
		return err
	}
	rows := ""
	if version := stored[s.partition].Version; version > 0 {
		rows = "rows up to version " + pipeline.VersionText(version)
	}
	if want == "" && rows == "" {
		return nil
	}
	r.Sum.Stateless++
	r.tell(s.v.Limit, []Difference{{Partition: s.partition, Table: "changelog", Oracle: want, ClickHouse: rows}})
	return nil
}

// again goes on to the present and reports whether anything has changed since.
func (s *snapshot) again(ctx context.Context) (moved bool, err error) {
	before, acked := s.meta.Version(), s.acked
	if err := s.advance(ctx); err != nil {
		return false, err
	}
	return s.meta.Version() != before || s.acked != acked, nil
}

// judge judges customers and returns those who are to be looked at again.
func (s *snapshot) judge(ctx context.Context, customers []string, r *Report, out *Partition, final bool) (again []string, err error) {
	s.moving = false
	s.started("comparing customers", int64(len(customers)), "customers")
	for begin := 0; begin < len(customers); begin += batchCustomers {
		batch := customers[begin:min(begin+batchCustomers, len(customers))]
		b, err := s.load(ctx, batch)
		if err != nil {
			return nil, err
		}
		for _, id := range batch {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			verdict, err := b.verdict(id)
			if err != nil {
				return nil, err
			}
			if verdict.stands() || final {
				out.count(&verdict)
				r.tell(s.v.Limit, verdict.differences)
				continue
			}
			again = append(again, id)
			s.moving = s.moving || verdict.reason == inMotion
		}
		s.progress(int64(begin+len(batch)), 0)
	}
	return again, nil
}

func (p *Partition) count(v *verdict) {
	switch {
	case v.differ():
		p.Differ++
	case v.reason == "":
		p.Exact++
	case v.totals:
		p.Totals[v.reason]++
	default:
		p.Unknown[v.reason]++
	}
}

// tell adds differences as far as they are wanted.
func (r *Report) tell(limit int, differences []Difference) {
	n := max(0, min(limit-len(r.Differences), len(differences)))
	r.Differences = append(r.Differences, differences[:n]...)
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// errOther tells that the state cannot be read with this configuration.
var errOther = errors.New("the state was written under other lifecycles, another artefact or another time zone than this configuration's: use that of the running instances")
