package e2e

import (
	"context"
	"regexp"
	"strconv"
	"testing"
	"time"

	"zyklus/bench/simulator"
	"zyklus/pipeline/kafka"
)

// BenchmarkRestore measures how long a pipeline with the state of a million customers (ZYKLUS_BENCH_CUSTOMERS for another
// number; the same as those of BenchmarkRepublish) takes from the start of its process until it is ready: after SIGKILL,
// as a static member that need not wait for its session to end, and after SIGTERM. Both find all rows acknowledged.
func BenchmarkRestore(b *testing.B) {
	customers := 1_000_000
	setting(b, "ZYKLUS_BENCH_CUSTOMERS", &customers)
	s := newSite(b, build(b))
	o := kafka.Options{Brokers: []string{s.broker.addr}, Group: "restore", Topic: "events"}
	p := s.pipeline("restore", "events", "ZYKLUS_KAFKA_INSTANCE_ID=one")
	bytes := fillChangelog(b, o.WithDefaults(), customers)
	p.start()
	url := p.ready()
	for s.number("SELECT count() FROM restore.v_customers") < float64(customers) || p.metrics(url, "zyklus_rows_pending")[0] > 0 {
		time.Sleep(time.Second)
	}
	producer, err := kafka.NewProducer(context.Background(), o, nil)
	if err == nil {
		err = producer.Heartbeat(context.Background(), simulator.Heartbeat(nil, lived.Add(time.Minute)))
	}
	if err != nil {
		b.Fatal(err)
	}
	producer.Close()
	time.Sleep(3 * time.Second) // for a checkpoint that says that all rows are acknowledged
	for _, end := range []struct {
		name string
		end  func()
	}{{"killed", p.kill}, {"stopped", p.stop}} {
		end.end()
		began := time.Now()
		p.start()
		url := p.ready()
		took := time.Since(began).Seconds()
		if n := p.restoredRecords(); n < customers {
			b.Fatalf("%d records of %d customers were restored", n, customers)
		}
		used := p.metrics(url, "process_resident_memory_bytes", "process_cpu_seconds_total", "zyklus_rows_pending")
		if used[2] > 0 {
			b.Fatalf("the rows of %.0f customers wait", used[2])
		}
		b.ReportMetric(took, end.name+"-s")
		b.ReportMetric(float64(customers)/took, end.name+"-customers/s")
		b.ReportMetric(used[0]/(1<<20), end.name+"-MB")
		b.ReportMetric(used[1]*1e9/float64(customers), end.name+"-cpu-ns/customer")
	}
	b.ReportMetric(float64(bytes)/float64(customers), "changelog-B/customer")
	b.ReportMetric(0, "ns/op")
}

var restoredRecords = regexp.MustCompile(`msg=restored .*records=(\d+)`)

// restoredRecords returns how many records of the changelog the process says that it has restored.
func (c *child) restoredRecords() (sum int) {
	for _, m := range restoredRecords.FindAllStringSubmatch(c.text(), -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			c.b.Fatal(err)
		}
		sum += n
	}
	return sum
}
