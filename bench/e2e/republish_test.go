package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"zyklus/models"
	"zyklus/models/lifecycle"
	"zyklus/operators"
	"zyklus/pipeline"
	"zyklus/pipeline/kafka"
)

// BenchmarkRepublish writes the rows of a million customers again (ZYKLUS_BENCH_CUSTOMERS for another number): 60 % leads,
// 25 % with one order, 15 % with six. Broker, engine and command are processes of their own on this machine.
func BenchmarkRepublish(b *testing.B) {
	customers := 1_000_000
	setting(b, "ZYKLUS_BENCH_CUSTOMERS", &customers)
	zyklus := build(b)
	broker := part(b, zyklus, "embedded", "broker", "--listen", "127.0.0.1:0", "--data-dir", b.TempDir())
	engine := part(b, zyklus, "embedded", "clickhouse", "--listen", "127.0.0.1:0", "--data-dir", b.TempDir())
	o := kafka.Options{Brokers: []string{broker}, Group: "bench", Topic: "events"}
	if err := kafka.EnsureTopics(context.Background(), o, partitions); err != nil {
		b.Fatal(err)
	}
	bytes := fillChangelog(b, o.WithDefaults(), customers)
	at := []string{"--brokers", broker, "--clickhouse-addr", engine, "--group", o.Group, "--topic", o.Topic,
		"--set", "clickhouse.protocol=http", "--set", "clickhouse.database=bench"}
	runCommand(b, zyklus, append([]string{"migrate"}, at...)...)
	for _, parallel := range []string{"1", "2"} {
		begin := time.Now()
		usage := runCommand(b, zyklus, append([]string{"admin", "republish", "--parallel", parallel}, at...)...)
		seconds := time.Since(begin).Seconds()
		b.Logf("%s at once: %.1f s, %d MB", parallel, seconds, usage.Maxrss>>10)
		name := "parallel-" + parallel
		b.ReportMetric(seconds, name+"-s")
		b.ReportMetric(float64(customers)/seconds, name+"-customers/s")
		b.ReportMetric(float64(usage.Maxrss)/1024, name+"-peak-MB")
		b.ReportMetric(float64(usage.Utime.Nano()+usage.Stime.Nano())/float64(customers), name+"-cpu-ns/customer")
	}
	b.ReportMetric(float64(bytes)/float64(customers), "changelog-B/customer")
	b.ReportMetric(0, "ns/op")
}

// runCommand runs zyklus to its end and returns what it used.
func runCommand(b *testing.B, zyklus string, args ...string) *syscall.Rusage {
	cmd := exec.Command(zyklus, args...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "ZYKLUS_BENCH_") })
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.Fatalf("zyklus %v: %v\n%s", args, err, out)
	}
	return cmd.ProcessState.SysUsage().(*syscall.Rusage)
}

// fillChangelog writes what Tasks would have, without the events' way through a topic.
func fillChangelog(b *testing.B, o kafka.Options, customers int) (bytes int64) {
	preset, err := lifecycle.Preset("role5")
	if err != nil {
		b.Fatal(err)
	}
	doc, err := lifecycle.Parse(preset)
	if err != nil {
		b.Fatal(err)
	}
	job, err := pipeline.NewJob(pipeline.Options{
		Operators: operators.All(), Lifecycles: []*lifecycle.Document{doc}, Artefact: models.BuiltIn(), Lateness: 10 * time.Minute,
	})
	if err != nil {
		b.Fatal(err)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(o.Brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(1<<20))
	if err != nil {
		b.Fatal(err)
	}
	defer cl.Close()
	for p := range int32(partitions) {
		task := pipeline.NewTask(job, o.Topic, p)
		flush := func() {
			cp := task.Checkpoint()
			for _, c := range cp.Changes {
				bytes += int64(len(c.Key) + len(c.Value))
				cl.Produce(context.Background(), &kgo.Record{Topic: o.ChangelogTopic, Partition: p, Key: c.Key, Value: c.Value}, nil)
			}
			if err := cl.Flush(context.Background()); err != nil {
				b.Fatal(err)
			}
			task.Committed()
		}
		for i := int(p); i < customers; i += partitions {
			live(task, i)
			if task.Full() {
				flush()
			}
		}
		flush()
		task.Close()
	}
	return bytes
}

// lived is when they did.
var lived = time.Date(2024, 3, 1, 0, 0, 0, 0, time.UTC)

// live lets a customer do what its number says.
func live(task *pipeline.Task, i int) {
	at := lived.UnixMilli()
	e := pipeline.Event{Kind: pipeline.KindPageViewed, At: at, ID: uint64(i) * 16, Customer: fmt.Appendf(nil, "c%08d", i), Known: i%5 < 2}
	task.Process(&e, e.At)
	orders := 0
	switch {
	case i%20 >= 17:
		orders = 6
	case i%20 >= 12:
		orders = 1
	}
	for k := range orders {
		e.Kind, e.ID, e.Amount, e.HasAmount = pipeline.KindOrderCompleted, e.ID+1, int64(1000+i%5000), true
		e.OrderID = fmt.Appendf(nil, "o%08d-%d", i, k)
		e.Lines = []pipeline.Line{{Product: uint64(i % 997), Category: fmt.Appendf(nil, "category-%d", i%31), Quantity: 1000, Amount: e.Amount, HasAmount: true}}
		e.At = at + int64(k+1)*1000
		task.Process(&e, e.At)
	}
}
