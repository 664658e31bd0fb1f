package verify

import (
	"slices"

	"zyklus/operators"
	"zyklus/pipeline"
)

// Reason is why a customer could not be recomputed exactly.
type Reason string

// The reasons.
const (
	inMotion   Reason = "in_motion"         // instances go on, or ClickHouse has not acknowledged yet
	ofRules    Reason = "lifecycle"         // a lifecycle has rules that the oracle cannot read
	ofFuture   Reason = "ahead_of_time"     // an event may have been refused as of the future
	ofStart    Reason = "before_the_topic"  // the topic does not hold all that the state has seen of the customer
	ofIDs      Reason = "id_twice"          // one id names different events
	ofSize     Reason = "too_many"          // more orders, lines or bytes than the state keeps
	ofNames    Reason = "too_many_names"    // more categories than the state keeps apart
	ofLateness Reason = "late"              // events may have come later than allowed
	ofOrders   Reason = "late_order_change" // … and what they did to an order depends on when they came
)

// String explains the reason.
func (r Reason) String() string {
	return map[Reason]string{
		inMotion:   "instances went on meanwhile, or ClickHouse has not acknowledged the last rows",
		ofRules:    "a lifecycle has rules that cannot be recomputed",
		ofFuture:   "events ahead of their records' time: whether they were believed is not known",
		ofStart:    "the topic does not reach back to the customer's beginning, or has lost records since",
		ofIDs:      "one event id names different events",
		ofSize:     "more orders, lines or bytes than the state keeps",
		ofNames:    "more categories than the state keeps apart",
		ofLateness: "events may have come later than allowed",
		ofOrders:   "changes of an order may have come later than allowed",
	}[r]
}

// Bounds of the state, stated once more: the oracle has none.
const (
	mostOrders = 1000
	mostLines  = 99       // with 100 the ledger does not know whether there were more
	mostBytes  = 96 << 10 // of all events; the state bounds several lists of them
	mostNames  = 250
	// mostForeign is an amount that no rate makes more than pipeline.MaxAmount, which is refused.
	mostForeign = pipeline.MaxAmount / 1_000_000
)

// excuse says why the customer may differ though nothing is wrong, and whether totals must agree nevertheless.
func (t *trial) excuse() (r Reason, totals bool) {
	l, v := t.life, t.s.v
	if l == nil {
		l = &life{}
	}
	late, ahead, bytes := 0, 0, 0
	for i := range l.events {
		k := &l.events[i]
		bytes += len(k.bytes)
		if k.ahead {
			ahead++
		} else if k.late() {
			late++
		}
	}
	o := l.orders()
	crowded := (len(l.events) > pipeline.MaxOpen || bytes > mostBytes) && (late+ahead > 0 || !l.inOrder())
	if !crowded && !t.leftOut(late+ahead) {
		late, ahead = 0, 0
	}
	switch {
	case ahead > 0:
		return ofFuture, false
	case t.s.history.lacks() && t.knowsMore():
		return ofStart, false
	case l.repeated():
		return ofIDs, false
	case crowded || o.orders > mostOrders || o.lines > mostLines || o.bytes > mostBytes || o.foreign > mostForeign:
		return ofSize, false
	case late > 0 && !o.certain(v.Job):
		return ofOrders, false
	case late > 0:
		return ofLateness, true
	case len(o.names) > mostNames:
		return ofNames, true
	case len(v.Unread) > 0:
		return ofRules, true
	}
	return "", false
}

// leftOut reports whether the state may have left out some of so many events, because they came late or were not
// believed. It counts those that it has not left out (touches), each once: where it has counted all, none was.
func (t *trial) leftOut(doubtful int) bool {
	if t.s.v.Rekeyed || t.s.history.lacks() && !t.whole() {
		return true // what it has counted may be others
	}
	missing := t.oracle.Touches()
	if t.state != nil {
		missing -= t.state.Get("touches").Int
	}
	return missing > 0 && missing <= int64(doubtful)
}

// lacks reports whether the topic does not hold all that the partition's state has seen.
func (h *history) lacks() bool { return h.begun || h.lost }

// whole reports whether the topic holds all that the state has seen of the customer for certain: all of its events came
// later than the first one that there is.
func (t *trial) whole() bool {
	if t.state == nil {
		return true
	}
	seen := t.state.Get("first_seen_at")
	return seen.Null || !t.s.history.lost && seen.Int > t.s.history.first+t.s.v.Skew
}

// knowsMore reports whether the state has seen what the topic does not hold any more.
func (t *trial) knowsMore() bool {
	if t.whole() {
		return false
	}
	seen := t.state.Get("first_seen_at")
	got := func(column string) int64 { return t.state.Get(column).Int }
	first, touches, orders := pipeline.Never, int64(0), int64(0)
	ids := map[string]bool{}
	if t.life != nil {
		var e pipeline.Event
		for i := range t.life.events {
			first = min(first, t.life.events[i].at)
			touches++
			if pipeline.DecodeEvent(t.life.events[i].bytes, &e) == nil && e.Kind == pipeline.KindOrderCompleted && !ids[string(e.OrderID)] {
				ids[string(e.OrderID)] = true
				orders++
			}
		}
	}
	return seen.Int < first || got("touches") > touches || got("orders") > orders || t.changesUnknown(ids)
}

// changesUnknown reports whether events change orders that the topic does not hold.
func (t *trial) changesUnknown(orders map[string]bool) bool {
	var e pipeline.Event
	return t.life != nil && slices.ContainsFunc(t.life.events, func(k kept) bool {
		return pipeline.DecodeEvent(k.bytes, &e) == nil && e.Kind > pipeline.KindOrderCompleted && !orders[string(e.OrderID)]
	})
}

// inOrder reports whether the events came in the order in which they happened.
func (l *life) inOrder() bool {
	return slices.IsSortedFunc(l.events, func(a, b kept) int { return int(min(max(a.at-b.at, -1), 1)) })
}

// orderEvents are a customer's events of orders, by order.
type orderEvents struct {
	orders, lines, bytes int
	foreign              int64 // greatest amount in another currency, minor units
	names                map[string]bool
	byID                 map[string][]orderEvent
}

type orderEvent struct {
	kind     pipeline.Kind
	id       uint64
	at       int64
	came     int64 // as kept.settled
	currency [3]byte
	lines    bool
}

func (l *life) orders() orderEvents {
	o := orderEvents{names: map[string]bool{}, byID: map[string][]orderEvent{}}
	var e pipeline.Event
	for i := range l.events {
		k := &l.events[i]
		if pipeline.DecodeEvent(k.bytes, &e) != nil || !e.Kind.Order() {
			continue
		}
		id := string(e.OrderID)
		o.byID[id] = append(o.byID[id], orderEvent{e.Kind, e.ID, e.At, k.settled, e.Currency, len(e.Lines) > 0})
		o.bytes += len(k.bytes)
		o.lines = max(o.lines, len(e.Lines))
		if e.Foreign() {
			o.foreign = max(o.foreign, e.Amount)
		}
		if e.Kind == pipeline.KindOrderCompleted {
			o.orders++
		}
		for n := range e.Lines {
			o.names[string(e.Lines[n].Category)] = true
		}
	}
	return o
}

// certain reports whether totals are certain though events came late: the state does the same with an order whenever its
// changes come, if they come in turn, or after the order and add up, and neither has left the ledger.
func (o *orderEvents) certain(j *pipeline.Job) bool {
	for _, events := range o.byID {
		late := slices.ContainsFunc(events, func(e orderEvent) bool { return e.at <= e.came })
		if late && !inTurn(events) && !addUp(events) || !withinLedger(events, j) {
			return false
		}
	}
	return true
}

// inTurn reports whether the order and its changes came as they happened, updates at instants of their own. What comes a
// second time changes nothing.
func inTurn(events []orderEvent) bool {
	last, content := events[0], events[0].at
	seen := map[uint64]bool{last.id: true}
	for _, e := range events[1:] {
		if seen[e.id] {
			continue
		}
		seen[e.id] = true
		updated := e.kind == pipeline.KindOrderUpdated
		if e.at < last.at || e.at == last.at && e.kind <= last.kind || updated && e.at <= content {
			return false
		}
		if last = e; updated {
			content = e.at
		}
	}
	return events[0].kind == pipeline.KindOrderCompleted
}

// addUp reports whether the changes came after the order and are such that it does not matter which was first.
func addUp(events []orderEvent) bool {
	first := events[0]
	for _, e := range events {
		again := e.kind == pipeline.KindOrderCompleted && e.id == first.id
		adds := e.kind == pipeline.KindOrderCancelled || e.kind == pipeline.KindOrderRefunded && !e.lines
		if first.kind != pipeline.KindOrderCompleted || !again && !adds || e.at < first.at || e.currency != first.currency && !e.cancels() {
			return false
		}
	}
	return true
}

func (e *orderEvent) cancels() bool { return e.kind == pipeline.KindOrderCancelled }

// withinLedger reports whether the order was in the ledger whenever one of its events came.
func withinLedger(events []orderEvent, j *pipeline.Job) bool {
	if len(events) == 1 && events[0].at > events[0].came {
		return true
	}
	first, last := events[0].at, events[0].at
	for _, e := range events {
		first, last = min(first, e.at), max(last, e.at)
		if e.came != pipeline.Never {
			last = max(last, e.came+j.Lateness)
		}
	}
	return last-first < (operators.HorizonDays-2)*pipeline.DayMillis
}
