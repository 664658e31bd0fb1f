package lifecycle

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// randomLifecycle compiles 2 to 5 random rules and the fallback.
func randomLifecycle(t testing.TB, g *generator) *Lifecycle {
	t.Helper()
	doc := &Document{ID: "random", Version: 1, Parameters: testParameters()}
	for i := range 2 + g.rng.IntN(4) {
		rule, _ := g.condition(3)
		doc.Phases = append(doc.Phases, Phase{ID: fmt.Sprint("p", i)})
		doc.Rules = append(doc.Rules, RuleText{ID: fmt.Sprint("r", i), Phase: fmt.Sprint("p", i), When: rule})
	}
	doc.Phases = append(doc.Phases, Phase{ID: "other"})
	doc.Rules = append(doc.Rules, RuleText{ID: "other", Phase: "other", When: "true"})
	return compileLoosely(t, doc)
}

// compileLoosely allows parameters nobody uses and rules that are always true.
func compileLoosely(t testing.TB, doc *Document) *Lifecycle {
	t.Helper()
	env, err := environment(doc, testCatalogue())
	if err != nil {
		t.Fatal(err)
	}
	c := newCompiler(doc, testCatalogue(), env)
	for i, r := range doc.Rules {
		before := len(c.problems)
		c.rule(i, r)
		for _, p := range c.problems[before:] {
			if p.Reason != "always true: the rules after it never match" {
				t.Fatalf("%s: %v", r.When, p)
			}
		}
	}
	return c.out
}

// bruteNext is the first change of the matching rule among all instants at which
// anything could change.
func bruteNext(l *Lifecycle, src *movingSource, at int64, rule int) int64 {
	for _, t := range src.changes(at, thresholds()) {
		if _, now := l.Phase(src, t); now != rule {
			return t
		}
	}
	return Never
}

func checkNext(t *testing.T, seed uint64) (bounds int) {
	t.Helper()
	g := &generator{rng: rand.New(rand.NewPCG(seed, 3)), simple: true}
	l := randomLifecycle(t, g)
	src := randomMotions(g.rng, testCatalogue())
	for at := int64(0); at < 100*365*day; {
		_, rule := l.Phase(src, at)
		got, want := l.Next(src, at, rule), bruteNext(l, src, at, rule)
		if got > want {
			t.Fatalf("seed %d: Next(%d) = %d, later than the change at %d\n%s", seed, at, got, want, rulesOf(l))
		}
		if got == Never {
			return bounds
		}
		if got <= at {
			t.Fatalf("seed %d: Next(%d) = %d, not after it\n%s", seed, at, got, rulesOf(l))
		}
		if got < want {
			bounds++
		}
		for range 10 {
			between := at + g.rng.Int64N(got-at)
			if _, now := l.Phase(src, between); now != rule {
				t.Fatalf("seed %d: rule changes at %d, before Next(%d) = %d\n%s", seed, between, at, got, rulesOf(l))
			}
		}
		at = got
	}
	return bounds
}

func rulesOf(l *Lifecycle) (s string) {
	for _, r := range l.Rules {
		s += r.When + "\n"
	}
	return s
}

func TestNextAgainstBruteForce(t *testing.T) {
	bounds := 0
	const rounds = 3000
	for seed := range uint64(rounds) {
		bounds += checkNext(t, seed)
	}
	if bounds > rounds/100 {
		t.Errorf("%d results were lower bounds only; documented as rare", bounds)
	}
}

func FuzzNext(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { checkNext(t, seed) })
}

// countdown counts the calls of its Rising feature "days" and steps of "window".
type countdown struct {
	valueSource
	bound func(at int64, threshold float64) int64
	calls int
}

func (c *countdown) Number(f int, at int64) (float64, bool) {
	if testCatalogue()[f].Name != "days" {
		return c.valueSource.Number(f, at)
	}
	c.calls++
	return float64(at) / day, true
}

func (c *countdown) Crossing(_ int, at int64, threshold float64) int64 { return c.bound(at, threshold) }

func single(t testing.TB, rule string) *Lifecycle {
	t.Helper()
	return compileLoosely(t, &Document{ID: "single", Parameters: testParameters(),
		Phases: []Phase{{ID: "p"}, {ID: "q"}},
		Rules:  []RuleText{{ID: "p", Phase: "p", When: rule}, {ID: "q", Phase: "q", When: "true"}}})
}

// Whatever the bound says, the result is exact to the millisecond.
func TestNextExactWhateverTheBound(t *testing.T) {
	for _, c := range []struct {
		rule string
		want int64
	}{
		{"days > 30", 30*day + 1}, {"days >= 30", 30 * day}, {"days < 30", 30 * day}, {"days <= 30", 30*day + 1},
		{"30 < days", 30*day + 1}, {"!(days > 30)", 30*day + 1},
	} {
		for name, bound := range map[string]int64{"exact": 30 * day, "a millisecond late": 30*day + 2, "early": 30*day - 12345,
			"a day late": 31 * day, "useless": 0, "negative": -5, "far too early": 1} {
			src := &countdown{bound: func(int64, float64) int64 { return bound }}
			l := single(t, c.rule)
			_, rule := l.Phase(src, 5)
			if got := l.Next(src, 5, rule); got != c.want {
				t.Errorf("%s, bound %s: Next = %d, want %d", c.rule, name, got, c.want)
			}
		}
	}
}

func TestNextCost(t *testing.T) {
	src := &countdown{bound: func(_ int64, threshold float64) int64 { return int64(threshold * day) }}
	l := single(t, "days > 30")
	if got := l.Next(src, 0, 1); got != 30*day+1 || src.calls > 8 {
		t.Errorf("Next = %d after %d evaluations, want at most 8 with an exact bound", got, src.calls)
	}
}

func TestNextPrunes(t *testing.T) {
	asked := 0
	for _, c := range []struct {
		rule string
		want int64
		asks bool
	}{
		{"vip && days > 30", Never, false},                         // held down by a constant
		{"!vip || days > 30", Never, false},                        // held up by a constant
		{"days > 30 && vip", Never, false},                         // the same, the other way round
		{"days < 0.5", Never, false},                               // false already, rising
		{"lapsed", Never, false},                                   // undefined
		{"days > 30 || days > 40", 30*day + 1, true},               // the earlier one
		{"days > 30 && days > 40", 40*day + 1, true},               // the later one
		{"days > 30 && left > 2", Never, true},                     // undefined for good
		{"(days > 30 && vip) || days > 60", 60*day + 1, true},      // one branch held down
		{"days > 30 && days < 31 || days >= 60", 30*day + 1, true}, // first edge
	} {
		src := &countdown{bound: func(_ int64, threshold float64) int64 { asked++; return int64(threshold * day) }}
		src.defined[6] = true // vip, 0
		l := single(t, c.rule)
		asked = 0
		_, rule := l.Phase(src, day)
		if got := l.Next(src, day, rule); got != c.want || asked > 0 != c.asks {
			t.Errorf("%s: Next = %d, want %d; crossings asked %d", c.rule, got, c.want, asked)
		}
	}
}

// A rule after the one that matches is not looked at.
func TestNextIgnoresLaterRules(t *testing.T) {
	src := &countdown{bound: func(_ int64, threshold float64) int64 { return int64(threshold * day) }}
	l := compileLoosely(t, &Document{Parameters: testParameters(), Phases: []Phase{{ID: "p"}},
		Rules: []RuleText{{Phase: "p", When: "days > 90"}, {Phase: "p", When: "orders < 1"}, {Phase: "p", When: "days > 30"}, {Phase: "p", When: "true"}}})
	src.defined[0] = true
	if _, rule := l.Phase(src, 0); rule != 1 || l.Next(src, 0, rule) != 90*day+1 {
		t.Errorf("rule %d, Next %d", rule, l.Next(src, 0, rule))
	}
}

// A bound that creeps or a value that never arrives ends.
func TestNextEnds(t *testing.T) {
	creep := &countdown{bound: func(at int64, _ float64) int64 { return at + 1 }}
	if got := single(t, "days > 1e300").Next(creep, 0, 1); got != Never {
		t.Errorf("unreachable threshold: %d", got)
	}
	if got := single(t, "days > 30").Next(creep, lastInstant, 0); got != Never {
		t.Errorf("after the last instant: %d", got)
	}
	if got := single(t, "window > 30").Next(creep, 0, 1); got != maxRounds*maxSteps {
		t.Errorf("steps without end: %d, want the lower bound %d", got, maxRounds*maxSteps)
	}
}
