package lifecycle

import (
	"slices"

	"cel.dev/cel-go/common/operators"
)

// operand is a compiled number: a constant, a feature, or arithmetic of features
// that do not change with time.
type operand struct {
	fixed   bool // value is known at compile time
	value   float64
	feature int // number of the feature, -1 if it is not one alone
	varies  Varies
	get     func(src Source, at int64) (float64, bool)
}

func constant(v float64) operand { return operand{fixed: true, value: v, feature: -1} }

func featureOperand(i int, f Feature) operand {
	get := func(src Source, at int64) (float64, bool) { return src.Number(i, at) }
	return operand{feature: i, varies: f.Varies, get: get}
}

// getter is the getter of any operand.
func (o operand) getter() func(Source, int64) (float64, bool) {
	if o.fixed {
		return func(Source, int64) (float64, bool) { return o.value, true }
	}
	return o.get
}

// arithmetic joins two operands that do not change with time.
func arithmetic(op string, l, r operand) operand {
	if l.fixed && r.fixed {
		return constant(calculate(op, l.value, r.value))
	}
	lg, rg := l.getter(), r.getter()
	return operand{feature: -1, get: func(src Source, at int64) (float64, bool) {
		lv, lok := lg(src, at)
		rv, rok := rg(src, at)
		return calculate(op, lv, rv), lok && rok
	}}
}

// calculate takes the result of every step as a float64, never fused with the
// next one: the same on every processor.
func calculate(op string, l, r float64) float64 {
	switch op {
	case operators.Add:
		return float64(l + r)
	case operators.Subtract:
		return float64(l - r)
	case operators.Multiply:
		return float64(l * r)
	}
	return float64(l / r)
}

// compareOperands joins two operands of which none changes with time.
func compareOperands(op string, l, r operand) node {
	switch {
	case l.fixed && r.fixed:
		return fixed(compare(op, l.value, r.value))
	case l.feature >= 0 && r.fixed:
		return node{test: compareConst(op, l.feature, r.value)}
	case r.feature >= 0 && l.fixed:
		return node{test: compareConst(mirrored(op), r.feature, l.value)}
	}
	lg, rg := l.getter(), r.getter()
	return node{test: func(src Source, at int64) bool {
		lv, lok := lg(src, at)
		rv, rok := rg(src, at)
		return lok && rok && compare(op, lv, rv)
	}}
}

// mirrored is the operator with its sides exchanged.
func mirrored(op string) string {
	switch op {
	case operators.Less:
		return operators.Greater
	case operators.LessEquals:
		return operators.GreaterEquals
	case operators.Greater:
		return operators.Less
	case operators.GreaterEquals:
		return operators.LessEquals
	}
	return op
}

// textNode is a text feature compared with constant texts: true if it is one of
// them.
func textNode(feature int, among []string) node {
	if len(among) == 1 {
		only := among[0]
		return node{test: func(src Source, _ int64) bool { return src.Text(feature) == only }}
	}
	return node{test: func(src Source, _ int64) bool { return slices.Contains(among, src.Text(feature)) }}
}
