package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// maxFile bounds the file: the parser's memory is a large multiple of it.
const maxFile = 256 << 10

// readFile takes the settings from a YAML file. It walks the tree itself, because a decoder stops at the first problem.
func (l *loader) readFile(path string) {
	if path == "" {
		return
	}
	text, err := readText(path)
	if err != nil {
		l.problems = append(l.problems, err)
		return
	}
	file, err := parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		l.problems = append(l.problems, syntaxError(path, err))
		return
	}
	bodies := 0
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.NullType {
			continue // only comments
		}
		if bodies++; bodies > 1 {
			l.add(at(path, doc.Body), "", "a second YAML document begins: a configuration is one")
			return
		}
		l.section(path, "", doc.Body)
	}
}

func readText(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: no such file: give the path of the configuration with --config", path)
	}
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s: is greater than %s: is it a configuration?", path, Size(maxFile))
	}
	if !utf8.Valid(text) {
		return nil, fmt.Errorf("%s: is not UTF-8 text: is it a configuration?", path)
	}
	return text, nil
}

// syntaxError is one line with the position, without the parser's excerpt of the file, which may show a secret.
func syntaxError(path string, err error) error {
	var e yaml.Error
	if !errors.As(err, &e) {
		return fmt.Errorf("%s: is not YAML", path)
	}
	return problem(position(path, e.GetToken()), "", "is not YAML: %s", syntaxReason(e.GetMessage()))
}

var quoted = regexp.MustCompile(`"(\\.|[^"\\])*"|'(\\.|[^'\\])*'`)

// syntaxReason is a parser's message without the parts of the file that it quotes, single characters apart.
func syntaxReason(message string) string {
	message, _, _ = strings.Cut(message, "\n")
	return quoted.ReplaceAllStringFunc(message, func(part string) string {
		if len(part) > len(`'\t'`) {
			return "…"
		}
		return part
	})
}

// at is the place of a node.
func at(path string, n ast.Node) string { return position(path, n.GetToken()) }

func position(path string, t *token.Token) string {
	if t == nil || t.Position == nil {
		return path
	}
	return fmt.Sprintf("%s:%d:%d", path, t.Position.Line, t.Position.Column)
}

// section takes the settings of a mapping; name is the section's, empty for the whole file.
func (l *loader) section(path, name string, n ast.Node) {
	values, ok := entries(n)
	if !ok {
		what := name
		if what == "" {
			what = "the file"
		}
		l.add(at(path, n), "", "%s is %s: want keys with values, such as \"key: value\"", what, describe(n))
		return
	}
	seen := map[string]bool{}
	for _, v := range values {
		text, ok := v.Key.(*ast.StringNode)
		if !ok {
			l.add(at(path, v.Key), "", "a key must be a plain word")
			continue
		}
		key := text.Value
		if name != "" {
			key = name + "." + key
		}
		if seen[key] {
			l.add(at(path, v.Key), "", "%q is given twice", key)
			continue
		}
		seen[key] = true
		l.entry(path, key, v)
	}
}

func entries(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, true
	default:
		return nil, false
	}
}

// entry takes one key with its value: a setting, or a section of them.
func (l *loader) entry(path, key string, v *ast.MappingValueNode) {
	if f, ok := find(l.fields, key); ok {
		l.setting(path, f, v)
		return
	}
	if key == sourcesKey || l.addSource(key) && strings.Count(key, ".") == 1 {
		if v.Value.Type() != ast.NullType {
			l.section(path, key, v.Value)
		}
		return
	}
	for _, f := range l.fields {
		if strings.HasPrefix(f.key, key+".") {
			if v.Value.Type() != ast.NullType { // a section may be empty
				l.section(path, key, v.Value)
			}
			return
		}
	}
	l.add(at(path, v.Key), "", "unknown key %q%s", key, suggestKey(key, l.fields))
}

// setting takes a value whose YAML type fits the setting's.
func (l *loader) setting(path string, f field, v *ast.MappingValueNode) {
	where := at(path, v.Value)
	if v.Value.Type() == ast.NullType {
		l.add(at(path, v.Key), f.key, "has no value: write one, or remove the line for the default")
		return
	}
	if list, ok := f.value.(*[]string); ok {
		l.list(path, f, list, v.Value)
		return
	}
	text, ok := scalar(v.Value, f)
	if !ok {
		l.add(where, f.key, "is %s: want %s", describe(v.Value), f.want())
		return
	}
	l.set(f, where, text)
}

func (l *loader) list(path string, f field, list *[]string, n ast.Node) {
	sequence, ok := n.(*ast.SequenceNode)
	if !ok {
		l.add(at(path, n), f.key, "is %s: want %s", describe(n), f.want())
		return
	}
	items := []string{}
	for _, item := range sequence.Values {
		text, ok := textOf(item)
		if !ok {
			l.add(at(path, item), f.key, "holds %s: want texts, in quotes where they look like something else", describe(item))
			continue
		}
		if err := checkText(text); err != nil {
			l.add(at(path, item), f.key, "holds an item that %v", err)
			continue
		}
		items = append(items, text)
	}
	*list = items
	l.config.origins[f.key] = at(path, n)
}

// scalar returns the text of a node whose type fits a setting. Text that looks like a number must be in quotes: YAML
// would read 0123 or 1e3 as something else.
func scalar(n ast.Node, f field) (string, bool) {
	raw := ""
	if t := n.GetToken(); t != nil {
		raw = t.Value
	}
	switch f.value.(type) {
	case *bool:
		return raw, n.Type() == ast.BoolType
	case *int:
		return raw, n.Type() == ast.IntegerType
	case *Size:
		if n.Type() == ast.IntegerType {
			return raw, true
		}
	}
	return textOf(n)
}

func textOf(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode: // block of text: its last line break is YAML's, not the value's
		return strings.TrimSuffix(n.Value.Value, "\n"), true
	default:
		return "", false
	}
}

// describe names the kind of a node, never its text.
func describe(n ast.Node) string {
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
	case ast.AnchorType, ast.AliasType, ast.TagType, ast.MergeKeyType:
		return "an anchor, alias or tag, which are not supported"
	default:
		return "no value"
	}
}

// want says what to write.
func (f field) want() string {
	switch f.value.(type) {
	case *bool:
		return "true or false"
	case *int:
		return "a whole number"
	case *time.Duration:
		return "a number with a unit, such as 10m"
	case *Size:
		return "a size, such as 1MiB"
	case *Date:
		return "a date, such as 2015-12-31"
	case *[]string:
		return "a list, such as [one, two]"
	default:
		return "a text, in quotes if it looks like something else"
	}
}
