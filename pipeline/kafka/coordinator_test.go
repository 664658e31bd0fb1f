package kafka

import (
	"errors"
	"log/slog"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"zyklus/pipeline"
)

// TestDeadBrokerIsAskedForTheCoordinator: a member that looks for its group's coordinator and happens to ask a broker that
// is dead asks another one.
func TestDeadBrokerIsAskedForTheCoordinator(t *testing.T) {
	l := newLab(t, 1)
	o := l.o.WithDefaults()
	o.Brokers = append([]string{deadBroker(t), deadBroker(t), deadBroker(t)}, l.o.Brokers...)
	for range 3 {
		cl, err := o.newClient("group", l.log(), o.patience()...)
		must(t, err)
		req := kmsg.NewPtrHeartbeatRequest()
		req.Group, req.MemberID, req.Generation = o.Group, "nobody", 1
		resp, err := req.RequestWith(t.Context(), cl)
		cl.Close()
		must(t, err)
		if kerr.ErrorForCode(resp.ErrorCode) == nil {
			t.Fatal("the coordinator knows a member that never joined")
		}
	}
}

// TestDeadBrokerIsAskedInACommit: the same for the coordinator of a transaction that is to be committed. The outcome of a
// commit that fails is unknown, and the partition would be restored.
func TestDeadBrokerIsAskedInACommit(t *testing.T) {
	for range 5 { // the library asks in any order
		commitPastDeadBrokers(t)
	}
}

func commitPastDeadBrokers(t *testing.T) {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(3))
	must(t, err)
	defer cluster.Close()
	o := Options{Brokers: cluster.ListenAddrs(), Group: "g", Topic: "events"}.WithDefaults()
	must(t, EnsureTopics(t.Context(), o, 1))
	alive := cluster.CoordinatorFor(o.transactionalID(0))
	must(t, cluster.MoveTopicPartition(o.ChangelogTopic, 0, alive))
	txn, err := openTransactions(t.Context(), &o, 0, &Deps{Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	defer txn.close()
	commit := func() {
		t.Helper()
		must(t, txn.commit(t.Context(), &pipeline.Checkpoint{Changes: []pipeline.Change{{Key: []byte("key"), Value: []byte("value")}}}))
	}
	commit()
	for node := range int32(3) {
		if node != alive {
			must(t, cluster.RemoveNode(node))
		}
	}
	moved := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.NotCoordinator, Count: 1})
	commit()
	awaitHits(t, moved, 1)
}

// TestDialPatiently: what is told of a broker that is dead still says so.
func TestDialPatiently(t *testing.T) {
	addr := deadBroker(t)
	_, plain := net.DialTimeout("tcp", addr, time.Second)
	_, err := (&Security{}).dialPatiently(t.Context(), "tcp", addr)
	var late net.Error
	if !errors.Is(err, syscall.ECONNREFUSED) || !isDial(err) || !errors.As(err, &late) || !late.Timeout() || err.Error() != plain.Error() {
		t.Errorf("%v, want %v", err, plain)
	}
}

// deadBroker returns an address that nobody listens on.
func deadBroker(t *testing.T) string {
	t.Helper()
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, dead.Close())
	return dead.Addr().String()
}
