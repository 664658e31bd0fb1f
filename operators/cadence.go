package operators

import (
	"math"

	"zyklus/models/lifecycle"
	"zyklus/pipeline"
)

// Cadence compares the time since the last order with the customer's own pace: the mean gap between purchase days, shrunk
// to the artefact's prior gap.
type Cadence struct{ stateless }

// Section implements pipeline.Operator.
func (Cadence) Section() pipeline.Section {
	return pipeline.Section{Name: "cadence", Tag: 4, Layout: 1, Fields: []pipeline.Field{{
		Column: column("purchase_days", pipeline.TypeCount, "days", "Business days with at least one net order, over the lifetime."),
		Label:  pipeline.Labels{En: "Purchase days", De: "Kauftage"}, Feature: true,
		Value: func(_ pipeline.State, c *pipeline.Customer, _ int64) pipeline.Value {
			return integer(c.Totals.PurchaseDays)
		},
	}, {
		Column: optional("expected_gap_days", pipeline.TypeNumber, "days",
			"Expected days between two purchases: the customer's own mean gap, shrunk to the prior gap of the artefact."),
		Label: pipeline.Labels{En: "Expected gap", De: "Erwarteter Bestellabstand"}, Feature: true,
		Value: func(_ pipeline.State, c *pipeline.Customer, _ int64) pipeline.Value {
			if c.Totals.Orders == 0 {
				return null()
			}
			return number(expectedGap(c))
		},
	}, {
		Column: optional("overdue_ratio", pipeline.TypeNumber, "ratio",
			"Days since the last net order divided by the expected gap, at as_of. Above 1 the next order is overdue."),
		Label: pipeline.Labels{En: "Overdue ratio", De: "Überfälligkeit"}, Feature: true, Varies: lifecycle.Rising,
		Value: func(_ pipeline.State, c *pipeline.Customer, at int64) pipeline.Value {
			if c.Totals.Orders == 0 {
				return null()
			}
			silent := at - c.Totals.LastOrderAt
			return number(c.Job().Artefact.OverdueRatio(silent, float64(c.Totals.PurchaseDays-1), spanDays(c)))
		},
		Crossing: func(_ pipeline.State, c *pipeline.Customer, at int64, threshold float64) int64 {
			if c.Totals.Orders == 0 {
				return pipeline.Never
			}
			return crossing(at, c.Totals.LastOrderAt, threshold*expectedGap(c))
		},
	}, {
		Column: optional("expected_next_order_at", pipeline.TypeInstant, "", "Time of the last net order plus the expected gap."),
		Label:  pipeline.Labels{En: "Expected next order", De: "Erwartete nächste Bestellung"},
		Value: func(_ pipeline.State, c *pipeline.Customer, _ int64) pipeline.Value {
			if c.Totals.Orders == 0 {
				return null()
			}
			return instant(c.Totals.LastOrderAt + int64(math.Round(expectedGap(c)*float64(pipeline.DayMillis))))
		},
	}}}
}

// NewState implements pipeline.Operator.
func (Cadence) NewState() pipeline.State { return stateless{} }

// expectedGap is the customer's expected days between two purchases; the customer has at least one order.
func expectedGap(c *pipeline.Customer) float64 {
	return c.Job().Artefact.ExpectedGap(float64(c.Totals.PurchaseDays-1), spanDays(c))
}

// spanDays is the number of business days from the first to the last purchase day.
func spanDays(c *pipeline.Customer) float64 {
	calendar := c.Job().Calendar
	return float64(calendar.Day(c.Totals.LastOrderAt) - calendar.Day(c.Totals.FirstOrderAt))
}

// daysSince is the time from an instant, in units of 24 hours.
func daysSince(since, at int64) float64 { return float64(at-since) / float64(pipeline.DayMillis) }

// crossing returns a lower bound of the instant at which daysSince reaches so many days.
func crossing(at, since int64, days float64) int64 {
	ms := days * float64(pipeline.DayMillis)
	if !(ms < math.MaxInt64/4) {
		return pipeline.Never
	}
	return max(at+1, since+int64(ms)-1)
}
