package operators

import (
	"math"

	"zyklus/models/lifecycle"
	"zyklus/pipeline"
)

// Churn scores how likely a customer is to stay silent, by the MBG/NBD model of the artefact over (x, t_x, T): repeat
// purchase days, first to last purchase day, first purchase day until now. It needs no bytes of its own.
type Churn struct{}

// churn implements the deadline of the band. What it remembers follows from the purchases: the band's instants are dear to
// find and asked for after each event, and for each row.
type churn struct {
	stateless
	purchases [3]int64 // purchase days, first and last order, of what follows
	at        int64
	risk      float64  // at that instant
	rises     [2]int64 // first instant of the medium and of the high band; 0 if not yet asked for
}

// remember drops what is about other purchases, of another customer or of before.
func (s *churn) remember(c *pipeline.Customer) {
	t := &c.Totals
	if p := [3]int64{t.PurchaseDays, t.FirstOrderAt, t.LastOrderAt}; p != s.purchases {
		*s = churn{purchases: p}
	}
}

// riskAt is risk, remembered.
func (s *churn) riskAt(c *pipeline.Customer, at int64) float64 {
	if s.remember(c); s.at != at {
		s.at, s.risk = at, risk(c, at)
	}
	return s.risk
}

const weekMillis = 7 * float64(pipeline.DayMillis)

// history is the input of the model, in weeks.
type history struct{ x, tx, t float64 }

// of returns the purchase history of a customer with at least one order. Same-day purchases are merged, and T counts
// from the beginning of the first purchase day, so that it is never less than t_x.
func of(c *pipeline.Customer, at int64) history {
	return history{
		x: float64(c.Totals.PurchaseDays - 1), tx: spanDays(c) / 7, t: float64(at-birth(c)) / weekMillis,
	}
}

// birth is the beginning of the customer's first purchase day.
func birth(c *pipeline.Customer) int64 {
	calendar := c.Job().Calendar
	return calendar.Midnight(calendar.Day(c.Totals.FirstOrderAt))
}

// Section implements pipeline.Operator.
func (Churn) Section() pipeline.Section {
	scored := func(value func(s *churn, c *pipeline.Customer, at int64) pipeline.Value) func(pipeline.State, *pipeline.Customer, int64) pipeline.Value {
		return func(s pipeline.State, c *pipeline.Customer, at int64) pipeline.Value {
			if c.Totals.Orders == 0 {
				return null()
			}
			return value(s.(*churn), c, at)
		}
	}
	buyer := func(value func(c *pipeline.Customer, at int64) pipeline.Value) func(pipeline.State, *pipeline.Customer, int64) pipeline.Value {
		return scored(func(_ *churn, c *pipeline.Customer, at int64) pipeline.Value { return value(c, at) })
	}
	return pipeline.Section{Name: "churn", Tag: 5, Layout: 1, Fields: []pipeline.Field{{
		Column: optional("repeat_purchase_days", pipeline.TypeInteger, "days", "x of the purchase model: purchase days after the first."),
		Label:  pipeline.Labels{En: "Repeat purchase days", De: "Wiederkauftage"},
		Value:  buyer(func(c *pipeline.Customer, _ int64) pipeline.Value { return integer(c.Totals.PurchaseDays - 1) }),
	}, {
		Column: optional("purchase_span_days", pipeline.TypeInteger, "days", "t_x of the purchase model: business days from the first to the last purchase day."),
		Label:  pipeline.Labels{En: "Purchase span", De: "Kaufspanne"},
		Value:  buyer(func(c *pipeline.Customer, _ int64) pipeline.Value { return integer(int64(spanDays(c))) }),
	}, {
		Column: optional("first_purchase_day_at", pipeline.TypeInstant, "", "Beginning of the first purchase day: T of the purchase model counts from here."),
		Label:  pipeline.Labels{En: "First purchase day", De: "Erster Kauftag"},
		Value:  buyer(func(c *pipeline.Customer, _ int64) pipeline.Value { return instant(birth(c)) }),
	}, {
		Column: optional("p_alive", pipeline.TypeNumber, "probability", "P(alive) of the MBG/NBD model at as_of; NULL without an order. v_customers has it at the partition's clock."),
		Label:  pipeline.Labels{En: "P(alive)", De: "P(aktiv)"}, Feature: true, Varies: lifecycle.Falling,
		Value: buyer(func(c *pipeline.Customer, at int64) pipeline.Value {
			h := of(c, at)
			return number(c.Job().Artefact.MBG.PAlive(h.x, h.tx, h.t))
		}),
		Crossing: func(_ pipeline.State, c *pipeline.Customer, at int64, threshold float64) int64 {
			if c.Totals.Orders == 0 {
				return pipeline.Never
			}
			h := of(c, at)
			return after(at, birth(c), c.Job().Artefact.MBG.PAliveCrossing(h.x, h.tx, threshold))
		},
	}, {
		Column: optional("churn_risk", pipeline.TypeNumber, "probability", "Probability of no order within the horizon of the artefact (90 days by default), at as_of; NULL without an order."),
		Label:  pipeline.Labels{En: "Churn risk", De: "Abwanderungsrisiko"}, Feature: true, Varies: lifecycle.Rising,
		Value: scored(func(s *churn, c *pipeline.Customer, at int64) pipeline.Value { return number(s.riskAt(c, at)) }),
		Crossing: func(_ pipeline.State, c *pipeline.Customer, at int64, threshold float64) int64 {
			if c.Totals.Orders == 0 {
				return pipeline.Never
			}
			return riskCrossing(c, at, threshold)
		},
	}, {
		Column: column("churn_risk_band", pipeline.TypeText, "", "Band of the churn risk: low, medium or high; empty without an order."),
		Label:  pipeline.Labels{En: "Churn risk band", De: "Risikostufe"},
		Value: func(s pipeline.State, c *pipeline.Customer, at int64) pipeline.Value {
			if c.Totals.Orders == 0 {
				return pipeline.Value{}
			}
			return pipeline.Value{Text: string(c.Job().Artefact.RiskBands.Band(s.(*churn).riskAt(c, at)))}
		},
	}, {
		Column: optional("churn_risk_rises_at", pipeline.TypeInstant, "", "When the churn risk enters its next band if nothing happens; NULL in the highest band and without an order."),
		Label:  pipeline.Labels{En: "Churn risk rises at", De: "Risiko steigt am"},
		Value: scored(func(s *churn, c *pipeline.Customer, at int64) pipeline.Value {
			if next := s.nextBand(c, at); next != pipeline.Never {
				return instant(next)
			}
			return null()
		}),
	}, {
		Column: optional("expected_orders", pipeline.TypeNumber, "orders", "Expected purchase days within the horizon of the artefact, at as_of; NULL without an order."),
		Label:  pipeline.Labels{En: "Expected orders", De: "Erwartete Bestellungen"},
		Value: buyer(func(c *pipeline.Customer, at int64) pipeline.Value {
			h, a := of(c, at), &c.Job().Artefact
			return number(a.MBG.Expected(h.x, h.tx, h.t, a.HorizonWeeks()))
		}),
	}}}
}

// NewState implements pipeline.Operator.
func (Churn) NewState() pipeline.State { return &churn{} }

// Deadline is the next instant at which the band changes.
func (s *churn) Deadline(f *pipeline.Fold) int64 {
	if f.Customer.Totals.Orders == 0 {
		return pipeline.Never
	}
	return s.nextBand(f.Customer, f.Now)
}

func risk(c *pipeline.Customer, at int64) float64 {
	h, a := of(c, at), &c.Job().Artefact
	return a.MBG.ChurnRisk(h.x, h.tx, h.t, a.HorizonWeeks())
}

// riskCrossing returns an estimate of the instant after at at which the risk reaches a threshold.
func riskCrossing(c *pipeline.Customer, at int64, threshold float64) int64 {
	h, a := of(c, at), &c.Job().Artefact
	return after(at, birth(c), a.MBG.ChurnRiskCrossing(h.x, h.tx, a.HorizonWeeks(), threshold))
}

// after turns weeks since the first purchase day into an instant later than at.
func after(at, birth int64, weeks float64) int64 {
	ms := weeks * weekMillis
	if !(ms < math.MaxInt64/4) {
		return pipeline.Never
	}
	return max(at+1, birth+int64(ms))
}

// nextBand returns the first millisecond after at of which the risk lies in another band.
func (s *churn) nextBand(c *pipeline.Customer, at int64) int64 {
	bands := c.Job().Artefact.RiskBands
	now := s.riskAt(c, at)
	for i, limit := range [...]float64{bands.Medium, bands.High} {
		if now >= limit {
			continue
		}
		if s.rises[i] > at {
			return s.rises[i]
		}
		guess := riskCrossing(c, at, limit)
		if guess == pipeline.Never {
			return guess
		}
		s.rises[i] = firstMilli(at, guess, func(at int64) bool { return risk(c, at) >= limit })
		return s.rises[i]
	}
	return pipeline.Never
}

// firstMilli returns the first instant later than from at which a condition holds that, once true, stays so. It looks
// outwards from a guess.
func firstMilli(from, guess int64, holds func(at int64) bool) int64 {
	lo, hi := guess-1, guess // holds at hi, not at lo, once both loops have ended
	for step := int64(1); !holds(hi); step *= 2 {
		lo, hi = hi, hi+step
	}
	for step := int64(1); lo > from && holds(lo); step *= 2 {
		lo, hi = max(from, lo-step), lo
	}
	for hi-lo > 1 {
		if mid := lo + (hi-lo)/2; holds(mid) {
			hi = mid
		} else {
			lo = mid
		}
	}
	return hi
}
