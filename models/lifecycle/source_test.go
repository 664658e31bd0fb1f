package lifecycle

import (
	"math"
	"math/rand/v2"
	"slices"
)

const day = 86_400_000

// The test catalogue has a feature of every kind and variation.
func testCatalogue() Catalogue {
	return Catalogue{
		{Name: "orders"},
		{Name: "spend", Unit: "EUR"},
		{Name: "days", Unit: "days", Varies: Rising},
		{Name: "left", Unit: "days", Varies: Falling},
		{Name: "window", Varies: Steps},
		{Name: "risk", Varies: Rising},
		{Name: "vip", Kind: Bool},
		{Name: "lapsed", Kind: Bool, Varies: Rising},
		{Name: "fresh", Kind: Bool, Varies: Falling},
		{Name: "trial", Kind: Bool, Varies: Steps},
		{Name: "segment", Kind: Text},
	}
}

// valueSource gives the same values at every instant.
type valueSource struct {
	numbers [16]float64
	defined [16]bool
	text    string
}

func (s *valueSource) Number(f int, _ int64) (float64, bool)      { return s.numbers[f], s.defined[f] }
func (s *valueSource) Text(int) string                            { return s.text }
func (s *valueSource) Crossing(f int, at int64, th float64) int64 { return Never }

func randomValues(rng *rand.Rand, cat Catalogue, undefined float64) *valueSource {
	s := &valueSource{text: []string{"a", "b", "", "c"}[rng.IntN(4)]}
	for i, f := range cat {
		s.numbers[i] = pick(rng, -1, 0, 0.5, 1, 2, 2.5, 3, 7, 30, 1e6)
		if f.Kind == Bool {
			s.numbers[i] = float64(rng.IntN(2))
		}
		s.defined[i] = rng.Float64() >= undefined
	}
	return s
}

func pick[T any](rng *rand.Rand, of ...T) T { return of[rng.IntN(len(of))] }

// motion is how one feature of movingSource moves: a value per instant, and what
// of its inverse the source knows.
type motion struct {
	defined bool
	value   func(at int64) float64
	steps   []int64 // instants at which a Steps feature changes, sorted
	holes   []bool  // per step: undefined from there on
	slack   int64   // Crossing of a monotone feature is too early (> 0) or too late (< 0)
	varies  Varies
}

// movingSource is a customer whose features move as their catalogue says.
type movingSource struct {
	motions []motion
	text    string
	cat     Catalogue
}

func (s *movingSource) Text(int) string { return s.text }

func (s *movingSource) Number(f int, at int64) (float64, bool) {
	m := &s.motions[f]
	if m.varies == Steps {
		if i := m.step(at); i >= 0 && m.holes[i] {
			return 0, false
		}
	}
	return m.value(at), m.defined
}

// step is the index of the last step not later than at, -1 before the first.
func (m *motion) step(at int64) int {
	i, found := slices.BinarySearch(m.steps, at)
	if found {
		return i
	}
	return i - 1
}

func (s *movingSource) Crossing(f int, at int64, threshold float64) int64 {
	m := &s.motions[f]
	if m.varies == Steps {
		if i := m.step(at) + 1; i < len(m.steps) {
			return m.steps[i]
		}
		return Never
	}
	true_ := firstChange(m.value, at, threshold)
	if true_ == Never {
		return Never
	}
	return max(at+1, true_-m.slack)
}

// firstChange is the first instant after at at which a monotone value reaches or
// passes a threshold, by bisection over a thousand years.
func firstChange(value func(int64) float64, at int64, threshold float64) int64 {
	side := func(t int64) int {
		switch v := value(t); {
		case v < threshold:
			return -1
		case v > threshold:
			return 1
		}
		return 0
	}
	lo, hi := at, at+365_000*day
	if side(lo) == side(hi) {
		return Never
	}
	for hi-lo > 1 {
		if mid := lo + (hi-lo)/2; side(mid) == side(lo) {
			lo = mid
		} else {
			hi = mid
		}
	}
	return hi
}

func randomMotions(rng *rand.Rand, cat Catalogue) *movingSource {
	s := &movingSource{cat: cat, text: pick(rng, "a", "b"), motions: make([]motion, len(cat))}
	for i, f := range cat {
		s.motions[i] = randomMotion(rng, f)
	}
	return s
}

func randomMotion(rng *rand.Rand, f Feature) motion {
	m := motion{defined: rng.IntN(6) > 0, varies: f.Varies, slack: pick[int64](rng, 0, 0, 1, 5, 3*day, -1, -77, -2*day)}
	origin, rate := rng.Int64N(60*day)-30*day, math.Exp(rng.Float64()*4-2)
	switch {
	case f.Varies == Constant:
		v := float64(rng.IntN(4))
		m.value = func(int64) float64 { return v }
	case f.Varies == Steps:
		m.setSteps(rng, f.Kind)
	case f.Kind == Bool:
		m.value = func(at int64) float64 { return indicator((at >= origin) == (f.Varies == Rising)) }
	case f.Name == "risk": // falls short of 1 for good
		m.value = func(at int64) float64 { return 1 - math.Exp(-rate*math.Max(float64(at-origin), 0)/(10*day)) }
	default:
		sign := 1.0
		if f.Varies == Falling {
			sign = -1
		}
		m.value = func(at int64) float64 { return sign * rate * (float64(at-origin) / day) }
	}
	return m
}

func indicator(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (m *motion) setSteps(rng *rand.Rand, kind Kind) {
	levels := []float64{float64(rng.IntN(2))}
	for range rng.IntN(12) {
		step := rng.Int64N(60*day) - 20*day
		if n := len(m.steps); n > 0 && rng.IntN(3) == 0 {
			step = m.steps[n-1] + 1 // a value that lasts a millisecond
		}
		m.steps = append(m.steps, step)
		m.holes = append(m.holes, rng.IntN(5) == 0)
		level := pick(rng, 0, 1, 2.5, 7, 30)
		if kind == Bool {
			level = float64(rng.IntN(2))
		}
		levels = append(levels, level)
	}
	slices.Sort(m.steps)
	m.value = func(at int64) float64 { return levels[m.step(at)+1] }
}

// changes lists every instant after at at which any comparison of any feature
// with one of the thresholds may change, sorted.
func (s *movingSource) changes(at int64, thresholds []float64) (list []int64) {
	for i := range s.motions {
		m := &s.motions[i]
		list = append(list, m.steps...)
		if m.varies != Rising && m.varies != Falling {
			continue
		}
		for _, th := range thresholds {
			// twice: a value may rest on the threshold before it passes it
			for t := firstChange(m.value, at, th); t != Never; t = firstChange(m.value, t, th) {
				list = append(list, t)
			}
		}
	}
	list = slices.DeleteFunc(list, func(t int64) bool { return t <= at })
	slices.Sort(list)
	return slices.Compact(list)
}
