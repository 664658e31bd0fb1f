package kafka

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestDescribeTopics(t *testing.T) {
	l := newLab(t, 3)
	topics, err := DescribeTopics(t.Context(), l.o)
	must(t, err)
	uses := []string{UseInput, UseChangelog, UseDeadLetters}
	for i, use := range uses {
		topic := topics[i]
		if topic.Use != use || !topic.Exists || topic.Partitions != 3 || topic.WantPartitions != 3 || topic.Replicas != 1 ||
			topic.Hidden != "" || len(topic.Deviations) != 0 {
			t.Errorf("%s as it was created: %+v", use, topic)
		}
	}
}

// A topic that deviates is described: as data, and on one line that says what to do.
func TestDeviations(t *testing.T) {
	const changelog, letters, outputs = "zyklus-g-changelog", "zyklus-g-dead-letters", "zyklus-g-outputs"
	type want struct {
		topic, setting string
		have, want     string
		fatal          bool
		text           string
	}
	for name, c := range map[string]struct {
		change func(l *lab)
		want   []want
	}{
		"input grew": {func(l *lab) { l.recreate("events", 5, nil) }, []want{
			{"events", "message.timestamp.type", "CreateTime", "LogAppendTime", false, "set it to LogAppendTime"},
			{changelog, "partitions", "3", "5", true, "given more partitions (3, now 5), so customers are no longer where their state is: set key: other for this source, with a new group"},
		}},
		"input shrank": {func(l *lab) { l.recreate("events", 2, map[string]string{"message.timestamp.type": "LogAppendTime"}) }, []want{
			{changelog, "partitions", "3", "2", true, "the one was created anew with fewer, or the other given more; run zyklus admin rebuild"},
		}},
		"input compacted": {func(l *lab) { l.alter("events", "cleanup.policy", "compact") }, []want{
			{"events", "cleanup.policy", "compact", "delete", false, "vanish before they are read; set it to delete"},
		}},
		"input missing": {func(l *lab) { must(l.t, l.cluster.DeleteTopic("events")) }, []want{
			{"events", "exists", "false", "true", true, "input topic events does not exist: create it"},
		}},
		"changelog missing": {func(l *lab) { must(l.t, l.cluster.DeleteTopic(changelog)) }, []want{
			{changelog, "exists", "false", "true", true, "run zyklus migrate"},
		}},
		"changelog deleted as well": {func(l *lab) { l.alter(changelog, "cleanup.policy", "compact,delete") }, []want{
			{changelog, "cleanup.policy", "compact,delete", "compact", true, "state would be deleted; set it to compact"},
		}},
		"changelog narrow": {func(l *lab) { l.alter(changelog, "max.message.bytes", "1048588") }, []want{
			{changelog, "max.message.bytes", "1048588", "2097152", true, "a large checkpoint could not be written"},
		}},
		"tombstones short": {func(l *lab) { l.alter(changelog, "delete.retention.ms", "60000") }, []want{
			{changelog, "delete.retention.ms", "60000", "86400000", false, "brings deleted customers back"},
		}},
		"letters compacted and short": {func(l *lab) {
			l.alter(letters, "cleanup.policy", "compact")
			l.alter(letters, "retention.ms", "1000")
		}, []want{
			{letters, "cleanup.policy", "compact", "delete", true, "would replace an earlier one"},
			{letters, "retention.ms", "1000", "1209600000", false, "gone before they are in the database"},
		}},
		"letters for ever": {func(l *lab) { l.alter(letters, "retention.ms", "-1") }, nil},
		"fewer replicas than configured": {func(l *lab) { l.o.Replication, l.o.MinInsyncReplicas = 3, 2 }, []want{
			{changelog, "replicas", "1", "3", false, "reassign its partitions to more brokers, or lower kafka.replication"},
			{changelog, "min.insync.replicas", "1", "2", false, "a checkpoint can be lost"},
			{letters, "replicas", "1", "3", false, "reassign its partitions"},
			{letters, "min.insync.replicas", "1", "2", false, "set it to 2"},
			{outputs, "replicas", "1", "3", false, "reassign its partitions"},
			{outputs, "min.insync.replicas", "1", "2", false, "set it to 2"},
		}},
		"more in sync than there are": {func(l *lab) { l.alter(changelog, "min.insync.replicas", "2") }, []want{
			{changelog, "min.insync.replicas", "2", "1", true, "nothing can be written to it"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 3)
			c.change(l)
			topics, err := DescribeTopics(t.Context(), l.o)
			must(t, err)
			var got []want
			fatal, advice := "", []string(nil)
			for _, topic := range topics {
				for _, d := range topic.Deviations {
					i := min(len(got), max(0, len(c.want)-1))
					if len(c.want) == 0 || !strings.Contains(d.Text, c.want[i].text) || strings.Contains(d.Text, "\n") {
						t.Errorf("deviation %d is %q", len(got), d.Text)
					}
					got = append(got, want{topic.Name, d.Setting, d.Have, d.Want, d.Fatal, c.want[i].text})
					if d.Fatal && fatal == "" {
						fatal = d.Text
					}
					if !d.Fatal {
						advice = append(advice, d.Text)
					}
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
			if !slices.Equal(Advice(topics), advice) {
				t.Errorf("advice %q, want %q", Advice(topics), advice)
			}
			if err := CheckTopics(t.Context(), l.o); (err == nil) != (fatal == "") || err != nil && err.Error() != fatal {
				t.Errorf("check says %v, want %q", err, fatal)
			}
		})
	}
}

// recreate makes a topic anew.
func (l *lab) recreate(topic string, partitions int32, settings map[string]string) {
	l.t.Helper()
	must(l.t, l.cluster.DeleteTopic(topic))
	must(l.t, l.cluster.CreateTopic(topic, partitions, settings))
}

// alter changes one setting of a topic.
func (l *lab) alter(topic, key, value string) {
	l.t.Helper()
	cl, err := l.o.newClient("test", l.log())
	must(l.t, err)
	defer cl.Close()
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, topic
	c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	c.Name, c.Value = key, kmsg.StringPtr(value)
	r.Configs = append(r.Configs, c)
	req.Resources = append(req.Resources, r)
	resp, err := req.RequestWith(l.t.Context(), cl)
	must(l.t, err)
	must(l.t, kerr.ErrorForCode(resp.Resources[0].ErrorCode))
}

// Internal topics get the replicas that the configuration names.
func TestMinInsyncReplicas(t *testing.T) {
	l := newSecureLab(t, Security{}, kfake.NumBrokers(3))
	l.o.Replication, l.o.MinInsyncReplicas = 3, 2
	must(t, EnsureTopics(t.Context(), l.o, 2))
	for _, topic := range []string{"zyklus-g-changelog", "zyklus-g-dead-letters"} {
		if got := l.cluster.TopicInfo(topic).Configs["min.insync.replicas"]; got == nil || *got != "2" {
			t.Errorf("%s: %v", topic, got)
		}
	}
	l.o.MinInsyncReplicas = 4
	wantLine(t, EnsureTopics(t.Context(), l.o, 2), "min.insync.replicas 4 is more than the 3 replicas of a topic")
}

// Brokers that create any topic a client asks for are asked by none of ours.
func TestNothingIsCreatedByAccident(t *testing.T) {
	l := newSecureLab(t, Security{}, kfake.AllowAutoTopicCreation())
	list := func() []string {
		cl, err := l.o.newClient("test", l.log())
		must(t, err)
		defer cl.Close()
		resp, err := kmsg.NewPtrMetadataRequest().RequestWith(t.Context(), cl)
		must(t, err)
		topics := map[string]bool{}
		for _, topic := range resp.Topics {
			topics[*topic.Topic] = true
		}
		return slices.Sorted(maps.Keys(topics))
	}
	l.cluster.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		l.cluster.KeepControl()
		if m := req.(*kmsg.MetadataRequest); m.AllowAutoTopicCreation {
			t.Error("a client lets the broker create topics")
		}
		return nil, nil, false
	})

	if _, err := NewProducer(t.Context(), l.o, nil); err == nil {
		t.Error("produced to a topic that does not exist")
	}
	must(t, l.cluster.CreateTopic("events", 2, nil))
	r := l.run()
	r.wg.Wait()
	wantLine(t, r.err, "changelog topic zyklus-g-changelog does not exist: run zyklus migrate")
	if got := list(); !slices.Equal(got, []string{"events"}) {
		t.Fatalf("topics %q", got)
	}

	// The changelog goes away while state is written.
	must(t, EnsureTopics(t.Context(), l.o, 0))
	producer, err := NewProducer(t.Context(), l.o, nil)
	must(t, err)
	defer producer.Close()
	l.producer = producer
	l.produce(100)
	r = l.run()
	l.awaitTotals()
	must(t, l.cluster.DeleteTopic("zyklus-g-changelog"))
	l.produce(100)
	must(t, r.stop())
	if got := list(); !slices.Equal(got, []string{"events", "zyklus-g-dead-letters", "zyklus-g-outputs"}) {
		t.Fatalf("topics %q", got)
	}
}
