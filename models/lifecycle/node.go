package lifecycle

// test is the truth of a condition at an instant.
type test func(src Source, at int64) bool

// flip is a lower bound, after at, of the first instant at which the truth of a
// condition differs from that at at, if nothing happens.
type flip func(src Source, at int64) int64

// node is a compiled condition.
type node struct {
	fixed bool // truth is known at compile time; then test and flip are nil
	truth bool
	test  test
	flip  flip // nil: time alone never changes the truth
}

func fixed(truth bool) node { return node{fixed: true, truth: truth} }

// evaluator is the test of any node.
func (n node) evaluator() test {
	if n.fixed {
		return func(Source, int64) bool { return n.truth }
	}
	return n.test
}

func not(n node) node {
	if n.fixed {
		return fixed(!n.truth)
	}
	return node{test: func(src Source, at int64) bool { return !n.test(src, at) }, flip: n.flip}
}

func and(l, r node) node {
	switch {
	case l.fixed && l.truth, r.fixed && !r.truth:
		return r
	case l.fixed, r.fixed:
		return l
	}
	n := node{test: func(src Source, at int64) bool { return l.test(src, at) && r.test(src, at) }}
	n.flip = joint(l, r, true)
	return n
}

func or(l, r node) node {
	switch {
	case l.fixed && !l.truth, r.fixed && r.truth:
		return r
	case l.fixed, r.fixed:
		return l
	}
	n := node{test: func(src Source, at int64) bool { return l.test(src, at) || r.test(src, at) }}
	n.flip = joint(l, r, false)
	return n
}

// joint is the flip of l && r (rests = true) and of l || r (rests = false). A
// child whose truth is not rests decides the outcome alone, and holds it until it
// flips; while both do, the outcome stands at least until the later of the two.
func joint(l, r node, rests bool) flip {
	switch {
	case l.flip == nil && r.flip == nil:
		return nil
	case l.flip == nil:
		return unlessHeld(l.test, r.flip, rests)
	case r.flip == nil:
		return unlessHeld(r.test, l.flip, rests)
	}
	return func(src Source, at int64) int64 {
		lt, rt := l.test(src, at) == rests, r.test(src, at) == rests
		switch {
		case lt && rt:
			return min(l.flip(src, at), r.flip(src, at))
		case lt:
			return r.flip(src, at)
		case rt:
			return l.flip(src, at)
		}
		first := l.flip(src, at)
		if first == Never {
			return Never
		}
		return max(first, r.flip(src, at))
	}
}

// unlessHeld is the flip of a child beside one that time does not move: never
// while that one decides the outcome.
func unlessHeld(still test, moving flip, rests bool) flip {
	return func(src Source, at int64) int64 {
		if still(src, at) != rests {
			return Never
		}
		return moving(src, at)
	}
}
