package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sourcegraph/conc"
	"github.com/sourcegraph/conc/pool"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"zyklus/pipeline"
)

// Deps are what a Runner works with.
type Deps struct {
	Sink       pipeline.Sink // default: none, for Tasks without rows
	NewTask    func(topic string, partition int32) Task
	NewDecoder func() Decoder        // not needed for a topic that is Options.Rekeyed
	Now        func() time.Time      // wall clock for event time; default time.Now
	Log        *slog.Logger          // default: none
	Registerer prometheus.Registerer // default: no metrics
	// Job names lifecycles and phases in metrics. Without it there are none by phase.
	Job *pipeline.Job
	// Healthy reports why the Sink does not take rows now, nil if it does. Ready asks it. Default: it always does.
	Healthy func() error
	// Restoring is told, by several goroutines, how many records of a partition's changelog have been restored. Without
	// it, log lines tell. It may be nil.
	Restoring func(partition int32, done, total int64)
	// Crash is called at the steps of a checkpoint, for tests that kill the process there: `encoded`, `produced` (not
	// committed yet), `committed`, and `written` (rows are stored, not acknowledged yet); and at `restoring` (a record of
	// the changelog), `timers` (some have fired, more are due) and `revoked` (before the last checkpoint of a partition
	// that is given up in order). It may be nil.
	Crash func(step string)

	partitions int32 // of the input topic
	letters    int32 // partitions of the dead-letter topic
}

func (d *Deps) crash(step string) {
	if d.Crash != nil {
		d.Crash(step)
	}
}

func (d *Deps) complete() error {
	if d.NewTask == nil {
		return errors.New("kafka: a Runner needs NewTask")
	}
	if d.Sink == nil {
		d.Sink = noSink{}
	}
	if d.Healthy == nil {
		d.Healthy = func() error { return nil }
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// How often the Runner asks for the ends of its partitions, and how old an answer may be before it is not ready.
const (
	watchEvery = 250 * time.Millisecond
	watchLimit = 2 * time.Second
	answerAge  = 10 * time.Second
)

// Runner is a member of the consumer group that runs a Task for each partition assigned to it.
type Runner struct {
	o        Options
	d        Deps
	metrics  *metrics
	group    *kgo.Client // membership and committed offsets; fetches nothing
	feed     *feed
	restores chan struct{} // a token for each restore under way
	answered atomic.Int64  // Unix nanoseconds of the last answer of the watch
	guard    *guard        // of the watch alone
	pending  atomic.Int64  // bytes of daily rows that wait for the Sink, of all attempts
	untold   int           // of the watch alone: how often in a row the group's offsets could not be read
	blind    int           // of the watch alone: how often in a row it was not known what all partitions have heard

	telling turn     // of what the group is told: by the watch, and by sessions that end
	id      [16]byte // of the topic, under telling; zero until it is needed

	cancel context.CancelFunc // ends Run
	wg     conc.WaitGroup     // of sessions

	mu       sync.Mutex
	sessions map[int32]*session
	joined   bool
	apart    error // why the group cannot be joined; nil once it is, or while nothing is known
	stopping bool
	failure  error // the first one
}

// New returns a Runner. It connects to nothing yet.
func New(o Options, d Deps) (*Runner, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if err := d.complete(); err != nil {
		return nil, err
	}
	o = o.WithDefaults()
	if o.Rekeyed && (o.CheckKeys || len(o.Stall.Limits) > 0) {
		return nil, errors.New("kafka: keys and silence are watched where sources are read, not behind the re-keying stage")
	}
	r := &Runner{
		guard: newGuard(o.Stall),
		o:     o, d: d, telling: newTurn(), sessions: map[int32]*session{}, restores: make(chan struct{}, o.Restores), cancel: func() {},
	}
	r.metrics = newMetrics(r)
	return r, nil
}

// Run works until ctx ends and then stops in order: a last checkpoint of each partition, a bounded time for the Sink,
// leaving the group; it returns nil. It returns an error at once if CheckTopics does, and later if something fails
// that trying again cannot mend. A broker or Sink that is away is waited for; brokers that are away at the start only with
// Options.Waiting. Run may be called once.
func (r *Runner) Run(ctx context.Context) error {
	err := r.prepare(ctx)
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.mu.Lock()
	r.cancel = cancel
	r.mu.Unlock()
	if err := r.join(); err != nil {
		return err
	}
	r.metrics.register(r.d.Registerer)
	defer r.metrics.unregister(r.d.Registerer)
	loops := pool.New().WithContext(ctx).WithCancelOnError()
	loops.Go(r.feed.run)
	loops.Go(r.watchGroup)
	loops.Go(r.watch)
	err = loops.Wait()
	r.stop()
	return errors.Join(r.failed(), err)
}

// CountPartitions returns how many partitions topics have, 0 for one that does not exist.
func CountPartitions(ctx context.Context, o Options, topics ...string) (counts map[string]int32, err error) {
	o = o.WithDefaults()
	err = o.withAdmin(ctx, func(adm *kadm.Client) error {
		have, err := adm.ListTopics(ctx, topics...)
		if err != nil {
			return o.explain(err)
		}
		counts = map[string]int32{}
		for _, t := range topics {
			counts[t] = int32(len(have[t].Partitions))
		}
		return nil
	})
	return counts, err
}

// prepare checks what must be there before the group is joined, and learns how many partitions topics have.
func (r *Runner) prepare(ctx context.Context) error {
	topics, err := DescribeTopics(ctx, r.o)
	if err != nil {
		return err
	}
	for _, t := range topics {
		switch t.Use {
		case UseInput, UseEvents:
			r.d.partitions = int32(t.Partitions)
		case UseDeadLetters:
			r.d.letters = int32(t.Partitions)
		}
	}
	if err := firstErr(topics); err != nil {
		return err
	}
	if r.feed, err = r.o.newFeed(&r.d, r.metrics.clientOpts(r.d.Registerer)...); err != nil {
		return err
	}
	if err = r.o.checkProtocol(ctx, r.feed.cl); err != nil {
		r.feed.cl.Close()
	}
	return err
}

// join makes the process a member of the group.
func (r *Runner) join() (err error) {
	opts := []kgo.Opt{
		kgo.ConsumerGroup(r.o.Group),
		kgo.ConsumeTopics(r.o.Topic),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.DisableAutoCommit(),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.OnPartitionsAssigned(r.assigned),
		kgo.OnPartitionsRevoked(r.revoked),
		kgo.OnPartitionsLost(r.lost),
	}
	opts = append(opts, r.o.membership()...)
	opts = append(opts, r.o.patience()...)
	r.mu.Lock() // callbacks may come before the client is here, and wait
	defer r.mu.Unlock()
	if r.group, err = r.o.newClient("group", r.d.Log, opts...); err != nil {
		r.feed.cl.Close()
	}
	return err
}

// assigned, revoked and lost are called by the group client, never two at once. They do not wait for restores, and
// they must not close a client.
func (r *Runner) assigned(_ context.Context, cl *kgo.Client, got map[string][]int32) {
	// The group client only knows who owns what; the feed reads. Nothing is fetched before this callback returns.
	cl.PauseFetchTopics(r.o.Topic)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.joined, r.apart = true, nil
	if r.stopping {
		return
	}
	for _, p := range got[r.o.Topic] {
		if r.sessions[p] != nil {
			continue
		}
		s := newSession(r, p)
		r.sessions[p] = s
		r.wg.Go(s.run)
	}
	r.d.Log.Info("partitions assigned", "new", got[r.o.Topic], "all", slices.Sorted(maps.Keys(r.sessions)))
}

func (r *Runner) revoked(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
	partitions := gone[r.o.Topic]
	if len(partitions) == 0 {
		return
	}
	r.d.Log.Info("partitions revoked", "partitions", partitions)
	r.commitOffsets(r.end(partitions, func(s *session) { s.stop(revokeGrace) }))
}

func (r *Runner) lost(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
	r.mu.Lock()
	r.joined = false
	r.mu.Unlock()
	partitions := gone[r.o.Topic]
	if len(partitions) == 0 {
		return // also called without the group ever having been joined
	}
	r.d.Log.Warn("partitions lost: another process may own them", "partitions", partitions)
	r.end(partitions, (*session).loseNow)
}

// end ends sessions in the given way, waits for them and returns them.
func (r *Runner) end(partitions []int32, how func(*session)) (ended []*session) {
	r.mu.Lock()
	for _, p := range partitions {
		if s := r.sessions[p]; s != nil {
			ended = append(ended, s)
		}
	}
	r.mu.Unlock()
	for _, s := range ended {
		how(s)
	}
	for _, s := range ended {
		<-s.done // within the graces, or at once when lost: all that a session waits for ends with its contexts
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range ended {
		delete(r.sessions, s.partition)
	}
	return ended
}

// stop ends all sessions and leaves the group. No loop runs any more.
func (r *Runner) stop() {
	r.mu.Lock()
	r.stopping = true
	partitions := slices.Sorted(maps.Keys(r.sessions))
	r.mu.Unlock()
	r.commitOffsets(r.end(partitions, func(s *session) { s.stop(r.o.SinkGrace) }))
	r.wg.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	if err := r.o.leave(ctx, r.o.Group, r.group); err != nil {
		r.d.Log.Warn("leaving the group", "error", err)
	}
	r.group.Close()
	r.feed.cl.Close()
}

// fail ends Run with an error.
func (r *Runner) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failure == nil {
		r.failure = err
	}
	r.d.Log.Error("stopping", "error", err)
	r.cancel()
}

func (r *Runner) failed() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failure
}

// watchGroup reads the errors of the group, the only thing that the paused group client returns.
func (r *Runner) watchGroup(ctx context.Context) error {
	for ctx.Err() == nil {
		for _, e := range r.group.PollFetches(ctx).Errors() {
			switch {
			case ctx.Err() != nil:
			case refused(e.Err):
				return r.o.explain(e.Err)
			case errors.Is(e.Err, kerr.FencedInstanceID):
				return fmt.Errorf("another process has joined group %s with the instance id %s: give each its own", r.o.Group, r.o.InstanceID)
			default:
				err := r.apartBecause(e.Err)
				r.d.Log.Warn("group", "error", err)
				r.setApart(err)
				sleep(ctx, time.Second)
			}
		}
	}
	return nil
}

// setApart keeps why the group cannot be joined, for Ready.
func (r *Runner) setApart(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.apart = err
}

// Ready returns nil if the process does its work: it has joined the group, all partitions assigned to it are restored
// and run, brokers answer, and the Sink is healthy. Else the error says what is missing.
func (r *Runner) Ready() error {
	r.mu.Lock()
	joined, apart, stopping := r.joined, r.apart, r.stopping
	sessions := slices.Collect(maps.Values(r.sessions))
	r.mu.Unlock()
	switch {
	case stopping:
		return errors.New("stopping")
	case !joined && apart != nil:
		return fmt.Errorf("not a member of group %s: %w", r.o.Group, apart)
	case !joined:
		return fmt.Errorf("not a member of group %s yet", r.o.Group)
	}
	for _, s := range sessions {
		if err := s.notRunning(); err != nil {
			return err
		}
	}
	if age := time.Since(time.Unix(0, r.answered.Load())); len(sessions) > 0 && age > answerAge {
		return errors.New("no broker has answered for a while")
	}
	return r.d.Healthy()
}

// snapshot returns the sessions, by partition.
func (r *Runner) snapshot() []*session {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*session, 0, len(r.sessions))
	for _, p := range slices.Sorted(maps.Keys(r.sessions)) {
		all = append(all, r.sessions[p])
	}
	return all
}
