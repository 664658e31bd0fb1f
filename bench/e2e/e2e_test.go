package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sourcegraph/conc"
	"github.com/twmb/franz-go/pkg/kgo"

	"zyklus/bench/dataset"
	"zyklus/bench/simulator"
	"zyklus/models"
	"zyklus/models/lifecycle"
	"zyklus/operators"
	"zyklus/pipeline"
	"zyklus/pipeline/codec"
	"zyklus/pipeline/kafka"
	"zyklus/sinks/clickhouse"
)

const partitions = 4

// BenchmarkHistory replays the demo's history: 20,000 simulated customers over 18 months. ZYKLUS_BENCH_CUSTOMERS sets
// another number of them; ZYKLUS_BENCH_DAYS=off leaves customer_days out.
func BenchmarkHistory(b *testing.B) { replay(b, "EUR", history(b)) }

// history returns what writes the demo's history.
func history(b *testing.B) func(produce func(key, value []byte)) time.Time {
	cfg := simulator.DefaultConfig()
	if n := os.Getenv("ZYKLUS_BENCH_CUSTOMERS"); n != "" {
		if _, err := fmt.Sscan(n, &cfg.Customers); err != nil {
			b.Fatal(err)
		}
	}
	return func(produce func(key, value []byte)) time.Time {
		sim, err := simulator.New(cfg)
		if err != nil {
			b.Fatal(err)
		}
		for e := (simulator.Event{}); sim.Next(&e); {
			produce(e.Key, e.Value)
		}
		return cfg.End.Add(cfg.MaxDelay)
	}
}

// BenchmarkCompleteJourney replays the Complete Journey sample: 47,243 baskets of 2,377 households.
func BenchmarkCompleteJourney(b *testing.B) {
	f, err := os.Open(filepath.Join("..", "..", "..", "shared", "data", "complete_journey_sample.csv.gz"))
	if err != nil {
		b.Skip("the data set is not beside the repository: ", err)
	}
	defer func() { _ = f.Close() }()
	replay(b, "USD", func(produce func(key, value []byte)) (last time.Time) {
		r, err := dataset.Open("complete-journey", f, "USD")
		if err != nil {
			b.Fatal(err)
		}
		for e := (dataset.Event{}); ; {
			more, err := r.Next(&e)
			if err != nil {
				b.Fatal(err)
			}
			if !more {
				return last
			}
			produce(e.Key, e.Value)
			last = e.At
		}
	})
}

// replay fills a topic, and then measures fetch and decode alone and the pipeline, one after the other.
func replay(b *testing.B, currency string, fill func(produce func(key, value []byte)) time.Time) {
	ctx := context.Background()
	zyklus := build(b)
	broker := part(b, zyklus, "embedded", "broker", "--listen", "127.0.0.1:0", "--data-dir", b.TempDir())
	engine := part(b, zyklus, "embedded", "clickhouse", "--listen", "127.0.0.1:0", "--data-dir", b.TempDir())
	o := kafka.Options{Brokers: []string{broker}, Group: "bench", Topic: "events"}
	if err := kafka.EnsureTopics(ctx, o, partitions); err != nil {
		b.Fatal(err)
	}
	events, to := produce(b, o, fill)
	floor := measure(func() { fetchAndDecode(b, o, events, currency) })
	floor.report(b, "floor", events)
	whole := measure(func() { run(b, o, engine, currency, to) })
	whole.report(b, "pipeline", events)
	b.ReportMetric(float64(events), "events")
	b.ReportMetric(floor.cpu.Seconds()/whole.cpu.Seconds(), "of-floor")
	b.ReportMetric(0, "ns/op")
}

func produce(b *testing.B, o kafka.Options, fill func(func(key, value []byte)) time.Time) (n int64, to time.Time) {
	ctx := context.Background()
	p, err := kafka.NewProducer(ctx, o, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	to = fill(func(key, value []byte) {
		n++
		if err := p.Produce(ctx, append([]byte(nil), key...), append([]byte(nil), value...), time.Now()); err != nil {
			b.Fatal(err)
		}
	})
	if err := errors.Join(p.Flush(ctx), p.Heartbeat(ctx, simulator.Heartbeat(nil, to))); err != nil {
		b.Fatal(err)
	}
	return n + partitions, to
}

// cost is what a piece of work took of this process.
type cost struct {
	wall, cpu time.Duration
	garbage   uint64
}

func measure(work func()) (c cost) {
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu, begin := cpuTime(), time.Now()
	work()
	c.wall, c.cpu = time.Since(begin), cpuTime()-cpu
	runtime.ReadMemStats(&after)
	c.garbage = after.TotalAlloc - before.TotalAlloc
	return c
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func (c cost) report(b *testing.B, name string, events int64) {
	b.ReportMetric(float64(c.cpu.Nanoseconds())/float64(events), name+"-cpu-ns/event")
	b.ReportMetric(float64(events)/c.wall.Seconds(), name+"-events/s")
	b.ReportMetric(float64(c.garbage)/float64(events), name+"-B/event")
}

// fetchAndDecode is the least that any consumer of the topic must do.
func fetchAndDecode(b *testing.B, o kafka.Options, events int64, currency string) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(o.Brokers...), kgo.ConsumeTopics(o.Topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		b.Fatal(err)
	}
	defer cl.Close()
	d := decoder(b, currency)
	var e pipeline.Event
	for n := int64(0); n < events; {
		fetches := cl.PollRecords(context.Background(), 2000)
		fetches.EachRecord(func(r *kgo.Record) {
			n++
			if err := d.Decode(&pipeline.Record{Value: r.Value}, &e); err != nil {
				b.Fatal(err)
			}
		})
	}
}

func decoder(b *testing.B, currency string) *codec.Segment {
	d, err := codec.NewSegment(codec.Options{Source: "events", Currency: currency})
	if err != nil {
		b.Fatal(err)
	}
	return d
}

// run runs the pipeline until all rows are written.
func run(b *testing.B, o kafka.Options, engine string, currency string, to time.Time) {
	p := startPipeline(b, o, engine, currency, false)
	p.await(b, to)
	p.stop()
}

// running is a pipeline within this process.
type running struct {
	client *clickhouse.Client
	failed atomic.Pointer[error]
	stop   func()
}

func startPipeline(b *testing.B, o kafka.Options, engine, currency string, wallClock bool) *running {
	preset, err := lifecycle.Preset("role5")
	if err != nil {
		b.Fatal(err)
	}
	doc, err := lifecycle.Parse(preset)
	if err != nil {
		b.Fatal(err)
	}
	job, err := pipeline.NewJob(pipeline.Options{
		Operators: operators.All(), Lifecycles: []*lifecycle.Document{doc}, Artefact: models.BuiltIn(),
		Lateness: 10 * time.Minute, Skew: 5 * time.Minute, WallClock: wallClock,
		Days: os.Getenv("ZYKLUS_BENCH_DAYS") != "off",
	})
	if err != nil {
		b.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	ctx, cancel := context.WithCancel(context.Background())
	p := &running{}
	p.client, err = clickhouse.Open(ctx, clickhouse.Options{
		Addrs: []string{engine}, Protocol: clickhouse.HTTP, Database: "bench", Compression: "none",
	}, log, nil)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := p.client.Migrate(ctx, clickhouse.Schema{Tables: job.Tables(), MoneyExponent: 2}, nil); err != nil {
		b.Fatal(err)
	}
	writer := clickhouse.NewWriter(p.client)
	runner, err := kafka.New(o, kafka.Deps{
		Sink: writer, Job: job, Log: log, Registerer: prometheus.NewRegistry(),
		NewTask:    func(topic string, p int32) kafka.Task { return pipeline.NewTask(job, topic, p) },
		NewDecoder: func() kafka.Decoder { return decoder(b, currency) },
	})
	if err != nil {
		b.Fatal(err)
	}
	var partitions, sink conc.WaitGroup
	writerCtx, stopWriter := context.WithCancel(context.Background())
	sink.Go(func() { _ = writer.Run(writerCtx) })
	partitions.Go(func() {
		if err := runner.Run(ctx); err != nil {
			p.failed.Store(&err)
		}
	})
	p.stop = func() {
		cancel()
		partitions.Wait()
		stopWriter()
		sink.Wait()
		_ = p.client.Close()
	}
	return p
}

// await waits until every partition has written everything up to an instant.
func (p *running) await(b *testing.B, to time.Time) {
	for {
		if err := p.failed.Load(); err != nil {
			b.Fatal(*err)
		}
		rows, err := p.client.Query(context.Background(), "SELECT count() FROM bench.checkpoints FINAL WHERE clock >= ?", to)
		if err != nil {
			b.Fatal(err)
		}
		var n uint64
		for rows.Next() {
			if err := rows.Scan(&n); err != nil {
				b.Fatal(err)
			}
		}
		_ = rows.Close()
		if n == partitions {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func build(b *testing.B) string {
	path := filepath.Join(b.TempDir(), "zyklus")
	cmd := exec.Command("go", "build", "-o", path, "zyklus/cmd/zyklus")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("build: %v\n%s", err, out)
	}
	return path
}

// part starts an embedded part in a process of its own and returns its address.
func part(b *testing.B, name string, args ...string) string {
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimPrefix(strings.TrimSpace(strings.TrimPrefix(line, "READY ")), "http://")
}
