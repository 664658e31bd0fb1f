package kafka

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestCheckTopics(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*lab)
		want  string
	}{
		"nothing wrong":   {func(*lab) {}, ""},
		"no broker":       {func(l *lab) { l.cluster.Close() }, "no kafka broker answers at"},
		"no input":        {func(l *lab) { must(l.t, l.cluster.DeleteTopic("events")) }, "input topic events does not exist: create it"},
		"no changelog":    {func(l *lab) { must(l.t, l.cluster.DeleteTopic("zyklus-g-changelog")) }, "run zyklus migrate"},
		"no dead letters": {func(l *lab) { must(l.t, l.cluster.DeleteTopic("zyklus-g-dead-letters")) }, "run zyklus migrate"},
		"partitions differ": {func(l *lab) {
			must(l.t, l.cluster.DeleteTopic("events"))
			must(l.t, l.cluster.CreateTopic("events", 5, nil))
		}, "topic events has been given more partitions (3, now 5), so customers are no longer where their state is: set key: other"},
		"changelog not compacted": {func(l *lab) {
			must(l.t, l.cluster.DeleteTopic("zyklus-g-changelog"))
			must(l.t, l.cluster.CreateTopic("zyklus-g-changelog", 3, map[string]string{"cleanup.policy": "delete"}))
		}, "cleanup.policy=delete"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 3)
			c.spoil(l)
			err := CheckTopics(t.Context(), l.o)
			switch {
			case c.want == "" && err == nil:
			case err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n"):
				t.Fatalf("got %v", err)
			}
		})
	}
}

func TestCheckTopicsWithoutRights(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.EnableACLs(), kfake.SeedTopics(1, "events"))
	must(t, err)
	t.Cleanup(cluster.Close)
	o := Options{Brokers: cluster.ListenAddrs(), Group: "g", Topic: "events", Client: []kgo.Opt{kgo.MetadataMinAge(20 * time.Millisecond)}}
	if err := CheckTopics(t.Context(), o); err == nil || !strings.Contains(err.Error(), "denies this client a right; needed are topics: describe and read events") {
		t.Fatalf("got %v", err)
	}
}

// TestWaitForBrokers: whoever waits is told why, and that they have come. What is wrong then is an error all the same, and
// the wait ends with its context.
func TestWaitForBrokers(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, listener.Close())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var told []error
	come := func(why error) {
		if told = append(told, why); len(told) == 3 {
			cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(listener.Addr().(*net.TCPAddr).Port), kfake.SeedTopics(1, "events"))
			must(t, err)
			t.Cleanup(cluster.Close)
		}
	}
	o := Options{Brokers: []string{listener.Addr().String()}, Group: "g", Topic: "events", Waiting: func(why error) {
		told = append(told, why)
		cancel()
	}}
	away := "no kafka broker answers at " + o.Brokers[0]
	wantLine(t, CheckTopics(ctx, o), away)
	wantLine(t, told[0], away)

	told, o.Waiting = nil, come
	wantLine(t, CheckTopics(t.Context(), o), "changelog topic zyklus-g-changelog does not exist")
	if n := len(told); n < 4 || told[n-1] != nil {
		t.Fatalf("told %v", told)
	}
	for _, why := range told[:len(told)-1] {
		wantLine(t, why, away)
	}
}

// A broker that comes to know new topics later than the others is waited for: a process might ask it first.
func TestEnsureTopicsEverywhere(t *testing.T) {
	l := newLab(t, 1, kfake.NumBrokers(3))
	l.o.Group = "new"
	var late atomic.Int32
	l.cluster.ControlKey(kmsg.Metadata.Int16(), func(r kmsg.Request) (kmsg.Response, error, bool) {
		l.cluster.KeepControl()
		req := r.(*kmsg.MetadataRequest)
		if l.cluster.CurrentNode() != 2 || len(req.Topics) < 4 || late.Add(1) > 3 {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.MetadataResponse)
		for _, asked := range req.Topics {
			topic := kmsg.NewMetadataResponseTopic()
			topic.Topic, topic.ErrorCode = asked.Topic, kerr.UnknownTopicOrPartition.Code
			resp.Topics = append(resp.Topics, topic)
		}
		return resp, nil, true
	})
	l.o.Brokers = l.o.Brokers[:1]
	must(t, EnsureTopics(t.Context(), l.o, 1))
	if n := late.Load(); n <= 3 {
		t.Errorf("the broker was asked %d times, and answered that it knows no topic", n)
	}
}

func TestEnsureTopicsAgain(t *testing.T) {
	l := newLab(t, 3)
	must(t, l.cluster.DeleteTopic("zyklus-g-dead-letters"))
	must(t, EnsureTopics(t.Context(), l.o, 0))
	if got := l.cluster.TopicInfo("zyklus-g-changelog").Configs["cleanup.policy"]; got == nil || *got != "compact" {
		t.Fatalf("got %v", got)
	}
	o := l.o
	o.Topic, o.ChangelogTopic, o.DeadLetterTopic = "none", "c", "d"
	if err := EnsureTopics(t.Context(), o, 0); err == nil || !strings.Contains(err.Error(), "input topic none does not exist") {
		t.Fatalf("got %v", err)
	}
}

func TestOptions(t *testing.T) {
	err := Options{CheckpointInterval: time.Hour, MaxPoll: -1}.Validate()
	for _, want := range []string{"no brokers", "no group", "no input topic", "1h0m0s", "-1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in %v", want, err)
		}
	}
	must(t, Options{Brokers: []string{"b:1"}, Group: "g", Topic: "t"}.Validate())
}

// Keys go where other Kafka clients send them; a heartbeat goes everywhere, behind what was produced before.
func TestProducer(t *testing.T) {
	l := newLab(t, 8)
	const n = 400
	for i := range n {
		l.send(fmt.Sprint("customer-", i))
	}
	must(t, l.producer.Heartbeat(t.Context(), []byte("beat")))
	cl, err := kgo.NewClient(kgo.SeedBrokers(l.o.Brokers...), kgo.ConsumeTopics("events"))
	must(t, err)
	defer cl.Close()
	last, seen := map[int32]string{}, 0
	for seen < n+8 {
		cl.PollFetches(t.Context()).EachRecord(func(r *kgo.Record) {
			seen++
			last[r.Partition] = string(r.Value)
			want := kgo.StickyKeyPartitioner(nil).ForTopic("events").Partition(r, 8)
			if len(r.Key) > 0 && want != int(r.Partition) {
				t.Errorf("key %s is in partition %d, want %d", r.Key, r.Partition, want)
			}
		})
	}
	if got := slices.Compact(slices.Collect(maps.Values(last))); len(last) != 8 || len(got) != 1 || got[0] != "beat" {
		t.Fatalf("got %v", last)
	}
}

func TestProducerSaysWhatIsWrong(t *testing.T) {
	l := newLab(t, 1)
	must(t, l.producer.Produce(t.Context(), []byte("k"), make([]byte, 2<<20), time.Now()))
	if err := l.producer.Flush(t.Context()); err == nil || !strings.Contains(err.Error(), "max.message.bytes") {
		t.Fatalf("got %v", err)
	}
	o := l.o
	o.Topic = "none"
	if _, err := NewProducer(t.Context(), o, nil); err == nil || !strings.Contains(err.Error(), "input topic none does not exist") {
		t.Fatalf("got %v", err)
	}
}
