package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sourcegraph/conc"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"zyklus/pipeline"
)

// countTable is what countTask writes.
var countTable = &pipeline.Table{
	Name: "counts",
	Columns: []pipeline.Column{
		{Name: "customer_id", Type: pipeline.TypeString},
		{Name: "events", Type: pipeline.TypeCount},
		{Name: "version", Type: pipeline.TypeInteger},
		{Name: "is_deleted", Type: pipeline.TypeBool},
	},
}

// countTask counts the events of each customer. It holds itself to the contract of a Task and says when it is broken.
type countTask struct {
	topic     string
	partition int32
	full      int // customers touched before it is full

	counts   map[string]int64
	versions map[string]int64 // of the customer's row
	touched  map[string]bool
	dirty    map[string]bool
	letters  []pipeline.DeadLetter

	source          pipeline.TopicID
	position, clock int64
	number, acked   uint64
	moved, encoded  bool
	batch           *pipeline.Batch
	batchNumber     uint64
	committed       uint64
	stats           pipeline.Stats
}

func newCountTask(topic string, partition int32) Task {
	return &countTask{
		topic: topic, partition: partition, full: 1000, position: -1,
		counts: map[string]int64{}, versions: map[string]int64{}, touched: map[string]bool{}, dirty: map[string]bool{},
	}
}

func (t *countTask) Restore(key, value []byte) error {
	if string(key) == "meta" {
		t.position, t.clock = int64(binary.BigEndian.Uint64(value)), int64(binary.BigEndian.Uint64(value[8:]))
		t.number, t.acked = binary.BigEndian.Uint64(value[16:]), binary.BigEndian.Uint64(value[24:])
		copy(t.source[:], value[32:])
		return nil
	}
	if string(value) == "corrupt" {
		return errors.New("corrupt")
	}
	t.counts[string(key)] = int64(binary.BigEndian.Uint64(value))
	t.versions[string(key)] = int64(binary.BigEndian.Uint64(value[8:]))
	return nil
}

func (t *countTask) Restored() error {
	for id, v := range t.versions {
		if uint64(v) > t.acked {
			t.dirty[id] = true
		}
	}
	t.committed, t.moved = t.number, false
	return nil
}

func (t *countTask) Position() int64 { return t.position }
func (t *countTask) Version() int64  { return int64(t.number) }

func (t *countTask) TopicID() pipeline.TopicID { return t.source }

func (t *countTask) SetTopicID(id pipeline.TopicID) {
	t.moved = t.moved || id != t.source
	t.source = id
}

func (t *countTask) Process(e *pipeline.Event, believable int64) {
	t.use()
	if e.Origin.Offset < t.position {
		panic("BUG: record processed twice")
	}
	if string(e.Raw) != string(e.Customer) || believable == 0 {
		panic("BUG: event is incomplete")
	}
	id := string(e.Customer)
	t.counts[id]++
	t.touched[id] = true
	t.stats.Events++
}

func (t *countTask) use() {
	if t.encoded {
		panic("BUG: used between Checkpoint and Committed")
	}
}

func (t *countTask) Reject(l pipeline.DeadLetter) { t.use(); t.letters = append(t.letters, l) }
func (t *countTask) Ignore()                      { t.stats.Ignored++ }

func (t *countTask) SetPosition(next int64) {
	t.moved = t.moved || next != t.position
	t.position = next
}

func (t *countTask) AdvanceClock(now int64) {
	if now > t.clock {
		t.clock, t.moved = now, true
	}
}

func (t *countTask) Hold(pipeline.Hold)    {}
func (t *countTask) Mark(*pipeline.Marker) {}
func (t *countTask) Drain(int) bool        { return false }
func (t *countTask) Full() bool            { return len(t.touched) >= t.full }
func (t *countTask) Crowded() bool         { return false }
func (t *countTask) Pending() bool         { return t.moved || len(t.touched) > 0 || len(t.letters) > 0 }

func (t *countTask) Checkpoint() *pipeline.Checkpoint {
	t.use()
	t.encoded, t.moved = true, false
	t.number++
	cp := &pipeline.Checkpoint{Number: t.number, Position: t.position, Clock: t.clock, DeadLetters: t.letters}
	for _, id := range slices.Sorted(maps.Keys(t.touched)) {
		t.versions[id], t.dirty[id] = int64(t.number), true
		v := binary.BigEndian.AppendUint64(nil, uint64(t.counts[id]))
		cp.Changes = append(cp.Changes, pipeline.Change{Key: []byte(id), Value: binary.BigEndian.AppendUint64(v, t.number)})
	}
	meta := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(t.position)), uint64(t.clock))
	meta = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(meta, t.number), t.acked)
	cp.Changes = append(cp.Changes, pipeline.Change{Key: []byte("meta"), Value: append(meta, t.source[:]...)})
	t.touched, t.letters = map[string]bool{}, nil
	return cp
}

func (t *countTask) Committed() { t.encoded, t.committed = false, t.number }

func (t *countTask) NextBatch(int) *pipeline.Batch {
	if t.batch != nil || t.committed <= t.acked || t.committed == 0 {
		return nil
	}
	rows := pipeline.NewRows(countTable)
	for _, id := range slices.Sorted(maps.Keys(t.dirty)) {
		if t.touched[id] {
			continue // not committed: a later batch
		}
		rows.String(id)
		rows.Int(t.counts[id])
		rows.End(t.versions[id], false)
	}
	t.dirty = map[string]bool{}
	for id := range t.touched {
		t.dirty[id] = true
	}
	t.batchNumber = t.committed
	t.batch = &pipeline.Batch{Topic: t.topic, Partition: t.partition, Version: int64(t.committed), Tables: []*pipeline.Rows{rows}}
	return t.batch
}

func (t *countTask) Acknowledge() { t.acked, t.batch = t.batchNumber, nil }

func (t *countTask) Stats() *pipeline.Stats {
	t.stats.Clock, t.stats.Watermark, t.stats.Customers = t.clock, t.clock, int64(len(t.counts))
	return &t.stats
}

func (t *countTask) Close() { t.counts = nil }

// textDecoder takes the value for the customer. "bad…" is a bad record, "guest" an ignored one.
type textDecoder struct{}

func (textDecoder) Decode(r *pipeline.Record, e *pipeline.Event) error {
	value := r.Value
	switch s := string(value); {
	case strings.HasPrefix(s, "bad"):
		return &pipeline.RecordError{Kind: pipeline.ErrNotJSON, Cause: "is " + s}
	case s == "guest":
		return pipeline.ErrIgnored
	}
	*e = pipeline.Event{Kind: pipeline.KindPageViewed, Customer: value}
	return nil
}

// memorySink keeps the newest row of each key, as the database does.
type memorySink struct {
	mu       sync.Mutex
	counts   map[string]int64 // by partition and customer
	rowOf    map[string]int64 // version of that row
	versions map[int32]int64
	letters  map[string]int // writes of a dead letter, by its key
	writes   int
	waits    int           // writes of dead letters that had to wait
	stuck    chan struct{} // while not nil, writes wait for it to be closed
	mute     chan struct{} // while not nil, questions for the version wait for it to be closed
	err      error
}

func newMemorySink() *memorySink {
	return &memorySink{counts: map[string]int64{}, rowOf: map[string]int64{}, versions: map[int32]int64{}, letters: map[string]int{}}
}

// await waits until a channel is closed, if there is one.
func await(ctx context.Context, closed <-chan struct{}) error {
	if closed == nil {
		return nil
	}
	select {
	case <-closed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *memorySink) Write(ctx context.Context, b *pipeline.Batch) error {
	s.mu.Lock()
	stuck, err := s.stuck, s.err
	if stuck != nil && b.Tables[0].Table != countTable {
		s.waits++
	}
	s.mu.Unlock()
	if err := await(ctx, stuck); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	for _, rows := range b.Tables {
		if rows.Table != countTable {
			s.keepLetters(rows)
			continue
		}
		ids := rows.Data[0].Strings(nil)
		for i := range rows.N {
			key := fmt.Sprint(b.Partition, "/", strings.Clone(ids[i]))
			count, version := rows.Data[1].Ints[i], rows.Data[2].Ints[i]
			if version == s.rowOf[key] && count != s.counts[key] {
				panic(fmt.Sprint("BUG: two rows of version ", version, " differ: ", key, " ", count, " ", s.counts[key]))
			}
			if version > s.rowOf[key] {
				s.rowOf[key], s.counts[key] = version, count
			}
		}
		s.versions[b.Partition] = max(s.versions[b.Partition], b.Version)
	}
	return nil
}

func (s *memorySink) keepLetters(rows *pipeline.Rows) {
	topics, kinds, causes := rows.Data[0].Strings(nil), rows.Data[4].Strings(nil), rows.Data[5].Strings(nil)
	keys, values := rows.Data[6].Strings(nil), rows.Data[7].Strings(nil)
	for i := range rows.N {
		s.letters[fmt.Sprint(topics[i], "/", rows.Data[1].Ints[i], "/", rows.Data[2].Ints[i], " ", kinds[i], ": ", causes[i], " ", keys[i], "=", values[i])]++
	}
}

func (s *memorySink) Version(ctx context.Context, _ string, partition int32) (int64, error) {
	s.mu.Lock()
	mute := s.mute
	s.mu.Unlock()
	if err := await(ctx, mute); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.versions[partition], nil
}

// totals returns the stored count of each customer, over all partitions.
func (s *memorySink) totals() map[string]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]int64{}
	for key, n := range s.counts {
		_, id, _ := strings.Cut(key, "/")
		all[id] += n
	}
	return all
}

func (s *memorySink) set(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
}

// lab is a broker with topics, a Sink and what was produced.
type lab struct {
	t        *testing.T
	cluster  *kfake.Cluster
	o        Options
	sink     *memorySink
	producer *Producer
	produced map[string]int64
}

func newLab(t *testing.T, partitions int32, opts ...kfake.Opt) *lab {
	t.Helper()
	cluster, err := kfake.NewCluster(append([]kfake.Opt{
		kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100 * time.Millisecond),
		kfake.BrokerConfigs(map[string]string{
			"group.consumer.heartbeat.interval.ms": "50", "group.consumer.session.timeout.ms": "2000",
		}),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	l := &lab{t: t, cluster: cluster, sink: newMemorySink(), produced: map[string]int64{}}
	l.o = Options{
		Brokers: cluster.ListenAddrs(), Group: "g", Topic: "events", CheckpointInterval: 50 * time.Millisecond,
		SinkGrace: time.Second, Replication: 1,
		Client: []kgo.Opt{
			kgo.MetadataMinAge(20 * time.Millisecond), kgo.HeartbeatInterval(50 * time.Millisecond),
			kgo.SessionTimeout(2 * time.Second),
		},
	}
	if err := EnsureTopics(t.Context(), l.o, partitions); err != nil {
		t.Fatal(err)
	}
	if l.producer, err = NewProducer(t.Context(), l.o, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.producer.Close)
	return l
}

// produce writes n events of ten customers.
func (l *lab) produce(n int) {
	l.t.Helper()
	for i := range n {
		l.send(fmt.Sprint("customer-", i%10))
	}
	l.flush()
}

func (l *lab) send(value string) {
	l.t.Helper()
	if err := l.producer.Produce(l.t.Context(), []byte(value), []byte(value), time.Now()); err != nil {
		l.t.Fatal(err)
	}
	if !strings.HasPrefix(value, "bad") && value != "guest" {
		l.produced[value]++
	}
}

func (l *lab) flush() {
	l.t.Helper()
	if err := l.producer.Flush(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
}

// awaitTotals waits until the Sink holds exactly what was produced.
func (l *lab) awaitTotals() {
	l.t.Helper()
	eventually(l.t, "sink holds what was produced", func() error {
		if got := l.sink.totals(); !maps.Equal(got, l.produced) {
			return fmt.Errorf("sink holds %v, produced %v", got, l.produced)
		}
		return nil
	})
}

// running is a Runner at work.
type running struct {
	*Runner
	cancel context.CancelFunc
	wg     conc.WaitGroup
	over   chan struct{}
	err    error
}

// run starts a Runner; change may adapt its options and dependencies. It is stopped with the test.
func (l *lab) run(change ...func(*Options, *Deps)) *running {
	l.t.Helper()
	o := l.o
	d := Deps{Sink: l.sink, NewTask: newCountTask, NewDecoder: func() Decoder { return textDecoder{} }, Log: l.log().With("test", l.t.Name())}
	for _, c := range change {
		c(&o, &d)
	}
	r, err := New(o, d)
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	run := &running{Runner: r, cancel: cancel, over: make(chan struct{})}
	run.wg.Go(func() {
		defer close(run.over)
		run.err = r.Run(ctx)
	})
	l.t.Cleanup(func() { _ = run.stop() })
	return run
}

// ended reports whether Run has returned.
func (r *running) ended() bool {
	select {
	case <-r.over:
		return true
	default:
		return false
	}
}

// admin returns a client for questions.
func (l *lab) admin() *kadm.Client {
	l.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(l.o.Brokers...))
	must(l.t, err)
	l.t.Cleanup(cl.Close)
	return kadm.NewClient(cl)
}

func contextFor(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), d)
}

// stop ends the Runner in order and returns its error.
func (r *running) stop() error {
	r.cancel()
	r.wg.Wait()
	return r.err
}

// testLog logs to standard error if the environment asks for it.
func testLog() *slog.Logger {
	if os.Getenv("KAFKA_TEST_LOG") == "" {
		return nil
	}
	return slog.New(slog.NewTextHandler(os.Stderr, nil))
}

func (l *lab) log() *slog.Logger {
	if log := testLog(); log != nil {
		return log
	}
	return slog.New(slog.DiscardHandler)
}

// gate holds up who waits until it is opened, at the latest at the end of the test.
type gate struct {
	once sync.Once
	c    chan struct{}
}

func newGate(t *testing.T) *gate {
	g := &gate{c: make(chan struct{})}
	t.Cleanup(g.open)
	return g
}

func (g *gate) wait() { <-g.c }
func (g *gate) open() { g.once.Do(func() { close(g.c) }) }

// awaitHits waits until faults have hit n times.
func awaitHits(t *testing.T, h *kfake.FaultHandle, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	must(t, h.Wait(ctx, n))
}

// eventually waits until a condition holds, for 30 s at most.
func eventually(t *testing.T, what string, ok func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err = ok(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
