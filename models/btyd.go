package models

import (
	"errors"
	"fmt"
	"math"
)

// DaysPerWeek converts days to the weeks that the methods of MBG take.
const DaysPerWeek = 7

// MBG holds the parameters of the modified BG/NBD model: while alive, a customer
// buys as a Poisson process; after every purchase, the first one included, the
// customer may leave for good with a probability of their own. Rates are
// Gamma(R, Alpha) distributed over customers, leaving probabilities Beta(A, B).
// The time unit is the week. The zero value is invalid; see Validate.
//
// Every method is pure, allocates nothing and gives a finite result in its range
// for every finite x >= 0, 0 <= tx <= T and h >= 0 (T < tx counts as T = tx).
type MBG struct {
	R     float64 `yaml:"r"`     // shape of the purchase rate, > 0
	Alpha float64 `yaml:"alpha"` // rate parameter of the purchase rate, weeks, > 0
	A     float64 `yaml:"a"`     // first shape of the leaving probability, > 0
	B     float64 `yaml:"b"`     // second shape of the leaving probability, > 0
}

// Validate reports all parameters that are not positive and finite.
func (m MBG) Validate() error {
	return errors.Join(
		positive("mbg.r", m.R),
		positive("mbg.alpha", m.Alpha),
		positive("mbg.a", m.A),
		positive("mbg.b", m.B),
	)
}

// PAlive is the probability, in [0, 1], that a customer with history (x, tx, T)
// has not left at T:
//
//	1 / (1 + a/(b+x) * ((alpha+T)/(alpha+tx))^(r+x))
//
// It never rises with T. Just after a purchase it is (b+x)/(a+b+x). It is taken
// through log-odds and a logistic, because the power overflows for frequent
// buyers. It is no churn score: use ChurnRisk.
func (m MBG) PAlive(x, tx, T float64) float64 {
	return 1 / (1 + math.Exp(m.logOddsGone(x, tx, T)))
}

// logOddsGone is the logarithm of the odds of having left; finite for finite
// arguments.
func (m MBG) logOddsGone(x, tx, T float64) float64 {
	silence := math.Max(T-tx, 0)
	return math.Log(m.A/(m.B+x)) + (m.R+x)*math.Log1p(silence/(m.Alpha+tx))
}

// PActive is the probability, in [0, 1], of at least one purchase within the h
// weeks after T:
//
//	PAlive * (1 - ((alpha+T)/(alpha+T+h))^(r+x))
//
// It never rises with T and never falls with h.
func (m MBG) PActive(x, tx, T, h float64) float64 {
	now := m.Alpha + math.Max(T, tx)
	buys := -math.Expm1(-(m.R + x) * math.Log1p(h/now))
	return m.PAlive(x, tx, T) * buys
}

// ChurnRisk is 1 - PActive: the probability, in [0, 1], of no purchase within
// the h weeks after T. It never falls with T, so each limit is crossed once.
func (m MBG) ChurnRisk(x, tx, T, h float64) float64 {
	return 1 - m.PActive(x, tx, T, h)
}

// PAliveCrossing is T*, in weeks after the first purchase, at which PAlive falls
// to theta if nothing happens:
//
//	(alpha+tx) * ((b+x)/a * (1/theta - 1))^(1/(r+x)) - alpha
//
// It is tx where PAlive is not above theta even just after the last purchase,
// and +Inf for theta <= 0.
func (m MBG) PAliveCrossing(x, tx, theta float64) float64 {
	if theta <= 0 {
		return math.Inf(1)
	}
	if theta >= 1 {
		return tx
	}
	grow := math.Log((m.B+x)/m.A*(1/theta-1)) / (m.R + x)
	return tx + math.Max((m.Alpha+tx)*math.Expm1(grow), 0)
}

// maxNewton bounds the Newton steps of ChurnRiskCrossing; in practice about 5 are
// taken.
const maxNewton = 60

// ChurnRiskCrossing is the T, in weeks after the first purchase, at which
// ChurnRisk with horizon h rises to risk if nothing happens; relative precision
// 1e-12, no closed form. It is tx where the risk is there already just after the
// last purchase, and +Inf for risk >= 1, which is never reached, and for instants
// beyond float64.
func (m MBG) ChurnRiskCrossing(x, tx, h, risk float64) float64 {
	if risk >= 1 {
		return math.Inf(1)
	}
	if m.ChurnRisk(x, tx, tx, h) >= risk {
		return tx
	}
	// f(u) = ln PActive - ln(1-risk) with u = ln(alpha+T) is a falling, concave
	// function: from a start right of its root Newton's steps come down to the
	// root without passing it. PAlive alone, and a purchase alone (of somebody
	// sure to be alive), are each likelier than PActive: both cross later.
	k, limit := m.R+x, math.Log1p(-risk)
	last := math.Log(m.Alpha + tx)
	alive := last + math.Log((m.B+x)/m.A*(risk/(1-risk)))/k
	buys := math.Log(h) - math.Log(math.Expm1(-math.Log(risk)/k))
	u := math.Max(last, math.Min(alive, buys))
	for range maxNewton {
		f, slope := m.logActive(x, tx, u, h)
		step := (f - limit) / slope
		u -= step
		if math.Abs(step) <= 1e-7 { // the next one would be about its square
			break
		}
	}
	return math.Max(math.Exp(u)-m.Alpha, tx)
}

// logActive is ln PActive at u = ln(alpha+T), and its derivative by u.
func (m MBG) logActive(x, tx, u, h float64) (value, slope float64) {
	k := m.R + x
	odds := math.Log(m.A/(m.B+x)) + k*(u-math.Log(m.Alpha+tx))
	small := math.Exp(-math.Abs(odds))
	gone := 1 / (1 + small)
	if odds < 0 {
		gone = small / (1 + small)
	}
	rate := h * math.Exp(-u)
	buys := -math.Expm1(-k * math.Log1p(rate))
	value = math.Log(buys) - math.Max(odds, 0) - math.Log1p(small)
	return value, -k * (gone + (1-buys)/buys*rate/(1+rate))
}

// positive is an error naming the field unless v is a finite number above 0.
func positive(field string, v float64) error {
	if v > 0 && !math.IsInf(v, 1) {
		return nil
	}
	return fmt.Errorf("%s: must be a finite number above 0, is %v", field, v)
}
