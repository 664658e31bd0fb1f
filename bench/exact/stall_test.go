package exact

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"zyklus/bench/oracle"
	"zyklus/pipeline"
	"zyklus/pipeline/kafka"
)

// guard is a required source that falls silent.
type guard struct {
	family string // whose silence counts; "" for all
	limit  int64  // milliseconds
	settle int64  // milliseconds
	stalls []stall

	watched []delivery   // what the family has sent
	latest  atomic.Int64 // event time
	heard   atomic.Int64 // latest before what moves no time yet
	quiet   atomic.Int64 // until then what comes moves no time
}

// stall is a time in which a source, or a family of its events, brings nothing. A judged one is over once all members have
// found it, and what was held back comes in any order. Any other one may pass while no member is there: then nothing else
// comes either, and what was held back comes at once, as it would have.
type stall struct {
	from, till int64 // Unix milliseconds
	judged     bool
	begun      bool
}

// newGuard draws one, and has the history long and lively enough for it.
func newGuard(w *world) *guard {
	h := w.history
	span := max(h.End-w.begin, 8*h.Lateness.Milliseconds(), 8*time.Hour.Milliseconds())
	g := &guard{limit: span / 8}
	g.settle = 1 + w.draw(g.limit)
	h.End = w.begin + span + g.settle
	if w.dice(3) == 0 {
		g.family = pipeline.FamilyWeb
	}
	for at := w.begin; ; at = min(at+g.limit*int64(2+w.dice(7))/10, h.End) {
		g.pulse(w, at)
		if at == h.End {
			break
		}
	}
	for at := w.begin + 2*g.limit + w.draw(2*g.limit); at < h.End-3*g.limit && len(g.stalls) < 2; at += g.limit + w.draw(2*g.limit) {
		s := stall{from: at, till: min(at+g.limit/2+w.draw(5*g.limit/2), h.End-g.limit/4-g.settle), judged: w.dice(2) == 0}
		g.stalls = append(g.stalls, s)
		at = s.till
	}
	return g
}

// pulse adds a sign of life to the history.
func (g *guard) pulse(w *world, at int64) *pipeline.Event {
	e := pipeline.Event{Kind: pipeline.KindPageViewed, At: at, ID: uint64(w.draw(1 << 62)), Customer: fmt.Appendf(nil, "p%d", w.dice(8))}
	e.Raw = fmt.Appendf(nil, "raw %x", e.ID)
	w.history.Events = append(w.history.Events, oracle.HistoryEvent{Event: e, Delays: []int64{0}})
	return &e
}

// watches reports whether the event is one whose silence counts.
func (g *guard) watches(e *pipeline.Event) bool {
	return e.Kind != pipeline.KindHeartbeat && (g.family == "" || g.family == e.Kind.Family())
}

// withhold plans what stalls hold back. Everything comes a moment later than it could, so that members believe event times.
func (g *guard) withhold(w *world) {
	for i := range w.deliveries {
		w.deliveries[i].at++
	}
	for i := range g.stalls {
		s := &g.stalls[i]
		if s.judged = s.judged && g.last(w, s.from)+g.limit < s.till-1; !s.judged { // it is too short, or has begun early
			w.tell("stall from %d to %d of %q", s.from, s.till, g.family)
		} else {
			w.tell("stall from %d to %d of %q, settles until %d", s.from, s.till, g.family, s.till+g.settle)
		}
		for i := range w.deliveries {
			d := &w.deliveries[i]
			if d.at < s.from || d.at >= s.till || s.judged && !g.watches(d.event) {
				continue
			}
			if d.at = s.till; s.judged {
				d.at += w.draw(g.settle)
			}
		}
		w.sortDeliveries()
	}
}

// last is the latest event time of what comes before an instant.
func (g *guard) last(w *world, before int64) (last int64) {
	for _, d := range w.deliveries {
		if d.at < before && g.watches(d.event) {
			last = max(last, d.event.At)
		}
	}
	return last
}

// come is called before a record comes.
func (g *guard) come(w *world, d *delivery) error {
	if len(g.stalls) > 0 && d.at >= g.stalls[0].from && g.stalls[0].judged && !g.stalls[0].begun {
		g.stalls[0].begun = true
		if err := g.pause(w, g.stalls[0].from, "know when the source was heard", g.told); err != nil {
			return err
		}
	}
	for len(g.stalls) > 0 && d.at >= g.stalls[0].till {
		s := g.stalls[0]
		if g.stalls = g.stalls[1:]; s.judged {
			g.heard.Store(g.latest.Load())
			if err := g.pause(w, s.till, "know that the source is stalled", g.noticed); err != nil {
				return err
			}
			g.quiet.Store(s.till + g.settle)
		}
	}
	if g.watches(d.event) {
		g.latest.Store(max(g.latest.Load(), d.event.At))
		g.watched = append(g.watched, *d)
	}
	return nil
}

// pause stops the history at an instant until all who live, and whoever comes later, know something. Nothing goes wrong
// meanwhile.
func (g *guard) pause(w *world, at int64, what string, known func(*world) bool) error {
	w.appended.Store(at - 1)
	if err := w.sleepUntil(at); err != nil {
		return err
	}
	w.peace <- struct{}{}
	defer func() { <-w.peace }()
	began := time.Now()
	defer func() { w.paused.Add(int64(time.Since(began))) }()
	w.tell("until all %s", what)
	for sure := 0; time.Since(began) < patience; {
		if len(w.alive()) == 0 {
			w.join()
		}
		if long := time.Since(began); long > time.Minute {
			w.db.come() // a partition that never ran waits for the database
			if err := w.evict(long > 3*time.Minute); err != nil {
				w.tell("%v", err)
			}
		}
		if sure++; !known(w) {
			sure = 0
		}
		if sure == 4 { // judgements
			w.tell("all know it")
			return nil
		}
		if err := wait(w.ctx, time.Second); err != nil {
			return err
		}
	}
	return fmt.Errorf("in %v nobody has come to %s since %d", patience, what, g.latest.Load())
}

// told reports whether all members know when the family was heard last, and have told those to come. While nobody does,
// it bounds nothing.
func (g *guard) told(w *world) bool {
	for _, m := range w.alive() {
		if m.gauge("zyklus_source_last_event_seconds") == 0 {
			return false
		}
	}
	for _, o := range w.offsets() {
		if last, _ := parseNote(o.Metadata); last != 0 {
			return true
		}
	}
	return false
}

// offsets are those of the source, by partition; nil if they cannot be read.
func (w *world) offsets() map[int32]kadm.OffsetResponse {
	o := w.watched()
	offsets, err := kadm.NewClient(w.feeder).FetchOffsets(w.ctx, o.Group)
	if err != nil {
		return nil
	}
	return offsets[o.Topic]
}

// noticed reports whether all members have found the source stalled, and have told those to come.
func (g *guard) noticed(w *world) bool {
	for _, m := range w.alive() {
		if m.gauge("zyklus_source_stalled") != 1 {
			return false
		}
	}
	_, stalled := parseNote(w.offsets()[0].Metadata)
	return stalled
}

// parseNote reads of a note when the one family was heard last, and whether it is judged to be stalled.
func parseNote(note string) (last int64, stalled bool) {
	b, err := base64.RawStdEncoding.DecodeString(note)
	if err != nil || len(b) == 0 {
		return 0, false
	}
	r := pipeline.NewReader(b[1:])
	r.Uint64()
	r.Int()
	for n := r.Count(); n > 0; n-- {
		last = r.Int()
	}
	for n := r.Count(); n > 0; n-- {
		r.Uint64()
	}
	return last, r.Count() == 1 && r.Int() != 0 && r.Int() == 0 && r.Err() == nil
}

// gauge reads a metric of the member; 0 if there is none.
func (m *member) gauge(name string) float64 {
	families, err := m.metrics.Gather()
	if err != nil {
		return 0
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	return 0
}

// options are those of members.
func (g *guard) options() kafka.Stall {
	return kafka.Stall{
		Source: "shop", Limits: map[string]time.Duration{g.family: time.Duration(g.limit) * time.Millisecond}, Required: true,
		Settle: time.Duration(g.settle) * time.Millisecond,
	}
}

// refuses tells what rows say of a time that has not come. Of watermarks it says nothing: events may have moved those before
// anybody had heard the family.
func (g *guard) refuses(w *world, rows []oracle.Row) error {
	heard := g.heard.Load()
	if w.now().UnixMilli() >= g.quiet.Load() { // whether anything has come since or not
		heard = g.latest.Load()
	}
	for i := range rows {
		r := &rows[i]
		switch r.Table.Name {
		case "checkpoints":
			if clock := r.Get("clock").Int; clock > heard+g.limit {
				return fmt.Errorf("the clock is %d, but the source was heard at %d, its limit is %d", clock, heard, g.limit)
			}
		case "phase_transitions":
			if at := r.Get("at").Int; !r.Deleted && at > heard+g.limit {
				return fmt.Errorf("a change of phase at %d, but the source was heard at %d, its limit is %d", at, heard, g.limit)
			}
		}
	}
	return nil
}

// live gives a further sign of life, so that time can go on, and returns its instant.
func (g *guard) live(w *world, at int64) (int64, error) {
	at += g.limit / 2
	e := g.pulse(w, at)
	g.latest.Store(at)
	g.watched = append(g.watched, delivery{at: at + 1, event: e})
	w.appended.Store(at)
	if err := w.produce(w.route(e.Customer), e); err != nil {
		return at, err
	}
	return at, w.beat(at)
}

// outlive lets time go on in a guarded world, some days beyond what was waited for: the watermark follows what is heard, and
// customers who wait for it are looked at again when the clock moves.
func (w *world) outlive() error {
	for range 3 {
		if w.guard == nil {
			return nil
		}
		at, err := w.guard.live(w, w.appended.Load())
		if err != nil {
			return err
		}
		if _, err := w.await(at); err != nil {
			return err
		}
	}
	return nil
}

// alert is what is read of an output.
type alert struct {
	ID, Type string
	Data     struct {
		Source, Family string
		LastEventAt    int64 `json:"last_event_at"`
		StalledAt      int64 `json:"stalled_at"`
		ResumedAt      int64 `json:"resumed_at"`
		LimitSeconds   int64 `json:"limit_seconds"`
		Required       bool
	}
}

// compareAlerts holds what was told of the source against what came: each stall is one, each return is one, whoever tells
// it, and the last stall is over.
func (g *guard) compareAlerts(w *world) error {
	records, err := w.read("zyklus-g-outputs")
	if err != nil {
		return err
	}
	ids, last, over := map[string]string{}, int64(0), map[int64]bool{}
	for _, r := range records {
		var a alert
		if err := json.Unmarshal(r.Value, &a); err != nil {
			return err
		}
		name := fmt.Sprint(strings.TrimPrefix(a.Type, "zyklus.source."), " ", a.Data.LastEventAt)
		if id := ids[name]; id != "" && id != a.ID {
			return fmt.Errorf("%s has the ids %s and %s", name, id, a.ID)
		}
		ids[name] = a.ID
		if d := &a.Data; d.Source != "shop" || d.Family != g.family || !d.Required || d.StalledAt != d.LastEventAt+g.limit || d.LimitSeconds != g.limit/1000 {
			return fmt.Errorf("an alert is %s", r.Value)
		}
		if a.Type == "zyklus.source.stalled" {
			last = max(last, a.Data.LastEventAt)
		} else {
			over[a.Data.LastEventAt] = true
		}
		if err := g.happened(&a, w.tally.crashes+w.tally.outages == 0); err != nil {
			return err
		}
	}
	if last != 0 && !over[last] {
		return fmt.Errorf("nothing says that the stall since %d is over", last)
	}
	return nil
}

// happened checks an alert against what came. What a member heard last, it may not have told before it was killed, or
// while it was cut off: then a stall may have begun a little later than the alert says.
func (g *guard) happened(a *alert, exact bool) error {
	d, heard, next := &a.Data, false, pipeline.Never
	for _, w := range g.watched {
		if heard = heard || w.event.At == d.LastEventAt; w.event.At > d.LastEventAt {
			next = min(next, w.at)
		}
	}
	switch {
	case !heard:
		return fmt.Errorf("stalled since %d, when nothing happened", d.LastEventAt)
	case exact && next <= d.StalledAt:
		return fmt.Errorf("stalled since %d, at %d, but something later came at %d", d.LastEventAt, d.StalledAt, next)
	case a.Type == "zyklus.source.resumed" && d.ResumedAt < next-1:
		return fmt.Errorf("stalled since %d and back at %d, but what came next came at %d", d.LastEventAt, d.ResumedAt, next)
	}
	return nil
}
