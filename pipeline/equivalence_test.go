package pipeline_test

import (
	"cmp"
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
	"time"

	"zyklus/pipeline"
)

// TestEquivalence is rule 1: whatever the order within the allowed lateness, duplicates, batches, checkpoints, crashes,
// slow sinks and partitions, the final rows are those of the clean sorted stream, and those of the oracle.
//
// ZYKLUS_SEEDS sets how many seeds are tried, ZYKLUS_SEED the first one.
func TestEquivalence(t *testing.T) {
	soak(t, 2000, func(seed uint64) *trial { return newTrial(seed, false) })
}

// TestLateTotals lets order events come later than allowed: totals are still those of all events.
func TestLateTotals(t *testing.T) {
	soak(t, 500, func(seed uint64) *trial { return newTrial(seed, true) })
}

func soak(t *testing.T, count int, make func(seed uint64) *trial) {
	first := number("ZYKLUS_SEED", 1)
	count = number("ZYKLUS_SEEDS", count)
	for _, zone := range []string{"UTC", "Europe/Berlin"} {
		for _, l := range latenesses {
			newJob(t, setting{zone, l})
		}
	}
	var next, failures atomic.Int64
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for n := next.Add(1) - 1; n < int64(count) && failures.Load() < 3; n = next.Add(1) - 1 {
				trial := make(uint64(first) + uint64(n))
				if err := trial.fails(t); err != nil {
					failures.Add(1)
					small := trial.minimise(t)
					t.Errorf("seed %d: %v\nminimised: %v\n%v", trial.seed, err, small.fails(t), small)
				}
			}
		})
	}
	workers.Wait()
}

func number(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

// trial is one random history and what is done to it.
type trial struct {
	setting
	seed   uint64
	events []trialEvent
	end    int64 // the clock at last
	late   bool  // events may come later than allowed: only totals are compared
}

// trialEvent is an event and how much later than it happened it comes; more than once if it is duplicated.
type trialEvent struct {
	pipeline.Event
	delays []int64
}

var latenesses = []time.Duration{time.Millisecond, 10 * time.Minute, 5 * time.Hour, 3 * 24 * time.Hour}

func newTrial(seed uint64, late bool) *trial {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0)), trial: &trial{seed: seed, late: late}}
	g.zone = []string{"UTC", "Europe/Berlin"}[g.IntN(2)]
	g.lateness = latenesses[g.IntN(len(latenesses))]
	customers := 1 + g.IntN(4)
	for c := range customers {
		g.customer(fmt.Sprintf("c%d", c))
	}
	for _, e := range g.events {
		g.end = max(g.end, e.At)
		if late {
			g.end = max(g.end, e.At+slices.Max(e.delays))
		}
	}
	if g.IntN(2) == 0 {
		g.end += g.gap()
	}
	return g.trial
}

// generator makes histories that sit on edges: same instants, thresholds and midnights to the millisecond.
type generator struct {
	*rand.Rand
	*trial
	now    int64
	orders []trialOrder
	past   []int64 // instants from which something is due
}

type trialOrder struct {
	id       string
	at       int64
	value    int64
	lines    []pipeline.Line
	currency [3]byte
}

func (g *generator) customer(id string) {
	g.now = time.Date(2023, time.Month(1+g.IntN(12)), 1+g.IntN(28), g.IntN(24), g.IntN(60), 0, 0, time.UTC).UnixMilli()
	g.orders, g.past = nil, nil
	shift := int64(0)
	if g.IntN(3) == 0 {
		shift = g.lateness.Milliseconds() // how long refunds wait
	}
	for range 1 + g.IntN(14) {
		if g.late { // all within the horizon
			g.now += g.Int64N(5 * dayMs)
		} else {
			g.now += g.gap()
		}
		if n := len(g.past); n > 0 && g.IntN(3) == 0 && !g.late {
			g.now = max(g.now, g.edge(g.past[g.IntN(n)]))
		}
		g.past = append(g.past, g.now, g.now+shift)
		g.event(id)
	}
}

func (g *generator) gap() int64 {
	const second, day = 1000, dayMs
	switch g.IntN(8) {
	case 0:
		return 0
	case 1:
		return g.Int64N(20 * second)
	case 2:
		return g.Int64N(3600 * second)
	case 3:
		return g.Int64N(2 * g.lateness.Milliseconds())
	case 4, 5:
		return g.Int64N(40 * day)
	case 6:
		return g.Int64N(130 * day)
	}
	return g.Int64N(500 * day)
}

// edge is an instant at or around which something that began earlier is due.
func (g *generator) edge(since int64) int64 {
	days := []int64{7, 30, 90, 180, 365, 400, 401}
	at := since + days[g.IntN(len(days))]*dayMs
	switch g.IntN(3) {
	case 0:
		at = since + g.lateness.Milliseconds()
	case 1:
		at -= at % dayMs // midnight in UTC, or an hour or two after
	}
	return at + g.Int64N(3) - 1
}

func (g *generator) event(customer string) {
	e := pipeline.Event{At: g.now, ID: g.Uint64(), Customer: []byte(customer), Known: g.IntN(3) > 0}
	e.Raw = fmt.Appendf(nil, "raw %x", e.ID)
	kind := g.IntN(10)
	switch {
	case kind < 3:
		e.Kind = pipeline.KindIdentified + pipeline.Kind(g.IntN(5))
	case kind < 7 || len(g.orders) == 0 && (g.late || kind < 9):
		g.order(&e)
	default:
		g.change(&e)
	}
	g.events = append(g.events, trialEvent{Event: e, delays: g.delays(&e)})
}

// delays says when the event comes, and comes again.
func (g *generator) delays(e *pipeline.Event) []int64 {
	allowed := g.lateness.Milliseconds()
	list := []int64{g.Int64N(allowed) * int64(g.IntN(2))}
	if g.late && e.Kind == pipeline.KindOrderCompleted && g.IntN(2) == 0 {
		list[0] = g.Int64N(30 * dayMs)
	}
	if g.late && e.Kind > pipeline.KindOrderCompleted {
		list[0] = 30*dayMs + g.Int64N(30*dayMs) // after its order, whenever that comes
	}
	for g.IntN(6) == 0 {
		list = append(list, list[0]+g.Int64N(2*allowed+1))
		if g.IntN(3) == 0 {
			list = append(list, list[0]+g.Int64N(100*dayMs))
		}
	}
	return list
}

func (g *generator) order(e *pipeline.Event) {
	e.Kind = pipeline.KindOrderCompleted
	o := trialOrder{id: fmt.Sprintf("o%d", len(g.orders)), at: e.At}
	if n := len(g.orders); n > 0 && g.IntN(6) == 0 && !g.late {
		o.id = g.orders[g.IntN(n)].id // an order id twice
	}
	o.value, o.lines = g.content()
	o.currency = g.currency()
	e.Currency = o.currency
	e.OrderID, e.Amount, e.HasAmount, e.Lines = []byte(o.id), o.value, true, o.lines
	g.orders = append(g.orders, o)
}

// currency is a foreign one in two of five; of the last one there are no rates.
func (g *generator) currency() (code [3]byte) {
	if g.IntN(5) < 2 {
		copy(code[:], []string{"USD", "USD", "USD", "GBP", "GBP", "JPY", "JPY", "KWD", "KWD", "TND"}[g.IntN(10)])
	}
	return code
}

func (g *generator) content() (value int64, lines []pipeline.Line) {
	for range g.IntN(4) {
		l := pipeline.Line{Product: uint64(g.IntN(4)), Quantity: 1000 * int64(1+g.IntN(3)), Amount: g.Int64N(5000), HasAmount: true}
		l.Category = []byte([]string{"", "shoes", "hats", "books", "toys"}[g.IntN(5)])
		value += l.Amount
		lines = append(lines, l)
	}
	if g.IntN(3) == 0 {
		value = g.Int64N(10000)
	}
	return value, lines
}

// change is an update, refund or cancellation; one in five names an order that never came, or one that is to come.
func (g *generator) change(e *pipeline.Event) {
	o := trialOrder{id: fmt.Sprintf("o%d", len(g.orders))}
	if n := len(g.orders); n > 0 && (g.late || g.IntN(5) > 0) {
		o = g.orders[g.IntN(n)]
	}
	e.OrderID = []byte(o.id)
	if e.Currency = o.currency; g.IntN(4) == 0 {
		e.Currency = g.currency()
	}
	switch g.IntN(6) {
	case 0:
		e.Kind = pipeline.KindOrderCancelled
	case 1:
		e.Kind = pipeline.KindOrderUpdated
		e.Amount, e.Lines = g.content()
		e.HasAmount = true
		if g.late {
			e.Kind, e.Lines, e.Amount, e.HasAmount = pipeline.KindOrderRefunded, nil, 0, false
		}
	default:
		e.Kind = pipeline.KindOrderRefunded
		g.refund(e, &o)
	}
}

func (g *generator) refund(e *pipeline.Event, o *trialOrder) {
	kind := g.IntN(3)
	if kind == 1 && g.late {
		kind = 0 // which of two refunds takes which line depends on their order
	}
	switch kind {
	case 0:
		e.Amount, e.HasAmount = g.Int64N(o.value+o.value/2+100), true
	case 1:
		for _, l := range o.lines {
			if g.IntN(3) > 0 {
				l.Quantity = min(l.Quantity, 1000*int64(1+g.IntN(2)))
				l.HasAmount = g.IntN(2) == 0
				e.Lines = append(e.Lines, l)
			}
		}
	}
}

// String prints the history as Go would not: one line an event.
func (tr *trial) String() string {
	s := fmt.Sprintf("zone %s, lateness %v, end %s\n", tr.zone, tr.lateness, stamp(tr.end))
	for _, e := range tr.events {
		s += fmt.Sprintf("  %s %s %v %x order %s amount %d %s %v lines %v, comes after", stamp(e.At), e.Customer, e.Kind, e.ID, e.OrderID, e.Amount, e.Currency, e.HasAmount, e.Lines)
		for _, d := range e.delays {
			s += fmt.Sprint(" ", time.Duration(d)*time.Millisecond)
		}
		s += "\n"
	}
	return s
}

func stamp(at int64) string { return time.UnixMilli(at).UTC().Format("2006-01-02 15:04:05.000") }

// minimise drops events and duplicates as long as the trial fails.
func (tr *trial) minimise(t *testing.T) *trial {
	best := tr
	for smaller := true; smaller; {
		smaller = false
		for i := len(best.events) - 1; i >= 0; i-- {
			try := *best
			try.events = slices.Delete(slices.Clone(best.events), i, i+1)
			if e := best.events[i]; try.fails(t) == nil && len(e.delays) > 1 {
				try.events = slices.Clone(best.events)
				try.events[i].delays = e.delays[:len(e.delays)-1]
			}
			if try.fails(t) != nil {
				best, smaller = &try, true
			}
		}
	}
	return best
}

// arrival is one record of the input topic.
type arrival struct {
	at    int64
	order uint64
	event *pipeline.Event
}

// log returns the records of one partition out of n in the order in which they come, the last one a heartbeat.
func (tr *trial) log(partition, n int) (log []arrival) {
	r := rand.New(rand.NewPCG(tr.seed, 1))
	refused := tr.refused()
	for i := range tr.events {
		e := &tr.events[i]
		for _, d := range e.delays {
			if d >= tr.lateness.Milliseconds() && (refused[string(e.Raw)] || tr.mayOutlive(e, d)) {
				continue // a refused event that comes again may find its order, and should
			}
			if a := (arrival{min(e.At+d, tr.end), r.Uint64(), &e.Event}); int(e.Customer[1]-'0')%n == partition {
				log = append(log, a)
			}
		}
	}
	slices.SortFunc(log, func(a, b arrival) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.order, b.order)) })
	return append(log, arrival{event: &pipeline.Event{Kind: pipeline.KindHeartbeat, At: tr.end}})
}

// clean returns the records sorted and without duplicates.
func (tr *trial) clean() (log []arrival) {
	for i := range tr.events {
		log = append(log, arrival{event: &tr.events[i].Event})
	}
	slices.SortFunc(log, func(a, b arrival) int {
		return cmp.Or(cmp.Compare(a.event.At, b.event.At), cmp.Compare(a.event.Kind, b.event.Kind), cmp.Compare(a.event.ID, b.event.ID))
	})
	return append(log, arrival{event: &pipeline.Event{Kind: pipeline.KindHeartbeat, At: tr.end}})
}

var finalTables = []string{"customers", "customer_days", "phase_transitions", "orders"}

// fails runs the trial and returns what is wrong.
func (tr *trial) fails(t *testing.T) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	job := newJob(t, tr.setting)
	wild := newRun(tr, job, 0, tr.log(0, 1), rand.New(rand.NewPCG(tr.seed, 2)))
	if err := wild.run(); err != nil {
		return fmt.Errorf("wild: %w", err)
	}
	if tr.late {
		return tr.compareTotals(wild.sink)
	}
	clean := newRun(tr, job, 0, tr.clean(), nil)
	if err := clean.run(); err != nil {
		return fmt.Errorf("clean: %w", err)
	}
	for _, table := range finalTables {
		if d := wild.sink.same(clean.sink, table, ""); d != "" {
			return fmt.Errorf("wild is not clean: %s", d)
		}
	}
	if err := tr.compareOracle(clean); err != nil {
		return fmt.Errorf("oracle: %w", err)
	}
	if err := tr.compareLetters(wild, clean); err != nil {
		return err
	}
	return tr.spread(job, clean)
}

// spread runs the trial with the customers on several partitions.
func (tr *trial) spread(job *pipeline.Job, clean *run) error {
	n := []int{3, 7}[tr.seed%2]
	all := newStore()
	for p := range n {
		r := newRun(tr, job, int32(p), tr.log(p, n), rand.New(rand.NewPCG(tr.seed, uint64(3+p))))
		if err := r.run(); err != nil {
			return fmt.Errorf("partition %d: %w", p, err)
		}
		for _, m := range r.sink.tables {
			for _, row := range m {
				all.write([]row_{row})
			}
		}
	}
	for _, table := range finalTables {
		if d := all.same(clean.sink, table, "partition"); d != "" {
			return fmt.Errorf("%d partitions: %s", n, d)
		}
	}
	return nil
}

type row_ = row

func (tr *trial) oracles() map[string]*oracle {
	by := map[string][]pipeline.Event{}
	for _, e := range tr.events {
		by[string(e.Customer)] = append(by[string(e.Customer)], e.Event)
	}
	all := map[string]*oracle{}
	for id, events := range by {
		o := tr.oracle()
		o.run(events)
		all[id] = o
	}
	return all
}

func (tr *trial) oracle() *oracle {
	zone, _ := time.LoadLocation(tr.zone)
	return &oracle{zone: zone, lateness: tr.lateness.Milliseconds(), clock: tr.end, art: artefact()}
}

// refused returns the Raw of the events that end as dead letters.
func (tr *trial) refused() map[string]bool {
	all := map[string]bool{}
	for _, o := range tr.oracles() {
		o.silence(tr.final())
		for _, raw := range o.letters {
			all[raw] = true
		}
	}
	return all
}

// mayOutlive reports whether an event may come again when the order that it found has left the horizon.
func (tr *trial) mayOutlive(e *trialEvent, delay int64) bool {
	for i := range tr.events {
		o := &tr.events[i]
		if o != e && string(o.Customer) == string(e.Customer) && string(o.OrderID) == string(e.OrderID) && e.At+delay > o.At+399*dayMs {
			return true
		}
	}
	return false
}

// final is an instant at which nothing waits for its order any more.
func (tr *trial) final() int64 { return tr.end + 2*tr.lateness.Milliseconds() + 2*3600*1000 }

func (tr *trial) compareOracle(clean *run) error {
	var letters []string
	for id, o := range tr.oracles() {
		if err := o.compare(clean.sink, id); err != nil {
			return err
		}
		if err := tr.compareDays(clean.sink, id, o.days); err != nil {
			return err
		}
		o.silence(tr.final())
		letters = append(letters, o.letters...)
	}
	var got []string
	for _, l := range clean.letters {
		got = append(got, string(l.Value))
	}
	slices.Sort(letters)
	slices.Sort(got)
	if !slices.Equal(got, letters) {
		return fmt.Errorf("dead letters are %q, want %q", got, letters)
	}
	return nil
}

// compareDays checks that a customer has rows of the days on which something changed, but for the last, and that such
// a row is the one in `customers` had time ended with the day.
func (tr *trial) compareDays(s *store, id string, days map[int64]bool) error {
	got := map[int64]*row{}
	for _, r := range s.tables["customer_days"] {
		if r.get("customer_id").s == id && !r.deleted {
			if got[r.get("day").i] = &r; !days[r.get("day").i] {
				return fmt.Errorf("customer %s: a row of day %v, on which nothing changed or which has not ended", id, r.get("day"))
			}
		}
	}
	for day := range days {
		r := got[day]
		if r == nil {
			return fmt.Errorf("customer %s: no row of day %d", id, day)
		}
		if (uint64(day)+tr.seed)%3 > 0 {
			continue // one in three: each takes a whole life
		}
		o := tr.oracle()
		o.clock = o.midnight(day+1) - 1
		var until []pipeline.Event
		for _, e := range tr.events {
			if string(e.Customer) == id && e.At <= o.clock {
				until = append(until, e.Event)
			}
		}
		o.run(until)
		if err := o.compareRow(r, id); err != nil {
			return fmt.Errorf("day %d: %w", day, err)
		}
	}
	return nil
}

// compareTotals checks what late events must not change.
func (tr *trial) compareTotals(s *store) error {
	for id, o := range tr.oracles() {
		f, row := o.features(tr.end), s.tables["customers"][id+"|"]
		if row.table == nil {
			continue // only ignored events
		}
		for column, want := range map[string]int64{
			"orders": f.orders, "net_value_minor": f.net, "refunded_value_minor": f.refunded,
			"first_order_at": f.first, "last_order_at": f.last, "purchase_days": f.days,
		} {
			if got := row.get(column); got.i != want {
				return fmt.Errorf("customer %s: %s is %v, want %d", id, column, got, want)
			}
		}
	}
	return nil
}

// compareLetters checks that each refused record is a dead letter exactly once, and that no other is.
func (tr *trial) compareLetters(wild, clean *run) error {
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
	log       []arrival
	chance    *rand.Rand
	weights   [6]int // of the actions
	end       int64

	task    *pipeline.Task
	durable changelog
	sink    *store
	letters []pipeline.DeadLetter
	final   int64 // the watermark passes everything
	held    []row // batch that the sink has not stored
	holding bool
	crashes int
}

func newRun(tr *trial, job *pipeline.Job, partition int32, log []arrival, chance *rand.Rand) *run {
	r := &run{
		job: job, partition: partition, log: log, chance: chance, final: tr.final(), end: tr.end,
		sink: newStore(), task: pipeline.NewTask(job, "events", partition),
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
	now := r.log[r.position()].event.At
	settled := now - r.chance.Int64N(20*dayMs)
	return pipeline.Hold{Clock: settled + r.chance.Int64N(40*dayMs), Settled: settled}
}

func (r *run) process() {
	i := r.position()
	e := copyEvent(r.log[i].event)
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
		r.sink.write(r.held)
		r.task.Acknowledge()
		r.holding = false
		return
	}
	limit := 1000
	if r.chance != nil {
		limit = 1 + r.chance.IntN(4)
	}
	if b := r.task.NextBatch(limit); b != nil {
		r.held, r.holding = batchRows(b), true
	}
}

// crash drops the Task and restores one from what was committed; the batch in flight may have been stored.
func (r *run) crash() (err error) {
	if r.holding && r.chance.IntN(2) == 0 {
		r.sink.write(r.held)
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
	if len(r.sink.faults) > 0 {
		return errors.New(r.sink.faults[0])
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
