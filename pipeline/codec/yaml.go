package codec

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxMappingFile bounds the text of a mapping: the parser's memory is a large multiple of it.
const maxMappingFile = 256 << 10

// Problem is one reason to refuse a mapping.
type Problem struct {
	Line, Column int    // of the text, from 1; 0 where unknown
	Where        string // the part, such as "events[2].amount"; empty for the whole
	Reason       string // what is wrong and what to do
}

// Problems is the error of ParseMapping: everything that is wrong, in the order of lines.
type Problems struct {
	File string // by which the text is known
	List []Problem
}

// Error lists the problems, one a line, each as FILE:LINE:COLUMN: PART: REASON.
func (p *Problems) Error() string {
	lines := make([]string, len(p.List))
	for i, q := range p.List {
		at := p.File
		if q.Line > 0 {
			at = fmt.Sprintf("%s:%d:%d", at, q.Line, q.Column)
		}
		if q.Where != "" {
			at += ": " + q.Where
		}
		lines[i] = at + ": " + q.Reason
	}
	return strings.Join(lines, "\n")
}

// yamlReader walks a YAML tree and notes every problem with its place, instead of stopping at the first one as a decoder
// does.
type yamlReader struct {
	text     []byte
	problems []Problem
}

// field is one key of a section with its value.
type field struct {
	key, where string // where is the whole path
	at         position
	value      ast.Node
}

func (r *yamlReader) add(at position, where, format string, args ...any) {
	r.problems = append(r.problems, Problem{Line: at.line, Column: at.column, Where: where, Reason: fmt.Sprintf(format, args...)})
}

// root parses a text that holds one YAML document; nil after noting a problem.
func (r *yamlReader) root() ast.Node {
	if len(r.text) > maxMappingFile {
		r.add(position{}, "", "is greater than %d bytes: is it a mapping?", maxMappingFile)
		return nil
	}
	file, err := parser.ParseBytes(r.text, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		r.syntax(err)
		return nil
	}
	var body ast.Node
	for _, d := range file.Docs {
		if d.Body == nil || d.Body.Type() == ast.NullType {
			continue // only comments
		}
		if body != nil {
			r.add(place(d.Body), "", "a second YAML document begins: a mapping is one")
			return nil
		}
		body = d.Body
	}
	if body == nil {
		r.add(position{}, "", "is empty: see the examples of zyklus mapping --help")
	}
	return body
}

func (r *yamlReader) syntax(err error) {
	var e yaml.Error
	if !errors.As(err, &e) {
		r.add(position{}, "", "is not YAML")
		return
	}
	at := position{}
	if t := e.GetToken(); t != nil && t.Position != nil {
		at = position{t.Position.Line, t.Position.Column}
	}
	reason, _, _ := strings.Cut(e.GetMessage(), "\n")
	r.add(at, "", "is not YAML: %s", reason)
}

// place is where a node begins; zero where unknown.
func place(n ast.Node) position {
	// The token of a section is its first colon.
	switch m := n.(type) {
	case *ast.MappingNode:
		if len(m.Values) > 0 {
			return place(m.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return place(m.Key)
	}
	if n == nil || n.GetToken() == nil || n.GetToken().Position == nil {
		return position{}
	}
	return position{n.GetToken().Position.Line, n.GetToken().Position.Column}
}

// section gives the fields of a mapping of YAML, and notes keys that are unknown (none are, where no known ones
// are given), repeated or no plain word.
func (r *yamlReader) section(n ast.Node, where string, known ...string) (list []field) {
	var values []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	default:
		r.add(place(n), where, "is %s: want keys with values, such as \"key: value\"", describe(n))
		return nil
	}
	seen := map[string]bool{}
	for _, v := range values {
		key, ok := v.Key.(*ast.StringNode)
		at := place(v.Key)
		switch {
		case !ok:
			r.add(at, where, "a key must be a plain word")
		case seen[key.Value]:
			r.add(at, where, "%q is given twice: remove one", key.Value)
		case len(known) > 0 && !slices.Contains(known, key.Value):
			r.add(at, where, "unknown key %q: choose among %s", key.Value, strings.Join(known, ", "))
		default:
			seen[key.Value] = true
			path := key.Value
			if where != "" {
				path = where + "." + path
			}
			list = append(list, field{key: key.Value, where: path, at: at, value: v.Value})
		}
	}
	return list
}

// list gives the items of a list.
func (r *yamlReader) list(f field) []ast.Node {
	if s, ok := f.value.(*ast.SequenceNode); ok {
		return s.Values
	}
	r.add(place(f.value), f.where, "is %s: want a list, each item after \"- \"", describe(f.value))
	return nil
}

// word gives a text that is not empty.
func (r *yamlReader) word(f field) string {
	s, ok := f.value.(*ast.StringNode)
	if !ok || strings.TrimSpace(s.Value) == "" {
		r.add(place(f.value), f.where, "is %s: want a text", describe(f.value))
		return ""
	}
	return s.Value
}

// formula gives the text of an expression and the place of its first character. Numbers, true and false stand for
// themselves, as written.
func (r *yamlReader) formula(f field) (text string, at position) {
	at = place(f.value)
	switch n := f.value.(type) {
	case *ast.StringNode:
		if c := n.GetToken().Origin; strings.HasPrefix(strings.TrimSpace(c), n.Value) {
			return n.Value, at
		}
		at.column++ // behind the quote
		return n.Value, at
	case *ast.LiteralNode:
		at.line++
		at.column = 1 + r.indent(at.line)
		return n.Value.Value, at
	case *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode:
		return n.GetToken().Value, at
	}
	r.add(at, f.where, "is %s: want an expression, such as record.user.id", describe(f.value))
	return "", at
}

// indent counts the spaces that a line begins with.
func (r *yamlReader) indent(line int) int {
	lines := bytes.SplitN(r.text, []byte("\n"), line+1)
	if line > len(lines) {
		return 0
	}
	return len(lines[line-1]) - len(bytes.TrimLeft(lines[line-1], " "))
}

// describe names the kind of a node.
func describe(n ast.Node) string {
	if n == nil {
		return "empty"
	}
	switch n.Type() {
	case ast.NullType:
		return "empty"
	case ast.IntegerType, ast.FloatType, ast.InfinityType, ast.NanType:
		return "a number"
	case ast.BoolType:
		return "true or false"
	case ast.StringType, ast.LiteralType:
		return "a text"
	case ast.SequenceType:
		return "a list"
	case ast.MappingType, ast.MappingValueType:
		return "a section"
	}
	return "an anchor, alias or tag, which mappings do not have"
}
