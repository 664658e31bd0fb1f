package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"zyklus/sinks/embedded"
)

// brokerEnv turns this test binary into a broker.
const brokerEnv = "EMBEDDED_TEST_BROKER"

// TestBrokerHelper is the broker process of other tests.
func TestBrokerHelper(t *testing.T) {
	addr, dir, ok := strings.Cut(os.Getenv(brokerEnv), " ")
	if !ok {
		t.Skip("is run by other tests")
	}
	opts := embedded.BrokerOptions{Addr: addr, DataDir: dir, Configs: map[string]string{"log.cleaner.backoff.ms": "1000"}}
	if err := embedded.ServeBroker(t.Context(), opts); err != nil {
		t.Fatal(err)
	}
}

// brokerProcess starts a broker as a process of its own.
func brokerProcess(t *testing.T, addr, dir string) (*exec.Cmd, string) {
	t.Helper()
	ready := make(chan string, 1)
	cmd := exec.Command(os.Args[0], "-test.run", "^TestBrokerHelper$")
	cmd.Env = append(os.Environ(), brokerEnv+"="+addr+" "+dir)
	cmd.Stdout = writerFunc(func(p []byte) (int, error) {
		for line := range strings.Lines(string(p)) {
			if addr, ok := strings.CutPrefix(line, "READY "); ok {
				ready <- strings.TrimSpace(addr)
			}
		}
		return len(p), nil
	})
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	select {
	case addr := <-ready:
		return cmd, addr
	case <-time.After(30 * time.Second):
		t.Fatal("the broker is not ready")
	}
	return nil, ""
}

type writerFunc func([]byte) (int, error)

// Write implements io.Writer.
func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func client(t *testing.T, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(addr), kgo.MetadataMinAge(20 * time.Millisecond), kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// produce sends n records with keys k0, k1, … k9 and waits for each.
func produce(t *testing.T, cl *kgo.Client, topic, value string, n int) {
	t.Helper()
	var records []*kgo.Record
	for i := range n {
		records = append(records, &kgo.Record{Topic: topic, Key: fmt.Appendf(nil, "k%d", i%10), Value: fmt.Appendf(nil, "%s-%d", value, i)})
	}
	if err := cl.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatalf("produce to %s: %v", topic, err)
	}
}

// consume reads the committed records of a topic until none came for a second.
func consume(t *testing.T, addr, topic string) []*kgo.Record {
	t.Helper()
	cl := client(t, addr, kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(100*time.Millisecond))
	defer cl.Close()
	var records []*kgo.Record
	for {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		fetches := cl.PollFetches(ctx)
		cancel()
		if errors.Is(fetches.Err0(), context.DeadlineExceeded) {
			return records
		}
		for _, err := range fetches.Errors() {
			t.Fatal(err.Err)
		}
		records = append(records, fetches.Records()...)
	}
}

func createTopic(t *testing.T, cl *kgo.Client, topic string, partitions int32, configs map[string]*string) {
	t.Helper()
	if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), partitions, 1, configs, topic); err != nil {
		t.Fatal(err)
	}
}

// TestBrokerKill kills the broker in mid-transaction and starts it again on the
// same directory and port: records, group offsets and the state of producers
// are there, the open transaction is not, and the topic's compaction works.
func TestBrokerKill(t *testing.T) {
	dir := t.TempDir()
	process, addr := brokerProcess(t, "127.0.0.1:0", dir)
	cl := client(t, addr)
	compact, segment := "compact", "1000"
	createTopic(t, cl, "plain", 2, nil)
	createTopic(t, cl, "tx", 1, nil)
	createTopic(t, cl, "state", 1, map[string]*string{"cleanup.policy": &compact, "segment.bytes": &segment})
	produce(t, cl, "plain", "a", 100)
	produce(t, cl, "state", "a", 1000)
	tx := client(t, addr, kgo.TransactionalID("tx-1"))
	inTransaction(t, tx, "committed", true)
	inTransaction(t, tx, "open", false)
	commitOffset(t, cl, 42)

	if err := process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = process.Wait()
	_, again := brokerProcess(t, addr, dir)
	if again != addr {
		t.Fatalf("address %s became %s", addr, again)
	}
	produce(t, cl, "plain", "b", 100) // the same idempotent producer goes on
	produce(t, cl, "state", "b", 1000)
	checkFenced(t, addr, tx)
	if n := len(consume(t, addr, "plain")); n != 200 {
		t.Errorf("plain: %d records", n)
	}
	checkValues(t, consume(t, addr, "tx"))
	checkOffset(t, cl, 42)
	checkCompaction(t, addr)
}

// inTransaction produces ten records in a transaction and leaves it open unless
// it is to be committed.
func inTransaction(t *testing.T, tx *kgo.Client, value string, commit bool) {
	t.Helper()
	if err := tx.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	produce(t, tx, "tx", value, 10)
	if !commit {
		return
	}
	if err := tx.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
}

// checkFenced takes over the transactional id: the open transaction is aborted
// and its producer is out.
func checkFenced(t *testing.T, addr string, old *kgo.Client) {
	t.Helper()
	successor := client(t, addr, kgo.TransactionalID("tx-1"))
	if _, _, err := successor.ProducerID(t.Context()); err != nil {
		t.Fatal(err)
	}
	inTransaction(t, successor, "successor", true)
	if err := old.EndTransaction(t.Context(), kgo.TryCommit); err == nil {
		t.Fatal("the producer of before committed after its successor came")
	}
}

func checkValues(t *testing.T, records []*kgo.Record) {
	t.Helper()
	count := map[string]int{}
	for _, r := range records {
		value, _, _ := strings.Cut(string(r.Value), "-")
		count[value]++
	}
	if count["committed"] != 10 || count["successor"] != 10 || count["open"] != 0 {
		t.Errorf("tx: %v", count)
	}
}

func commitOffset(t *testing.T, cl *kgo.Client, at int64) {
	t.Helper()
	var offsets kadm.Offsets
	offsets.AddOffset("plain", 0, at, -1)
	if err := kadm.NewClient(cl).CommitAllOffsets(t.Context(), "group", offsets); err != nil {
		t.Fatal(err)
	}
}

func checkOffset(t *testing.T, cl *kgo.Client, want int64) {
	t.Helper()
	got, err := kadm.NewClient(cl).FetchOffsets(t.Context(), "group")
	if err != nil {
		t.Fatal(err)
	}
	if o, ok := got.Lookup("plain", 0); !ok || o.At != want {
		t.Errorf("group offset %+v", o)
	}
}

// checkCompaction waits for the log cleaner: the last value of each key stays.
func checkCompaction(t *testing.T, addr string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(500 * time.Millisecond) {
		last := map[string]string{}
		records := consume(t, addr, "state")
		for _, r := range records {
			last[string(r.Key)] = string(r.Value)
		}
		for i := range 10 {
			if key := fmt.Sprintf("k%d", i); last[key] != fmt.Sprintf("b-%d", 990+i) {
				t.Fatalf("key %s has %q", key, last[key])
			}
		}
		if len(records) < 1500 {
			t.Logf("compacted 2000 records to %d", len(records))
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d records are left", len(records))
		}
	}
}

func TestBrokerInMemory(t *testing.T) {
	b, err := embedded.StartBroker(embedded.BrokerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	cl := client(t, b.Addr())
	err = cl.ProduceSync(t.Context(), &kgo.Record{Topic: "unknown", Value: []byte("x")}).FirstErr()
	if !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Fatalf("a topic was created: %v", err)
	}
	createTopic(t, cl, "known", -1, nil)
	produce(t, cl, "known", "x", 100)
	if n := len(consume(t, b.Addr(), "known")); n != 100 {
		t.Fatalf("%d records", n)
	}
	if _, err := embedded.StartBroker(embedded.BrokerOptions{Addr: b.Addr()}); err == nil {
		t.Fatal("two brokers on one address")
	}
	if _, err := embedded.StartBroker(embedded.BrokerOptions{Configs: map[string]string{"log.cleaner.backoff.ms": "x"}}); err == nil {
		t.Fatal("an interval that is no number was taken")
	}
}

// member is a group member that counts its partitions.
type member struct {
	client *kgo.Client
	held   atomic.Int64
}

func newMember(t *testing.T, addr, group string, opts ...kgo.Opt) *member {
	t.Helper()
	m := &member{}
	count := func(sign int64) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, topics map[string][]int32) {
			m.held.Add(sign * int64(len(topics["grouped"])))
		}
	}
	m.client = client(t, addr, append(opts, kgo.ConsumerGroup(group), kgo.ConsumeTopics("grouped"), kgo.HeartbeatInterval(100*time.Millisecond),
		kgo.OnPartitionsAssigned(count(1)), kgo.OnPartitionsRevoked(count(-1)), kgo.OnPartitionsLost(count(-1)))...)
	return m
}

// TestBrokerGroup has a second member join: with both generations of the
// protocol the group rebalances within seconds.
func TestBrokerGroup(t *testing.T) {
	b, err := embedded.StartBroker(embedded.BrokerOptions{Partitions: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	createTopic(t, client(t, b.Addr()), "grouped", -1, nil)
	for name, opts := range map[string][]kgo.Opt{"classic": nil, "848": {kgo.ServerSideBalancer()}} {
		t.Run(name, func(t *testing.T) {
			first := newMember(t, b.Addr(), "g-"+name, opts...)
			waitHeld(t, 4, first)
			waitHeld(t, 2, first, newMember(t, b.Addr(), "g-"+name, opts...))
		})
	}
}

// waitHeld waits until each member holds the number of partitions.
func waitHeld(t *testing.T, want int64, members ...*member) {
	t.Helper()
	start := time.Now()
	for ready := 0; ready < len(members); time.Sleep(time.Millisecond) {
		if time.Since(start) > 20*time.Second {
			t.Fatal("no assignment")
		}
		ready = 0
		for _, m := range members {
			if m.held.Load() == want {
				ready++
			}
		}
	}
	t.Logf("%d members after %v", len(members), time.Since(start))
}
