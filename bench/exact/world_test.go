package exact

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sourcegraph/conc"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"zyklus/bench/oracle"
	"zyklus/operators"
	"zyklus/pipeline"
	"zyklus/pipeline/kafka"
)

// world is everything of one seed.
type world struct {
	history    *oracle.History
	partitions int
	wall       bool // the wall clock moves time, not heartbeats
	consumer   bool // members join by KIP-848
	job        *pipeline.Job

	ctx      context.Context
	network  network
	cluster  *kfake.Cluster
	options  kafka.Options
	db       *database
	ghosts   conc.WaitGroup
	members  []*member
	faults   []*kfake.FaultHandle
	brokers  []func() // bring lost ones back
	feeder   *kgo.Client
	bad      int
	began    time.Time
	begin    int64           // of the history, Unix milliseconds
	speed    int64           // milliseconds of the history that pass in one
	over     atomic.Bool     // the history is played: time jumps
	sent     [8]atomic.Int64 // records, by partition
	appended atomic.Int64    // instant up to which everything that comes is in the topic, Unix milliseconds: the wall clock waits for it

	mu     sync.Mutex
	chance *rand.Rand
	story  []string // what happened, for who reads a failure
	tally  tally
}

// tally counts what a world went through.
type tally struct {
	events, crashes, rebalances, outages, permutations, rows int
}

func (t *tally) add(o tally) {
	t.events += o.events
	t.crashes += o.crashes
	t.rebalances += o.rebalances
	t.outages += o.outages
	t.permutations += o.permutations
	t.rows += o.rows
}

// dice returns a number in [0, n).
func (w *world) dice(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.chance.IntN(n)
}

// tell adds a line to the story.
func (w *world) tell(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.story = append(w.story, fmt.Sprintf("%8.3f s  ", time.Since(w.began).Seconds())+fmt.Sprintf(format, args...))
}

// count changes the tally.
func (w *world) count(do func(*tally)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	do(&w.tally)
}

// outcome says how many of n rows an insert stores, and whether its answer comes back.
func (w *world) outcome(n int) (stored int, sure bool) {
	switch w.dice(10) {
	case 0:
		return n, false
	case 1:
		return w.dice(n + 1), false
	}
	return n, true
}

const topic = "events"

// playFor is how long the history takes to be played, but for what goes wrong.
const playFor = 20 * time.Second

// newWorld builds the world of a seed, inside a bubble.
func newWorld(ctx context.Context, seed uint64) (*world, error) {
	w := &world{ctx: ctx, chance: rand.New(rand.NewPCG(seed, 7)), began: time.Now()}
	w.history = oracle.NewHistory(seed, w.chance.IntN(6) == 0)
	w.partitions, w.wall = 1+w.chance.IntN(8), w.chance.IntN(3) == 0
	w.begin = w.history.End
	for i := range w.history.Events {
		w.begin = min(w.begin, w.history.Events[i].At)
	}
	w.speed = max((w.history.End-w.begin)/playFor.Milliseconds(), 1)
	w.db = newDatabase(w)
	var err error
	if w.job, err = jobOf(w.history, w.wall); err != nil {
		return w, err
	}
	w.cluster, err = kfake.NewCluster(
		kfake.NumBrokers(3), kfake.ListenFn(w.network.Listen), kfake.Ports(9092, 9093, 9094),
		kfake.GroupMinSessionTimeout(100*time.Millisecond),
		kfake.BrokerConfigs(map[string]string{"group.consumer.heartbeat.interval.ms": "1000"}),
	)
	if err != nil {
		return w, err
	}
	w.options = kafka.Options{
		Brokers: w.cluster.ListenAddrs(), Group: "g", Topic: topic, CheckpointInterval: time.Second, Replication: 1,
		BatchRows: 1 + w.chance.IntN(50), SinkGrace: 2 * time.Second,
		MaxPending: []int64{0, 1, 2000}[seed%3], // little: reading waits for the database again and again
		Client:     []kgo.Opt{kgo.MetadataMinAge(50 * time.Millisecond)},
	}
	if w.consumer = w.chance.IntN(4) == 0; w.consumer {
		w.options.GroupProtocol = kafka.ProtocolConsumer
	}
	admin := w.options
	admin.Client = append(slices.Clone(admin.Client), kgo.Dialer(newCable(&w.network).dial))
	if err := kafka.EnsureTopics(ctx, admin, int32(w.partitions)); err != nil {
		return w, err
	}
	w.feeder, err = kgo.NewClient(kgo.SeedBrokers(w.options.Brokers...), kgo.Dialer(newCable(&w.network).dial),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0), kgo.MetadataMinAge(50*time.Millisecond))
	return w, err
}

// close ends everything that is left.
func (w *world) close() {
	if w.feeder != nil {
		w.feeder.Close()
	}
	if w.cluster != nil {
		w.cluster.Close()
	}
}

// now is the wall clock of members: the history's time, run fast.
func (w *world) now() time.Time {
	at := w.appended.Load()
	if !w.over.Load() {
		at = min(at, w.begin+time.Since(w.began).Microseconds()*w.speed/1000)
	}
	return time.UnixMilli(at)
}

// due is when an instant of the history comes, at the earliest.
func (w *world) due(at int64) time.Time {
	return w.began.Add(time.Duration((at-w.begin)*1000/w.speed) * time.Microsecond)
}

var jobs sync.Map

// jobOf returns the job of a history.
func jobOf(h *oracle.History, wall bool) (*pipeline.Job, error) {
	key := fmt.Sprint(h.Zone, h.Lateness, wall)
	if j, ok := jobs.Load(key); ok {
		return j.(*pipeline.Job), nil
	}
	rates, err := pipeline.ParseRates([]byte(oracle.RateTable()), pipeline.RateOptions{Currency: "EUR"})
	if err != nil {
		return nil, err
	}
	s := h.Setting()
	j, err := pipeline.NewJob(pipeline.Options{
		Operators: operators.All(), Lifecycles: oracle.Lifecycles(), Artefact: s.Artefact, Calendar: pipeline.NewCalendar(s.Zone),
		Rates: rates, Lateness: h.Lateness, Skew: 100 * 365 * 24 * time.Hour, WallClock: wall, Days: true,
	})
	if err == nil {
		jobs.Store(key, j)
	}
	return j, err
}

// feed plays the history into the topic.
func (w *world) feed() error {
	type record struct {
		oracle.Arrival
		partition int
	}
	var all []record
	for p := range w.partitions {
		log := w.history.Log(p, w.partitions)
		for _, a := range log[:len(log)-1] { // the last one is a heartbeat
			all = append(all, record{a, p})
		}
	}
	slices.SortStableFunc(all, func(a, b record) int { return int(min(max(a.At-b.At, -1), 1)) })
	for _, r := range all {
		w.appended.Store(r.At - 1)
		if err := w.sleepUntil(w.due(r.At)); err != nil {
			return err
		}
		if err := w.produce(r.partition, r.Event); err != nil {
			return err
		}
		if w.dice(20) == 0 {
			w.bad++
			if err := w.send(&kgo.Record{Topic: topic, Partition: int32(w.dice(w.partitions)), Value: fmt.Appendf(nil, "bad %d", w.bad)}); err != nil {
				return err
			}
		}
	}
	w.count(func(t *tally) { t.events, t.permutations = len(all), 1 })
	if err := w.sleepUntil(w.due(w.history.End)); err != nil {
		return err
	}
	return w.beat(w.history.End)
}

func (w *world) sleepUntil(at time.Time) error { return wait(w.ctx, time.Until(at)) }

// beat says in every partition how far time has come.
func (w *world) beat(at int64) error {
	w.appended.Store(at)
	w.over.Store(true)
	if w.wall {
		return nil
	}
	for p := range w.partitions {
		if err := w.produce(p, &pipeline.Event{Kind: pipeline.KindHeartbeat, At: at}); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) produce(partition int, e *pipeline.Event) error {
	c := *e
	if c.Raw = nil; c.Foreign() {
		c.Rate = pipeline.Rate{Units: 1} // the pipeline looks it up
	}
	return w.send(&kgo.Record{Topic: topic, Partition: int32(partition), Key: e.Customer, Value: pipeline.AppendEvent(nil, &c)})
}

func (w *world) send(r *kgo.Record) error {
	err := w.feeder.ProduceSync(w.ctx, r).FirstErr()
	w.sent[r.Partition].Add(1)
	return err
}

// scribe is a slog.Handler that puts what members log into the story and counts rebalances.
type scribe struct {
	w     *world
	m     *member
	attrs string
}

func (*scribe) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

func (s *scribe) Handle(_ context.Context, r slog.Record) error {
	line := s.attrs + r.Message
	r.Attrs(func(a slog.Attr) bool { line += " " + a.String(); return true })
	if strings.HasPrefix(r.Message, "partitions ") {
		s.w.count(func(t *tally) { t.rebalances++ })
		s.m.worked.Store(true)
	}
	s.w.tell("%s", line)
	return nil
}

func (s *scribe) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *s
	for _, a := range attrs {
		c.attrs += a.Value.String() + " "
	}
	return &c
}

func (s *scribe) WithGroup(string) slog.Handler { return s }

// play runs the world of a seed to its end and returns what differs.
func play(seed uint64) (*world, error) {
	ctx, cancel := context.WithCancel(context.Background())
	w, err := newWorld(ctx, seed)
	if err == nil {
		err = w.play()
	}
	for _, m := range w.members {
		m.cable.thaw()
	}
	if err == nil {
		err = wait(ctx, awake)
	}
	for _, m := range w.members {
		m.cancel()
	}
	for _, m := range w.members {
		<-m.done
		if err == nil && m.wrong() {
			err = fmt.Errorf("member %s has ended: %w", m.name, m.err)
		}
	}
	if err != nil {
		cancel()
	}
	w.ghosts.Wait()
	cancel()
	w.close()
	if err == nil {
		err = errors.Join(w.db.wrong(), w.db.unchanged())
	}
	return w, err
}

// awake is how long members that were frozen to the end may do harm before they are told to stop.
const awake = 5 * time.Second

func (w *world) play() error {
	fed := make(chan error, 1)
	go func() { fed <- w.feed() }()
	w.members = append(w.members, w.start("m0", w.static()))
	w.suffer()
	if err := <-fed; err != nil {
		return fmt.Errorf("feed: %w", err)
	}
	w.heal()
	if err := w.await(w.history.End); err != nil {
		return err
	}
	if err := w.compare(); err != nil {
		return err
	}
	if err := w.beat(w.history.Final()); err != nil {
		return err
	}
	if err := w.await(w.history.Final()); err != nil {
		return err
	}
	w.db.remember()
	return w.compareLetters()
}

// await waits until everything up to an instant is written.
func (w *world) await(at int64) error {
	began := time.Now()
	for end := began.Add(patience); ; {
		behind := w.partitions
		reached := w.db.reached()
		for p, r := range reached {
			if r.clock >= at && r.position >= w.sent[p].Load() {
				behind--
			}
		}
		if behind == 0 {
			return nil
		}
		if err := w.living(); err != nil {
			return err
		}
		if len(w.alive()) == 0 {
			w.join()
		}
		if long := time.Since(began); long > time.Minute {
			if err := w.evict(long > 3*time.Minute); err != nil {
				return err
			}
		}
		if time.Now().After(end) {
			w.tell("group: %+v", w.cluster.GroupInfo("g"))
			if os.Getenv("ZYKLUS_STACKS") != "" {
				_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 2)
			}
			return fmt.Errorf("%v later, %d of %d partitions are not written up to %d: %v", patience, behind, w.partitions, at, reached)
		}
		if err := wait(w.ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// evict removes members that were killed, longer ago than any session, or all of them if their joins wait for each other.
// kfake (of 2026-09-18) forgets to end the session of one that dies before it has the answer to a join, and the joins of
// members that were frozen can wait for ever.
func (w *world) evict(all bool) error {
	dead := map[string]bool{}
	for _, m := range w.members {
		dead[m.name+"-group"] = m.dead() || m.gone()
	}
	group := w.cluster.GroupInfo("g")
	if group == nil || w.consumer {
		return nil
	}
	for _, m := range group.Members {
		if !dead[m.ClientID] && (!all || group.State != "PreparingRebalance") {
			continue
		}
		w.tell("evict %s", m.ClientID)
		req := kmsg.NewPtrLeaveGroupRequest()
		member := kmsg.NewLeaveGroupRequestMember()
		req.Group, member.MemberID, member.InstanceID = "g", m.MemberID, m.InstanceID
		req.Members = append(req.Members, member)
		if _, err := req.RequestWith(w.ctx, w.feeder); err != nil {
			return fmt.Errorf("evict: %w", err)
		}
	}
	return nil
}

// living reports a member that has ended by itself.
func (w *world) living() error {
	for _, m := range w.members {
		if m.gone() && m.wrong() {
			return fmt.Errorf("member %s has ended: %w", m.name, m.err)
		}
	}
	return nil
}

func (w *world) compare() error {
	w.db.mu.Lock()
	defer w.db.mu.Unlock()
	w.count(func(t *tally) { t.rows = w.db.count() })
	if w.history.Late {
		return w.history.CompareTotals(w.db.store)
	}
	return w.history.Compare(w.db.store)
}

// compareLetters reads the dead letters: each refused record is there once.
func (w *world) compareLetters() error {
	got, err := w.letters()
	if err != nil {
		return err
	}
	bad, seen := 0, map[string]bool{}
	var raws []string
	for _, r := range got {
		origin := ""
		for _, h := range r.Headers {
			if h.Key == "partition" || h.Key == "offset" {
				origin += string(h.Value) + "/"
			}
		}
		if seen[origin] {
			return fmt.Errorf("the record at %s has two dead letters", origin)
		}
		seen[origin] = true
		if strings.HasPrefix(string(r.Value), "bad") {
			bad++
			continue
		}
		var e pipeline.Event
		if err := pipeline.DecodeEvent(r.Value, &e); err != nil {
			return fmt.Errorf("dead letter %x: %w", r.Value, err)
		}
		raws = append(raws, fmt.Sprintf("raw %x", e.ID))
	}
	slices.Sort(raws)
	raws = slices.Compact(raws)
	if want := slices.Compact(w.history.DeadLetters()); !w.history.Late && !slices.Equal(raws, want) {
		return fmt.Errorf("dead letters are %q, want %q", raws, want)
	}
	if bad != w.bad {
		return fmt.Errorf("%d dead letters of %d bad records", bad, w.bad)
	}
	return nil
}

// letters reads the committed dead letters.
func (w *world) letters() (all []*kgo.Record, err error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.options.Brokers...), kgo.Dialer(newCable(&w.network).dial),
		kgo.ConsumeTopics("zyklus-g-dead-letters"), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	for quiet := 0; quiet < 3; {
		ctx, cancel := context.WithTimeout(w.ctx, 2*time.Second)
		fs := cl.PollFetches(ctx)
		cancel()
		if err := fs.Err(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return nil, err
		}
		if quiet++; fs.NumRecords() > 0 {
			quiet = 0
		}
		all = append(all, fs.Records()...)
	}
	return all, nil
}

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}

// patience is how long everything may take once all is well again: frozen members wake, sessions of dead ones end.
const patience = 6 * time.Minute
