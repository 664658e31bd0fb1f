package lifecycle

import "cel.dev/cel-go/common/operators"

// compareConst is a feature compared with a constant; false while undefined.
func compareConst(op string, feature int, c float64) test {
	switch op {
	case operators.Less:
		return func(src Source, at int64) bool { v, ok := src.Number(feature, at); return ok && v < c }
	case operators.LessEquals:
		return func(src Source, at int64) bool { v, ok := src.Number(feature, at); return ok && v <= c }
	case operators.Greater:
		return func(src Source, at int64) bool { v, ok := src.Number(feature, at); return ok && v > c }
	case operators.GreaterEquals:
		return func(src Source, at int64) bool { v, ok := src.Number(feature, at); return ok && v >= c }
	case operators.Equals:
		return func(src Source, at int64) bool { v, ok := src.Number(feature, at); return ok && v == c }
	}
	return func(src Source, at int64) bool { v, ok := src.Number(feature, at); return ok && v != c }
}

// compare is a comparison of two numbers, of NaN as IEEE 754 and CEL have it.
func compare(op string, l, r float64) bool {
	switch op {
	case operators.Less:
		return l < r
	case operators.LessEquals:
		return l <= r
	case operators.Greater:
		return l > r
	case operators.GreaterEquals:
		return l >= r
	case operators.Equals:
		return l == r
	}
	return l != r
}

// direction is the way in which time can move the truth of a timed atom.
type direction uint8

const (
	anyWay  direction = iota // a Steps feature: back and forth
	toTrue                   // once, from false to true
	toFalse                  // once, from true to false
)

// timed is a comparison of a feature that changes with time and a constant.
type timed struct {
	feature   int
	threshold float64
	moves     direction
	test      test
}

// newTimed gives the node of `feature op threshold`; op is one of < <= > >=.
func newTimed(op string, feature int, varies Varies, threshold float64) node {
	a := &timed{feature: feature, threshold: threshold, test: compareConst(op, feature, threshold)}
	above := op == operators.Greater || op == operators.GreaterEquals
	switch {
	case varies == Steps:
		a.moves = anyWay
	case (varies == Rising) == above:
		a.moves = toTrue
	default:
		a.moves = toFalse
	}
	return node{test: a.test, flip: a.flip}
}

// newTimedBool gives the node of a Bool that changes with time; it crosses 0.5.
func newTimedBool(feature int, varies Varies) node {
	n := node{test: compareConst(operators.NotEquals, feature, 0)}
	a := &timed{feature: feature, threshold: 0.5, test: n.test}
	switch varies {
	case Rising:
		a.moves = toTrue
	case Falling:
		a.moves = toFalse
	}
	n.flip = a.flip
	return n
}

func (a *timed) flip(src Source, at int64) int64 {
	if at >= lastInstant {
		return Never
	}
	holds := a.test(src, at)
	if a.moves == anyWay {
		return a.flipBySteps(src, at, holds)
	}
	if holds == (a.moves == toTrue) {
		return Never
	}
	if _, ok := src.Number(a.feature, at); !ok {
		return Never // of a Rising or Falling feature only an event changes that
	}
	return a.flipOnce(src, at, holds)
}

// flipOnce is the exact instant at which the truth of a monotone comparison
// leaves holds. Crossing's bound is where the search starts, the comparison
// itself decides: whatever the rounding of the feature's inverse, the result is
// the first millisecond at which test differs.
func (a *timed) flipOnce(src Source, at int64, holds bool) int64 {
	hi := max(src.Crossing(a.feature, at, a.threshold), at+1)
	if hi > lastInstant {
		return Never
	}
	lo := at
	if hi-1 > at && a.test(src, hi-1) == holds {
		lo = hi - 1
	}
	for step := int64(1); a.test(src, hi) == holds; step *= 2 {
		if hi == lastInstant {
			return Never
		}
		lo, hi = hi, min(hi+step, lastInstant)
	}
	for hi-lo > 1 {
		if mid := lo + (hi-lo)/2; a.test(src, mid) == holds {
			lo = mid
		} else {
			hi = mid
		}
	}
	return hi
}

// maxSteps bounds how many steps of a feature are looked at.
const maxSteps = 64

// flipBySteps goes from step to step: between two of them nothing changes, so
// that the first one with another truth is exact. After maxSteps the last one
// looked at is a lower bound.
func (a *timed) flipBySteps(src Source, at int64, holds bool) int64 {
	for range maxSteps {
		next := max(src.Crossing(a.feature, at, a.threshold), at+1)
		if next > lastInstant {
			return Never
		}
		if a.test(src, next) != holds {
			return next
		}
		at = next
	}
	return at
}
