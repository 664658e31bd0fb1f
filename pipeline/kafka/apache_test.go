//go:build unix

package kafka

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"zyklus/bench/apachekafka"
)

// TestApache runs what depends on how a broker keeps its side of transactions on a real one.
func TestApache(t *testing.T) {
	if testing.Short() {
		t.Skip("starts Apache Kafka")
	}
	apachekafka.Need(t)
	cluster, err := apachekafka.Start(t.Context(), apachekafka.Config{Dir: t.TempDir(), Settings: map[string]string{
		"group.min.session.timeout.ms": "1000", "group.consumer.session.timeout.ms": "3000", "group.consumer.heartbeat.interval.ms": "200",
	}})
	must(t, err)
	t.Cleanup(cluster.Close)
	groups := 0
	run := func(name string, partitions int32, test func(*testing.T, *lab)) {
		groups++
		n := groups
		t.Run(name, func(t *testing.T) { test(t, newApacheLab(t, cluster, n, partitions)) })
	}
	run("FencedOwnerRestores", 1, fencedOwnerRestores)
	run("FirstCommit", firstCommitPartitions, firstCommit)
	run("Rebalance", 4, rebalance)
	run("TransactionTimesOut", 1, transactionTimesOut)
	run("AnswersLost", 2, func(t *testing.T, l *lab) { answersLost(t, l, cluster) })
	// Nothing below does anything to the broker, so all of it runs at once.
	atOnce := func(name string, partitions int32, test func(*testing.T, *lab)) {
		run(name, partitions, func(t *testing.T, l *lab) { t.Parallel(); test(t, l) })
	}
	atOnce("ProtocolsMix", 4, protocolsMix)
	atOnce("InputGrows", 2, inputGrowsAtWork)
	for name := range lossesAtWork {
		atOnce("TopicLost/"+name, 1, func(t *testing.T, l *lab) { topicLostAtWork(t, l, name) })
	}
	for _, protocol := range []string{ProtocolClassic, ProtocolConsumer} {
		each := func(name string, partitions int32, test func(*testing.T, *lab, string)) {
			atOnce(name+"/"+protocol, partitions, func(t *testing.T, l *lab) { test(t, l, protocol) })
		}
		each("LostIsNotRevoked", 2, lostIsNotRevoked)
		each("ConfirmMember", 1, confirmsMember)
		each("StaticMembersKeepTheirPartitions", 4, staticMembersKeepTheirPartitions)
		each("KilledStaticMember", 2, killedStaticMember)
		each("TwoWithOneInstanceID", 2, twoWithOneInstanceID)
		for _, static := range []bool{false, true} {
			each(fmt.Sprintf("MembershipByChance/static %v", static), 4, func(t *testing.T, l *lab, protocol string) {
				membersByChance(t, l, protocol, static, 1)
			})
		}
	}
}

// newApacheLab is newLab on a real broker, with names of its own.
func newApacheLab(t *testing.T, cluster *apachekafka.Cluster, n int, partitions int32) *lab {
	t.Helper()
	l := &lab{t: t, sink: newMemorySink(), produced: map[string]int64{}}
	l.o = Options{
		Brokers: cluster.Addrs(), Group: fmt.Sprint("g", n), Topic: fmt.Sprint("events", n),
		CheckpointInterval: 50 * time.Millisecond, SinkGrace: time.Second,
		Client: []kgo.Opt{
			kgo.MetadataMinAge(20 * time.Millisecond), kgo.HeartbeatInterval(100 * time.Millisecond),
			kgo.SessionTimeout(3 * time.Second),
		},
	}
	must(t, EnsureTopics(t.Context(), l.o, partitions))
	var err error
	l.producer, err = NewProducer(t.Context(), l.o, nil)
	must(t, err)
	t.Cleanup(l.producer.Close)
	return l
}

// stops has a process stand still at steps of its checkpoints, until it is let go on.
type stops struct {
	t       *testing.T
	at      atomic.Pointer[string] // the step that is waited for
	stopped chan struct{}
	goOn    chan struct{}
	tasks   atomic.Int32 // that were made: more than one per partition says that an attempt failed
}

func newStops(t *testing.T) *stops {
	return &stops{t: t, stopped: make(chan struct{}), goOn: make(chan struct{})}
}

func (s *stops) join(d *Deps) {
	newTask := d.NewTask
	d.NewTask = func(topic string, partition int32) Task {
		s.tasks.Add(1)
		return newTask(topic, partition)
	}
	d.Crash = func(step string) {
		if at := s.at.Load(); at == nil || *at != step || !s.at.CompareAndSwap(at, nil) {
			return
		}
		for _, c := range []chan struct{}{s.stopped, s.goOn} {
			select {
			case c <- struct{}{}:
			case <-s.t.Context().Done():
			}
		}
	}
}

// await waits until the process stands still at the next such step.
func (s *stops) await(step string, produce func()) {
	s.at.Store(&step)
	produce()
	<-s.stopped
}

// A partition stands still between writing and committing a transaction until the broker gives the transaction up. The
// commit is refused, the partition is restored, and what it had written does not count.
func transactionTimesOut(t *testing.T, l *lab) {
	l.produce(100)
	stops := newStops(t)
	r := l.run(func(o *Options, d *Deps) {
		o.Client = append(slices.Clone(o.Client), kgo.TransactionTimeout(2*time.Second))
		stops.join(d)
	})
	l.awaitTotals()
	adm, id := l.admin(), l.o.transactionalID(0)
	is := func(want string) func() error {
		return func() error {
			found, err := adm.DescribeTransactions(t.Context(), id)
			must(t, err)
			if state := found[id].State; state != want {
				return fmt.Errorf("it is %s", state)
			}
			return nil
		}
	}
	for range 2 {
		tasks := stops.tasks.Load()
		stops.await("produced", func() { l.produce(100) })
		must(t, is("Ongoing")())
		eventually(t, "the broker gives the transaction up", is("CompleteAbort"))
		<-stops.goOn
		l.awaitTotals()
		if stops.tasks.Load() == tasks {
			t.Error("the partition went on after its transaction was given up")
		}
	}
	if r.ended() {
		t.Errorf("the process has ended: %v", r.err)
	}
}

// A broker hangs for longer than the client waits for its answers, before a transaction is written and before it is
// committed: it does what it was asked for, but the answer is lost and the question is asked again.
func answersLost(t *testing.T, l *lab, cluster *apachekafka.Cluster) {
	const hang = 4 * time.Second
	l.produce(100)
	stops := newStops(t)
	r := l.run(func(o *Options, d *Deps) {
		o.Client = append(slices.Clone(o.Client), kgo.RequestTimeoutOverhead(time.Second), kgo.ProduceRequestTimeout(time.Second),
			kgo.SessionTimeout(30*time.Second))
		stops.join(d)
	})
	l.awaitTotals()
	for range 2 {
		for _, step := range []string{"encoded", "produced"} {
			stops.await(step, func() { l.produce(100) })
			must(t, cluster.Freeze(0))
			<-stops.goOn
			time.Sleep(hang)
			must(t, cluster.Thaw(0))
			l.awaitTotals()
		}
	}
	t.Logf("with %d attempts for 2 partitions", stops.tasks.Load())
	if r.ended() {
		t.Errorf("the process has ended: %v", r.err)
	}
}

// awaitAny waits until a process runs partitions.
func (r *running) awaitAny(t *testing.T) {
	t.Helper()
	eventually(t, "a session runs", func() error {
		for _, s := range r.snapshot() {
			if s.phase.Load() == phaseRunning {
				return nil
			}
		}
		return fmt.Errorf("none of %d", len(r.snapshot()))
	})
}

// Kafka lets a group go over to the other protocol, and back, while its members are replaced one by one.
func protocolsMix(t *testing.T, l *lab) {
	stop := l.produceSteadily()
	classic := [2]*running{l.run(newWire().on("", ProtocolClassic)), l.run(newWire().on("", ProtocolClassic))}
	for _, r := range classic {
		r.awaitSessions(t, 2)
	}
	first := l.run(newWire().on("", ProtocolConsumer))
	first.awaitAny(t)
	must(t, classic[0].stop())
	second := l.run(newWire().on("", ProtocolConsumer))
	second.awaitAny(t)
	must(t, classic[1].stop())
	first.awaitSessions(t, 2)
	second.awaitSessions(t, 2)

	last := l.run(newWire().on("", ProtocolClassic))
	last.awaitAny(t)
	must(t, first.stop())
	must(t, second.stop())
	last.awaitSessions(t, 4)
	stop()
	l.awaitTotals()
}
