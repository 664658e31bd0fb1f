package exact

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sourcegraph/conc/pool"
	"github.com/twmb/franz-go/pkg/kgo"

	"zyklus/pipeline"
	"zyklus/pipeline/kafka"
)

// member is a process of the consumer group.
type member struct {
	w       *world
	name    string
	static  bool
	cable   *cable
	cancel  context.CancelFunc
	done    chan struct{}
	err     error
	metrics *prometheus.Registry // of who watches a source

	suspect  atomic.Bool // frozen or killed once: others may have taken over
	leaving  bool        // it was told to stop
	replaced bool        // another one with its instance id was started
	worked   atomic.Bool // it was given partitions

	mu   sync.Mutex
	step string // at which something happens to it
	left int    // steps until then
	then func() // what happens
}

// start starts a member.
func (w *world) start(name string, static bool) *member {
	m := &member{w: w, name: name, static: static, cable: newCable(&w.network), done: make(chan struct{})}
	for _, twin := range w.members {
		if twin.name == name && !twin.gone() { // of two with an instance id, the one that joins last stays
			twin.suspect.Store(true)
			m.suspect.Store(true) // the other one may leave by the id of both
			twin.replaced, m.replaced = true, true
		}
	}
	o := w.options
	o.ClientID = name
	if static {
		o.InstanceID = name
	}
	o.Client = append(o.Client[:len(o.Client):len(o.Client)], kgo.Dialer(m.cable.dial))
	if static {
		w.hit("static member")
	}
	ctx, cancel := context.WithCancel(w.ctx)
	m.cancel = cancel
	runners := []*kafka.Runner{m.runner(o, func(topic string, p int32) kafka.Task { return pipeline.NewTask(w.job, topic, p) })}
	for _, s := range w.stages {
		s.ClientID, s.InstanceID, s.Client = o.ClientID, o.InstanceID, o.Client
		runners = append(runners, m.runner(s, func(topic string, p int32) kafka.Task { return pipeline.NewRekeyer(w.rekey, topic, p) }))
	}
	go func() {
		defer close(m.done)
		all := pool.New().WithContext(ctx).WithCancelOnError()
		for _, r := range runners {
			all.Go(r.Run)
		}
		m.err = all.Wait()
	}()
	return m
}

// runner makes one of the runners of a member.
func (m *member) runner(o kafka.Options, tasks func(topic string, p int32) kafka.Task) *kafka.Runner {
	d := kafka.Deps{
		NewTask:    func(topic string, p int32) kafka.Task { return &task{tasks(topic, p), m, !o.Rekeyed} },
		NewDecoder: func() kafka.Decoder { return decoder{} },
		Now:        m.w.now, Log: slog.New(&scribe{w: m.w, m: m, attrs: m.name + " "}), Crash: m.at,
	}
	if o.Stage == "" {
		d.Sink = sink{m.w.db, m}
	}
	if len(o.Stall.Limits) > 0 {
		m.metrics = prometheus.NewRegistry()
		d.Registerer = m.metrics
	}
	r, err := kafka.New(o, d)
	if err != nil {
		panic(err)
	}
	return r
}

// task tells its member where it is.
type task struct {
	kafka.Task
	m     *member
	reads bool // what a source wrote, which may be of the future
}

func (t *task) Restore(key, value []byte) error {
	t.m.at("restoring")
	return t.Task.Restore(key, value)
}

func (t *task) Process(e *pipeline.Event, believable int64) {
	if t.reads {
		believable = t.m.w.appendedAt(e.Origin)
	}
	t.Task.Process(e, believable)
}

func (t *task) Drain(max int) bool {
	before := t.Stats().Fired
	more := t.Task.Drain(1)
	for n := 1; more && n < max; n++ {
		more = t.Task.Drain(1)
	}
	if t.Stats().Fired != before {
		t.m.at("fired")
	}
	return more
}

// steps are where a member can be killed or frozen.
var steps = []string{"restoring", "fired", "encoded", "produced", "committed", "written", "revoked"}

// arm lets something happen to the member the nth time that it comes to a step; nil for nothing.
func (m *member) arm(step string, n int, then func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.step, m.left, m.then = step, n, then
}

// at is called at each step.
func (m *member) at(step string) {
	m.mu.Lock()
	var then func()
	if m.step == step {
		if m.left--; m.left < 0 {
			then, m.then, m.step = m.then, nil, ""
		}
	}
	m.mu.Unlock()
	if then != nil {
		m.w.tell("%s comes to %s", m.name, step)
		m.w.hit("step " + step)
		then()
	}
}

// kill ends the member as kill -9 does: nothing leaves it any more.
func (m *member) kill() {
	if m.suspect.Store(true); !m.dead() {
		m.w.count(func(t *tally) { t.crashes++ })
	}
	m.cable.kill()
	m.cancel()
}

func (m *member) dead() bool { return m.cable.isCut() }

// wrong reports whether the member, which has ended, should not have. A start ends with an error while brokers are away or
// made to fail: what runs it tries again. Of two with an instance id, one ends.
func (m *member) wrong() bool {
	if m.err == nil || m.dead() {
		return false
	}
	return !(m.replaced && strings.Contains(m.err.Error(), "instance id")) &&
		!(!m.worked.Load() && strings.Contains(m.err.Error(), "no kafka broker answers"))
}

// freeze stops the member for a while, as SIGSTOP and SIGCONT do.
func (m *member) freeze(d time.Duration) {
	m.suspect.Store(true)
	m.cable.freeze()
	m.w.ghosts.Go(func() {
		_ = wait(m.w.ctx, d)
		m.cable.thaw()
	})
}

// gone reports whether the member has ended.
func (m *member) gone() bool {
	select {
	case <-m.done:
		return true
	default:
		return false
	}
}

// decoder reads what the world writes: the customer is the key or a header, "bad" is no event.
type decoder struct{}

func (decoder) Decode(r *pipeline.Record, e *pipeline.Event) error {
	if bytes.HasPrefix(r.Value, []byte("bad")) {
		return &pipeline.RecordError{Kind: pipeline.ErrNotJSON, Cause: "is bad"}
	}
	if err := pipeline.DecodeEvent(r.Value, e); err != nil {
		panic(fmt.Sprintf("BUG: %x: %v", r.Value, err))
	}
	if e.Customer = r.Key; len(r.Headers) > 0 {
		e.Customer = r.Headers[0].Value
	}
	return nil
}
