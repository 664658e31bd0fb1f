package e2e

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/sourcegraph/conc"

	"zyklus/bench/simulator"
	"zyklus/pipeline/kafka"
)

// What BenchmarkOutage does unless the environment says otherwise.
const (
	outageRate      = 5000 // events per second: ZYKLUS_BENCH_RATE
	outageCustomers = 300_000
	outageLength    = 15 * time.Second // ZYKLUS_BENCH_OUTAGE
	outageWarmUp    = 20 * time.Second
	outageBehind    = 3 * time.Second // at most, and it has been caught up
)

// BenchmarkOutage takes ClickHouse away from a pipeline under load (ZYKLUS_BENCH_OUTAGE=10m, for so long) and gives it back.
// Simulated time runs as fast as ZYKLUS_BENCH_CUSTOMERS need it to for ZYKLUS_BENCH_RATE events a second. In the end all
// rows must be those of a pipeline that nothing happened to.
func BenchmarkOutage(b *testing.B) {
	rate, customers, length := float64(outageRate), outageCustomers, outageLength
	setting(b, "ZYKLUS_BENCH_RATE", &rate)
	setting(b, "ZYKLUS_BENCH_CUSTOMERS", &customers)
	if text := os.Getenv("ZYKLUS_BENCH_OUTAGE"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			b.Fatal(err)
		}
	}
	s := newSite(b, build(b))
	p := s.pipeline("outage", "events")
	f := newFlow(b, s, customers, rate)
	defer f.finish()
	p.start()
	url := p.ready()
	f.begin()
	time.Sleep(outageWarmUp)
	s.awaitLive(p, f)

	before := sample(p, url)
	at, from := f.reached(0), time.Now()
	s.engine.kill()
	most, end := before, before
	for time.Since(from) < length {
		time.Sleep(500 * time.Millisecond)
		end = sample(p, url)
		most = most.orGreater(end)
	}
	days := f.reached(0).Sub(at).Hours() / 24
	s.engine.start()
	back := time.Now()
	for !s.live(f) {
		most = most.orGreater(sample(p, url))
		time.Sleep(100 * time.Millisecond)
	}
	caughtUp := time.Since(back)

	to := f.finish()
	s.awaitClock(p, "outage", to)
	lost := p.metrics(url, "zyklus_daily_rows_lost_total")[0]
	p.stop()
	control := s.pipeline("control", "events")
	control.start()
	s.awaitClock(control, "control", to)
	control.stop()
	missing, extra := s.differences("control", "outage")
	if lost+missing+extra != 0 {
		b.Errorf("%v days were given up, %v rows are lost, %v are wrong", lost, missing, extra)
	}

	b.ReportMetric(float64(f.count), "events")
	b.ReportMetric(length.Seconds(), "outage-s")
	b.ReportMetric(days, "outage-simulated-days")
	b.ReportMetric(before.resident/(1<<20), "before-MB")
	b.ReportMetric(end.resident/(1<<20), "end-of-outage-MB")
	b.ReportMetric(most.resident/(1<<20), "max-MB")
	b.ReportMetric(end.pending, "pending-customers")
	b.ReportMetric(most.lag, "max-lag-records")
	b.ReportMetric(caughtUp.Seconds(), "caught-up-s")
	b.ReportMetric(lost, "days-given-up")
	b.ReportMetric(missing, "rows-lost")
	b.ReportMetric(extra, "rows-wrong")
	b.ReportMetric(0, "ns/op")
}

// setting reads a number of the environment.
func setting(b *testing.B, name string, v any) {
	if text := os.Getenv(name); text != "" {
		if _, err := fmt.Sscan(text, v); err != nil {
			b.Fatalf("%s: %v", name, err)
		}
	}
}

// figures are what a pipeline shows of itself.
type figures struct{ resident, pending, lag float64 }

func sample(p *child, url string) figures {
	v := p.metrics(url, "process_resident_memory_bytes", "zyklus_rows_pending", "zyklus_lag_records")
	return figures{v[0], v[1], v[2]}
}

func (f figures) orGreater(g figures) figures {
	return figures{max(f.resident, g.resident), max(f.pending, g.pending), max(f.lag, g.lag)}
}

// flow writes simulated events at a rate, and every half second how far simulated time has come.
type flow struct {
	b        *testing.B
	sim      *simulator.Simulator
	producer *kafka.Producer
	rate     float64
	wg       conc.WaitGroup
	cancel   context.CancelFunc
	ctx      context.Context
	count    int64 // of the goroutine, until finish

	mu   sync.Mutex
	told []moment
}

// moment is when simulated time had come to an instant.
type moment struct{ wall, simulated time.Time }

func newFlow(b *testing.B, s *site, customers int, rate float64) *flow {
	cfg := simulator.DefaultConfig()
	cfg.Customers, cfg.End, cfg.Arrivals.Span = customers, time.Time{}, 30*24*time.Hour
	sim, err := simulator.New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	f := &flow{b: b, sim: sim, rate: rate}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	o := kafka.Options{Brokers: []string{s.broker.addr}, Group: "outage", Topic: "events"}
	if f.producer, err = kafka.NewProducer(f.ctx, o, nil); err != nil {
		b.Fatal(err)
	}
	return f
}

func (f *flow) begin() { f.wg.Go(f.run) }

func (f *flow) run() {
	began, last := time.Now(), time.Now()
	for e := (simulator.Event{}); f.ctx.Err() == nil; time.Sleep(2 * time.Millisecond) {
		for due := int64(time.Since(began).Seconds() * f.rate); f.count < due && f.sim.Next(&e); f.count++ {
			if err := f.producer.Produce(context.Background(), append([]byte(nil), e.Key...), append([]byte(nil), e.Value...), time.Now()); err != nil {
				f.b.Error(err)
				return
			}
		}
		if time.Since(last) >= 500*time.Millisecond {
			last = time.Now()
			f.tell(e.Arrival)
		}
	}
	f.tell(f.reached(0).Add(24 * time.Hour))
}

// tell writes a heartbeat.
func (f *flow) tell(at time.Time) {
	ctx := context.Background()
	err := f.producer.Flush(ctx)
	if err == nil {
		err = f.producer.Heartbeat(ctx, simulator.Heartbeat(nil, at))
	}
	if err != nil {
		f.b.Error(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told = append(f.told, moment{time.Now(), at})
}

// reached returns how far simulated time had come some time ago.
func (f *flow) reached(ago time.Duration) (at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.told {
		if time.Since(m.wall) >= ago {
			at = m.simulated
		}
	}
	return at
}

// finish ends the flow and returns how far simulated time has come.
func (f *flow) finish() time.Time {
	f.cancel()
	f.wg.Wait()
	f.producer.Close()
	return f.reached(0)
}

// live reports whether what was written some seconds ago can be read, of all partitions.
func (s *site) live(f *flow) bool { return s.clockAt("outage", f.reached(outageBehind)) }

func (s *site) clockAt(database string, at time.Time) bool {
	fields, err := s.query(fmt.Sprintf("SELECT count() FROM %s.v_checkpoints WHERE clock >= fromUnixTimestamp64Milli(%d)", database, at.UnixMilli()))
	return err == nil && len(fields) == 1 && fields[0] == fmt.Sprint(partitions)
}

func (s *site) awaitLive(p *child, f *flow) {
	for !s.live(f) {
		p.alive()
		time.Sleep(100 * time.Millisecond)
	}
}

func (s *site) awaitClock(p *child, database string, at time.Time) {
	for !s.clockAt(database, at) {
		p.alive()
		time.Sleep(100 * time.Millisecond)
	}
}

// differences counts the rows of one database that another does not have, and the other way round.
func (s *site) differences(want, got string) (missing, extra float64) {
	for _, view := range []string{"v_customers", "v_orders", "v_phase_transitions", "v_customer_days"} {
		except := "SELECT count() FROM (SELECT * FROM %s.%s EXCEPT SELECT * FROM %s.%[2]s)"
		missing += s.number(fmt.Sprintf(except, want, view, got))
		extra += s.number(fmt.Sprintf(except, got, view, want))
	}
	return missing, extra
}
