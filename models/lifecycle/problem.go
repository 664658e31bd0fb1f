package lifecycle

import (
	"fmt"
	"slices"
	"strings"
)

// Problem is one reason to refuse a document.
type Problem struct {
	// Line of the document, from 1; 0 where unknown. Of a problem inside a rule
	// it is the line on which its expression begins.
	Line int
	// Where names the part, e.g. `rule "new"`; empty for the document.
	Where string
	// Expr is the position inside the rule's expression, line and column from 1;
	// zero where the problem is not inside one.
	Expr Position
	// Reason says what is wrong.
	Reason string
}

// Position is a place in a text; both count from 1, columns in characters.
type Position struct{ Line, Column int }

func (p Problem) String() string {
	var b strings.Builder
	if p.Line > 0 {
		fmt.Fprintf(&b, "line %d: ", p.Line)
	}
	if p.Where != "" {
		fmt.Fprintf(&b, "%s: ", p.Where)
	}
	if p.Expr.Line > 0 {
		fmt.Fprintf(&b, "at %d:%d: ", p.Expr.Line, p.Expr.Column)
	}
	b.WriteString(p.Reason)
	return b.String()
}

// Problems is the error of Parse and Compile: everything that is wrong, in the
// order of lines.
type Problems []Problem

// Error lists the problems, one a line.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].String()
	}
	return strings.Join(lines, "\n")
}

// err is nil where there is no problem.
func (p Problems) err() error {
	if len(p) == 0 {
		return nil
	}
	slices.SortStableFunc(p, func(a, b Problem) int { return a.Line - b.Line })
	return p
}

func (p *Problems) add(line int, where, format string, args ...any) {
	*p = append(*p, Problem{Line: line, Where: where, Reason: fmt.Sprintf(format, args...)})
}
