package lifecycle

// Lifecycle is a compiled document. It is read-only and safe for concurrent use.
type Lifecycle struct {
	ID      string
	Version int
	Labels  Labels
	Cycle   Cycle
	Phases  []Phase
	Rules   []Rule

	tests []test // of Rules, the last one always true
	flips []flip // of Rules; nil where time alone changes nothing
}

// Rule is a compiled rule.
type Rule struct {
	ID    string
	Phase int    // index in Phases
	When  string // expression as written
}

// Phase decides the phase at an instant: that of the first rule that matches,
// as indices in Phases and Rules. The last rule always matches.
func (l *Lifecycle) Phase(src Source, at int64) (phase, rule int) {
	last := len(l.tests) - 1
	for i := 0; i < last; i++ {
		if l.tests[i](src, at) {
			return l.Rules[i].Phase, i
		}
	}
	return l.Rules[last].Phase, last
}

// StartsCycle reports whether a move between two phases (indices in Phases)
// begins a new cycle of the customer; see Cycle.
func (l *Lifecycle) StartsCycle(from, to int) bool {
	return l.Phases[from].Churned == l.Cycle.From && l.Phases[to].Churned == l.Cycle.To
}

// maxRounds bounds how often Next looks on past an atom that flips without
// changing the rule that matches.
const maxRounds = 16

// Next is the first instant after at, exact to the millisecond, at which another
// rule than the given one matches if nothing happens; Never if there is none.
// The rule must be the one that Phase gave for the same src and at.
//
// Only what can still change the decision is looked at: rules after the matching
// one, comparisons that time cannot flip any more, and those whose rule is held
// down by another one are left out. The result is a lower bound, at which the
// same rule still matches, in two cases: a Steps feature takes more than 64
// steps without flipping its comparison, or 16 comparisons in a row flip without
// changing the rule. Callers wake at it, ask Phase, and ask again.
func (l *Lifecycle) Next(src Source, at int64, rule int) int64 {
	for range maxRounds {
		next := l.flip(src, at, rule)
		if next == Never {
			return Never
		}
		if _, now := l.Phase(src, next); now != rule {
			return next
		}
		at = next
	}
	return at
}

// flip is a lower bound of the first instant after at, at which a rule up to the
// given one changes its outcome.
func (l *Lifecycle) flip(src Source, at int64, rule int) int64 {
	next := int64(Never)
	for _, f := range l.flips[:rule+1] {
		if f != nil {
			next = min(next, f(src, at))
		}
	}
	return next
}
