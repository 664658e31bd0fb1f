package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// newTestLoader returns a loader that has begun, and the progress that it found.
func newTestLoader(t *testing.T, o Options, name string) (*Loader, string) {
	t.Helper()
	l, err := NewLoader(t.Context(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(context.Background()) })
	progress, err := l.Begin(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return l, progress
}

func (l *Loader) produceAll(t *testing.T, values ...string) {
	t.Helper()
	for _, v := range values {
		must(t, l.Produce(t.Context(), []byte(v), []byte(v)))
	}
}

// visible returns the values in the input topic up to the last one that a reader sees.
func (l *lab) visible() (values []string) {
	l.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(l.o.Brokers...), kgo.ConsumeTopics(l.o.Topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.KeepControlRecords())
	must(l.t, err)
	defer cl.Close()
	n, err := l.producer.partitions(l.t.Context())
	must(l.t, err)
	var partitions []int32
	for p := range n {
		partitions = append(partitions, int32(p))
	}
	ends, err := listOffsets(l.t.Context(), cl, l.o.Topic, partitions, atEnd, readCommitted)
	must(l.t, err)
	ctx, cancel := context.WithTimeout(l.t.Context(), 10*time.Second)
	defer cancel()
	left := func() (n int64) {
		for _, end := range ends {
			n += max(end, 0)
		}
		return n
	}
	for left() > 0 && ctx.Err() == nil {
		cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			if r.Offset+1 >= ends[r.Partition] {
				ends[r.Partition] = 0
			}
			if !r.Attrs.IsControl() {
				values = append(values, string(r.Value))
			}
		})
	}
	must(l.t, ctx.Err())
	slices.Sort(values)
	return values
}

func (l *lab) sees(when string, want ...string) {
	l.t.Helper()
	if got := l.visible(); !slices.Equal(got, want) {
		l.t.Errorf("%s a reader sees %q, want %q", when, got, want)
	}
}

// TestLoader hands a series from one loader to the next, each of which was stopped in the middle of a transaction.
func TestLoader(t *testing.T) {
	l := newLab(t, 3)
	first, progress := newTestLoader(t, l.o, "x")
	if progress != "" {
		t.Errorf("progress %q before there is any", progress)
	}
	must(t, first.Commit(t.Context(), "nothing"))
	first.produceAll(t, "a", "b", "c")
	l.sees("before the commit")
	must(t, first.Commit(t.Context(), "three"))
	l.sees("after the commit", "a", "b", "c")
	first.produceAll(t, "lost 1", "lost 2")
	must(t, first.cl.Flush(t.Context()))

	second, progress := newTestLoader(t, l.o, "x")
	if progress != "three" {
		t.Errorf("progress %q", progress)
	}
	if err := first.Commit(t.Context(), "five"); !errors.Is(err, ErrLoadTaken) {
		t.Errorf("the first loader may commit: %v", err)
	}
	second.produceAll(t, "d")
	must(t, second.Broadcast(t.Context(), []byte("tick")))
	must(t, second.Commit(t.Context(), "four"))
	l.sees("in the end", "a", "b", "c", "d", "tick", "tick", "tick")

	if _, progress = newTestLoader(t, l.o, "y"); progress != "" {
		t.Errorf("a series of another name has progress %q", progress)
	}
	third, progress := newTestLoader(t, l.o, "x")
	if progress != "four" {
		t.Errorf("progress %q", progress)
	}
	third.produceAll(t, "given up")
	must(t, third.cl.Flush(t.Context()))
	third.Close(t.Context())
	l.producer.Close()
	l.producer, _ = NewProducer(t.Context(), l.o, nil)
	must(t, l.producer.Heartbeat(t.Context(), []byte("later")))
	l.sees("after a loader gave up", "a", "b", "c", "d", "later", "later", "later", "tick", "tick", "tick")
}

// TestLoaderPartitions: keys go where other producers put them.
func TestLoaderPartitions(t *testing.T) {
	l := newLab(t, 7)
	loader, _ := newTestLoader(t, l.o, "x")
	for i := range 200 {
		key := fmt.Sprint("customer-", i)
		r := &kgo.Record{Topic: l.o.Topic, Partition: byKey, Key: []byte(key)}
		if err := l.producer.cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if got := loader.Partition([]byte(key)); got != int(r.Partition) {
			t.Fatalf("%s: partition %d, others take %d", key, got, r.Partition)
		}
	}
}

// TestLoaderRights takes one right after the other away.
func TestLoaderRights(t *testing.T) {
	have := rights()
	for _, name := range []string{"", "group", "transactions"} {
		acls := []kfake.ACL{have["read input"], {Resource: kmsg.ACLResourceTypeTopic, Name: "events", Pattern: kmsg.ACLResourcePatternTypeLiteral,
			Operation: kmsg.ACLOperationWrite, Allow: true}}
		for _, other := range []string{"group", "transactions"} {
			if other != name {
				acls = append(acls, have[other])
			}
		}
		l := newSecureLab(t, Security{SASL: account(SCRAM256, "admin", "admin")}, kfake.EnableSASL(), kfake.EnableACLs(),
			kfake.Superuser("SCRAM-SHA-256", "admin", "admin"), kfake.User("SCRAM-SHA-256", "zyklus", "s3cret", acls...))
		must(t, EnsureTopics(t.Context(), l.o, 2))
		l.o.Security = Security{SASL: account(SCRAM256, "zyklus", "s3cret")}
		loader, err := NewLoader(t.Context(), l.o, nil)
		must(t, err)
		_, err = loader.Begin(t.Context(), "x")
		if err == nil {
			loader.produceAll(t, "a")
			err = loader.Commit(t.Context(), "one")
		}
		switch {
		case name == "" && err != nil:
			t.Errorf("with all rights: %v", err)
		case name != "" && (err == nil || !strings.Contains(err.Error(), "to load are needed") || !strings.Contains(err.Error(), "read groups g-load-*")):
			t.Errorf("without %s: %v", name, err)
		}
		loader.Close(context.Background())
	}
}
