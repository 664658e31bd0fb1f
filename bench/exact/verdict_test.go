package exact

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime/pprof"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"zyklus/pipeline"
	"zyklus/pipeline/kafka"
)

// finish lets time go on until nothing waits for its order any more.
func (w *world) finish() (err error) {
	at := w.history.Final()
	for now := w.history.End; w.guard != nil && now < at; { // a source that is silent holds it
		if now, err = w.guard.live(w, now); err != nil {
			return err
		}
		if err := wait(w.ctx, 2*time.Second); err != nil {
			return err
		}
		at = max(at, now)
	}
	if err := w.beat(at); err != nil {
		return err
	}
	_, err = w.await(at)
	return err
}

// await waits until everything up to an instant is written. Where a source must be heard for time to go on, it may be
// heard once more: then the instant is a later one.
func (w *world) await(at int64) (int64, error) {
	began, heard := time.Now(), time.Now()
	for end := began.Add(patience); ; {
		behind, reached := w.behind(at)
		if behind == 0 {
			return at, nil
		}
		if err := w.living(); err != nil {
			return at, err
		}
		if len(w.alive()) == 0 {
			w.join()
		}
		if long := time.Since(began); long > time.Minute {
			if err := w.evict(long > 3*time.Minute); err != nil {
				return at, err
			}
		}
		if w.guard != nil && time.Since(heard) > 15*time.Second {
			var err error
			if at, err = w.guard.live(w, at); err != nil {
				return at, err
			}
			heard = time.Now()
		}
		if time.Now().After(end) {
			for _, g := range w.groups() {
				w.tell("group: %+v", w.cluster.GroupInfo(g))
			}
			if os.Getenv("ZYKLUS_STACKS") != "" {
				_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 2)
			}
			return at, fmt.Errorf("%v later, %d of %d partitions are not written up to %d: %v", patience, behind, w.partitions, at, reached)
		}
		if err := wait(w.ctx, 100*time.Millisecond); err != nil {
			return at, err
		}
	}
}

// behind counts the partitions that are not written up to an instant. What the re-keying stage writes is all before the
// marker that moves time there.
func (w *world) behind(at int64) (n int, reached map[int64]place) {
	reached = w.db.reached()
	for p := range w.partitions {
		if r := reached[int64(p)]; r.clock < at || !w.rekeyed && r.position < w.sent[p].Load() {
			n++
		}
	}
	return n, reached
}

// assigned counts the partitions that members of the group have.
func (w *world) assigned(info *kfake.GroupInfo) (n int) {
	for _, m := range info.Members {
		n += len(m.Assignment[w.options.Topic])
	}
	return n
}

// evict removes members that were killed, longer ago than any session, or all of them if their joins wait for each other.
// kfake (of 2026-09-18) forgets to end the session of one that dies before it has the answer to a join, and the joins of
// members that were frozen can wait for ever. By KIP-848 it keeps the partitions of a static one that has left for ever, and
// does not give a static one that comes back what others have left meanwhile.
func (w *world) evict(all bool) error {
	admin, err := kafka.NewAdmin(w.ctx, w.outside(w.options))
	if err != nil {
		return fmt.Errorf("evict: %w", err)
	}
	defer admin.Close()
	for _, group := range w.groups() {
		info := w.cluster.GroupInfo(group)
		stuck := all && info != nil && (!w.consumer && info.State == "PreparingRebalance" || group == "g" && w.assigned(info) < w.partitions)
		members, err := admin.Members(w.ctx, group)
		if err != nil {
			return fmt.Errorf("evict: %w", err)
		}
		for _, m := range members {
			if !stuck && !w.departed(strings.TrimSuffix(m.Client, "-group")) {
				continue
			}
			w.tell("evict %s from %s", m.Client, group)
			if err := admin.Leave(w.ctx, m); err != nil {
				return fmt.Errorf("evict: %w", err)
			}
		}
	}
	return nil
}

// departed reports whether nobody of a name is there any more.
func (w *world) departed(name string) bool {
	for _, m := range w.members {
		if m.name == name && !m.dead() && !m.gone() {
			return false
		}
	}
	return true
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
	return w.history.Compare(w.db.store)
}

// compareLetters reads the dead letters: each refused record is there once.
func (w *world) compareLetters() error {
	got, err := w.read("zyklus-g-dead-letters")
	if err != nil {
		return err
	}
	bad, seen, late := 0, map[string]bool{}, map[uint64]bool{}
	for _, e := range w.history.Events {
		late[e.ID] = !w.history.Punctual(string(e.Customer))
	}
	var raws []string
	for _, r := range got {
		origin := ""
		for _, h := range r.Headers {
			if h.Key == "topic" || h.Key == "partition" || h.Key == "offset" {
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
		if !late[e.ID] {
			raws = append(raws, fmt.Sprintf("raw %x", e.ID))
		}
	}
	want := append(w.history.DeadLetters(), w.refused...)
	slices.Sort(raws)
	slices.Sort(want)
	if raws, want = slices.Compact(raws), slices.Compact(want); !slices.Equal(raws, want) {
		return fmt.Errorf("dead letters are %q, want %q", raws, want)
	}
	if bad != w.bad {
		return fmt.Errorf("%d dead letters of %d bad records", bad, w.bad)
	}
	return nil
}

// read reads what is committed of a topic.
func (w *world) read(topic string) (all []*kgo.Record, err error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.options.Brokers...), kgo.Dialer(newCable(&w.network).dial),
		kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
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
