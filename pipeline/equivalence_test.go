package pipeline_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"zyklus/bench/oracle"
	"zyklus/pipeline"
)

// TestEquivalence is rule 1: whatever the order within the allowed lateness, duplicates, batches, checkpoints, crashes,
// slow sinks and partitions, the final rows are those of the clean sorted stream, and those of the oracle.
//
// ZYKLUS_SEEDS sets how many seeds are tried, ZYKLUS_SEED the first one.
func TestEquivalence(t *testing.T) {
	soak(t, 2000, func(seed uint64) *oracle.History { return oracle.NewHistory(seed, false) })
}

// TestEquivalenceAgain plays seeds that found something, each once in 10,000.
func TestEquivalenceAgain(t *testing.T) {
	for _, seed := range []uint64{
		5787, // a hold that ended let the live record come to an event ahead of time, with a deadline at the same instant
	} {
		if err := fails(t, oracle.NewHistory(seed, false)); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

// TestLateTotals lets order events of some customers come later than allowed: their totals are still those of all events,
// and the others' rows are as if nobody had been late.
func TestLateTotals(t *testing.T) {
	soak(t, 500, func(seed uint64) *oracle.History { return oracle.NewHistory(seed, true) })
}

func soak(t *testing.T, count int, make func(seed uint64) *oracle.History) {
	first := number("ZYKLUS_SEED", 1)
	count = number("ZYKLUS_SEEDS", count)
	for _, zone := range oracle.Zones {
		for _, l := range oracle.Latenesses {
			newJob(t, setting{zone, l, true})
		}
	}
	var next, failures atomic.Int64
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for n := next.Add(1) - 1; n < int64(count) && failures.Load() < 3; n = next.Add(1) - 1 {
				h := make(uint64(first) + uint64(n))
				if err := fails(t, h); err != nil {
					failures.Add(1)
					small := minimise(t, h)
					t.Errorf("seed %d: %v\nminimised: %v\n%v", h.Seed, err, fails(t, small), small)
				}
			}
		})
	}
	workers.Wait()
	if count >= 100 && withdrawn.Load() == 0 {
		t.Error("no transition was ever withdrawn: what is corrected was not tried")
	}
	t.Logf("%d transitions were withdrawn", withdrawn.Load())
}

// withdrawn counts transitions that were published and then withdrawn, over all runs.
var withdrawn atomic.Int64

func number(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

// minimise drops events and duplicates as long as the history fails.
func minimise(t *testing.T, h *oracle.History) *oracle.History {
	best := h
	for smaller := true; smaller; {
		smaller = false
		for i := len(best.Events) - 1; i >= 0; i-- {
			try := *best
			try.Events = slices.Delete(slices.Clone(best.Events), i, i+1)
			if e := best.Events[i]; fails(t, &try) == nil && len(e.Delays) > 1 {
				try.Events = slices.Clone(best.Events)
				try.Events[i].Delays = e.Delays[:len(e.Delays)-1]
			}
			if fails(t, &try) != nil {
				best, smaller = &try, true
			}
		}
	}
	return best
}

// fails plays the history and returns what is wrong.
func fails(t *testing.T, h *oracle.History) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	job := newJob(t, setting{h.Zone, h.Lateness, true})
	wild := newRun(h, job, 0, h.Log(0, 1), rand.New(rand.NewPCG(h.Seed, 2)))
	if err := wild.run(); err != nil {
		return fmt.Errorf("wild: %w", err)
	}
	for _, r := range wild.sink.Tables["phase_transitions"] {
		if r.Deleted {
			withdrawn.Add(1)
		}
	}
	if h.Late {
		return h.Compare(wild.sink)
	}
	clean := newRun(h, job, 0, h.Clean(), nil)
	if err := clean.run(); err != nil {
		return fmt.Errorf("clean: %w", err)
	}
	for _, table := range oracle.FinalTables() {
		if d := wild.sink.Same(clean.sink, table, ""); d != "" {
			return fmt.Errorf("wild is not clean: %s", d)
		}
	}
	if err := h.Compare(clean.sink); err != nil {
		return fmt.Errorf("oracle: %w", err)
	}
	if err := compareLetters(wild, clean); err != nil {
		return err
	}
	var got []string
	for _, l := range clean.letters {
		got = append(got, string(l.Value))
	}
	slices.Sort(got)
	if want := h.DeadLetters(); !slices.Equal(got, want) {
		return fmt.Errorf("dead letters are %q, want %q", got, want)
	}
	return spread(h, job, clean)
}

// spread plays the history with the customers on several partitions.
func spread(h *oracle.History, job *pipeline.Job, clean *run) error {
	n := 2 + int(h.Seed%7)
	all := oracle.NewStore()
	for p := range n {
		r := newRun(h, job, int32(p), h.Log(p, n), rand.New(rand.NewPCG(h.Seed, uint64(3+p))))
		if err := r.run(); err != nil {
			return fmt.Errorf("partition %d: %w", p, err)
		}
		for _, m := range r.sink.Tables {
			for _, row := range m {
				all.Write([]oracle.Row{row})
			}
		}
	}
	for _, table := range oracle.FinalTables() {
		if d := all.Same(clean.sink, table, "partition"); d != "" {
			return fmt.Errorf("%d partitions: %s", n, d)
		}
	}
	return nil
}

// compareLetters checks that each refused record is a dead letter exactly once, and that no other is.
func compareLetters(wild, clean *run) error {
	offsets, raws := map[int64]bool{}, map[string]bool{}
	for _, l := range wild.letters {
		if offsets[l.Origin.Offset] {
			return fmt.Errorf("dead letter of offset %d twice", l.Origin.Offset)
		}
		offsets[l.Origin.Offset] = true
		raws[string(l.Value)] = true
	}
	for _, l := range clean.letters {
		if !raws[string(l.Value)] {
			return fmt.Errorf("no dead letter of %s", l.Value)
		}
		delete(raws, string(l.Value))
	}
	for raw := range raws {
		return fmt.Errorf("dead letter of %s, which the clean run has not", raw)
	}
	return nil
}

// run drives one partition through its log. With a source of chance it makes checkpoints, crashes and so on at any
// time; without, one checkpoint at the end.
type run struct {
	job       *pipeline.Job
	partition int32
	log       []oracle.Arrival
	chance    *rand.Rand
	weights   [6]int // of the actions
	end       int64

	task    *pipeline.Task
	durable changelog
	sink    *oracle.Store
	reader  *oracle.FinalReader
	letters []pipeline.DeadLetter
	final   int64        // the watermark passes everything
	held    []oracle.Row // batch that the sink has not stored
	holding bool
	crashes int
}

func newRun(h *oracle.History, job *pipeline.Job, partition int32, log []oracle.Arrival, chance *rand.Rand) *run {
	r := &run{
		job: job, partition: partition, log: log, chance: chance, final: h.Final(), end: h.End,
		sink: oracle.NewStore(), reader: oracle.NewFinalReader(h.Setting()), task: pipeline.NewTask(job, "events", partition),
	}
	if chance != nil {
		r.weights = [6]int{1 + chance.IntN(20), chance.IntN(3), chance.IntN(6), chance.IntN(6), chance.IntN(2), chance.IntN(3)}
	}
	return r
}

func (r *run) position() int { return int(max(r.task.Position(), 0)) }

func (r *run) run() error {
	for r.position() < len(r.log) {
		if err := r.act(); err != nil {
			return err
		}
	}
	return r.finish()
}

func (r *run) act() error {
	if r.chance == nil {
		r.process()
		return nil
	}
	total := 0
	for _, w := range r.weights {
		total += w
	}
	n := r.chance.IntN(total)
	action := 0
	for ; n >= r.weights[action]; action++ {
		n -= r.weights[action]
	}
	switch action {
	case 0:
		r.process()
	case 1:
		r.task.Drain(1 + r.chance.IntN(3))
	case 2:
		return r.checkpoint(r.chance.IntN(10) == 0)
	case 3:
		r.project()
	case 4:
		if r.crashes++; r.crashes < 10 { // else a run without checkpoints never ends
			return r.crash()
		}
	case 5:
		r.task.Hold(r.hold())
	}
	return nil
}

// hold returns no bounds, or some around the present of the log.
func (r *run) hold() pipeline.Hold {
	if r.chance.IntN(3) == 0 {
		return pipeline.NoHold()
	}
	now := r.log[r.position()].Event.At
	settled := now - r.chance.Int64N(20*dayMs)
	return pipeline.Hold{Clock: settled + r.chance.Int64N(40*dayMs), Settled: settled}
}

func (r *run) process() {
	i := r.position()
	e := oracle.CopyEvent(r.log[i].Event)
	e.Origin = pipeline.Origin{Topic: "events", Partition: r.partition, Offset: int64(i)}
	r.task.Process(e, e.At)
	r.task.SetPosition(int64(i + 1))
	scribble(e)
}

// checkpoint makes one; if it is lost, the transaction's outcome was an abort.
func (r *run) checkpoint(lost bool) error {
	cp := r.task.Checkpoint()
	if lost && r.crashes < 10 {
		r.crashes++
		return r.crash()
	}
	r.durable.append(cp)
	r.letters = append(r.letters, cp.DeadLetters...)
	r.task.Committed()
	return nil
}

// project takes a batch, or stores the one it holds and acknowledges it.
func (r *run) project() {
	if r.holding {
		r.write(r.held)
		r.task.Acknowledge()
		r.holding = false
		return
	}
	limit := 1000
	if r.chance != nil {
		limit = 1 + r.chance.IntN(4)
	}
	if b := r.task.NextBatch(limit); b != nil {
		r.held, r.holding = oracle.BatchRows(b), true
	}
}

// write stores rows, and reads what is final of all that is stored.
func (r *run) write(rows []oracle.Row) {
	r.sink.Write(rows)
	if err := r.reader.Read(r.sink); err != nil {
		r.sink.Faults = append(r.sink.Faults, err.Error())
	}
}

// crash drops the Task and restores one from what was committed; the batch in flight may have been stored.
func (r *run) crash() (err error) {
	if r.holding && r.chance.IntN(2) == 0 {
		r.write(r.held)
	}
	r.holding = false
	log := r.durable
	if r.chance.IntN(2) == 0 {
		log = log.compacted()
	}
	r.task.Close()
	r.task, err = log.restore(r.job, r.partition)
	return err
}

// finish brings everything to the sink.
func (r *run) finish() error {
	r.task.Hold(pipeline.NoHold())
	r.task.AdvanceClock(r.end)
	for r.task.Drain(7) {
	}
	if err := r.checkpoint(false); err != nil {
		return err
	}
	if r.holding {
		r.project()
	}
	for n := 0; ; n++ {
		r.project()
		if !r.holding {
			break
		}
		r.project()
		if n > 10_000 {
			return errors.New("the batches never end")
		}
	}
	if len(r.sink.Faults) > 0 {
		return errors.New(r.sink.Faults[0])
	}
	if n := r.task.Stats().BytesPending; n != 0 || r.task.Crowded() {
		return fmt.Errorf("all is written, and %d bytes are pending, crowded %v", n, r.task.Crowded())
	}
	return r.flush()
}

// flush moves the watermark past everything, so that all dead letters come out. Rows are those of before.
func (r *run) flush() error {
	r.task.AdvanceClock(r.final)
	for r.task.Drain(1000) {
	}
	return r.checkpoint(false)
}
