package lifecycle

import (
	"fmt"
	"math"
	"strings"

	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// subset compiles one type-checked expression and notes everything outside the
// subset. After a problem it goes on with any value, to find the others.
type subset struct {
	tree     *celast.AST
	features map[string]int
	params   map[string]Value
	cat      Catalogue
	used     map[string]bool // parameters
	problems Problems
}

func (s *subset) refuse(e celast.Expr, format string, args ...any) {
	s.problems = append(s.problems, Problem{Expr: position(s.tree, e.ID()), Reason: fmt.Sprintf(format, args...)})
}

// lookup resolves an identifier as a feature (number >= 0) or a parameter.
func (s *subset) lookup(e celast.Expr) (feature int, param Value, ok bool) {
	name := strings.TrimPrefix(e.AsIdent(), ".")
	if i, found := s.features[name]; found {
		return i, Value{}, true
	}
	name, prefixed := strings.CutPrefix(name, paramPrefix+".")
	v, found := s.params[name]
	if !prefixed || !found {
		s.refuse(e, "%s is no feature or parameter", e.AsIdent())
		return -1, Value{}, false
	}
	s.used[name] = true
	return -1, v, true
}

// condition compiles an expression of type bool.
func (s *subset) condition(e celast.Expr) node {
	switch e.Kind() {
	case celast.LiteralKind:
		return fixed(e.AsLiteral() == types.True)
	case celast.IdentKind:
		return s.flag(e)
	case celast.CallKind:
		return s.operation(e)
	}
	s.refuse(e, "%s is not part of the rule language", describeKind(e))
	return fixed(false)
}

func (s *subset) flag(e celast.Expr) node {
	i, param, ok := s.lookup(e)
	switch {
	case !ok || i < 0:
		return fixed(param.Bool)
	case s.cat[i].Varies != Constant:
		return newTimedBool(i, s.cat[i].Varies)
	}
	return node{test: compareConst(operators.NotEquals, i, 0)}
}

func (s *subset) operation(e celast.Expr) node {
	args := e.AsCall().Args()
	switch op := e.AsCall().FunctionName(); op {
	case operators.LogicalAnd:
		return and(s.condition(args[0]), s.condition(args[1]))
	case operators.LogicalOr:
		return or(s.condition(args[0]), s.condition(args[1]))
	case operators.LogicalNot:
		return not(s.condition(args[0]))
	case operators.In:
		return s.among(e, args[0], args[1])
	case operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals,
		operators.Equals, operators.NotEquals:
		return s.comparison(e, op, args)
	}
	s.refuse(e, "%s is not part of the rule language", describeKind(e))
	return fixed(false)
}

func (s *subset) comparison(e celast.Expr, op string, args []celast.Expr) node {
	switch s.tree.GetType(args[0].ID()).Kind() {
	case types.DoubleKind:
		return s.numbers(e, op, args)
	case types.StringKind:
		return s.texts(e, op, args)
	case types.BoolKind:
		s.refuse(e, "truth values are not compared: write the condition itself, or ! before it")
	default:
		s.refuse(e, "only numbers and texts are compared")
	}
	return fixed(false)
}

func (s *subset) numbers(e celast.Expr, op string, args []celast.Expr) node {
	before := len(s.problems)
	l, r := s.number(args[0]), s.number(args[1])
	if len(s.problems) > before {
		return fixed(false)
	}
	for i, o := range []operand{l, r} {
		if o.fixed && (math.IsNaN(o.value) || math.IsInf(o.value, 0)) {
			s.refuse(args[i], "the constant is %v, not a finite number", o.value)
			return fixed(false)
		}
	}
	if l.varies == Constant && r.varies == Constant {
		return compareOperands(op, l, r)
	}
	if l.varies == Constant {
		l, r, op = r, l, mirrored(op)
	}
	name := s.cat[l.feature].Name
	switch {
	case !r.fixed:
		s.refuse(e, "%s changes with time: it can only be compared with a constant", name)
	case op == operators.Equals || op == operators.NotEquals:
		s.refuse(e, "%s changes with time: it can only be compared by <, <=, > or >=", name)
	default:
		return newTimed(op, l.feature, l.varies, r.value)
	}
	return fixed(false)
}

// number compiles an expression of type double.
func (s *subset) number(e celast.Expr) operand {
	switch e.Kind() {
	case celast.LiteralKind:
		if v, ok := e.AsLiteral().(types.Double); ok {
			return constant(float64(v))
		}
	case celast.IdentKind:
		i, param, _ := s.lookup(e)
		if i < 0 {
			return constant(param.Number)
		}
		return featureOperand(i, s.cat[i])
	case celast.CallKind:
		return s.calculation(e)
	}
	s.refuse(e, "%s is not part of the rule language", describeKind(e))
	return constant(0)
}

func (s *subset) calculation(e celast.Expr) operand {
	args := e.AsCall().Args()
	switch op := e.AsCall().FunctionName(); op {
	case operators.Add, operators.Subtract, operators.Multiply, operators.Divide:
		return arithmetic(op, s.still(args[0]), s.still(args[1]))
	case operators.Negate:
		// Not 0-v: that would make 0 of -0.
		return arithmetic(operators.Multiply, constant(-1), s.still(args[0]))
	}
	s.refuse(e, "%s is not part of the rule language", describeKind(e))
	return constant(0)
}

// still compiles a number that must not change with time.
func (s *subset) still(e celast.Expr) operand {
	o := s.number(e)
	if o.varies == Constant {
		return o
	}
	s.refuse(e, "%s changes with time: it cannot be calculated with, only compared with a constant", s.cat[o.feature].Name)
	return constant(0)
}

func (s *subset) texts(e celast.Expr, op string, args []celast.Expr) node {
	if op != operators.Equals && op != operators.NotEquals {
		s.refuse(e, "texts are only compared by ==, != and in")
		return fixed(false)
	}
	l, lf := s.text(args[0])
	r, rf := s.text(args[1])
	n := fixed(l == r)
	switch {
	case lf >= 0 && rf >= 0:
		s.refuse(e, "a text feature can only be compared with a constant text")
		return fixed(false)
	case lf >= 0:
		n = textNode(lf, []string{r})
	case rf >= 0:
		n = textNode(rf, []string{l})
	}
	if op == operators.NotEquals {
		return not(n)
	}
	return n
}

// text compiles an expression of type string: a constant (feature -1) or a
// feature.
func (s *subset) text(e celast.Expr) (constant string, feature int) {
	switch e.Kind() {
	case celast.LiteralKind:
		if v, ok := e.AsLiteral().(types.String); ok {
			return string(v), -1
		}
	case celast.IdentKind:
		i, param, _ := s.lookup(e)
		return param.Text, i
	}
	s.refuse(e, "%s is not part of the rule language", describeKind(e))
	return "", -1
}

func (s *subset) among(e, item, list celast.Expr) node {
	if s.tree.GetType(item.ID()).Kind() != types.StringKind || list.Kind() != celast.ListKind || list.AsList().Size() == 0 {
		s.refuse(e, "in is only for a text and a list of constant texts")
		return fixed(false)
	}
	value, feature := s.text(item)
	var texts []string
	for _, element := range list.AsList().Elements() {
		t, f := s.text(element)
		if f >= 0 {
			s.refuse(element, "the list may only hold constant texts")
		}
		texts = append(texts, t)
	}
	if feature < 0 {
		return fixed(has(texts, value))
	}
	return textNode(feature, texts)
}

// describeKind names what an expression is, for people.
func describeKind(e celast.Expr) string {
	switch e.Kind() {
	case celast.CallKind:
		return describeCall(e.AsCall().FunctionName())
	case celast.SelectKind:
		return "selection of ." + e.AsSelect().FieldName()
	case celast.ListKind:
		return "a list here"
	case celast.MapKind, celast.StructKind:
		return "{...}"
	case celast.LiteralKind:
		return fmt.Sprintf("a literal of type %s", e.AsLiteral().Type())
	}
	return "this expression"
}

func describeCall(name string) string {
	switch name {
	case operators.Conditional:
		return "the choice ?:"
	case operators.Index:
		return "the index [...]"
	}
	if display, ok := operators.FindReverse(name); ok && display != "" {
		return "operator " + display
	}
	return "function " + name + "()"
}
