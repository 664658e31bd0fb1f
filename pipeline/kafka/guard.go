package kafka

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
)

// Stall says after how much silence a source counts as stalled.
type Stall struct {
	// Source is its name in alerts, metrics and rows.
	Source string
	// Limits are by family of events (pipeline.Families); that of the source as a whole is under "". None: the source
	// may be silent for ever.
	Limits map[string]time.Duration
	// Required says that time stands still while the source, or a family with a limit, is stalled.
	Required bool
	// Settle is how long time goes on standing still once the source is back, so that what it held back can arrive.
	// As long as the allowed lateness is right. Default 10 minutes.
	Settle time.Duration
}

// watched returns the families that have a limit, in a fixed order: their places in a note.
func (s Stall) watched() []string { return slices.Sorted(maps.Keys(s.Limits)) }

// fingerprint identifies what is watched: notes that were written under other limits are of other families.
func (s Stall) fingerprint() uint64 { return xxhash.Sum64String(strings.Join(s.watched(), "/")) }

// guard judges whether families of a source are silent as a whole, over all partitions, and how far time may come.
// Each process has one; they judge by the same notes, and go on from what the owner of partition 0 has judged, so that
// none forgets a stall when it starts. Silence is what all partitions have been read past, whatever the clock says. The
// return is when it is noticed: what partitions have been read past may be long ago then, where one has no owner.
// A stall is judged while it lasts. Who comes only afterwards finds the family alive, and reads what the others brought
// meanwhile with nothing held.
//
//	          read past last event + limit            an event came
//	flowing ───────────────────────────────► stalled ───────────────► returning ──► flowing
//	                                            ▲      silent again       │  all partitions read
//	                                            └─────────────────────────┘  Settle past the return
type guard struct {
	stall    Stall
	families []string
	states   []familyState
	known    bool    // there was a note of each partition
	complete bool    // all partitions have been read up to some instant: a family that was not heard is not there
	alerts   []Alert // of what the last judgement changed
}

// familyState is what is known of one family.
type familyState struct {
	last int64 // event time of its last event in all partitions
	judgement
}

// Alert says that a family of a source has stalled, or is back.
type Alert struct {
	Source, Family string
	Last           int64 // event time of the last event before, Unix milliseconds
	At             int64 // when it counted as stalled, or was back, Unix milliseconds
	Limit          time.Duration
	Required       bool
	Resumed        bool
}

func newGuard(s Stall) *guard {
	if s.Settle == 0 {
		s.Settle = 10 * time.Minute
	}
	g := &guard{stall: s, families: s.watched()}
	g.states = make([]familyState, len(g.families))
	return g
}

// judge takes the notes of all partitions, as far as they are known by now (Unix milliseconds), and returns what has
// changed.
func (g *guard) judge(notes []note, partitions int, now int64) []Alert {
	g.alerts = nil
	for _, n := range notes {
		if len(n.judged) == len(g.states) { // of partition 0
			for i, j := range n.judged {
				g.states[i].judgement = g.states[i].or(j)
			}
		}
	}
	reached := int64(0)
	for i, n := range notes {
		if i == 0 || n.reached < reached {
			reached = n.reached
		}
	}
	if len(notes) < partitions {
		reached = 0 // what the others hold is unknown
	}
	g.known = g.known || len(notes) >= partitions
	g.complete = g.complete || reached > 0
	for i := range g.states {
		for _, n := range notes {
			if i < len(n.last) {
				g.states[i].last = max(g.states[i].last, n.last[i])
			}
		}
		g.family(i, reached, now)
	}
	return g.alerts
}

func (g *guard) limit(i int) int64 { return g.stall.Limits[g.families[i]].Milliseconds() }

// family moves the state of one family on.
func (g *guard) family(i int, reached, now int64) {
	s, limit := &g.states[i], g.limit(i)
	silent := s.last > 0 && reached > s.last+limit
	switch {
	case silent && s.stalled == 0:
		s.stalled = s.last
		g.alerts = append(g.alerts, g.alert(i, s.stalled, s.last+limit, false))
	case silent:
		s.since = 0 // its backlog is as old as that, or it has fallen silent again
	case s.stalled != 0 && s.last > s.stalled && s.since == 0 && reached > 0:
		s.since = now
	case s.since != 0 && reached >= s.since+g.stall.Settle.Milliseconds():
		g.alerts = append(g.alerts, g.alert(i, s.stalled, s.since, true))
		s.over, s.back, s.stalled, s.since = s.stalled, s.since, 0, 0
	}
}

func (g *guard) alert(i int, last, at int64, resumed bool) Alert {
	return Alert{
		Source: g.stall.Source, Family: g.families[i], Last: last, At: at,
		Limit: g.stall.Limits[g.families[i]], Required: g.stall.Required, Resumed: resumed,
	}
}

// bounds is a judgement as sessions take it, family by family.
type bounds struct {
	last    []int64 // event time of the last event, for a stalled one of the last before it stalled; 0 for none
	stalled []bool  // it is, or is not back for good
	alerts  []Alert // that hold: the present stall, and that the last one is over
	judged  []judgement
	at      int64 // when it was made, by the process's wall clock
	known   bool  // what all partitions have heard is
	unheard bool  // some family was not heard yet, but not all partitions have been read
}

// bounds returns the last judgement.
func (g *guard) bounds() *bounds {
	b := &bounds{known: g.known}
	for i := range g.states {
		s := &g.states[i]
		last := s.last
		if s.stalled != 0 {
			last = s.stalled
		}
		b.last, b.stalled = append(b.last, last), append(b.stalled, s.stalled != 0)
		b.judged = append(b.judged, s.judgement)
		b.unheard = b.unheard || last == 0 && !g.complete
		if s.over != 0 {
			b.alerts = append(b.alerts, g.alert(i, s.over, s.back, true))
		}
		if s.stalled != 0 {
			b.alerts = append(b.alerts, g.alert(i, s.stalled, s.stalled+g.limit(i), false))
		}
	}
	return b
}

// cloudEvent is the form of an output.
type cloudEvent struct {
	SpecVersion     string    `json:"specversion"`
	ID              string    `json:"id"`
	Source          string    `json:"source"`
	Type            string    `json:"type"`
	Subject         string    `json:"subject"`
	Time            string    `json:"time"`
	DataContentType string    `json:"datacontenttype"`
	Data            alertData `json:"data"`
}

type alertData struct {
	Source       string `json:"source"`
	Family       string `json:"family"`
	LastEventAt  int64  `json:"last_event_at"` // Unix milliseconds
	StalledAt    int64  `json:"stalled_at"`    // Unix milliseconds
	ResumedAt    int64  `json:"resumed_at,omitempty"`
	LimitSeconds int64  `json:"limit_seconds"`
	Required     bool   `json:"required"`
}

// Types of the outputs about sources.
const (
	typeStalled = "zyklus.source.stalled"
	typeResumed = "zyklus.source.resumed"
)

// id identifies the alert by its content.
func (a *Alert) id(group string) uint64 {
	return xxhash.Sum64String(fmt.Sprint(group, a.Source, "/", a.Family, a.Last, a.Resumed))
}

// cloudEvent returns the alert as CloudEvents 1.0. Its id follows from its content: the same alert, raised again after a
// restart or by another process, is the same event.
func (a *Alert) cloudEvent(group string) []byte {
	data := alertData{
		Source: a.Source, Family: a.Family, LastEventAt: a.Last, StalledAt: a.Last + a.Limit.Milliseconds(),
		LimitSeconds: int64(a.Limit.Seconds()), Required: a.Required,
	}
	e := cloudEvent{
		SpecVersion: "1.0", Source: "zyklus/" + group, Type: typeStalled, Subject: a.Source + "/" + a.Family,
		Time: time.UnixMilli(a.At).UTC().Format(time.RFC3339Nano), DataContentType: "application/json",
	}
	if a.Resumed {
		e.Type, data.ResumedAt = typeResumed, a.At
	}
	e.Data = data
	e.ID = fmt.Sprintf("%016x", a.id(group))
	text, err := json.Marshal(e)
	if err != nil {
		panic("BUG: an alert that is no JSON: " + err.Error())
	}
	return text
}
