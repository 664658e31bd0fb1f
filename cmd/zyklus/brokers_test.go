package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"zyklus/bench/apachekafka"
)

// onBrokers runs a test with the embedded broker, and with three brokers of Apache Kafka where they can be had. Both runs at
// once take little longer than one, and either has its brokers for itself.
func onBrokers(t *testing.T, test func(t *testing.T, broker *part)) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs real processes")
	}
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		test(t, startPart(t, "broker"))
	})
	t.Run("apache", func(t *testing.T) {
		t.Parallel()
		test(t, startRealBrokers(t))
	})
}

// realBrokers is the one cluster of real brokers of this test binary. Each rig on it has names of its own.
type realBrokers struct {
	cluster *apachekafka.Cluster
	dir     string
	err     error
	once    sync.Once
	rigs    int
	next    int // broker that killNext kills
}

// theRealBrokers is a global because a test binary has no other place that lives as long as itself.
var theRealBrokers realBrokers

// startRealBrokers returns the cluster, with all of its brokers running. The first call starts it.
func startRealBrokers(t testing.TB) *part {
	t.Helper()
	if testing.Short() {
		t.Skip("runs real processes")
	}
	apachekafka.Need(t)
	b := &theRealBrokers
	b.once.Do(func() {
		began := time.Now()
		if b.dir, b.err = os.MkdirTemp("", "zyklus-test-kafka-"); b.err != nil { //nolint:usetesting // it lives as long as the test binary
			return
		}
		b.cluster, b.err = apachekafka.Start(context.Background(), apachekafka.Config{Brokers: 3, Dir: b.dir, Settings: briefSessions()})
		t.Logf("three brokers took %v to start", time.Since(began).Round(time.Millisecond))
	})
	if b.err != nil {
		t.Fatal(b.err)
	}
	b.start(t) // a test before may have left some dead
	b.rigs++
	return &part{t: t, kind: "apache", addr: strings.Join(b.cluster.Addrs(), ","), real: b, suffix: fmt.Sprintf("_%d", b.rigs)}
}

// briefSessions has members of the protocol consumer given up as soon as those of the classic one, who say so themselves.
// Without it, a minute passes until somebody takes over from a frozen process.
func briefSessions() map[string]string {
	return map[string]string{"group.consumer.session.timeout.ms": "10000"}
}

// stopRealBrokers is called at the end of the test binary.
func stopRealBrokers() {
	if b := &theRealBrokers; b.cluster != nil {
		b.cluster.Close()
		_ = os.RemoveAll(b.dir)
	}
}

// start starts all brokers that do not run.
func (b *realBrokers) start(t testing.TB) {
	t.Helper()
	if err := b.cluster.StartAll(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// kill ends one broker with SIGKILL.
func (b *realBrokers) kill(t testing.TB, i int) {
	t.Helper()
	if err := b.cluster.Kill(i); err != nil {
		t.Fatal(err)
	}
}

// killNext ends one broker, another one each time.
func (b *realBrokers) killNext(t testing.TB) {
	t.Helper()
	b.kill(t, b.next)
	b.next = (b.next + 1) % len(b.cluster.Addrs())
}

// killAll ends all brokers.
func (b *realBrokers) killAll(t testing.TB) {
	t.Helper()
	for i := range b.cluster.Addrs() {
		b.kill(t, i)
	}
}

// endSessionsAfter gives members of the groups of a deployment that have vanished so long to come back, where the brokers
// divide the partitions.
func (p *part) endSessionsAfter(wait time.Duration, d deployment) {
	p.t.Helper()
	value := strconv.FormatInt(wait.Milliseconds(), 10)
	if p.real == nil {
		alterBroker(p.t, p.addr, "group.consumer.session.timeout.ms", value)
		return
	}
	for _, of := range []string{"", "-dead-letters", "-source-stalls"} {
		p.alterGroup(d.database+of, "consumer.session.timeout.ms", value)
	}
}

// alterGroup changes a setting of a group, which only real brokers know.
func (p *part) alterGroup(group, key, value string) {
	p.t.Helper()
	config := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	config.Name, config.Value = key, &value
	resource := kmsg.NewIncrementalAlterConfigsRequestResource()
	resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeGroupConfig, group
	resource.Configs = append(resource.Configs, config)
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.Resources = append(req.Resources, resource)
	cl := kafkaClient(p.t, p.addr)
	defer cl.Close()
	resp, err := req.RequestWith(p.t.Context(), cl)
	if err == nil && len(resp.Resources) > 0 {
		err = kerr.ErrorForCode(resp.Resources[0].ErrorCode)
	}
	if err != nil {
		p.t.Fatalf("%s of group %s: %v", key, group, err)
	}
}

// brokersAdmin asks about leaders and coordinators, and moves leaders.
type brokersAdmin struct {
	t testing.TB
	*kadm.Client
}

func adminOf(t testing.TB, broker *part) brokersAdmin {
	t.Helper()
	return brokersAdmin{t, kadm.NewClient(kafkaClient(t, broker.addr))}
}

// leader returns the broker that leads a partition.
func (a brokersAdmin) leader(topic string, partition int32) (leader int) {
	a.t.Helper()
	eventually(a.t, time.Minute, fmt.Sprintf("partition %d of %s has a leader", partition, topic), func() error {
		topics, err := a.ListTopics(a.t.Context(), topic)
		if err != nil {
			return err
		}
		p, ok := topics[topic].Partitions[partition]
		if leader = int(p.Leader); !ok || leader < 0 {
			return cmp.Or(p.Err, topics[topic].Err, errors.New("none is elected"))
		}
		return nil
	})
	return leader
}

// coordinator returns the broker that find finds for a group or a transactional id.
func (a brokersAdmin) coordinator(find func(context.Context, ...string) kadm.FindCoordinatorResponses, id string) (node int) {
	a.t.Helper()
	eventually(a.t, time.Minute, "the coordinator of "+id, func() error {
		found := find(a.t.Context(), id)[id]
		node = int(found.NodeID)
		return found.Err
	})
	return node
}

// rotate gives each partition of topics the next of its replicas as the preferred leader, and has it elected.
func (a brokersAdmin) rotate(topics ...string) {
	a.t.Helper()
	have, err := a.ListTopics(a.t.Context(), topics...)
	if err = errors.Join(err, have.Error()); err != nil {
		a.t.Fatal(err)
	}
	var moves kadm.AlterPartitionAssignmentsReq
	want := map[string]map[int32]int32{}
	have.EachPartition(func(p kadm.PartitionDetail) {
		moves.Assign(p.Topic, p.Partition, append(slices.Clone(p.Replicas[1:]), p.Replicas[0]))
		if want[p.Topic] == nil {
			want[p.Topic] = map[int32]int32{}
		}
		want[p.Topic][p.Partition] = p.Replicas[1]
	})
	moved, err := a.AlterPartitionAssignments(a.t.Context(), moves)
	if err = errors.Join(err, moved.Error()); err != nil {
		a.t.Fatal(err)
	}
	eventually(a.t, time.Minute, "the partitions have their new leaders", func() error {
		if _, err := a.ElectLeaders(a.t.Context(), kadm.ElectPreferredReplica, have.TopicsSet()); err != nil {
			return err
		}
		now, err := a.ListTopics(a.t.Context(), topics...)
		if err != nil {
			return err
		}
		now.EachPartition(func(p kadm.PartitionDetail) {
			if p.Leader != want[p.Topic][p.Partition] {
				err = fmt.Errorf("partition %d of %s is led by %d", p.Partition, p.Topic, p.Leader)
			}
		})
		return err
	})
}
