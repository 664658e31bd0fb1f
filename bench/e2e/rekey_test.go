package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/sourcegraph/conc"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"zyklus/pipeline"
	"zyklus/pipeline/kafka"
)

// BenchmarkRekey passes the demo's history through the re-keying stage: read, decoded, written by customer to another
// topic, exactly once.
func BenchmarkRekey(b *testing.B) {
	ctx := context.Background()
	zyklus := build(b)
	broker := part(b, zyklus, "embedded", "broker", "--listen", "127.0.0.1:0", "--data-dir", b.TempDir())
	events := kafka.Options{Brokers: []string{broker}, Group: "bench", Topic: "zyklus-bench-events", Rekeyed: true}
	o := kafka.Options{Brokers: []string{broker}, Group: "bench-rekey", Topic: "events", CheckpointInterval: 200 * time.Millisecond, Stage: "rekey"}
	for _, topics := range []kafka.Options{events, o} {
		if err := kafka.EnsureTopics(ctx, topics, partitions); err != nil {
			b.Fatal(err)
		}
	}
	n, _ := produce(b, o, history(b))
	floor := measure(func() { fetchAndDecode(b, o, n, "EUR") })
	floor.report(b, "floor", n)
	whole := measure(func() { rekey(b, o, events.Topic) })
	whole.report(b, "rekey", n)
	b.ReportMetric(float64(n), "events")
	b.ReportMetric(floor.cpu.Seconds()/whole.cpu.Seconds(), "of-floor")
	b.ReportMetric(0, "ns/op")
}

// rekey runs the stage until it has read everything.
func rekey(b *testing.B, o kafka.Options, to string) {
	options := pipeline.RekeyOptions{
		Topic: to, Partitions: partitions, Skew: 5 * time.Minute, Set: pipeline.NewChannelSet(map[string]int32{o.Topic: partitions}),
	}
	runner, err := kafka.New(o, kafka.Deps{
		NewTask:    func(topic string, p int32) kafka.Task { return pipeline.NewRekeyer(options, topic, p) },
		NewDecoder: func() kafka.Decoder { return decoder(b, "EUR") },
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg conc.WaitGroup
	wg.Go(func() { err = runner.Run(ctx) })
	cl, cerr := kgo.NewClient(kgo.SeedBrokers(o.Brokers...))
	if cerr != nil {
		b.Fatal(cerr)
	}
	defer cl.Close()
	for adm := kadm.NewClient(cl); ; time.Sleep(50 * time.Millisecond) {
		if lag, err := adm.Lag(ctx, o.Group); err == nil && lag[o.Group].Lag.Total() == 0 && len(lag[o.Group].Lag[o.Topic]) == partitions && committed(lag[o.Group]) {
			break
		}
	}
	cancel()
	wg.Wait()
	if err != nil {
		b.Fatal(err)
	}
}

// committed reports whether every partition has a committed offset: without one there is no lag either.
func committed(group kadm.DescribedGroupLag) bool {
	for _, partition := range group.Lag.Sorted() {
		if partition.Commit.At <= 0 {
			return false
		}
	}
	return true
}
