package oracle

import (
	"fmt"
	"slices"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"zyklus/models/lifecycle"
)

// Lifecycle decides phases in a way of its own.
type Lifecycle interface {
	ID() string
	Version() int
	// Phase is the one at an instant, and the id of the rule that says so.
	Phase(f *Features, at int64) (phase, rule string)
	// Flips are conditions that nothing but time turns over, each at most once.
	Flips(f *Features) []func(at int64) bool
	// Churned is the mark of a phase.
	Churned(phase string) string
	// StartsCycle reports whether a move begins a new cycle.
	StartsCycle(from, to string) bool
}

// RoleFive is the preset role5, written by hand.
type RoleFive struct{}

// ID implements Lifecycle.
func (RoleFive) ID() string { return "role5" }

// Version implements Lifecycle.
func (RoleFive) Version() int { return 1 }

// Phase implements Lifecycle.
func (RoleFive) Phase(f *Features, at int64) (phase, rule string) {
	phase = "active"
	since := f.daysSince(at)
	switch {
	case f.orders == 0:
		phase = "prospect"
	case since > 365:
		phase = "former"
	case f.overdue(at) > 3, since > 180, f.orders == 1 && since > 90:
		phase = "inactive"
	case f.orders == 1:
		phase = "new"
	}
	return phase, phase
}

// Flips implements Lifecycle.
func (RoleFive) Flips(f *Features) []func(at int64) bool {
	return []func(int64) bool{
		func(at int64) bool { return f.daysSince(at) > 90 },
		func(at int64) bool { return f.daysSince(at) > 180 },
		func(at int64) bool { return f.daysSince(at) > 365 },
		func(at int64) bool { return f.overdue(at) > 3 },
	}
}

// Churned implements Lifecycle.
func (RoleFive) Churned(phase string) string {
	switch phase {
	case "inactive":
		return "at_risk"
	case "former":
		return "lost"
	}
	return "none"
}

// StartsCycle implements Lifecycle.
func (RoleFive) StartsCycle(from, to string) bool { return from == "former" && to != "inactive" }

// Document is any lifecycle: its rules are parsed by cel-go and walked over as they stand.
type Document struct {
	doc   *lifecycle.Document
	rules []ast.Expr
}

// NewDocument returns the lifecycle of a document. The error names a rule or a feature that the oracle does not know.
func NewDocument(doc *lifecycle.Document) (*Document, error) {
	env, err := cel.NewEnv(cel.ClearMacros())
	if err != nil {
		return nil, err
	}
	d := &Document{doc: doc}
	for _, r := range doc.Rules {
		parsed, issues := env.Parse(r.When)
		if issues.Err() != nil {
			return nil, fmt.Errorf("lifecycle %s, rule %s: %w", doc.ID, r.ID, issues.Err())
		}
		rule := parsed.NativeRep().Expr()
		if name := d.unknown(rule); name != "" {
			return nil, fmt.Errorf("lifecycle %s, rule %s: the oracle cannot recompute %s", doc.ID, r.ID, name)
		}
		d.rules = append(d.rules, rule)
	}
	return d, nil
}

// unknown returns a name or operator in an expression that means nothing here.
func (d *Document) unknown(e ast.Expr) string {
	switch e.Kind() {
	case ast.LiteralKind:
		return ""
	case ast.SelectKind:
		name := e.AsSelect().FieldName()
		if !slices.ContainsFunc(d.doc.Parameters, func(p lifecycle.Parameter) bool { return p.Name == name }) {
			return "param." + name
		}
		return ""
	case ast.IdentKind:
		if _, known := (&Features{}).number(e.AsIdent(), 0); !known {
			return e.AsIdent()
		}
		return ""
	case ast.CallKind:
		for _, a := range e.AsCall().Args() {
			if name := d.unknown(a); name != "" {
				return name
			}
		}
		return ""
	}
	return fmt.Sprintf("an expression of kind %v", e.Kind())
}

// ID implements Lifecycle.
func (d *Document) ID() string { return d.doc.ID }

// Version implements Lifecycle.
func (d *Document) Version() int { return d.doc.Version }

// Phase implements Lifecycle.
func (d *Document) Phase(f *Features, at int64) (phase, rule string) {
	for i, r := range d.doc.Rules {
		if v, ok := d.eval(d.rules[i], f, at); ok && v.(bool) {
			return r.Phase, r.ID
		}
	}
	panic("BUG: the last rule of a lifecycle is always true")
}

// Flips implements Lifecycle. What changes in steps does so at the ends of windows, which are looked at anyway.
func (d *Document) Flips(f *Features) (flips []func(at int64) bool) {
	for _, r := range d.rules {
		ast.PostOrderVisit(r, ast.NewExprVisitor(func(e ast.Expr) {
			if e.Kind() != ast.CallKind || len(e.AsCall().Args()) != 2 || !slices.ContainsFunc(e.AsCall().Args(), varies) {
				return
			}
			flips = append(flips, func(at int64) bool {
				v, ok := d.eval(e, f, at)
				holds, _ := v.(bool)
				return ok && holds
			})
		}))
	}
	return flips
}

// varies reports whether an expression is a feature that moves with time.
func varies(e ast.Expr) bool {
	return e.Kind() == ast.IdentKind && slices.Contains([]string{"days_since_last_order", "overdue_ratio", "churn_risk", "p_alive"}, e.AsIdent())
}

// Churned implements Lifecycle.
func (d *Document) Churned(phase string) string {
	for _, p := range d.doc.Phases {
		if p.ID == phase {
			return p.Churned
		}
	}
	return ""
}

// StartsCycle implements Lifecycle.
func (d *Document) StartsCycle(from, to string) bool {
	return d.Churned(from) == d.doc.Cycle.From && d.Churned(to) == d.doc.Cycle.To
}

// eval returns a bool, a float64 or a string; ok is false if it is undefined.
func (d *Document) eval(e ast.Expr, f *Features, at int64) (v any, ok bool) {
	switch e.Kind() {
	case ast.LiteralKind:
		if i, whole := e.AsLiteral().(types.Int); whole {
			return float64(i), true
		}
		return e.AsLiteral().Value(), true
	case ast.SelectKind:
		for _, p := range d.doc.Parameters {
			if p.Name == e.AsSelect().FieldName() {
				return map[lifecycle.Kind]any{lifecycle.Number: p.Value.Number, lifecycle.Bool: p.Value.Bool, lifecycle.Text: p.Value.Text}[p.Value.Kind], true
			}
		}
	case ast.IdentKind:
		v, _ := f.number(e.AsIdent(), at)
		return v, v != nil
	}
	return d.call(e.AsCall(), f, at)
}

// call evaluates an operation. A comparison with something undefined is false.
func (d *Document) call(c ast.CallExpr, f *Features, at int64) (v any, ok bool) {
	var args []any
	defined := true
	for _, a := range c.Args() {
		v, ok := d.eval(a, f, at)
		args, defined = append(args, v), defined && ok
	}
	switch c.FunctionName() {
	case operators.LogicalAnd:
		return args[0].(bool) && args[1].(bool), true
	case operators.LogicalOr:
		return args[0].(bool) || args[1].(bool), true
	case operators.LogicalNot:
		return !args[0].(bool), true
	case operators.Equals:
		return defined && args[0] == args[1], true
	case operators.NotEquals:
		return defined && args[0] != args[1], true
	}
	if len(args) == 1 && c.FunctionName() == operators.Negate && defined {
		return -args[0].(float64), true
	}
	if !defined {
		return false, isComparison(c.FunctionName())
	}
	return calculate(c.FunctionName(), args[0].(float64), args[1].(float64)), true
}

func isComparison(op string) bool {
	return slices.Contains([]string{operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals}, op)
}

func calculate(op string, a, b float64) any {
	switch op {
	case operators.Less:
		return a < b
	case operators.LessEquals:
		return a <= b
	case operators.Greater:
		return a > b
	case operators.GreaterEquals:
		return a >= b
	case operators.Add:
		return a + b
	case operators.Subtract:
		return a - b
	case operators.Multiply:
		return a * b
	case operators.Divide:
		return a / b
	}
	panic("BUG: the oracle does not know the operator " + op)
}
