package exact

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sourcegraph/conc"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"zyklus/bench/oracle"
	"zyklus/operators"
	"zyklus/pipeline"
	"zyklus/pipeline/kafka"
)

// world is everything of one seed.
type world struct {
	history    *oracle.History
	partitions int
	wall       bool   // the wall clock moves time, not heartbeats
	consumer   bool   // members join by KIP-848
	rekeyed    bool   // the history comes in topics that are not keyed by customer
	guard      *guard // of a required source; nil for none
	job        *pipeline.Job
	channels   []channel
	deliveries []delivery
	refused    []string // Raw of events from a clock that is ahead

	ctx      context.Context
	network  network
	cluster  *kfake.Cluster
	options  kafka.Options
	stages   []kafka.Options // of the re-keying
	rekey    pipeline.RekeyOptions
	sources  map[string]int32 // partitions by topic
	db       *database
	ghosts   conc.WaitGroup
	members  []*member
	faults   []*kfake.FaultHandle
	brokers  []func() // bring lost ones back
	feeder   *kgo.Client
	bad      int
	peace    chan struct{} // full while nothing else may go wrong: a lock for which time passes
	paused   atomic.Int64  // how long the history stood still, a time.Duration
	came     sync.Map      // instants at which records came, Unix milliseconds, by pipeline.Origin
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

// tally counts what a world went through: doc.go says what the words mean.
type tally struct {
	events, crashes, rebalances, outages, permutations, rows int
	hits                                                     map[string]int // by what was hit: a kind of world, of mishap, a step
}

func (t *tally) add(o tally) {
	t.events += o.events
	t.crashes += o.crashes
	t.rebalances += o.rebalances
	t.outages += o.outages
	t.permutations += o.permutations
	t.rows += o.rows
	if t.hits == nil {
		t.hits = map[string]int{}
	}
	for what, n := range o.hits {
		t.hits[what] += n
	}
}

// dice returns a number in [0, n).
func (w *world) dice(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.chance.IntN(n)
}

// draw returns a number in [0, n).
func (w *world) draw(n int64) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.chance.Int64N(n)
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

// hit counts that something came true.
func (w *world) hit(what string) {
	w.count(func(t *tally) {
		if t.hits == nil {
			t.hits = map[string]int{}
		}
		t.hits[what]++
	})
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
	w := &world{ctx: ctx, chance: rand.New(rand.NewPCG(seed, 7)), began: time.Now(), peace: make(chan struct{}, 1)}
	w.history = oracle.NewHistory(seed, w.chance.IntN(6) == 0)
	w.partitions, w.wall, w.consumer = 1+w.chance.IntN(8), w.chance.IntN(2) == 0, w.chance.IntN(4) == 0
	w.begin = w.history.End
	for i := range w.history.Events {
		w.begin = min(w.begin, w.history.Events[i].At)
	}
	if w.rekeyed = w.chance.IntN(6) == 0; w.rekeyed {
		w.history.End++ // no event's instant: a clock that has come there has come past all events
	}
	if w.wall && !w.history.Late && w.chance.IntN(2) == 0 {
		w.guard = newGuard(w)
	}
	w.speed = max((w.history.End-w.begin)/playFor.Milliseconds(), 1)
	w.db = newDatabase(w)
	var err error
	if w.job, err = w.newJob(); err != nil {
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
	if err := w.build(); err != nil {
		return w, err
	}
	w.plan()
	w.hitKinds()
	w.feeder, err = kgo.NewClient(kgo.SeedBrokers(w.options.Brokers...), kgo.Dialer(newCable(&w.network).dial),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0), kgo.MetadataMinAge(50*time.Millisecond))
	return w, err
}

// build says how members use the brokers, and creates the topics.
func (w *world) build() error {
	w.options = kafka.Options{
		Brokers: w.cluster.ListenAddrs(), Group: "g", Topic: topic, Replication: 1,
		CheckpointInterval: []time.Duration{200 * time.Millisecond, time.Second, time.Second, 4 * time.Second}[w.chance.IntN(4)],
		MaxPoll:            []int{1 + w.chance.IntN(20), 2000}[w.chance.IntN(2)],
		BatchRows:          1 + w.chance.IntN(50), SinkGrace: 2 * time.Second,
		MaxPending: []int64{0, 1, 2000}[w.history.Seed%3], // little: reading waits for the database again and again
		Client:     []kgo.Opt{kgo.MetadataMinAge(50 * time.Millisecond)},
	}
	if w.consumer {
		w.options.GroupProtocol = kafka.ProtocolConsumer
	}
	for p := range w.partitions {
		w.channels = append(w.channels, channel{topic, int32(p)})
	}
	switch {
	case w.rekeyed:
		w.options.Topic, w.options.Rekeyed = events, true
		w.options = w.options.WithDefaults()
		w.scatter()
	case w.guard != nil:
		w.options.Stall = w.guard.options()
	}
	for _, o := range append([]kafka.Options{w.options}, w.stages...) {
		n := int32(w.partitions)
		if o.Stage != "" {
			n = w.sources[o.Topic]
		}
		if err := kafka.EnsureTopics(w.ctx, w.outside(o), n); err != nil {
			return err
		}
	}
	return nil
}

// outside are the options of who is no member.
func (w *world) outside(o kafka.Options) kafka.Options {
	o.Client = append(slices.Clone(o.Client), kgo.Dialer(newCable(&w.network).dial))
	return o
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
		at = min(at, w.begin+w.elapsed().Microseconds()*w.speed/1000)
	}
	return time.UnixMilli(at)
}

// elapsed is how long the history has been played.
func (w *world) elapsed() time.Duration { return time.Since(w.began) - time.Duration(w.paused.Load()) }

var jobs sync.Map

// newJob returns the job of the world.
func (w *world) newJob() (*pipeline.Job, error) {
	h := w.history
	key := fmt.Sprint(h.Zone, h.Lateness, w.wall, w.rekeyed, w.guard != nil)
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
		Rates: rates, Lateness: h.Lateness, Skew: skew, WallClock: w.wall, Days: true, Rekeyed: w.rekeyed, Held: w.guard != nil && !w.rekeyed,
	})
	if err == nil {
		jobs.Store(key, j)
	}
	return j, err
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
	if w.guard != nil && w.dice(8) == 0 {
		_ = wait(w.ctx, w.upTo(playFor/5)) // before the first stall
	}
	w.befall("first member", (*world).first)
	w.suffer()
	if err := <-fed; err != nil {
		return fmt.Errorf("feed: %w", err)
	}
	w.heal()
	var err error
	if w.history.End, err = w.await(w.history.End); err != nil {
		return err
	}
	if err := w.compare(); err != nil {
		return err
	}
	if err := w.finish(); err != nil {
		return err
	}
	if err := w.outlive(); err != nil {
		return err
	}
	w.db.remember()
	if w.guard != nil {
		if err := w.guard.compareAlerts(w); err != nil {
			return err
		}
	}
	return w.compareLetters()
}
