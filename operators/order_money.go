package operators

import (
	"slices"

	"zyklus/pipeline"
)

// money is what an order is worth and what of it has been given back. It is kept in the order's own currency and
// converted as a whole, rounded once: however an order is refunded in its currency, nothing is left of it at the end.
//
// The rate is that of the order's business day. An update in the order's currency keeps it; one in another currency has
// the rate of its own day, for which the table was asked when it was accepted. So has a refund in another currency.
type money struct {
	value    int64         // before refunds, minor units of currency
	refunded int64         // of that, minor units of currency, at most value
	other    int64         // refunded in other currencies; minor units of the reporting currency, 0 where that is the order's
	currency [3]byte       // zero is the reporting currency
	rate     pipeline.Rate // of currency; zero in the reporting currency
}

func (m *money) foreign() bool { return m.currency != [3]byte{} }

// worth is the value in minor units of the reporting currency.
func (m *money) worth() int64 {
	if !m.foreign() {
		return m.value
	}
	v, _ := m.rate.Convert(m.value)
	return v
}

// back is what has been given back, in minor units of the reporting currency, at most what the order is worth.
func (m *money) back() int64 {
	if !m.foreign() {
		return m.refunded
	}
	worth := m.worth()
	return min(worth, share(worth, m.refunded, m.value)+m.other)
}

// net is value less refunds in minor units of the order's currency.
func (m *money) net() int64 {
	if m.other == 0 {
		return m.value - m.refunded
	}
	return max(0, m.value-m.refunded-share(m.value, m.other, m.worth()))
}

// share returns amount * part / whole, rounded half away from zero.
func share(amount, part, whole int64) int64 {
	if part >= whole {
		return amount
	}
	quotient, rest := mulDiv(amount, part, whole)
	if rest >= whole-rest {
		quotient++
	}
	return quotient
}

// giveBack refunds minor units of the order's currency.
func (m *money) giveBack(amount int64) { m.refunded += min(amount, m.value-m.refunded) }

// giveBackIn refunds minor units of the event's currency.
func (m *money) giveBackIn(e *pipeline.Event, amount int64) {
	if e.Currency == m.currency || amount == 0 {
		m.giveBack(amount)
		return
	}
	amount = converted(e, amount)
	if !m.foreign() {
		m.giveBack(amount)
		return
	}
	m.other = min(m.other+amount, pipeline.MaxAmount)
}

// converted returns an amount of the event in minor units of the reporting currency, at most MaxAmount.
func converted(e *pipeline.Event, amount int64) int64 {
	if !e.Foreign() {
		return min(amount, pipeline.MaxAmount)
	}
	v, ok := e.Rate.Convert(amount)
	if !ok {
		return pipeline.MaxAmount // more than any order is worth
	}
	return v
}

// spent reports whether nothing is left of a value.
func (m *money) spent() bool {
	if m.refunded == m.value {
		return m.value > 0
	}
	worth := m.worth()
	return m.other > 0 && worth > 0 && m.back() == worth
}

// limit lowers what was given back to the value, after that has changed.
func (m *money) limit() {
	m.refunded = min(m.refunded, m.value)
	if m.other > 0 {
		worth := m.worth()
		m.other = min(m.other, worth-share(worth, m.refunded, m.value))
	}
}

// reprice makes the order one of the event's currency. What had been given back before is as much in the new one.
func (m *money) reprice(e *pipeline.Event) {
	if e.Currency == m.currency {
		return
	}
	back := m.back()
	m.currency, m.rate, m.refunded, m.other = e.Currency, e.Rate, 0, back
	if !m.foreign() {
		m.refunded, m.other = back, 0
	}
}

// convertible refuses an update or refund in a currency that there was no rate for, unless it is the order's, and an
// update to an amount that is too large.
func (s *ledgerState) convertible(f *pipeline.Fold, m *money, e *pipeline.Event) bool {
	if !e.Foreign() || !namesMoney(e) {
		return true
	}
	rate := e.Rate
	if e.Currency == m.currency {
		rate = m.rate
	}
	letter := pipeline.DeadLetter{At: e.At, Money: e.Money(), Value: slices.Clone(e.Raw), Origin: e.Origin}
	_, fits := rate.Convert(e.Amount)
	switch {
	case rate == pipeline.Rate{}:
		letter.Kind = pipeline.ErrCurrencyWithoutRate
		letter.Cause = e.Kind.String() + " is in " + string(e.Currency[:]) + ", its order is not, and there was no rate on its day"
	case e.Kind == pipeline.KindOrderUpdated && !fits:
		letter.Kind = pipeline.ErrAmountOutOfRange
		letter.Cause = e.Kind.String() + " is too large in the reporting currency"
	default:
		return true
	}
	f.Refuse(letter)
	return false
}

// namesMoney reports whether an update or refund names an amount that counts.
func namesMoney(e *pipeline.Event) bool {
	switch {
	case e.Kind == pipeline.KindOrderUpdated:
		return true
	case len(e.Lines) == 0:
		return e.HasAmount
	}
	return slices.ContainsFunc(e.Lines, func(l pipeline.Line) bool { return l.HasAmount })
}
