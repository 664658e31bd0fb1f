package exact

import (
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// mishap is one thing that may go wrong. It returns what it did, "" for nothing.
type mishap func(w *world) string

// mishaps are drawn from with equal chance.
var mishaps = map[string]mishap{
	"join": (*world).join, "leave": (*world).leave, "kill": (*world).kill, "kill at a step": (*world).killAtStep,
	"kill at a step 2": (*world).killAtStep, "freeze": (*world).freeze, "freeze at a step": (*world).freezeAtStep, "move leaders": (*world).moveLeaders,
	"lose a broker": (*world).loseBroker, "fault": (*world).fault, "database away": (*world).databaseAway,
	"lagging replica": (*world).lag, "compact": (*world).compact, "admin leave": (*world).adminLeave, "lose an answer": (*world).loseAnswer,
}

// suffer does to the world what its chance will have.
func (w *world) suffer() {
	kinds := sortedKeys(mishaps)
	for range w.dice(12) {
		if wait(w.ctx, w.upTo(4*time.Second)) != nil {
			return
		}
		kind := kinds[w.dice(len(kinds))]
		w.befall(kind, mishaps[kind])
	}
}

// befall lets one thing go wrong.
func (w *world) befall(kind string, do mishap) {
	w.peace <- struct{}{}
	defer func() { <-w.peace }()
	if did := do(w); did != "" {
		w.tell("MISHAP %s", did)
		w.hit(kind)
	}
	if len(w.alive()) == 0 && w.dice(2) == 0 {
		w.join()
	}
}

// heal ends what goes wrong and makes sure that somebody works.
func (w *world) heal() {
	w.db.come()
	for _, f := range w.faults {
		f.Remove()
	}
	for _, back := range w.brokers {
		back()
	}
	w.brokers = nil
	for _, m := range w.members {
		m.arm("", 0, nil)
	}
	if len(w.alive()) == 0 {
		w.join()
	}
	w.tell("all is well again")
}

// upTo returns a duration, of which short ones are as likely as long ones.
func (w *world) upTo(most time.Duration) time.Duration {
	d := most >> w.dice(10)
	return time.Duration(w.dice(int(d/time.Millisecond)+1)) * time.Millisecond
}

// alive returns the members that have not ended.
func (w *world) alive() (list []*member) {
	for _, m := range w.members {
		if !m.gone() && !m.dead() && !m.leaving {
			list = append(list, m)
		}
	}
	return list
}

// any returns a member that is alive, nil if there is none.
func (w *world) any() *member {
	list := w.alive()
	if len(list) == 0 {
		return nil
	}
	return list[w.dice(len(list))]
}

// first starts a member, unless there is one.
func (w *world) first() string {
	if len(w.members) > 0 {
		return ""
	}
	return w.join()
}

// join starts a member: a new one, or one with the name of one that is gone.
func (w *world) join() string {
	if len(w.alive()) >= 3 {
		return ""
	}
	name, static := fmt.Sprintf("m%d", len(w.members)), w.static()
	for _, m := range w.members {
		if m.static && (m.dead() || m.gone()) && w.dice(3) > 0 {
			name, static = m.name, true
		}
	}
	for _, m := range w.alive() {
		if m.name == name {
			return ""
		}
	}
	w.members = append(w.members, w.start(name, static))
	return fmt.Sprintf("%s joins, static %v", name, static)
}

// static says whether a new member has an instance id.
func (w *world) static() bool { return w.dice(2) == 0 }

// leave stops a member in order.
func (w *world) leave() string {
	m := w.any()
	if m == nil {
		return ""
	}
	m.leaving = true
	m.cancel()
	return m.name + " leaves"
}

// adminLeave has those leave their groups who are gone.
func (w *world) adminLeave() string {
	if err := w.evict(false); err != nil {
		return err.Error()
	}
	return "whoever is gone leaves the group"
}

func (w *world) kill() string {
	m := w.any()
	if m == nil {
		return ""
	}
	m.kill()
	return "kill " + m.name
}

// killAtStep kills a member at a step that it may come to. For a restore there must be one.
func (w *world) killAtStep() string {
	m := w.any()
	if m == nil {
		return ""
	}
	step, n := steps[w.dice(len(steps))], w.dice(5)
	if step == "restoring" && len(w.alive()) < 3 {
		if w.join() != "" {
			m = w.members[len(w.members)-1]
		}
	}
	m.arm(step, n, m.kill)
	return fmt.Sprintf("kill %s at %s, after %d times", m.name, step, n)
}

// freeze stops a member for up to two minutes: longer than its session, and than its transactions.
func (w *world) freeze() string {
	m := w.any()
	if m == nil {
		return ""
	}
	d := w.upTo(2 * time.Minute)
	m.freeze(d)
	w.count(func(t *tally) { t.outages++ })
	if m.static && w.dice(3) == 0 {
		w.members = append(w.members, w.start(m.name, true))
		return fmt.Sprintf("freeze %s for %v and start another of its name", m.name, d)
	}
	return fmt.Sprintf("freeze %s for %v", m.name, d)
}

// freezeAtStep stops a member in the middle of a checkpoint, until about the moment at which somebody else takes over: what
// it has begun then reaches the brokers while the heir restores, or soon after.
func (w *world) freezeAtStep() string {
	m := w.any()
	if m == nil {
		return ""
	}
	step, d := []string{"encoded", "produced", "committed"}[w.dice(3)], 9*time.Second+time.Duration(w.dice(5000))*time.Millisecond
	if len(w.alive()) < 2 {
		w.join()
	}
	m.arm(step, w.dice(5), func() {
		w.count(func(t *tally) { t.outages++ })
		m.freeze(d)
	})
	return fmt.Sprintf("freeze %s at %s for %v", m.name, step, d)
}

func (w *world) moveLeaders() string {
	w.count(func(t *tally) { t.outages++ })
	if w.dice(2) == 0 {
		w.cluster.ShufflePartitionLeaders()
		return "leaders move"
	}
	w.cluster.RehashCoordinators()
	return "coordinators move"
}

// loseBroker takes one of three brokers away for a while.
func (w *world) loseBroker() string {
	if len(w.brokers) > 0 {
		return ""
	}
	node := int32(w.dice(3))
	if err := w.cluster.RemoveNode(node); err != nil {
		return "remove broker: " + err.Error()
	}
	w.network.end(fmt.Sprintf("localhost:%d", 9092+int(node)))
	w.count(func(t *tally) { t.outages++ })
	back := func() { _, _, _ = w.cluster.AddNode(node, 9092+int(node)) }
	w.brokers = append(w.brokers, back)
	return fmt.Sprintf("broker %d is lost", node)
}

// fault lets a few requests fail, of the kind that members make.
func (w *world) fault() string {
	keys := []kmsg.Key{
		kmsg.Produce, kmsg.Fetch, kmsg.ListOffsets, kmsg.EndTxn, kmsg.InitProducerID, kmsg.FindCoordinator, kmsg.Heartbeat,
		kmsg.JoinGroup, kmsg.SyncGroup, kmsg.OffsetCommit, kmsg.AddPartitionsToTxn, kmsg.OffsetFetch,
	}
	errs := []*kerr.Error{
		kerr.UnknownServerError, kerr.NotLeaderForPartition, kerr.NotCoordinator, kerr.CoordinatorLoadInProgress,
		kerr.CoordinatorNotAvailable, kerr.RequestTimedOut, kerr.NotEnoughReplicasAfterAppend, kerr.NotEnoughReplicas,
		kerr.ProducerFenced, kerr.InvalidProducerEpoch, kerr.InvalidTxnState, kerr.ConcurrentTransactions,
		kerr.RebalanceInProgress, kerr.UnknownMemberID, kerr.IllegalGeneration, kerr.LeaderNotAvailable,
	}
	key, e, n := keys[w.dice(len(keys))], errs[w.dice(len(errs))], 1+w.dice(5)
	o, f := w.stage(), kfake.Fault{Keys: []kmsg.Key{key}, Err: e, Count: n}
	switch key {
	case kmsg.Produce: // but not what the world itself produces
		f.Topic = o.ChangelogTopic
	case kmsg.Fetch, kmsg.ListOffsets:
		f.Topic = o.Topic
	case kmsg.EndTxn, kmsg.InitProducerID, kmsg.AddPartitionsToTxn:
		f.TxnID = fmt.Sprintf("%s/%s/%d", o.Group, o.Topic, w.dice(w.partitions))
	case kmsg.FindCoordinator, kmsg.Heartbeat, kmsg.JoinGroup, kmsg.SyncGroup, kmsg.OffsetCommit, kmsg.OffsetFetch:
		f.Group = o.Group
	}
	w.faults = append(w.faults, w.cluster.Fault(f))
	w.count(func(t *tally) { t.outages++ })
	return fmt.Sprintf("%d times %v fails: %s", n, key, strings.SplitN(e.Message, ":", 2)[0])
}

// lostAnswers are those that may be. (kfake of 2026-09-18 does not survive a connection that ends before the answer to a
// join.)
var lostAnswers = []kmsg.Key{kmsg.Produce, kmsg.EndTxn, kmsg.InitProducerID, kmsg.OffsetCommit, kmsg.Fetch}

// loseAnswer lets a member not learn what became of one of its requests.
func (w *world) loseAnswer() string {
	m := w.any()
	if m == nil {
		return ""
	}
	kind, n := lostAnswers[w.dice(len(lostAnswers))], w.dice(5)
	m.cable.lose(kind, n, func() { w.hit("the answer to " + kind.Name() + " is lost") })
	w.count(func(t *tally) { t.outages++ })
	return fmt.Sprintf("%s loses the answer to %s, after %d", m.name, kind.Name(), n)
}

// databaseAway takes the database away for up to ten minutes.
func (w *world) databaseAway() string {
	d := w.upTo(10 * time.Minute)
	w.db.leave()
	w.ghosts.Go(func() {
		_ = wait(w.ctx, d)
		w.db.come()
	})
	w.count(func(t *tally) { t.outages++ })
	return fmt.Sprintf("the database is away for %v", d)
}

func (w *world) lag() string {
	w.db.mu.Lock()
	defer w.db.mu.Unlock()
	w.db.stale = w.dice(4)
	return "a replica lags"
}

func (w *world) compact() string {
	w.cluster.Compact()
	return "topics are compacted"
}
