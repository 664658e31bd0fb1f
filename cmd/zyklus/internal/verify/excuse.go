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
	late, ahead, bytes := false, false, 0
	for i := range l.events {
		k := &l.events[i]
		late, ahead, bytes = late || k.late(), ahead || k.ahead, bytes+len(k.bytes)
	}
	o := l.orders()
	crowded := len(l.events) > pipeline.MaxOpen || bytes > mostBytes
	switch {
	case ahead:
		return ofFuture, false
	case (t.s.history.begun || t.s.history.lost) && t.knowsMore():
		return ofStart, false
	case l.repeated():
		return ofIDs, false
	case crowded && (late || !l.inOrder()) || o.orders > mostOrders || o.lines > mostLines || o.bytes > mostBytes || o.foreign > mostForeign:
		return ofSize, false
	case late && !o.certain(v.Job):
		return ofOrders, false
	case late:
		return ofLateness, true
	case len(o.names) > mostNames:
		return ofNames, true
	case len(v.Unread) > 0:
		return ofRules, true
	}
	return "", false
}

// knowsMore reports whether the state has seen what the topic does not hold any more.
func (t *trial) knowsMore() bool {
	if t.state == nil {
		return false
	}
	seen := t.state.Get("first_seen_at")
	if seen.Null || !t.s.history.lost && seen.Int > t.s.history.first+t.s.v.Skew {
		return false // all of the customer's events came later than the first one that there is
	}
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
// changes come, if they come after the order, add up, and neither has left the ledger.
func (o *orderEvents) certain(j *pipeline.Job) bool {
	for _, events := range o.byID {
		if !slices.ContainsFunc(events, func(e orderEvent) bool { return e.at <= e.came }) {
			if !withinLedger(events, j) {
				return false
			}
			continue
		}
		first := events[0]
		for _, e := range events {
			again := e.kind == pipeline.KindOrderCompleted && e.id == first.id
			adds := e.kind == pipeline.KindOrderCancelled || e.kind == pipeline.KindOrderRefunded && !e.lines
			if first.kind != pipeline.KindOrderCompleted || !again && !adds || e.at < first.at || e.currency != first.currency && !e.cancels() {
				return false
			}
		}
		if !withinLedger(events, j) {
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
