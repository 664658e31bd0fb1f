package kafka

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sourcegraph/conc"
	"github.com/twmb/franz-go/pkg/kfake"

	"zyklus/pipeline"
)

// nullTask only counts: what is measured is this package, the client and the broker in the process.
type nullTask struct {
	Task
	n     int
	total chan<- int
}

func (t *nullTask) Process(*pipeline.Event, int64) { t.n++ }

// nullDecoder takes no notice of the value.
type nullDecoder struct{}

func (nullDecoder) Decode(*pipeline.Record, *pipeline.Event) error { return nil }
func (t *nullTask) Full() bool                                     { return false }

func (t *nullTask) Checkpoint() *pipeline.Checkpoint {
	t.total <- t.n
	t.n = 0
	return t.Task.Checkpoint()
}

// BenchmarkRunner reads 250 bytes a record; an operation is a record.
func BenchmarkRunner(b *testing.B) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		b.Fatal(err)
	}
	defer cluster.Close()
	o := Options{Brokers: cluster.ListenAddrs(), Group: "g", Topic: "events", Replication: 1}
	ctx, cancel := context.WithCancel(context.Background())
	if err := EnsureTopics(ctx, o, 4); err != nil {
		b.Fatal(err)
	}
	p, err := NewProducer(ctx, o, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	random := rand.New(rand.NewPCG(1, 2))
	for i := range b.N {
		value := make([]byte, 250) // compresses to about half
		for j := range value {
			value[j] = 'a' + byte(random.Uint32()%16)
		}
		if err := p.Produce(ctx, fmt.Appendf(nil, "customer-%d", i%1000), value, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
	if err := p.Flush(ctx); err != nil {
		b.Fatal(err)
	}
	total := make(chan int)
	r, err := New(o, Deps{
		Sink: newMemorySink(), NewDecoder: func() Decoder { return nullDecoder{} },
		NewTask: func(topic string, p int32) Task { return &nullTask{Task: newCountTask(topic, p), total: total} },
	})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	var wg conc.WaitGroup
	wg.Go(func() { _ = r.Run(ctx) })
	for n := 0; n < b.N; {
		n += <-total
	}
	b.StopTimer()
	cancel()
	wg.Go(func() {
		for range total {
		}
	})
	r.wg.Wait()
	close(total)
	wg.Wait()
}
