package lifecycle

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// generator writes random conditions of the subset, twice: as a rule, and as
// CEL in which every comparison is guarded by "is defined", so that cel-go's
// evaluation has our meaning of undefined features.
type generator struct {
	rng    *rand.Rand
	simple bool // constants from thresholds() only, so that changes() knows them all
}

// thresholds are the constants that simple conditions compare with.
func thresholds() []float64 { return []float64{0, 0.5, 1, 2, 2.5, 7, 30} }

func (g *generator) condition(depth int) (rule, guarded string) {
	if depth == 0 || g.rng.IntN(4) == 0 {
		return g.atom()
	}
	l, lg := g.condition(depth - 1)
	switch g.rng.IntN(5) {
	case 0:
		return "!(" + l + ")", "!(" + lg + ")"
	case 1, 2:
		r, rg := g.condition(depth - 1)
		return "(" + l + " && " + r + ")", "(" + lg + " && " + rg + ")"
	}
	r, rg := g.condition(depth - 1)
	return "(" + l + " || " + r + ")", "(" + lg + " || " + rg + ")"
}

func guard(names []string, condition string) string {
	var b strings.Builder
	for _, n := range names {
		b.WriteString("has_" + n + " && ")
	}
	return "(" + b.String() + "(" + condition + "))"
}

func (g *generator) atom() (rule, guarded string) {
	switch g.rng.IntN(9) {
	case 0:
		name := pick(g.rng, "vip", "lapsed", "fresh", "trial")
		return name, guard([]string{name}, name)
	case 1:
		s := pick(g.rng, "true", "false", "param.on")
		return s, s
	case 2:
		s := fmt.Sprintf("segment %s %s", pick(g.rng, "==", "!="), pick(g.rng, `"a"`, `"b"`, "param.name"))
		return s, s
	case 3:
		s := pick(g.rng, `segment in ["a", "c"]`, `segment in [param.name]`, `"b" in ["a", "b"]`, `"a" != segment`)
		return s, s
	case 4, 5:
		return g.still()
	}
	name := pick(g.rng, "days", "left", "window", "risk")
	c, op := g.constant(), pick(g.rng, "<", "<=", ">", ">=")
	s := name + " " + op + " " + c
	if g.rng.IntN(3) == 0 {
		s = c + " " + op + " " + name
	}
	return s, guard([]string{name}, s)
}

// still compares numbers that time does not move.
func (g *generator) still() (rule, guarded string) {
	l, names := g.number(2)
	r, more := g.number(1)
	op := pick(g.rng, "<", "<=", ">", ">=", "==", "!=")
	s := l + " " + op + " " + r
	return s, guard(append(names, more...), s)
}

func (g *generator) number(depth int) (text string, names []string) {
	switch kind := g.rng.IntN(4); {
	case kind == 0:
		name := pick(g.rng, "orders", "spend")
		return name, []string{name}
	case depth == 0 || kind == 1:
		return g.constant(), nil
	}
	l, names := g.number(depth - 1)
	r, more := g.number(depth - 1)
	if g.rng.IntN(6) == 0 {
		return "-(" + l + ")", names
	}
	op := pick(g.rng, "+", "-", "*", "/")
	if g.simple && op == "/" { // constants that are not finite are refused
		op = "+"
	}
	return "(" + l + " " + op + " " + r + ")", append(names, more...)
}

// constant writes a number. No constant is 0 except in simple conditions, where
// nothing is divided.
func (g *generator) constant() string {
	if g.simple {
		return pick(g.rng, "0", "0.5", "1", "2", "2.5", "7", "30", "param.limit")
	}
	return pick(g.rng, "1", "2", "2.5", "-3", "7", "30", "1e3", "param.limit", "param.rate", "(2 * param.limit)", "(7 - 2)", "7 / 2")
}

func testParameters() []Parameter {
	return []Parameter{
		{Name: "limit", Value: Value{Kind: Number, Number: 7}},
		{Name: "rate", Value: Value{Kind: Number, Number: 0.5}},
		{Name: "on", Value: Value{Kind: Bool, Bool: true}},
		{Name: "name", Value: Value{Kind: Text, Text: "a"}},
	}
}
