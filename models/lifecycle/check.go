package lifecycle

import (
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
)

// paramPrefix is the name under which rules find the parameters.
const paramPrefix = "param"

// environment declares features and parameters to cel-go, without macros. The
// functions of its standard library are known to it, and refused later by the
// subset with a better reason than "undeclared".
func environment(doc *Document, cat Catalogue) (*cel.Env, error) {
	opts := []cel.EnvOption{cel.ClearMacros(), cel.ParserRecursionLimit(100)}
	for _, f := range cat {
		opts = append(opts, cel.Variable(f.Name, celType(f.Kind)))
	}
	for _, p := range doc.Parameters {
		opts = append(opts, cel.Variable(paramPrefix+"."+p.Name, celType(p.Value.Kind)))
	}
	env, err := cel.NewEnv(opts...)
	if err != nil {
		return nil, fmt.Errorf("declare features: %w", err)
	}
	return env, nil
}

func celType(k Kind) *cel.Type {
	switch k {
	case Bool:
		return cel.BoolType
	case Text:
		return cel.StringType
	}
	return cel.DoubleType
}

// check parses and type-checks an expression, with integer literals widened to
// doubles. Problems carry the position inside the expression only.
func check(env *cel.Env, text string) (*cel.Ast, Problems) {
	parsed, issues := env.Parse(text)
	if issues.Err() != nil {
		return nil, fromIssues(issues)
	}
	if problems := widen(parsed.NativeRep()); len(problems) > 0 {
		return nil, problems
	}
	checked, issues := env.Check(parsed)
	if issues.Err() != nil {
		return nil, fromIssues(issues)
	}
	if t := checked.OutputType(); !t.IsExactType(cel.BoolType) {
		return nil, Problems{{Expr: Position{1, 1}, Reason: fmt.Sprintf("a rule must be true or false, this is a %s", t)}}
	}
	return checked, nil
}

// maxExact is the largest integer up to which doubles hold every integer.
const maxExact = 1 << 53

// widen turns the integer literals of a parsed expression into doubles.
func widen(tree *celast.AST) (problems Problems) {
	factory := celast.NewExprFactory()
	celast.PostOrderVisit(tree.Expr(), celast.NewExprVisitor(func(e celast.Expr) {
		if e.Kind() != celast.LiteralKind {
			return
		}
		i, ok := e.AsLiteral().(types.Int)
		if !ok {
			return
		}
		if i > maxExact || i < -maxExact {
			problems = append(problems, Problem{Expr: position(tree, e.ID()), Reason: fmt.Sprintf("%d is too large to be exact", i)})
		}
		e.SetKindCase(factory.NewLiteral(e.ID(), types.Double(i)))
	}))
	return problems
}

// position is where an expression stands; of an operation, where its operator
// stands.
func position(tree *celast.AST, id int64) Position {
	at := tree.SourceInfo().GetStartLocation(id)
	return Position{Line: max(at.Line(), 1), Column: max(at.Column(), 0) + 1}
}

func fromIssues(issues *cel.Issues) (problems Problems) {
	for _, e := range issues.Errors() {
		problems = append(problems, Problem{
			Expr:   Position{Line: max(e.Location.Line(), 1), Column: max(e.Location.Column(), 0) + 1},
			Reason: inPlainWords(e.Message),
		})
	}
	return problems
}

// inPlainWords rewrites the commonest message of the type checker.
func inPlainWords(message string) string {
	message = strings.TrimSuffix(message, " (in container '')")
	if name, ok := strings.CutPrefix(message, "undeclared reference to "); ok {
		return name + " is no feature, parameter (param.name) or function"
	}
	return message
}
