package models

import "math"

// The series of Expected converges like its argument z to the power of n. Up to
// seriesLimit it needs at most maxTerms terms; above, a quadrature is cheaper.
const (
	seriesLimit = 0.9
	maxTerms    = 2000
)

// Expected is the expected number of purchase days, >= 0 and finite, within the
// h weeks after T of a customer with history (x, tx, T):
//
//	PAlive * (a+b+x)/(a-1) * (1 - ((alpha+T)/(alpha+T+h))^(r+x)
//	       * 2F1(r+x, b+x+1; a+b+x; z)),   z = h/(alpha+T+h)
//
// The textbook form overflows for frequent buyers and has poles at a = 1; here
// Euler's transformation cancels the huge factor and expm1 removes the pole.
// Relative precision 1e-9 or better for parameters a fit is allowed to give
// (b = 1e9 costs it seven digits). About 110 ns where h is not more than nine
// times alpha+T, about 20 microseconds beyond.
func (m MBG) Expected(x, tx, T, h float64) float64 {
	now := m.Alpha + math.Max(T, tx)
	if h <= 0 {
		return 0
	}
	z := h / (now + h)
	alive := m.PAlive(x, tx, T)
	if z > seriesLimit {
		return alive * m.expectedByQuadrature(x, h/now)
	}
	return alive * m.expectedBySeries(x, z, -math.Log1p(h/now))
}

// expectedBySeries is Expected/PAlive; left = ln(1-z) <= 0.
func (m MBG) expectedBySeries(x, z, left float64) float64 {
	c := m.A + m.B + x
	head := -left
	if m.A != 1 {
		head = -math.Expm1((m.A-1)*left) / (m.A - 1)
	}
	series := m.series(m.A+m.B-m.R, c, z)
	return math.Max(c*head-math.Exp((m.A-1)*left)*series, 0)
}

// series is the sum over n >= 1 of (first)_n (a)_(n-1) / ((c+1)_(n-1) n!) z^n.
func (m MBG) series(first, c, z float64) float64 {
	term := first * z
	sum := term
	for n := 1.0; n < maxTerms; n++ {
		ratio := z * (first + n) * (m.A + n - 1) / ((c + n) * (n + 1))
		term *= ratio
		sum += term
		if math.Abs(ratio) < 1 && math.Abs(term) <= 1e-17*math.Abs(sum) {
			break
		}
	}
	return sum
}

// expectedByQuadrature is Expected/PAlive as the mean over the leaving
// probability p of an alive customer, which is Beta(a, b+x+1) distributed:
//
//	E[ (1 - (1 + p*ahead)^-(r+x)) / p ],   ahead = h/(alpha+T)
//
// It is a trapezoid sum over v = logit p, where the integrand is analytic and
// falls off exponentially on both sides, so that the sum converges exponentially
// fast in the step. The weights are normalised by their own sum.
func (m MBG) expectedByQuadrature(x, ahead float64) float64 {
	beta := m.B + x + 1
	step := math.Min(0.25, 0.5*math.Sqrt(1/m.A+1/beta))
	centre := math.Log(m.A / beta)
	q := quadrature{a: m.A, beta: beta, k: m.R + x, ahead: ahead, centre: centre}
	q.peak = q.logWeight(centre)
	q.add(centre)
	q.walk(step)
	q.walk(-step)
	return q.sum / q.weights
}

// quadrature accumulates the trapezoid sum of expectedByQuadrature.
type quadrature struct {
	a, beta, k, ahead float64
	centre, peak      float64
	sum, weights      float64
}

// logWeight is the log density of v = logit p up to a constant.
func (q *quadrature) logWeight(v float64) float64 {
	return -q.a*softplus(-v) - q.beta*softplus(v)
}

// softplus is ln(1 + e^v) without overflow.
func softplus(v float64) float64 {
	return math.Max(v, 0) + math.Log1p(math.Exp(-math.Abs(v)))
}

// add takes the point v in and returns its weight relative to the peak.
func (q *quadrature) add(v float64) (weight, value float64) {
	weight = math.Exp(q.logWeight(v) - q.peak)
	p := 1 / (1 + math.Exp(-v))
	value = -math.Expm1(-q.k*math.Log1p(p*q.ahead)) / p
	q.sum += weight * value
	q.weights += weight
	return weight, value
}

// walk adds points away from the centre until they no longer count. Going left
// with a small a the weight falls slowly, as e^(a v), while the value is
// constant: from there on the rest is a geometric series.
func (q *quadrature) walk(step float64) {
	flat := -36 - math.Log(q.k+1) - math.Log(q.beta+1) - math.Log1p(q.ahead)
	for v := q.centre + step; ; v += step {
		weight, value := q.add(v)
		if weight < 1e-20*q.weights && weight*value < 1e-20*q.sum {
			return
		}
		if v < flat {
			rest := weight / math.Expm1(q.a*math.Abs(step))
			q.sum += rest * value
			q.weights += rest
			return
		}
	}
}
