package pipeline

import "zyklus/models/lifecycle"

// begin prepares the context for one event or deadline of c.
func (f *Fold) begin(c *Customer, at int64, late bool) {
	if c.capture != captureNone && at >= c.dayEnd {
		c.passDay(f, at)
	}
	f.Now, f.Late, f.Customer, f.Bookings = at, late, c, c.bookings[:0]
	f.job, f.touched, f.letters = c.job, &c.touched, &c.letters
	f.rescheduled = false
	c.AsOf, c.moved, c.timed = at, true, false
}

// apply folds an event in at an instant, which is its own time unless it is late.
func (c *Customer) apply(f *Fold, e *Event, at int64, late bool) {
	timed := c.timed
	f.begin(c, at, late)
	for _, s := range c.states {
		s.Apply(f, e)
	}
	c.bookings = f.Bookings
	idle := !f.rescheduled && len(f.Bookings) == 0
	c.quiet = c.quiet && idle
	if idle && timed && c.next > at && !late && !c.job.eventful && c.decided() {
		c.timed = true // neither a phase nor a deadline can have moved
		return
	}
	cause := Cause(e.Kind)
	if late {
		cause = CauseCorrection
	}
	c.decide(at, cause)
}

// advance lets all deadlines before an instant happen, each at its own; with inclusive, those at the instant too.
func (c *Customer) advance(f *Fold, to int64, inclusive bool) {
	for {
		d := c.deadline(f)
		if d > to || d == to && !inclusive {
			return
		}
		f.begin(c, d, false)
		for _, s := range c.states {
			s.Fire(f)
		}
		c.bookings = f.Bookings
		c.quiet = false
		c.decide(d, CauseDeadline)
		if c.firstFire == 0 {
			c.firstFire = d
		}
		c.lastFire = d
	}
}

// deadline returns the next instant at which something changes by time alone. It may be AsOf itself: at one instant,
// deadlines come after the events.
func (c *Customer) deadline(f *Fold) int64 {
	if c.timed {
		return c.next
	}
	f.Now, f.Customer, f.job = c.AsOf, c, c.job
	if !c.quiet {
		c.wake, c.quiet = Never, true
		for _, s := range c.states {
			c.wake = min(c.wake, s.Deadline(f))
		}
	}
	next := c.wake
	for i, l := range c.job.lifecycles {
		if c.Phases[i].Phase != 0 {
			next = min(next, c.nextRule(l, c.Phases[i].Rule))
		}
	}
	if next < c.AsOf {
		panic("BUG: a deadline is earlier than the customer's instant")
	}
	c.next, c.timed = next, true
	return next
}

// nextRule returns the instant at which another rule matches. Next may stop at a lower bound: what a deadline leaves
// behind (AsOf) must not depend on where the search began, so it goes on from there.
func (c *Customer) nextRule(l *lifecycle.Lifecycle, rule int) int64 {
	for at := c.AsOf; ; {
		if at = l.Next(c, at, rule); at == Never {
			return Never
		}
		if _, now := l.Phase(c, at); now != rule {
			return at
		}
	}
}

// decided reports whether the customer is in a phase of each lifecycle.
func (c *Customer) decided() bool {
	return len(c.Phases) == 0 || c.Phases[0].Phase != 0
}

// decide assigns the phases at an instant. There is at most one transition per lifecycle and instant: a second change
// at the same instant merges with the first, and undoes it if it leads back.
func (c *Customer) decide(at int64, cause Cause) {
	for i, l := range c.job.lifecycles {
		phase, rule := l.Phase(c, at)
		p := &c.Phases[i]
		p.Rule = rule
		phase++
		if phase == p.Phase {
			continue
		}
		if p.Phase == 0 || p.Since != at {
			p.Older, p.Previous = p.Previous.Phase, p.Stay
		} else if phase == p.Previous.Phase {
			p.Stay, p.Previous, p.Older = p.Previous, Stay{Phase: p.Older}, 0
			c.record(Transition{Lifecycle: i, At: at, From: phase, To: phase, Rule: rule, Cause: cause, Cycle: p.Cycle})
			continue
		}
		p.Stay = Stay{Phase: phase, Since: at, Cycle: cycle(l, p.Previous, phase)}
		c.record(Transition{
			Lifecycle: i, At: at, From: p.Previous.Phase, To: phase, Rule: rule, Cause: cause, Cycle: p.Cycle,
		})
	}
}

// record keeps one transition per lifecycle and instant, the last. One that is undone is forgotten, unless it came from
// an earlier fold: then a transition that leads nowhere says so.
func (c *Customer) record(t Transition) {
	i := findTransition(c.transitions, t)
	switch {
	case i < 0:
		c.transitions = append(c.transitions, t)
	case t.From == t.To:
		c.transitions = append(c.transitions[:i], c.transitions[i+1:]...)
	default:
		c.transitions[i] = t
	}
}

// foldOpen folds open events in their order, with the deadlines between them if any fire.
func (c *Customer) foldOpen(f *Fold, open []openEvent, e *Event, fire bool) error {
	for i := range open {
		if err := DecodeEvent(open[i].bytes, e); err != nil {
			return err
		}
		e.Customer = c.ID
		if fire {
			c.advance(f, e.At, false)
		}
		c.apply(f, e, e.At, false)
	}
	return nil
}

// openEvent is an accepted event later than the settled record, in its compact form.
type openEvent struct {
	at    int64
	id    uint64
	kind  Kind
	bytes []byte
}

// before is the canonical order of events: event time, type rank, event id.
func (a *openEvent) before(b *openEvent) bool {
	if a.at != b.at {
		return a.at < b.at
	}
	if a.kind != b.kind {
		return a.kind < b.kind
	}
	return a.id < b.id
}
