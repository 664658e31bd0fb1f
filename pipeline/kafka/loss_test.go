package kafka

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"zyklus/pipeline"
)

// TestLosses: what is found, and where reading goes on. What is the same topic is never read twice, and nothing is taken
// for granted of one that may not be.
func TestLosses(t *testing.T) {
	one, two := pipeline.TopicID{1}, pipeline.TopicID{2}
	for name, c := range map[string]struct {
		at   pipeline.Place
		have extent
		kind LossKind
		next string // by --from "", start, end, position
	}{
		"all is there":                {pipeline.Place{Topic: one, Position: 10}, extent{one, 10, 10}, "", ""},
		"nothing read yet":            {pipeline.Place{Topic: one, Position: -1}, extent{two, 90, 99}, "", ""},
		"of a broker without ids":     {pipeline.Place{Topic: one, Position: 10}, extent{end: 10}, "", ""},
		"of an older state":           {pipeline.Place{Position: 10}, extent{one, 3, 20}, "", ""},
		"deleted":                     {pipeline.Place{Topic: one, Position: 10}, extent{one, 15, 20}, LossDeleted, "15 15 15 15"},
		"deleted, of an older state":  {pipeline.Place{Position: 10}, extent{one, 15, 20}, LossDeleted, "15 15 15 15"},
		"cut":                         {pipeline.Place{Topic: one, Position: 10}, extent{one, 2, 9}, LossCut, "9 9 9 9"},
		"cut or anew":                 {pipeline.Place{Position: 10}, extent{one, 0, 9}, LossUnclear, "? 0 9 ?"},
		"anew":                        {pipeline.Place{Topic: one, Position: 10}, extent{two, 0, 3}, LossAnew, "0 0 3 ?"},
		"anew, with as many records":  {pipeline.Place{Topic: one, Position: 10}, extent{two, 0, 10}, LossAnew, "0 0 10 10"},
		"anew, with more, of a later": {pipeline.Place{Topic: one, Position: 10}, extent{two, 12, 30}, LossAnew, "12 12 30 ?"},
	} {
		l, lost := lossOf(3, c.at, c.have)
		if lost != (c.kind != "") || l.Kind != c.kind {
			t.Errorf("%s: found %v %q", name, lost, l.Kind)
			continue
		}
		var next []string
		for _, from := range []From{"", FromStart, FromEnd, FromPosition} {
			if at, err := l.Next(from); err != nil {
				next = append(next, "?")
			} else {
				next = append(next, fmt.Sprint(at))
			}
		}
		if got := strings.Join(next, " "); lost && got != c.next {
			t.Errorf("%s: goes on at %s, not %s", name, got, c.next)
		}
	}
}

// lossCase is a topic that cannot be read on from where the state stands.
type lossCase struct {
	lose    func(l *realLab, unread []happening) (kept []happening)
	kind    LossKind
	from    From
	letters int
}

// recreate deletes the topic and creates it again.
func (l *realLab) recreate() {
	must(l.t, l.cluster.DeleteTopic(l.o.Topic))
	must(l.t, l.cluster.CreateTopic(l.o.Topic, l.parts, nil))
	l.reopen()
}

// end returns the offset after a partition's last record.
func (l *realLab) end(partition int32) int64 {
	return l.cluster.PartitionInfo(l.o.Topic, partition).HighWatermark
}

// TestAcceptLoss: a topic that cannot be read on from where the state stands is refused with the command's name; then the
// loss is accepted, once, and the rows are those of a topic that never held what was lost.
func TestAcceptLoss(t *testing.T) {
	for name, c := range map[string]lossCase{
		"deleted": {func(l *realLab, unread []happening) []happening {
			half := len(unread) / 2
			l.happen(unread[:half]...)
			for p := range l.parts {
				must(l.t, l.cluster.DeleteRecords(l.o.Topic, p, l.end(p)))
			}
			return unread[half:]
		}, LossDeleted, "", 2},
		"anew": {func(l *realLab, unread []happening) []happening {
			l.recreate()
			return unread
		}, LossAnew, "", 2},
		"anew with as many records": {func(l *realLab, unread []happening) []happening {
			ends := []int64{l.end(0), l.end(1)}
			l.recreate()
			n := 0
			for ; l.end(0) < ends[0] || l.end(1) < ends[1]; n++ {
				l.happen(unread[n])
			}
			return unread[n:]
		}, LossAnew, "", 2},
		"a copy": {func(l *realLab, unread []happening) []happening {
			var copies []*kgo.Record
			for _, r := range l.records() {
				copies = append(copies, &kgo.Record{Topic: l.o.Topic, Partition: r.Partition, Key: r.Key, Value: r.Value})
			}
			l.recreate()
			must(l.t, l.out.ProduceSync(l.t.Context(), copies...).FirstErr())
			return unread
		}, LossAnew, FromPosition, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			acceptLoss(t, c)
		})
	}
}

func acceptLoss(t *testing.T, c lossCase) {
	l, clean := newRealLab(t, 2), newRealLab(t, 2)
	events := history(7, 60)
	read, unread := events[:len(events)/3], events[len(events)/3:]
	r := l.start()
	l.happen(read...)
	l.await(l.now.Load(), l.now.Load())
	must(t, r.stop())
	before := l.rows.dump("customers")
	left := c.lose(l, unread)

	refused := l.start()
	refused.wg.Wait()
	if refused.err == nil || !strings.Contains(refused.err.Error(), "zyklus admin accept-loss") {
		t.Fatalf("got %v", refused.err)
	}
	losses := l.accept(c, len(unread)-len(left))
	if !slices.Equal(before, l.rows.dump("customers")) {
		t.Error("rows have changed before the new start")
	}
	a := adminOf(t, l.lab)
	if err := a.AcceptLosses(t.Context(), losses, c.from, func(string) {}); err == nil && c.from == "" || err != nil && !strings.Contains(err.Error(), "the state has moved") {
		t.Errorf("the same losses accepted twice: %v", err)
	}

	l.start()
	l.happen(left...)
	kept := unread
	if c.kind == LossDeleted {
		kept = left
	}
	clean.start()
	clean.happen(read...)
	clean.await(clean.now.Load(), clean.now.Load()) // time has come there before what follows, as in the other run
	clean.happen(kept...)
	end := events[len(events)-1].at + 400*day
	l.await(end, end)
	clean.await(end, end)
	sameRows(t, clean, l, "customers", "orders", "phase_transitions")
	l.checkLetters(c, losses)
}

// accept accepts the losses of the lab, with a zombie that still has a transaction.
func (l *realLab) accept(c lossCase, lost int) []Loss {
	t := l.t
	t.Helper()
	a := adminOf(t, l.lab)
	places, err := a.Places(t.Context())
	must(t, err)
	losses, err := a.Losses(t.Context(), places)
	must(t, err)
	if len(losses) != int(l.parts) {
		t.Fatalf("found %+v", losses)
	}
	sum := int64(0)
	for i := range losses {
		if losses[i].Kind != c.kind || losses[i].Clock != places[losses[i].Partition].Clock {
			t.Errorf("%+v of %+v", losses[i], places)
		}
		sum += losses[i].Records()
	}
	if c.kind == LossDeleted && sum != int64(lost) {
		t.Errorf("%d records lost, not %d", sum, lost)
	}
	o := l.o.WithDefaults()
	zombie, err := openTransactions(t.Context(), &o, 0, &Deps{Log: l.log()})
	must(t, err)
	defer zombie.close()
	done := 0
	must(t, a.AcceptLosses(t.Context(), losses, c.from, func(string) { done++ }))
	if done != len(losses) {
		t.Errorf("%d of %d are done", done, len(losses))
	}
	if err := zombie.commit(t.Context(), &pipeline.Checkpoint{Changes: changes(l.job, 9, "zoe")}); err == nil || !fenced(err) {
		t.Errorf("a former owner still writes: %v", err)
	}
	after, err := a.Places(t.Context())
	must(t, err)
	own, err := a.ownRecords(t.Context(), nil)
	must(t, err)
	for p, was := range places {
		if own[p].frame.partitions != int(l.parts) {
			t.Errorf("partition %d: built with %d partitions, not %d", p, own[p].frame.partitions, l.parts)
		}
		if now := after[p]; now.Version != was.Version+1 || now.Clock != was.Clock {
			t.Errorf("partition %d: %+v became %+v", p, was, now)
		}
	}
	if left, err := a.Losses(t.Context(), after); err != nil || len(left) > 0 {
		t.Errorf("still lost: %+v (%v)", left, err)
	}
	return losses
}

// checkLetters holds the traces to what was lost.
func (l *realLab) checkLetters(c lossCase, losses []Loss) {
	t := l.t
	t.Helper()
	l.project()
	l.awaitLetters(c.letters)
	l.sink.set(func() {
		for _, loss := range losses[:c.letters] {
			want := fmt.Sprintf("events/%d/-", loss.Partition) // at no offset that a record can have
			if !slices.ContainsFunc(keysOf(l.sink.letters), func(k string) bool {
				return strings.HasPrefix(k, want) && strings.Contains(k, " records_lost: accepted: the partition")
			}) {
				t.Errorf("there is no %q in %q", want, keysOf(l.sink.letters))
			}
		}
	})
}

func keysOf(m map[string]int) (keys []string) {
	for k := range m {
		keys = append(keys, k)
	}
	return keys
}

// records returns what the topic holds.
func (l *realLab) records() (list []*kgo.Record) {
	l.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(l.o.Brokers...), kgo.ConsumeTopics(l.o.Topic), kgo.FetchMaxWait(50*time.Millisecond))
	must(l.t, err)
	defer cl.Close()
	total := 0
	for p := range l.parts {
		total += int(l.end(p))
	}
	for len(list) < total {
		fs := cl.PollFetches(l.t.Context())
		must(l.t, fs.Err())
		list = append(list, fs.Records()...)
	}
	slices.SortStableFunc(list, func(a, b *kgo.Record) int { return int(a.Offset - b.Offset) })
	return list
}

// TestAcceptLossOfTheEnd: a state ahead of its topic goes on at the end, so that nothing is read twice.
func TestAcceptLossOfTheEnd(t *testing.T) {
	l := newRealLab(t, 1)
	r := l.start()
	events := history(3, 10)
	l.happen(events...)
	l.await(l.now.Load(), l.now.Load())
	must(t, r.stop())
	before := l.rows.dump("customers")
	// As after an election of a replica that had less: the state has seen five records more.
	a := adminOf(t, l.lab)
	records, err := a.ownRecords(t.Context(), nil)
	must(t, err)
	at, err := pipeline.ReadPlace(records[0].value)
	must(t, err)
	ahead, err := pipeline.MovePlace(records[0].value, at.Topic, at.Position+5)
	must(t, err)
	o := l.o.WithDefaults()
	txn, err := openTransactions(t.Context(), &o, 0, &Deps{Log: l.log()})
	must(t, err)
	must(t, txn.commit(t.Context(), &pipeline.Checkpoint{Changes: []pipeline.Change{ahead}}))
	txn.close()

	r = l.start()
	r.wg.Wait()
	if r.err == nil || !strings.Contains(r.err.Error(), "lost its last records: ") || !strings.Contains(r.err.Error(), "accept-loss") {
		t.Fatalf("got %v", r.err)
	}
	places, err := a.Places(t.Context())
	must(t, err)
	losses, err := a.Losses(t.Context(), places)
	must(t, err)
	must(t, a.AcceptLosses(t.Context(), losses, FromStart, func(string) {})) // whatever is asked for
	l.start()
	l.await(l.now.Load()+minute, l.now.Load())
	if got := l.rows.dump("customers"); !slices.Equal(before, got) {
		t.Errorf("rows have changed: %q, were %q", got, before)
	}
	l.happen(orderOf("new", "n1", l.now.Load(), 100))
	l.await(l.now.Load()+minute, l.now.Load()+minute)
	if got := len(l.rows.dump("customers")); got != len(before)+1 {
		t.Errorf("%d customers after %d and a new one", got, len(before))
	}
	l.checkLetters(lossCase{letters: 1}, losses)
}
