package kafka

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"

	"zyklus/pipeline"
)

// finalTables are what runs are compared by.
var finalTables = []string{"customers", "orders", "phase_transitions"}

// guarded are a job and a Runner that hold time while orders are silent for longer than a limit.
func guarded(limit time.Duration) (job func(*pipeline.Options), run func(*Options, *Deps)) {
	return func(o *pipeline.Options) { o.Held = true }, func(o *Options, _ *Deps) {
		o.Stall = Stall{Source: "shop", Limits: map[string]time.Duration{"orders": limit}, Required: true, Settle: realLateness}
	}
}

// count returns the sum of a metric over its labels.
func count(t *testing.T, reg *prometheus.Registry, name string) (sum float64) {
	t.Helper()
	families, err := reg.Gather()
	must(t, err)
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() == name {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// awaitCount waits until a metric has a value.
func awaitCount(t *testing.T, reg *prometheus.Registry, name string, want float64) {
	t.Helper()
	eventually(t, name, func() error {
		if got := count(t, reg, name); got != want {
			return fmt.Errorf("%v, not %v", got, want)
		}
		return nil
	})
}

// orders splits events by their kind.
func orders(events []happening) (orders, pages []happening) {
	for _, e := range events {
		if e.order {
			orders = append(orders, e)
		} else {
			pages = append(pages, e)
		}
	}
	return orders, pages
}

// between returns the events from one day of the history to another.
func between(events []happening, from, to int64) []happening {
	return slices.DeleteFunc(slices.Clone(events), func(e happening) bool { return e.at < spring+from*day || e.at >= spring+to*day })
}

// TestStallChangesNothing: a source brings no orders for forty days while its customers go on to look at pages, and then
// everything at once. Meanwhile nobody has churned, and everybody was told; in the end the rows are those of a source that
// was never away.
func TestStallChangesNothing(t *testing.T) {
	t.Parallel()
	job, run := guarded(24 * time.Hour)
	clean, l := newRealLab(t, 2, job), newRealLab(t, 2, job)
	events := slices.DeleteFunc(history(11, 90), func(e happening) bool { // half a day without, for the return
		return e.at >= spring+60*day && e.at < spring+60*day+12*hour
	})
	end := spring + 90*day + 6*hour
	clean.start(run)
	clean.happen(events...)
	clean.await(end, end)

	reg := prometheus.NewRegistry()
	stalls, err := SourceStalls(l.o, l.rows, l.log())
	must(t, err)
	projector := runProjector(stalls)
	t.Cleanup(func() { _ = projector() })
	first := l.start(run, func(_ *Options, d *Deps) { d.Registerer = reg })
	l.happen(between(events, 0, 20)...)
	missing, pages := orders(between(events, 20, 60))
	early := between(events, 0, 20)
	heard, _ := orders(early)
	last := heard[len(heard)-1].at
	l.happen(pages...)
	if a := l.awaitAlert(typeStalled); a.Data.LastEventAt != last || a.Data.Source != "shop" || !a.Data.Required {
		t.Errorf("the alert is %+v, the last order was at %d", a, last)
	}
	awaitCount(t, reg, "zyklus_source_stalled", 1)
	must(t, first.stop()) // another process goes on
	l.start(run)
	l.now.Store(spring + 60*day)
	l.awaitAlert(typeStalled)
	for _, at := range l.rows.column("phase_transitions", "at") {
		if at > last+day {
			t.Errorf("a change of phase at %s, time stood still at %s", stampOf(at), stampOf(last+day))
		}
	}
	if clocks, marks := l.rows.column("checkpoints", "clock"), l.rows.column("checkpoints", "watermark"); slices.Max(clocks) > last+day || slices.Max(marks) > last-realLateness.Milliseconds() {
		t.Errorf("clocks are %v, watermarks %v, the last order was at %d", clocks, marks, last)
	}
	if got := l.rows.pick("source_stalls", "resumed_at"); len(got) != 1 || got[0][0] != "-" {
		t.Errorf("rows of the stall: %q", got)
	}

	for _, e := range missing {
		l.write(e)
	}
	eventually(t, "the source is back", func() error {
		l.now.Add(5 * minute)
		list := l.alerts()
		if !slices.ContainsFunc(list, func(e cloudEvent) bool { return e.Type == typeResumed }) {
			return fmt.Errorf("%d alerts", len(list))
		}
		return nil
	})
	l.happen(between(events, 60, 90)...)
	l.await(end, end)
	if a := l.awaitAlert(typeResumed); a.Data.LastEventAt != last {
		t.Errorf("the alert is %+v", a)
	}
	eventually(t, "the row says that the source is back", func() error {
		if got := l.rows.pick("source_stalls", "resumed_at", "last_event_at"); len(got) != 1 || got[0][0] == "-" || got[0][1] != fmt.Sprint(last) {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	sameRows(t, clean, l, finalTables...)
}

// lateTask is restored when its gate opens.
type lateTask struct {
	Task
	gate <-chan struct{}
}

func (t lateTask) Restored() error {
	<-t.gate
	return t.Task.Restored()
}

// awaitFigures waits until a partition has acted on the last judgement: it shows its figures afterwards.
func awaitFigures(t *testing.T, s *session) {
	t.Helper()
	shown, _ := s.figures.get()
	for range 2 { // the first ones may be as of before
		eventually(t, "a partition shows its figures", func() error {
			now, _ := s.figures.get()
			if now == shown {
				return errors.New("no news")
			}
			shown = now
			return nil
		})
	}
}

// TestStallIsHeardBeforeTimeMoves: orders come to one partition alone and stop, and the group's offsets, with what the group
// was told, expire while nobody is there. The partition that never had an order starts first: it lets nothing become final
// before the other one has told what it has heard.
func TestStallIsHeardBeforeTimeMoves(t *testing.T) {
	t.Parallel()
	job, run := guarded(24 * time.Hour)
	l := newRealLab(t, 2, job)
	events := slices.DeleteFunc(history(11, 40), func(e happening) bool {
		return e.order && (e.at >= spring+20*day || xxhash.Sum64String(e.customer)%2 == 1)
	})
	heard, _ := orders(events)
	last := heard[len(heard)-1].at
	first := l.start(run)
	l.happen(between(events, 0, 20)...)
	eventually(t, "both partitions know of the orders", func() error {
		list := first.snapshot()
		for _, s := range list {
			if b := s.bounds.Load(); b == nil || b.last[0] != last {
				return fmt.Errorf("partition %d: %+v", s.partition, b)
			}
		}
		if len(list) != 2 {
			return fmt.Errorf("%d partitions", len(list))
		}
		return nil
	})
	for _, s := range first.snapshot() {
		awaitFigures(t, s)
	}
	l.happen(between(events, 20, 40)...)
	l.awaitAlert(typeStalled)
	must(t, first.stop())
	groups, err := kadm.NewClient(l.out).DeleteGroups(t.Context(), l.o.Group)
	must(t, errors.Join(err, groups.Error()))

	gate := make(chan struct{})
	r := l.start(run, func(_ *Options, d *Deps) {
		task := d.NewTask
		d.NewTask = func(topic string, p int32) Task {
			if p == 0 {
				return lateTask{task(topic, p), gate}
			}
			return task(topic, p)
		}
	})
	var early *session
	eventually(t, "the partition without orders has taken a judgement", func() error {
		list := r.snapshot()
		if len(list) != 2 || list[1].bounds.Load() == nil {
			return fmt.Errorf("%d partitions", len(list))
		}
		early = list[1]
		return nil
	})
	awaitFigures(t, early)
	close(gate)
	l.awaitAlert(typeStalled)
	if stats, _ := early.figures.get(); stats.Watermark > last-realLateness.Milliseconds() || stats.Clock > last+day {
		t.Errorf("the clock is at %s, the watermark at %s, the last order came at %s", stampOf(stats.Clock), stampOf(stats.Watermark), stampOf(last))
	}
}

// TestWallClockSetBack: an hour back, while events go on. Those of now are no future, and all rows are those of a clock
// that was always right.
func TestWallClockSetBack(t *testing.T) {
	t.Parallel()
	tight := func(o *pipeline.Options) { o.Skew = 20 * time.Millisecond }
	l, clean := newRealLab(t, 2, tight), newRealLab(t, 2, tight)
	reg := prometheus.NewRegistry()
	l.start(func(_ *Options, d *Deps) { d.Registerer = reg })
	began := time.Now()
	var events []happening
	for n := range 30 {
		if n == 10 {
			l.await(l.now.Load(), l.now.Load()) // it has been right, and heard
			l.wrong.Store(-hour)
		}
		l.now.Store(spring + time.Since(began).Milliseconds())
		at := l.now.Load()
		events = append(events, orderOf(fmt.Sprint("c-", n%7), fmt.Sprint(n), at, 700), pageOf(fmt.Sprint("c-", n%5), fmt.Sprint(n), at))
		l.happen(events[len(events)-2:]...)
		time.Sleep(20 * time.Millisecond)
	}
	end := spring + 200*day
	l.await(end+hour, end)
	clean.start()
	clean.happen(events...)
	clean.await(end, end)
	awaitCount(t, reg, "zyklus_events_total", float64(len(events)))
	if n := count(t, reg, "zyklus_dead_letters_total"); n != 0 {
		t.Errorf("%v dead letters", n)
	}
	sameRows(t, clean, l, finalTables...)
}

// TestWallClockSetAhead: an hour ahead for a while, in a process whose source is watched. Time does not follow a clock
// that leaves the source behind: no event comes late, and all rows are those of a clock that was always right.
func TestWallClockSetAhead(t *testing.T) {
	t.Parallel()
	job, run := guarded(5 * time.Minute)
	clean, l := newRealLab(t, 2, job), newRealLab(t, 2, job)
	var events []happening
	for n := int64(0); n < 1500; n++ {
		at := spring + n*minute
		events = append(events, orderOf(fmt.Sprint("c-", n*n%23), fmt.Sprint(n), at, 900), pageOf(fmt.Sprint("c-", n%29), fmt.Sprint(n), at+1000))
	}
	end := events[len(events)-1].at + 4*minute
	clean.start(run)
	clean.happen(events...)
	clean.await(end, end)

	reg := prometheus.NewRegistry()
	l.start(run, func(_ *Options, d *Deps) { d.Registerer = reg })
	l.happen(events[:200]...)
	l.await(l.now.Load(), events[199].at)
	l.wrong.Store(hour)
	l.awaitAlert(typeStalled) // as all partitions have been read up to a time that is not yet
	l.happen(events[200:240]...)
	awaitCount(t, reg, "zyklus_events_total", 240)
	l.wrong.Store(0)
	next := 240
	for ; next < len(events) && (next < 600 || count(t, reg, "zyklus_source_stalled") > 0); next++ {
		l.happen(events[next])
		time.Sleep(2 * time.Millisecond) // judgements are made once a second
	}
	l.happen(events[next:]...)
	l.await(end, end)
	awaitCount(t, reg, "zyklus_events_total", float64(len(events)))
	if n := count(t, reg, "zyklus_late_events_total"); n != 0 {
		t.Errorf("%v events were late", n)
	}
	sameRows(t, clean, l, finalTables...)
}

// TestWallClockSetAheadUnwatched: an hour ahead, in a process whose source is not watched. Time goes ahead and the events
// of that hour are late, but no order is lost or counted twice, what follows is dated at the watermark, and all is counted.
func TestWallClockSetAheadUnwatched(t *testing.T) {
	t.Parallel()
	clean, l := newRealLab(t, 1), newRealLab(t, 1)
	reg := prometheus.NewRegistry()
	l.start(func(_ *Options, d *Deps) { d.Registerer = reg })
	clean.start()
	before := []happening{orderOf("a", "a1", spring, 500), pageOf("b", "b1", spring+minute)}
	during := []happening{orderOf("a", "a2", spring+10*minute, 300), pageOf("a", "p1", spring+11*minute), orderOf("b", "b1", spring+20*minute, 200), refundOf("a", "a1", spring+30*minute, 100)}
	after := []happening{orderOf("b", "b2", spring+3*hour, 900), pageOf("a", "p2", spring+4*hour)}
	end := spring + 5*hour
	l.happen(before...)
	l.await(l.now.Load(), l.now.Load())
	l.wrong.Store(hour)
	l.await(l.now.Load(), l.now.Load()+hour)
	l.happen(during...)
	awaitCount(t, reg, "zyklus_events_total", 6)
	l.wrong.Store(0)
	l.happen(after...)
	l.await(end, end)
	awaitCount(t, reg, "zyklus_late_events_total", 4)
	awaitCount(t, reg, "zyklus_corrections_total", 3)
	clean.happen(slices.Concat(before, during, after)...)
	clean.await(end, end)
	sameRows(t, clean, l, "orders")
	for _, lab := range []*realLab{clean, l} {
		got := lab.rows.pick("customers", "customer_id", "orders", "net_value_minor", "role5_phase")
		slices.SortFunc(got, slices.Compare)
		if fmt.Sprint(got) != "[[a 2 700 active] [b 2 1100 active]]" {
			t.Errorf("customers are %q", got)
		}
	}
	for _, tr := range l.rows.pick("phase_transitions", "cause", "at") {
		if at := number([]byte(tr[1])); tr[0] == "correction" && at < spring+51*minute {
			t.Errorf("a correction at %s, before the watermark", stampOf(at))
		}
	}
}

// TestProducerAhead: one producer's clock is an hour ahead. What it sends is not believed: it moves no clock, fires no
// silence and keeps no source alive that is silent, and each record is a dead letter.
func TestProducerAhead(t *testing.T) {
	t.Parallel()
	clean, l := newRealLab(t, 2), newRealLab(t, 2)
	events := history(13, 100)
	end := spring + 100*day
	clean.start()
	clean.happen(events...)
	clean.await(end, end)
	l.start()
	sent := 0
	for i, e := range events {
		l.happen(e)
		if i%20 == 0 {
			l.caughtUp()
			l.write(orderOf(fmt.Sprint("c-", i%30), fmt.Sprint("x", i), e.at+hour, 5000))
			l.write(pageOf("nobody-else", fmt.Sprint("x", i), e.at+hour))
			l.heartbeat(e.at + 300*day)
			l.caughtUp()
			sent += 4
		}
		if i == len(events)/2 { // the wall clock alone would not have moved it so far
			l.await(e.at, e.at)
			if clocks, now := l.rows.column("checkpoints", "clock"), l.now.Load(); slices.Max(clocks) > now {
				t.Errorf("clocks are %v, it is %d", clocks, now)
			}
		}
	}
	l.await(end, end)
	sameRows(t, clean, l, finalTables...)
	l.project()
	l.awaitLetters(sent)
	l.sink.set(func() {
		for letter := range l.sink.letters {
			if !strings.Contains(letter, " time_in_future: ") {
				t.Errorf("a dead letter %q", letter)
			}
		}
	})
}

// TestProducerBehind: one producer sends everything a day late. Its orders count in full; what follows is dated at the
// watermark of their arrival; the rows of all other customers are those of a producer that never was.
func TestProducerBehind(t *testing.T) {
	t.Parallel()
	clean, l := newRealLab(t, 2), newRealLab(t, 2)
	events := history(17, 60)
	end := spring + 61*day
	reg := prometheus.NewRegistry()
	l.start(func(_ *Options, d *Deps) { d.Registerer = reg })
	arrivals := map[string]int64{} // of a customer's first late order
	value, n := map[string]int64{}, map[string]int64{}
	late := 0
	for i, e := range events {
		l.happen(e)
		if i%10 == 5 && e.at > spring+2*day {
			l.heartbeat(e.at) // so that the clock stands there
			l.caughtUp()
			c := fmt.Sprint("late-", i%9)
			l.write(orderOf(c, fmt.Sprint("l", i), e.at-day, int64(100+i)))
			l.write(pageOf(c, fmt.Sprint("l", i), e.at-day))
			l.caughtUp()
			if late += 2; arrivals[c] == 0 {
				arrivals[c] = e.at
			}
			value[c], n[c] = value[c]+int64(100+i), n[c]+1
		}
	}
	l.await(end, end)
	awaitCount(t, reg, "zyklus_late_events_total", float64(late))
	awaitCount(t, reg, "zyklus_corrections_total", float64(late/2))
	found := 0
	for _, row := range l.rows.pick("customers", "customer_id", "orders", "net_value_minor") {
		if c := row[0]; strings.HasPrefix(c, "late-") {
			if found++; row[1] != fmt.Sprint(n[c]) || row[2] != fmt.Sprint(value[c]) {
				t.Errorf("%q: %d orders of %d were written", row, n[c], value[c])
			}
		}
	}
	if found != len(n) {
		t.Errorf("%d customers of %d", found, len(n))
	}
	for _, tr := range l.rows.pick("phase_transitions", "customer_id", "from_phase", "cause", "at") {
		at, arrival := number([]byte(tr[3])), arrivals[tr[0]]
		if arrival != 0 && tr[1] == "" && (tr[2] != "correction" || at != arrival-realLateness.Milliseconds()) {
			t.Errorf("%q, arrived at %d", tr, arrival)
		}
	}
	clean.start()
	clean.happen(events...)
	clean.await(end, end)
	for _, table := range finalTables {
		want := clean.rows.dump(table)
		got := slices.DeleteFunc(l.rows.dump(table), func(row string) bool { return strings.Contains(row, "late-") })
		if !slices.Equal(want, got) {
			t.Errorf("%s: rows of other customers differ", table)
		}
	}
}

// TestHeartbeatsJump: where heartbeats alone say how far time has come, one that goes back, comes twice, or lies in the
// future changes nothing.
func TestHeartbeatsJump(t *testing.T) {
	t.Parallel()
	byEvents := func(o *pipeline.Options) { o.WallClock = false }
	clean, l := newRealLab(t, 2, byEvents), newRealLab(t, 2, byEvents)
	events := history(19, 60)
	end := spring + 400*day
	for _, lab := range []*realLab{clean, l} {
		lab.start()
		for i, e := range events {
			lab.happen(e)
			if lab == l && i%15 == 0 {
				lab.caughtUp()
				lab.heartbeat(e.at)
				lab.heartbeat(e.at - 3*day)
				lab.heartbeat(e.at + hour)
				lab.caughtUp()
			}
		}
		lab.now.Store(end)
		lab.heartbeat(end)
		lab.await(end, end)
	}
	sameRows(t, clean, l, finalTables...)
	l.project()
	l.awaitLetters(2 * ((len(events) + 14) / 15))
}
