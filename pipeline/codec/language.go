package codec

import (
	"errors"
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/checker"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// The language of mappings is a listed subset of CEL. cel-go parses and checks it; it is then compiled to closures over
// the record's JSON, because a mapping needs what CEL's own numbers do not give: amounts that stay exact.
//
// It differs from CEL in four points. A member that is missing is null, at any depth. Numbers are exact decimals, so that
// 0.1 + 0.2 is 0.3 and 7 / 2 is 3.5. int() and double() only turn texts into numbers; int() cuts the fraction off. And
// X.orValue(Y) may be asked of anything: it is Y where X is missing, null or the empty text.

// maxCost is the greatest cost, by cel-go's estimate for texts and lists of maxText and maxItems, of an expression: one
// loop over a list is well below, a loop in a loop is above.
const maxCost = 100_000_000

// language declares variables and functions to cel-go.
func language() (*cel.Env, error) {
	text, list := cel.StringType, cel.ListType(cel.StringType)
	member := func(name string, result *cel.Type, args ...*cel.Type) cel.EnvOption {
		id := fmt.Sprintf("%s_%d", name, len(args))
		return cel.Function(name, cel.MemberOverload(id, append([]*cel.Type{text}, args...), result))
	}
	options := []cel.EnvOption{
		cel.OptionalTypes(), cel.Macros(cel.GlobalMacro(operators.Has, 1, expandHas)), cel.ParserRecursionLimit(50), cel.ParserExpressionSizeLimit(8 << 10),
		cel.Variable("record", cel.DynType), cel.Variable("key", text), cel.Variable("headers", cel.MapType(text, cel.DynType)),
		cel.Function("orValue", cel.MemberOverload("text_or_value", []*cel.Type{text, text}, text)),
		member("lowerAscii", text), member("upperAscii", text), member("trim", text), member("split", list, text),
		member("replace", text, text, text), member("substring", text, cel.IntType), member("substring", text, cel.IntType, cel.IntType),
	}
	env, err := cel.NewEnv(options...)
	if err != nil {
		return nil, fmt.Errorf("declare the language of mappings: %w", err)
	}
	return env, nil
}

// expandHas makes has() of anything: CEL's own only takes a member by its name, as in has(record.user).
func expandHas(f cel.MacroExprFactory, _ celast.Expr, args []celast.Expr) (celast.Expr, *cel.Error) {
	if args[0].Kind() == celast.SelectKind {
		s := args[0].AsSelect()
		return f.NewPresenceTest(s.Operand(), s.FieldName()), nil
	}
	orEmpty := f.NewMemberCall("orValue", f.NewCall(anyType, args[0]), f.NewLiteral(types.String("")))
	return f.NewCall(operators.NotEquals, orEmpty, f.NewCall(anyType, f.NewLiteral(types.String("")))), nil
}

// want is the type that an expression must have.
type want uint8

const (
	wantText  want = iota // a text or number
	wantTruth             // true or false
	wantList
	wantAny
)

// position is a place in a text, line and column from 1; zero where it is unknown.
type position struct{ line, column int }

// fault is what is wrong with an expression.
type fault struct {
	at     position // within it
	reason string
}

// expression is a compiled expression.
type expression struct {
	eval     evaluator
	constant bool     // it reads nothing of the record
	among    *members // for a condition that holds exactly where a member has one of some values; else nil
	first    *members // for a condition that begins so; else nil
}

// members says that the member path has one of some values.
type members struct {
	path   string
	member evaluator
	values []value
}

// compile checks an expression and makes closures of it. lets are the names in scope beside our own.
func compile(env *cel.Env, text string, w want, lets []string) (*expression, []fault) {
	parsed, issues := env.Parse(text)
	if issues.Err() != nil {
		return nil, faults(issues)
	}
	oneNumberType(parsed.NativeRep())
	checked, issues := env.Check(parsed)
	if issues.Err() != nil {
		return nil, faults(issues)
	}
	if reason := w.refuse(checked.OutputType()); reason != "" {
		return nil, []fault{{position{1, 1}, reason}}
	}
	c := compiler{tree: checked.NativeRep(), slots: map[string]int{}, lets: lets, constant: true}
	e := c.compile(c.tree.Expr())
	if len(c.faults) > 0 {
		return nil, c.faults
	}
	// The estimate comes last: refused functions would have none.
	cost, err := env.EstimateCost(checked, sizes{})
	switch {
	case err != nil:
		return nil, []fault{{position{1, 1}, "its cost cannot be told: " + err.Error()}}
	case cost.Max > maxCost:
		return nil, []fault{{position{1, 1}, fmt.Sprintf("too costly: about %.1g steps for the largest record, at most %.1g are "+
			"allowed: avoid a loop in a loop and calculating with texts in a loop", float64(cost.Max), float64(maxCost))}}
	}
	root := c.tree.Expr()
	return &expression{eval: e, constant: c.constant, among: c.among(root), first: c.first(root)}, nil
}

// oneNumberType wraps the numbers of a parsed expression in dyn(), because CEL's int and double do not mix, as in
// record.price * 3 - 0.5, and the language has one type of numbers.
func oneNumberType(tree *celast.AST) {
	factory, id := celast.NewExprFactory(), celast.MaxID(tree)
	celast.PostOrderVisit(tree.Expr(), celast.NewExprVisitor(func(e celast.Expr) {
		if e.Kind() != celast.LiteralKind {
			return
		}
		switch n := e.AsLiteral().(type) {
		case types.Int, types.Double:
			e.SetKindCase(factory.NewCall(e.ID(), anyType, factory.NewLiteral(id, n)))
			id++
		}
	}))
}

// anyType is CEL's function that makes the type checker ask nothing.
const anyType = "dyn"

// refuse says why a type is not the wanted one, or nothing.
func (w want) refuse(t *cel.Type) string {
	if t.Kind() == cel.OpaqueKind && len(t.Parameters()) == 1 {
		t = t.Parameters()[0] // optional
	}
	kind := t.Kind()
	switch {
	case w == wantTruth && kind == cel.DynKind:
		return "a condition must be true or false: compare it, such as with == true"
	case w == wantTruth && kind != cel.BoolKind:
		return fmt.Sprintf("a condition must be true or false, this is a %s", t)
	case w == wantList && kind != cel.ListKind && kind != cel.DynKind:
		return fmt.Sprintf("want a list, this is a %s", t)
	case w == wantText && kind != cel.StringKind && kind != cel.IntKind && kind != cel.DoubleKind && kind != cel.DynKind:
		return fmt.Sprintf("want a text or a number, this is a %s", t)
	}
	return ""
}

// sizes estimates what cel-go cannot know.
type sizes struct{}

// EstimateSize implements checker.CostEstimator.
func (sizes) EstimateSize(checker.AstNode) *checker.SizeEstimate {
	return &checker.SizeEstimate{Min: 0, Max: maxItems}
}

// EstimateCallCost implements checker.CostEstimator.
func (sizes) EstimateCallCost(function, _ string, _ *checker.AstNode, _ []checker.AstNode) *checker.CallEstimate {
	switch function {
	case "split", "replace", "substring", "lowerAscii", "upperAscii", "trim":
		return &checker.CallEstimate{
			CostEstimate: checker.CostEstimate{Min: 1, Max: maxText / 10},
			ResultSize:   &checker.SizeEstimate{Min: 0, Max: maxText},
		}
	}
	return nil
}

func faults(issues *cel.Issues) (list []fault) {
	for _, e := range issues.Errors() {
		at := position{max(e.Location.Line(), 1), max(e.Location.Column(), 0) + 1}
		list = append(list, fault{at, plainWords(e.Message)})
	}
	return list
}

// plainWords rewrites the commonest message of the type checker.
func plainWords(message string) string {
	message, _, _ = strings.Cut(message, "\n")
	message = strings.TrimSuffix(message, " (in container '')")
	if name, ok := strings.CutPrefix(message, "undeclared reference to "); ok {
		return name + " is neither a variable (record, key, headers, those of let; line in lines) nor a function: put texts in quotes"
	}
	return message
}

// errMissing is what a condition gets where it needs true or false.
var errMissing = errors.New("a condition is missing where it must be true or false: compare with == true")
