package kafka

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// wire is the network of one process. It can be cut.
type wire struct {
	mu    sync.Mutex
	off   bool
	conns map[net.Conn]bool
}

func newWire() *wire { return &wire{conns: map[net.Conn]bool{}} }

func (w *wire) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.off {
		_ = c.Close()
		return nil, errors.New("the wire is cut")
	}
	w.conns[c] = true
	return c, nil
}

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.off = true
	for c := range w.conns {
		_ = c.Close()
	}
	clear(w.conns)
}

func (w *wire) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.off = false
}

// on gives a Runner the wire, an instance id (empty for a dynamic member) and a protocol.
func (w *wire) on(instance, protocol string) func(*Options, *Deps) {
	return func(o *Options, _ *Deps) {
		o.InstanceID, o.GroupProtocol = instance, protocol
		o.Client = append(slices.Clone(o.Client), kgo.Dialer(w.dial))
	}
}

// crash ends a process at once, as far as anybody else can see. It stops in the background.
func (r *running) crash(w *wire) {
	w.cut()
	for _, s := range r.snapshot() {
		s.loseNow()
	}
	r.cancel()
}

// Members come, go, crash, come back under their names and are cut off for a while, as chance has it, while events come.
// ZYKLUS_SEED is the first of two seeds.
func TestMembershipByChance(t *testing.T) {
	first := uint64(1)
	if text := os.Getenv("ZYKLUS_SEED"); text != "" {
		var err error
		if first, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("ZYKLUS_SEED: %v", err)
		}
	}
	for _, protocol := range []string{ProtocolClassic, ProtocolConsumer} {
		for _, kind := range []string{"dynamic", "static"} {
			for n := range uint64(2) {
				seed := first + n
				t.Run(fmt.Sprintf("%s/%s/seed %d", protocol, kind, seed), func(t *testing.T) {
					t.Parallel()
					membersByChance(t, newLab(t, 4), protocol, kind == "static", seed)
				})
			}
		}
	}
}

func membersByChance(t *testing.T, l *lab, protocol string, static bool, seed uint64) {
	// A member that dies in a rebalance is waited for so long.
	l.o.Client = append(l.o.Client, kgo.RebalanceTimeout(3*time.Second))
	c := &chance{lab: l, t: t, protocol: protocol, static: static, rand: rand.New(rand.NewPCG(seed, 7))}
	c.play(10)
}

// chance decides what happens to the members of a group.
type chance struct {
	*lab
	t        *testing.T
	protocol string
	static   bool
	rand     *rand.Rand
	seats    [3]seat
	events   []string
}

// seat is a place for a member: a name, if members are static.
type seat struct {
	run  *running // nil while it is free
	wire *wire
	cut  bool
}

func (c *chance) play(steps int) {
	stop := c.produceSteadily()
	c.start(0)
	for range steps {
		c.step(c.rand.IntN(len(c.seats)))
		time.Sleep(time.Duration(c.rand.IntN(700)) * time.Millisecond)
	}
	for i := range c.seats {
		c.heal(i)
		if c.seats[i].run == nil && (c.static || i == 0) { // the place of a static member is kept for it
			c.start(i)
		}
	}
	stop()
	c.t.Cleanup(func() {
		if c.t.Failed() {
			c.t.Log(strings.Join(c.events, ", "))
		}
	})
	c.buryTheDead()
	c.awaitTotals()
	for i := range c.seats {
		if m := &c.seats[i]; m.run != nil {
			must(c.t, m.run.stop())
		}
	}
}

// buryTheDead takes out the members of which no process is left: kfake never ends the session of one that died while it
// joined.
func (c *chance) buryTheDead() {
	c.t.Helper()
	a := c.newAdmin(c.protocol)
	eventually(c.t, "only members that live are left", func() error {
		live, dead := map[string]bool{}, 0
		for _, m := range c.seats {
			if m.run != nil {
				m.run.mu.Lock()
				if m.run.group != nil {
					id, _ := m.run.group.GroupMetadata()
					live[id] = true
				}
				m.run.mu.Unlock()
			}
		}
		members, err := a.Members(c.t.Context(), c.o.Group)
		for _, m := range members {
			if !live[m.ID] {
				dead++
				err = errors.Join(err, a.Leave(c.t.Context(), m))
			}
		}
		if err == nil && dead > 0 {
			err = fmt.Errorf("%d dead", dead)
		}
		return err
	})
}

// step lets one thing happen to one member.
func (c *chance) step(i int) {
	m := &c.seats[i]
	switch n := c.rand.IntN(6); {
	case m.run == nil:
		c.start(i)
	case m.cut:
		c.heal(i)
	case n < 2:
		c.note("stop", i)
		must(c.t, m.run.stop())
		m.run = nil
	case n < 4:
		c.note("crash", i)
		m.run.crash(m.wire)
		m.run = nil
	default:
		c.note("cut", i)
		m.run.awaitBegun(c.t) // without brokers none begins
		m.wire.cut()
		m.cut = true
	}
}

// awaitBegun waits until a process has found everything that it needs, and joins its group.
func (r *running) awaitBegun(t *testing.T) {
	t.Helper()
	eventually(t, "it has begun", func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.group == nil {
			return errors.New("it has not")
		}
		return nil
	})
}

func (c *chance) note(what string, i int) { c.events = append(c.events, fmt.Sprint(what, " ", i)) }

func (c *chance) start(i int) {
	c.note("start", i)
	m := &c.seats[i]
	m.wire, m.cut = newWire(), false
	instance := ""
	if c.static {
		instance = fmt.Sprint("member-", i)
	}
	m.run = c.run(m.wire.on(instance, c.protocol))
}

func (c *chance) heal(i int) {
	if m := &c.seats[i]; m.cut {
		c.note("heal", i)
		m.wire.heal()
		m.cut = false
	}
}

// eachProtocol runs a test by both, with a topic of so many partitions.
func eachProtocol(t *testing.T, partitions int32, test func(t *testing.T, l *lab, protocol string)) {
	for _, protocol := range []string{ProtocolClassic, ProtocolConsumer} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			test(t, newLab(t, partitions), protocol)
		})
	}
}

func (l *lab) newAdmin(protocol string) *Admin {
	l.t.Helper()
	o := l.o
	o.GroupProtocol = protocol
	a, err := NewAdmin(l.t.Context(), o)
	must(l.t, err)
	l.t.Cleanup(a.Close)
	return a
}

// A partition that is revoked gets a last checkpoint, one that is lost gets none.
func TestLostIsNotRevoked(t *testing.T) { eachProtocol(t, 2, lostIsNotRevoked) }

func lostIsNotRevoked(t *testing.T, l *lab, protocol string) {
	var revoked atomic.Int32
	r := l.run(newWire().on("", protocol), func(_ *Options, d *Deps) {
		d.Crash = func(step string) {
			if step == "revoked" {
				revoked.Add(1)
			}
		}
	})
	r.awaitSessions(t, 2)
	l.produce(100)
	l.awaitTotals()
	before := r.snapshot()
	a := l.newAdmin(protocol)
	members, err := a.Members(t.Context(), l.o.Group)
	must(t, err)
	if len(members) != 1 || members[0].Protocol != protocol || !slices.Equal(members[0].Owns[l.o.Topic], []int32{0, 1}) {
		t.Fatalf("members are %+v", members)
	}
	must(t, r.confirmMember(t.Context()))
	must(t, a.Leave(t.Context(), members[0]))
	must(t, a.Leave(t.Context(), members[0])) // it has left already
	eventually(t, "the sessions are others", func() error {
		if now := r.snapshot(); len(now) != 2 || now[0] == before[0] || now[1] == before[1] {
			return fmt.Errorf("%d sessions", len(now))
		}
		return nil
	})
	if n := revoked.Load(); n != 0 {
		t.Errorf("%d lost partitions got a last checkpoint", n)
	}
	l.produce(100)
	l.awaitTotals()
	must(t, r.stop())
	if n := revoked.Load(); n != 2 {
		t.Errorf("%d of 2 partitions were given up in order at the stop", n)
	}
}

// A process that was taken out of its group is told so, and not before.
func TestConfirmMember(t *testing.T) { eachProtocol(t, 1, confirmsMember) }

func confirmsMember(t *testing.T, l *lab, protocol string) {
	r := l.run(newWire().on("", protocol))
	r.awaitSessions(t, 1)
	must(t, r.confirmMember(t.Context()))
	member, generation := r.group.GroupMetadata()
	a := l.newAdmin(protocol)
	members, err := a.Members(t.Context(), l.o.Group)
	must(t, err)
	must(t, a.Leave(t.Context(), members[0]))
	ask := r.heartbeat
	if protocol == ProtocolConsumer {
		ask = r.fetchAsMember
	}
	code, err := ask(t.Context(), member, generation)
	must(t, err)
	if err := kerr.ErrorForCode(code); !errors.Is(err, kerr.UnknownMemberID) {
		t.Fatalf("got %v", err)
	}
}

// A static member that is away for less than its session finds its partitions as they were, and so do the others.
func TestStaticMembersKeepTheirPartitions(t *testing.T) {
	eachProtocol(t, 4, func(t *testing.T, l *lab, protocol string) {
		l.refuseNamelessLeave()
		staticMembersKeepTheirPartitions(t, l, protocol)
	})
}

func staticMembersKeepTheirPartitions(t *testing.T, l *lab, protocol string) {
	l.keepPlaces(time.Minute)
	l.o.Client = append(l.o.Client, kgo.SessionTimeout(time.Minute))
	a, b := l.run(newWire().on("a", protocol)), l.run(newWire().on("b", protocol))
	a.awaitSessions(t, 2)
	b.awaitSessions(t, 2)
	of, others := partitionsOf(b), a.snapshot()
	must(t, b.stop())
	l.produce(100)
	b = l.run(newWire().on("b", protocol))
	b.awaitSessions(t, 2)
	l.awaitTotals()
	if got := partitionsOf(b); !slices.Equal(got, of) {
		t.Errorf("the member had partitions %v and has %v", of, got)
	}
	if !slices.Equal(a.snapshot(), others) {
		t.Error("the other member's partitions were touched")
	}
}

// keepPlaces has the brokers keep the place of a static member that has vanished, where they divide the partitions.
func (l *lab) keepPlaces(wait time.Duration) {
	l.t.Helper()
	kind, name, key := kmsg.ConfigResourceTypeGroupConfig, l.o.Group, "consumer.session.timeout.ms"
	if l.cluster != nil { // kfake knows no settings of groups
		kind, name, key = kmsg.ConfigResourceTypeBroker, "", "group.consumer.session.timeout.ms"
	}
	config := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	config.Name, config.Value = key, kmsg.StringPtr(fmt.Sprint(wait.Milliseconds()))
	resource := kmsg.NewIncrementalAlterConfigsRequestResource()
	resource.ResourceType, resource.ResourceName = kind, name
	resource.Configs = append(resource.Configs, config)
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.Resources = append(req.Resources, resource)
	resp, err := req.RequestWith(l.t.Context(), l.producer.cl)
	must(l.t, err)
	must(l.t, kerr.ErrorForCode(resp.Resources[0].ErrorCode))
}

// refuseNamelessLeave does as Kafka 4.1 does, and kfake does not, with a static member that leaves for now without its
// instance id.
func (l *lab) refuseNamelessLeave() {
	l.cluster.ControlKey(kmsg.ConsumerGroupHeartbeat.Int16(), func(r kmsg.Request) (kmsg.Response, error, bool) {
		l.cluster.KeepControl()
		req := r.(*kmsg.ConsumerGroupHeartbeatRequest)
		if req.MemberEpoch != leavesForNow || req.InstanceID != nil {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.ConsumerGroupHeartbeatResponse)
		resp.ErrorCode = kerr.InvalidRequest.Code
		return resp, nil, true
	})
}

func partitionsOf(r *running) (list []int32) {
	for _, s := range r.snapshot() {
		list = append(list, s.partition)
	}
	return list
}

// A killed static member is replaced at once by the classic protocol. By the other, its place is kept until its session
// ends or an operator ends it.
func TestKilledStaticMember(t *testing.T) { eachProtocol(t, 2, killedStaticMember) }

func killedStaticMember(t *testing.T, l *lab, protocol string) {
	l.keepPlaces(time.Minute)
	w := newWire()
	l.run(w.on("a", protocol)).crashAfter(t, 2, w)
	r := l.run(newWire().on("a", protocol))
	if protocol == ProtocolConsumer {
		eventually(t, "it says what holds it up", func() error {
			if err := r.Ready(); err == nil || !strings.Contains(err.Error(), "zyklus admin leave a ends it at once") {
				return fmt.Errorf("got %w", err)
			}
			return nil
		})
		a := l.newAdmin(protocol)
		members, err := a.Members(t.Context(), l.o.Group)
		must(t, err)
		must(t, a.Leave(t.Context(), members[0]))
	}
	r.awaitSessions(t, 2)
	l.produce(100)
	l.awaitTotals()
}

func (r *running) crashAfter(t *testing.T, sessions int, w *wire) {
	t.Helper()
	r.awaitSessions(t, sessions)
	r.crash(w)
}

// By the classic protocol the newer of two processes with one instance id goes on, and the older ends; by the other the
// older goes on, and the newer waits.
func TestTwoWithOneInstanceID(t *testing.T) { eachProtocol(t, 2, twoWithOneInstanceID) }

func twoWithOneInstanceID(t *testing.T, l *lab, protocol string) {
	older := l.run(newWire().on("a", protocol))
	older.awaitSessions(t, 2)
	newer := l.run(newWire().on("a", protocol))
	if protocol == ProtocolClassic {
		newer.awaitSessions(t, 2)
		older.wg.Wait()
		if older.err == nil || !strings.Contains(older.err.Error(), "another process has joined group "+l.o.Group+" with the instance id a: give each its own") {
			t.Fatalf("got %v", older.err)
		}
	} else {
		eventually(t, "the newer one says why it waits", func() error {
			if err := newer.Ready(); err == nil || !strings.Contains(err.Error(), "instance id a is held by another process") {
				return fmt.Errorf("got %w", err)
			}
			return nil
		})
		older.awaitSessions(t, 2)
	}
	l.produce(100)
	l.awaitTotals()
}

// Brokers that do not let members of both protocols mix are waited for, with a reason.
func TestProtocolsDoNotMix(t *testing.T) {
	l := newLab(t, 2)
	classic := l.run(newWire().on("", ProtocolClassic))
	classic.awaitSessions(t, 2)
	r := l.run(newWire().on("", ProtocolConsumer))
	eventually(t, "it says what holds it up", func() error {
		if err := r.Ready(); err == nil || !strings.Contains(err.Error(), "group g has members of another kafka.group_protocol than consumer") {
			return fmt.Errorf("got %w", err)
		}
		return nil
	})
	must(t, classic.stop())
	r.awaitSessions(t, 2)
	l.produce(100)
	l.awaitTotals()
}

func TestProtocolThatIsNotOffered(t *testing.T) {
	const want = "the brokers do not offer the group protocol consumer of group g: set kafka.group_protocol to classic"
	t.Run("old broker", func(t *testing.T) {
		t.Parallel()
		l := newLab(t, 1, kfake.MaxVersions(kversion.V3_8_0()))
		l.refuses(newWire().on("", ProtocolConsumer), want)
	})
	t.Run("switched off", func(t *testing.T) {
		t.Parallel()
		l := newLab(t, 1)
		l.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ConsumerGroupHeartbeat}, Err: kerr.UnsupportedVersion, Count: -1})
		l.refuses(newWire().on("", ProtocolConsumer), want)
	})
	t.Run("not allowed", func(t *testing.T) {
		t.Parallel()
		l := newLab(t, 1)
		l.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ConsumerGroupHeartbeat}, Err: kerr.GroupAuthorizationFailed, Count: -1})
		l.refuses(newWire().on("", ProtocolConsumer), "denies this client a right")
	})
}

// refuses expects a Runner to end by itself, with one line.
func (l *lab) refuses(change func(*Options, *Deps), want string) {
	l.t.Helper()
	r := l.run(change)
	select {
	case <-r.over:
	case <-time.After(30 * time.Second):
		l.t.Fatalf("it runs, wanted %s", want)
	}
	if r.err == nil || !strings.Contains(r.err.Error(), want) || strings.Contains(r.err.Error(), "\n") {
		l.t.Fatalf("got %v, wanted %s", r.err, want)
	}
}

// A process stands still in restore while another takes its partition over and goes on. What it has restored is older than
// what the database holds then, which must not be taken for a changelog that was lost.
func TestZombieInRestore(t *testing.T) {
	l := newLab(t, 1)
	l.produce(100)
	first := l.run()
	l.awaitTotals()
	must(t, first.stop())
	var armed atomic.Bool
	armed.Store(true)
	entered, leave := make(chan struct{}), newGate(t)
	zombie := l.run(func(o *Options, d *Deps) {
		o.ClientID = "zombie"
		d.Crash = func(step string) {
			if step == "restoring" && armed.CompareAndSwap(true, false) {
				close(entered)
				leave.wait()
			}
		}
	})
	<-entered
	group := l.standBetween("zombie")
	group.Store(lying)
	heir := l.run(func(o *Options, _ *Deps) { o.ClientID = "heir" })
	heir.awaitSessions(t, 1)
	l.produce(100)
	l.awaitTotals()
	group.Store(away)
	leave.open()
	eventually(t, "the zombie has seen that it is behind", func() error {
		for _, s := range zombie.snapshot() {
			if p := s.phase.Load(); p != phaseWaiting && p != phaseEnded {
				return fmt.Errorf("it is %s", s.state())
			}
		}
		return nil
	})
	group.Store(there)
	must(t, heir.stop())
	zombie.awaitSessions(t, 1)
	l.produce(100)
	l.awaitTotals()
}

// grow gives a topic more partitions.
func (l *lab) grow(topic string, to int) {
	l.t.Helper()
	_, err := kadm.NewClient(l.producer.cl).UpdatePartitions(l.t.Context(), to, topic)
	must(l.t, err)
}

// endedWith expects a Runner to end by itself, with one line.
func (r *running) endedWith(t *testing.T, want string) {
	t.Helper()
	r.wg.Wait()
	if r.err == nil || !strings.Contains(r.err.Error(), want) || strings.Contains(r.err.Error(), "\n") {
		t.Fatalf("got %v", r.err)
	}
}

// grownKeyed is what is said of a topic of two partitions that is keyed by customer and has now three.
func grownKeyed(topic string) string {
	return "topic " + topic + " has been given more partitions (2, now 3), so customers are no longer where their state is: set key: other for this source, with a new group and a new database"
}

func inputGrowsAtWork(t *testing.T, l *lab) {
	r := l.run()
	r.awaitSessions(t, 2)
	l.grow(l.o.Topic, 3)
	r.endedWith(t, grownKeyed(l.o.Topic))
	l.refuses(func(*Options, *Deps) {}, grownKeyed(l.o.Topic)) // nor does it start again
}

func TestGrowth(t *testing.T) {
	keyed := grownKeyed("events")
	ran := func(t *testing.T) *lab {
		l := newLab(t, 2)
		l.produce(100)
		r := l.run()
		l.awaitTotals()
		must(t, r.stop())
		return l
	}
	for name, run := range map[string]func(t *testing.T){
		"input while running": func(t *testing.T) { inputGrowsAtWork(t, newLab(t, 2)) },
		"input and changelog": func(t *testing.T) {
			l := ran(t)
			l.grow("events", 3)
			l.grow("zyklus-g-changelog", 3)
			l.refuses(func(*Options, *Deps) {}, keyed)
		},
		"changelog alone": func(t *testing.T) {
			l := ran(t)
			l.grow("zyklus-g-changelog", 3)
			l.refuses(func(*Options, *Deps) {}, "events has 2 partitions, its changelog topic zyklus-g-changelog has 3: the one was created anew with fewer, or the other given more; run zyklus admin rebuild")
		},
		"changelog while running": func(t *testing.T) {
			l := newLab(t, 2)
			r := l.run()
			r.awaitSessions(t, 2)
			l.grow("zyklus-g-changelog", 3)
			l.produce(100)
			l.awaitTotals()
			must(t, r.stop())
		},
		"dead letters": func(t *testing.T) {
			l := newLab(t, 2)
			r := l.run()
			r.awaitSessions(t, 2)
			l.grow("zyklus-g-dead-letters", 3)
			l.send("bad-1")
			l.produce(100)
			l.awaitTotals()
			must(t, r.stop())
			l.run()
			l.send("bad-2")
			l.produce(100)
			l.awaitTotals()
			l.project()
			l.awaitLetters(2)
		},
		"re-keyed events": func(t *testing.T) {
			l := newLab(t, 2)
			l.o.Rekeyed, l.o.Group, l.o.Topic = true, "k", "zyklus-k-events"
			must(t, EnsureTopics(t.Context(), l.o, 2))
			r := l.run()
			r.awaitSessions(t, 2)
			l.grow("zyklus-k-events", 3)
			r.endedWith(t, "topic zyklus-k-events has been given more partitions (2, now 3), so customers are no longer where their state is: take a new group with a new database")
		},
		"source that is re-keyed": func(t *testing.T) {
			l := newLab(t, 2)
			stage := func(o *Options, _ *Deps) { o.Stage = "rekey" }
			r := l.run(stage)
			r.awaitSessions(t, 2)
			l.grow("events", 3)
			r.endedWith(t, "topic events has been given more partitions (2, now 3): run zyklus migrate, which lets the re-keying stage know them, and start again")
			o := l.o
			o.Stage = "rekey"
			must(t, EnsureTopics(t.Context(), o, 0))
			r = l.run(stage)
			r.awaitSessions(t, 3)
			l.produce(100)
			l.awaitTotals()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t)
		})
	}
}

// What a rebuild would do with a keyed topic that has grown is wrong, too.
func TestGrownIsNotRebuilt(t *testing.T) {
	l := newLab(t, 2)
	a := l.newAdmin(ProtocolClassic)
	must(t, a.Grown(t.Context()))
	_, err := kadm.NewClient(l.producer.cl).UpdatePartitions(t.Context(), 3, "events")
	must(t, err)
	if err := l.newAdmin(ProtocolClassic).Grown(t.Context()); err == nil || !strings.Contains(err.Error(), "set key: other") {
		t.Fatalf("got %v", err)
	}
	l.refuses(func(*Options, *Deps) {}, "set key: other")
}
