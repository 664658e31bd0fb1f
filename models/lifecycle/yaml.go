package lifecycle

import (
	"errors"
	"math"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// reader walks a YAML tree and notes every problem with its line, instead of
// stopping at the first one as a decoder does.
type reader struct{ problems Problems }

// entry is one key of a mapping.
type entry struct {
	key   string
	line  int
	value ast.Node
}

// root parses a text that holds one mapping; nil after noting a problem.
func (r *reader) root(doc []byte) ast.Node {
	file, err := parser.ParseBytes(doc, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		line, reason := syntaxError(err)
		r.problems.add(line, "", "%s", reason)
		return nil
	}
	if len(file.Docs) != 1 || file.Docs[0].Body == nil {
		r.problems.add(0, "", "want exactly one YAML document, found %d", countBodies(file))
		return nil
	}
	return file.Docs[0].Body
}

func countBodies(file *ast.File) (n int) {
	for _, d := range file.Docs {
		if d.Body != nil {
			n++
		}
	}
	return n
}

// syntaxError takes line and message out of a parser's error.
func syntaxError(err error) (line int, reason string) {
	var e yaml.Error
	if !errors.As(err, &e) {
		return 0, err.Error()
	}
	if tk := e.GetToken(); tk != nil && tk.Position != nil {
		line = tk.Position.Line
	}
	return line, e.GetMessage()
}

// lineOf is the line of a node; 0 where unknown.
func lineOf(n ast.Node) int {
	if n == nil || n.GetToken() == nil || n.GetToken().Position == nil {
		return 0
	}
	return n.GetToken().Position.Line
}

// mapping gives the entries of a mapping, notes keys that are not among known
// (all are, where known is empty), repeated, or no plain text. It is nil if there
// is no mapping, and not nil, if empty, otherwise.
func (r *reader) mapping(n ast.Node, where string, known ...string) []entry {
	values, ok := mappingValues(n)
	if !ok {
		r.problems.add(lineOf(n), where, "want a mapping")
		return nil
	}
	entries := make([]entry, 0, len(values))
	seen := make(map[string]bool, len(values))
	for _, v := range values {
		e := entry{key: keyText(v.Key), line: lineOf(v.Key), value: v.Value}
		switch {
		case e.key == "":
			r.problems.add(e.line, where, "a key must be a plain text")
		case seen[e.key]:
			r.problems.add(e.line, where, "key %q is repeated", e.key)
		case len(known) > 0 && !has(known, e.key):
			r.problems.add(e.line, where, "unknown key %q, known are %s", e.key, strings.Join(known, ", "))
		default:
			entries = append(entries, e)
		}
		seen[e.key] = true
	}
	return entries
}

func mappingValues(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, true
	}
	return nil, false
}

func keyText(k ast.MapKeyNode) string {
	if s, ok := k.(*ast.StringNode); ok {
		return s.Value
	}
	return ""
}

func has(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

// sequence gives the items of a sequence.
func (r *reader) sequence(n ast.Node, where string) []ast.Node {
	if s, ok := n.(*ast.SequenceNode); ok {
		return s.Values
	}
	r.problems.add(lineOf(n), where, "want a sequence")
	return nil
}

// text gives a text that is not empty.
func (r *reader) text(n ast.Node, where string) string {
	s, ok := textOf(n)
	if !ok || strings.TrimSpace(s) == "" {
		r.problems.add(lineOf(n), where, "want a text")
	}
	return s
}

func textOf(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	}
	return "", false
}

// name gives a text fit to name something.
func (r *reader) name(n ast.Node, where string) string {
	s, ok := textOf(n)
	if !ok || !isName(s) {
		r.problems.add(lineOf(n), where, "want a name of a-z, 0-9 and _, beginning with a letter")
		return ""
	}
	return s
}

// version gives a whole number from 1.
func (r *reader) version(n ast.Node) int {
	if v, ok := numberOf(n); ok && v >= 1 && v <= math.MaxInt32 && v == math.Trunc(v) {
		return int(v)
	}
	r.problems.add(lineOf(n), "version", "want a whole number from 1")
	return 0
}

func numberOf(n ast.Node) (float64, bool) {
	switch n := n.(type) {
	case *ast.IntegerNode:
		switch v := n.Value.(type) {
		case int64:
			return float64(v), true
		case uint64:
			return float64(v), true
		}
	case *ast.FloatNode:
		return n.Value, true
	}
	return 0, false
}

// value gives a parameter's value.
func (r *reader) value(n ast.Node, where string) Value {
	if v, ok := numberOf(n); ok && !math.IsInf(v, 0) {
		return Value{Kind: Number, Number: v}
	}
	if b, ok := n.(*ast.BoolNode); ok {
		return Value{Kind: Bool, Bool: b.Value}
	}
	if s, ok := textOf(n); ok {
		return Value{Kind: Text, Text: s}
	}
	r.problems.add(lineOf(n), where, "want a finite number, true, false or a text")
	return Value{}
}
