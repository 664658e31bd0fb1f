package kafka

import (
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/plugin/kprom"

	"zyklus/pipeline"
)

// showEvery is how often an attempt shows its Task's figures.
const showEvery = 250 * time.Millisecond

// metrics are the figures of a Runner. Counters count what the Tasks of this process did; records that are read again
// after a restart count again. Gauges are sums over, or values of, the partitions owned now.
type metrics struct {
	r          *Runner
	checkpoint prometheus.Histogram

	events, deadLetters, transitions     *prometheus.CounterVec
	late, duplicates, ignored, withdrawn prometheus.Counter
	corrections, forced, unmatched       prometheus.Counter
	daysLost                             prometheus.Counter

	stalled, heard *prometheus.GaugeVec

	clock, watermark, lag, phases, waiting *prometheus.Desc
	sums                                   []sumGauge
}

// sumGauge is a gauge that is the sum of a figure over partitions.
type sumGauge struct {
	desc *prometheus.Desc
	of   func(*pipeline.Stats) int64
}

// namespace begins the names of a Runner's metrics.
type namespace string

func (o *Options) namespace() namespace {
	if o.Stage != "" {
		return namespace("zyklus_" + o.Stage)
	}
	return "zyklus"
}

func (n namespace) counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Namespace: string(n), Name: name, Help: help})
}

func (n namespace) counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: string(n), Name: name, Help: help}, labels)
}

func (n namespace) gauge(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(string(n)+"_"+name, help, labels, nil)
}

func (n namespace) gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: string(n), Name: name, Help: help}, labels)
}

// setStalled shows the guard's last judgement.
func (m *metrics) setStalled(g *guard) {
	for i, f := range g.families {
		s := &g.states[i]
		m.heard.WithLabelValues(g.stall.Source, f).Set(float64(s.last) / 1000)
		stalled := 0.0
		if s.stalled != 0 {
			stalled = 1
		}
		m.stalled.WithLabelValues(g.stall.Source, f).Set(stalled)
	}
}

func newMetrics(r *Runner) *metrics {
	ns := r.o.namespace()
	m := &metrics{
		r: r,
		checkpoint: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: string(ns), Name: "checkpoint_seconds", Help: "Time to encode and commit one checkpoint of a partition.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 16),
		}),
		events:      ns.counters("events_total", "Decoded events.", "partition"),
		deadLetters: ns.counters("dead_letters_total", "Records that could not be used, by error.", "error"),
		transitions: ns.counters("transitions_total", "Published changes of phase.", "lifecycle", "from", "to", "cause"),
		late:        ns.counter("late_events_total", "Events later than the allowed lateness."),
		corrections: ns.counter("corrections_total", "Late order events that entered totals."),
		duplicates:  ns.counter("duplicates_total", "Events that were there already."),
		ignored:     ns.counter("ignored_events_total", "Events of ids that are no persons."),
		withdrawn:   ns.counter("withdrawn_total", "Transitions withdrawn after an event out of order."),
		forced:      ns.counter("settled_early_total", "Customers whose oldest open events settled early because there were too many."),
		unmatched:   ns.counter("unmatched_money_minor_units_total", "Money of refunds, updates and cancellations without an order."),
		stalled:     namespace("zyklus").gauges("source_stalled", "1 while a family of a source's events has been silent for longer than its limit, or is not back for good; family is empty for the source as a whole.", "source", "family"),
		heard:       namespace("zyklus").gauges("source_last_event_seconds", "Event time of the last event of a family, over all partitions, Unix time.", "source", "family"),
		daysLost:    ns.counter("daily_rows_lost_total", "Rows of customer_days given up: an upgrade changed their columns while they waited for the sink, or more of a customer's waited than its record holds."),
		clock:       ns.gauge("clock_seconds", "Clock of a partition, Unix time.", "partition"),
		watermark:   ns.gauge("watermark_seconds", "Watermark of a partition, Unix time: what is before it is final.", "partition"),
		lag:         ns.gauge("lag_records", "Records of a partition that are not processed yet.", "partition"),
		waiting:     ns.gauge("partitions_waiting", "Partitions that read nothing more until the sink has taken rows."),
		phases:      ns.gauge("phase_customers", "Customers by phase.", "lifecycle", "phase"),
	}
	m.sums = []sumGauge{
		{ns.gauge("state_bytes", "Bytes of customers at rest."), func(s *pipeline.Stats) int64 { return s.StateBytes }},
		{ns.gauge("state_held_bytes", "Memory reserved for customers at rest."), func(s *pipeline.Stats) int64 { return s.StateHeld }},
		{ns.gauge("customers", "Customers."), func(s *pipeline.Stats) int64 { return s.Customers }},
		{ns.gauge("working_set", "Customers touched since the last checkpoint."), func(s *pipeline.Stats) int64 { return s.WorkingSet }},
		{ns.gauge("timers", "Customers that wait for a deadline."), func(s *pipeline.Stats) int64 { return s.Timers }},
		{ns.gauge("timers_due", "Customers whose deadline has come and is not processed yet."), func(s *pipeline.Stats) int64 { return s.TimersDue }},
		{ns.gauge("rows_pending", "Customers whose rows are not written yet."), func(s *pipeline.Stats) int64 { return s.RowsPending }},
		{ns.gauge("pending_bytes", "Bytes of daily rows that are not written yet. At the limit nothing more is read."), func(s *pipeline.Stats) int64 { return s.BytesPending }},
	}
	for _, kind := range pipeline.ErrorKinds() {
		m.deadLetters.WithLabelValues(kind) // an alert needs the zero
	}
	return m
}

func (m *metrics) all() []prometheus.Collector {
	all := []prometheus.Collector{
		m, m.checkpoint, m.events, m.deadLetters, m.transitions, m.late, m.corrections, m.duplicates, m.ignored,
		m.withdrawn, m.forced, m.unmatched, m.daysLost,
	}
	if len(m.r.o.Stall.Limits) > 0 {
		all = append(all, m.stalled, m.heard)
	}
	return all
}

// register panics if another Runner has registered with reg, which is a fault of the program.
func (m *metrics) register(reg prometheus.Registerer) {
	if reg != nil {
		reg.MustRegister(m.all()...)
	}
}

func (m *metrics) unregister(reg prometheus.Registerer) {
	if reg == nil {
		return
	}
	for _, c := range m.all() {
		reg.Unregister(c)
	}
}

// clientOpts adds the client library's own metrics.
func (m *metrics) clientOpts(reg prometheus.Registerer) []kgo.Opt {
	if reg == nil {
		return nil
	}
	return []kgo.Opt{kgo.WithHooks(kprom.NewMetrics(string(m.r.o.namespace())+"_kafka", kprom.Registerer(reg)))}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.clock, m.watermark, m.lag, m.phases, m.waiting} {
		ch <- d
	}
	for _, s := range m.sums {
		ch <- s.desc
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	sums := make([]int64, len(m.sums))
	phases, waiting := m.noPhases(), 0.0
	for _, s := range m.r.snapshot() {
		stats, position := s.figures.get()
		if stats == nil {
			continue
		}
		if s.waiting.Load() {
			waiting++
		}
		partition := strconv.Itoa(int(s.partition))
		send(m.clock, float64(stats.Clock)/1000, partition)
		send(m.watermark, float64(stats.Watermark)/1000, partition)
		if end := s.end.Load(); end != nil {
			send(m.lag, float64(max(end.offset-position, 0)), partition)
		}
		for i := range sums {
			sums[i] += m.sums[i].of(stats)
		}
		for l := range phases {
			for p := range phases[l] {
				phases[l][p] += stats.PhaseCustomers[l][p]
			}
		}
	}
	send(m.waiting, waiting)
	for i, s := range m.sums {
		send(s.desc, float64(sums[i]))
	}
	for l := range phases {
		for p, n := range phases[l] {
			send(m.phases, float64(n), m.r.d.Job.Lifecycles()[l].ID, m.r.d.Job.Phase(l, p+1))
		}
	}
}

// noPhases returns zero counts for all phases of all lifecycles.
func (m *metrics) noPhases() [][]int64 {
	if m.r.d.Job == nil {
		return nil
	}
	var phases [][]int64
	for _, l := range m.r.d.Job.Lifecycles() {
		phases = append(phases, make([]int64, len(l.Phases)))
	}
	return phases
}

// count adds to the counters what a Task did between two of its figures.
func (m *metrics) count(partition int32, before, now *pipeline.Stats) {
	m.events.WithLabelValues(strconv.Itoa(int(partition))).Add(float64(now.Events - before.Events))
	m.late.Add(float64(now.Late - before.Late))
	m.corrections.Add(float64(now.Corrections - before.Corrections))
	m.duplicates.Add(float64(now.Duplicates - before.Duplicates))
	m.ignored.Add(float64(now.Ignored - before.Ignored))
	m.withdrawn.Add(float64(now.Withdrawn - before.Withdrawn))
	m.forced.Add(float64(now.Forced - before.Forced))
	m.daysLost.Add(float64(now.DaysLost - before.DaysLost))
	m.unmatched.Add(float64(max(now.UnmatchedMoney-before.UnmatchedMoney, 0)))
	for kind, n := range now.DeadLetters {
		if d := n - before.DeadLetters[kind]; d > 0 {
			m.deadLetters.WithLabelValues(pipeline.ErrorKind(kind).String()).Add(float64(d))
		}
	}
	if m.r.d.Job == nil {
		return
	}
	for t, n := range now.Transitions {
		if d := n - before.Transitions[t]; d > 0 {
			m.transitions.WithLabelValues(m.r.d.Job.Lifecycles()[t.Lifecycle].ID,
				m.r.d.Job.Phase(t.Lifecycle, t.From), m.r.d.Job.Phase(t.Lifecycle, t.To), t.Cause.String()).Add(float64(d))
		}
	}
}

// figures are what a session shows of its Task. The session's goroutine writes, collectors read.
type figures struct {
	mu       sync.Mutex
	stats    *pipeline.Stats // never changed once it is here
	position int64
}

func (f *figures) set(stats *pipeline.Stats, position int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stats, f.position = stats, position
}

// get returns nil before the first figures.
func (f *figures) get() (*pipeline.Stats, int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stats, f.position
}

// show copies the Task's figures for collectors and adds to the counters what has happened since.
func (a *attempt) show() {
	now := copyStats(a.task.Stats())
	a.s.r.metrics.count(a.s.partition, a.shown, now)
	a.s.figures.set(now, a.position)
	a.s.note.Store(a.note())
	a.shown, a.shownAt = now, time.Now()
}

func copyStats(s *pipeline.Stats) *pipeline.Stats {
	c := *s
	c.Transitions = maps.Clone(s.Transitions)
	c.PhaseCustomers = make([][]int64, len(s.PhaseCustomers))
	for i, l := range s.PhaseCustomers {
		c.PhaseCustomers[i] = slices.Clone(l)
	}
	return &c
}
