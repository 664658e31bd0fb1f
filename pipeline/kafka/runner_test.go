package kafka

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestCountsOverRestarts(t *testing.T) {
	l := newLab(t, 4)
	for round := range 4 {
		r := l.run()
		l.produce(500)
		if round%2 == 0 {
			l.awaitTotals() // else it is stopped in the middle
		}
		must(t, r.stop())
		l.cluster.Compact()
	}
	l.run()
	l.awaitTotals()
}

// A panic at a step of a checkpoint ends the session there, like the end of the process: nothing more is written.
func TestCrashAtEachStep(t *testing.T) {
	for _, step := range []string{"encoded", "produced", "committed", "written"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 2)
			const rounds = 3
			for round := range rounds {
				l.produce(200)
				l.send(fmt.Sprint("bad-", round))
				left := 3 * round
				r := l.run(func(_ *Options, d *Deps) {
					d.Crash = func(at string) {
						if left--; at == step && left < 0 {
							panic("crash")
						}
					}
				}, onePartitionAtATime)
				l.produce(200)
				r.wg.Wait()
				if r.err == nil || !strings.Contains(r.err.Error(), "crash") {
					t.Fatalf("got %v", r.err)
				}
			}
			l.run()
			l.awaitTotals()
			l.project()
			l.awaitLetters(rounds) // each is in the topic once, too
		})
	}
}

// onePartitionAtATime serialises the crash function, which several sessions call.
func onePartitionAtATime(_ *Options, d *Deps) {
	crash, lock := d.Crash, make(chan struct{}, 1)
	d.Crash = func(step string) {
		lock <- struct{}{}
		defer func() { <-lock }()
		crash(step)
	}
}

func TestReady(t *testing.T) {
	l := newLab(t, 2)
	l.produce(10)
	sick := errors.New("sick")
	r := l.run(func(_ *Options, d *Deps) { d.Healthy = func() error { return sick } })
	if r.Ready() == nil {
		t.Fatal("ready before it joined")
	}
	eventually(t, "waits for the sink only", func() error {
		if err := r.Ready(); !errors.Is(err, sick) {
			return fmt.Errorf("got %w", err)
		}
		return nil
	})
	must(t, r.stop())
	if r.Ready() == nil {
		t.Fatal("ready after it stopped")
	}
}

func TestGroupOffsetsShowLag(t *testing.T) {
	l := newLab(t, 2)
	l.produce(100)
	r := l.run()
	l.awaitTotals()
	must(t, r.stop())
	adm := kadm.NewClient(l.producer.cl)
	lags, err := adm.Lag(t.Context(), "g")
	must(t, err)
	if got := lags["g"].Lag.Total(); got != 0 {
		t.Fatalf("lag is %d", got)
	}
	if n := len(lags["g"].Members); n != 0 {
		t.Fatalf("%d members are left", n)
	}
}

func TestStopsInTimeWithStuckSink(t *testing.T) {
	l := newLab(t, 1)
	stuck := make(chan struct{})
	l.sink.set(func() { l.sink.stuck = stuck })
	l.produce(100)
	r := l.run()
	r.awaitPosition(t, 0, 100)
	began := time.Now()
	must(t, r.stop())
	if took := time.Since(began); took < 900*time.Millisecond || took > 4*time.Second {
		t.Fatalf("took %v", took)
	}
	l.sink.set(func() { l.sink.stuck = nil })
	l.run()
	l.awaitTotals() // rows of the committed state, written by the next owner
}

func (r *running) awaitPosition(t *testing.T, partition int32, position int64) {
	t.Helper()
	eventually(t, "position is committed", func() error {
		r.mu.Lock()
		s := r.sessions[partition]
		r.mu.Unlock()
		if s == nil || s.committed.Load() != position {
			return fmt.Errorf("not at %d", position)
		}
		return nil
	})
}

func TestStuckSinkStopsNothingElse(t *testing.T) {
	l := newLab(t, 1)
	stuck := make(chan struct{})
	l.sink.set(func() { l.sink.stuck = stuck })
	r := l.run()
	for n := range 5 {
		l.produce(2000)
		r.awaitPosition(t, 0, int64(2000*(n+1)))
	}
	if n := len(l.sink.totals()); n != 0 {
		t.Fatalf("the sink is not stuck: %d rows", n)
	}
	close(stuck)
	l.awaitTotals()
	l.sink.set(func() {
		if l.sink.writes > 3 {
			t.Errorf("%d writes for one row per customer", l.sink.writes)
		}
	})
}

func TestSinkThatCannotWriteEndsTheRunner(t *testing.T) {
	l := newLab(t, 2)
	l.sink.set(func() { l.sink.err = errors.New("no such column") })
	l.produce(100)
	r := l.run()
	r.wg.Wait()
	if r.err == nil || !strings.Contains(r.err.Error(), "no such column") {
		t.Fatalf("got %v", r.err)
	}
	l.sink.set(func() { l.sink.err = nil })
	l.run()
	l.awaitTotals()
}

func TestRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*lab)
		want  string
	}{
		"state older than the database": {
			func(l *lab) { l.sink.set(func() { l.sink.versions[0] += 100 }) }, "zyklus admin rebuild"},
		"records gone before they were read": {
			func(l *lab) { l.produce(10); must(l.t, l.cluster.DeleteRecords("events", 0, 105)) },
			"has lost the records from offset 100 to 104"},
		"topic created anew": {
			func(l *lab) {
				must(l.t, l.cluster.DeleteTopic("events"))
				must(l.t, l.cluster.CreateTopic("events", 1, nil))
			}, "the topic was created anew"},
		"corrupt changelog": {
			func(l *lab) { l.intoChangelog(&kgo.Record{Key: []byte("k"), Value: []byte("corrupt")}) }, "cannot be restored: corrupt"},
		"number of partitions that is none": {
			func(l *lab) {
				l.intoChangelog(&kgo.Record{Key: []byte("k"), Value: make([]byte, 16), Headers: []kgo.RecordHeader{{Key: headerPartitions, Value: []byte("eight")}}})
			}, `cannot be restored: its header "partitions" is "eight", which is no number`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 1)
			l.produce(100)
			r := l.run()
			l.awaitTotals()
			must(t, r.stop())
			c.spoil(l)
			r = l.run()
			r.wg.Wait()
			if r.err == nil || !strings.Contains(r.err.Error(), c.want) {
				t.Fatalf("got %v", r.err)
			}
		})
	}
}

// intoChangelog adds a record to the changelog.
func (l *lab) intoChangelog(r *kgo.Record) {
	l.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(l.o.Brokers...), kgo.DefaultProduceTopic("zyklus-g-changelog"))
	must(l.t, err)
	defer cl.Close()
	must(l.t, cl.ProduceSync(l.t.Context(), r).FirstErr())
}

func TestMetrics(t *testing.T) {
	l := newLab(t, 2)
	reg := prometheus.NewPedanticRegistry()
	l.produce(100)
	l.send("guest")
	l.flush()
	l.run(func(_ *Options, d *Deps) { d.Registerer = reg })
	l.awaitTotals()
	eventually(t, "figures are shown", func() error {
		got, err := reg.Gather()
		if err != nil {
			return err
		}
		values := map[string]float64{}
		for _, f := range got {
			for _, m := range f.Metric {
				values[f.GetName()] += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
		if values["zyklus_events_total"] != 100 || values["zyklus_ignored_events_total"] != 1 ||
			values["zyklus_customers"] != 10 || values["zyklus_lag_records"] != 0 || values["zyklus_clock_seconds"] == 0 {
			return fmt.Errorf("got %v", values)
		}
		return nil
	})
	got, err := reg.Gather()
	must(t, err)
	problems, err := promlint.NewWithMetricFamilies(got).Lint()
	must(t, err)
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "zyklus_kafka_") {
			continue // of the client library
		}
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}
