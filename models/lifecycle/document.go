package lifecycle

import (
	"fmt"

	"github.com/goccy/go-yaml/ast"
)

// The values of Phase.Churned. Churn rates and alarms go by them.
const (
	ChurnedNone   = "none"
	ChurnedAtRisk = "at_risk"
	ChurnedLost   = "lost"
)

// Document is a lifecycle as written, checked for form but not yet against a
// catalogue; see Compile.
type Document struct {
	ID         string
	Version    int // from 1; counted up with every change of meaning
	Labels     Labels
	Parameters []Parameter // in the order of the document
	Cycle      Cycle
	Phases     []Phase
	Rules      []RuleText
}

// Labels are the names people read.
type Labels struct{ En, De string }

// Parameter is a constant of the document that rules write as param.name.
type Parameter struct {
	Name  string
	Value Value
	Line  int // of the document
}

// Value is the constant value of a parameter; Kind tells which field holds it.
type Value struct {
	Kind   Kind
	Number float64
	Bool   bool
	Text   string
}

// Phase is one phase of a lifecycle; phases stand in the order of the document.
type Phase struct {
	ID      string
	Labels  Labels
	Level   string // group of phases to report by; may be empty
	Churned string // "none", "at_risk" or "lost"
}

// RuleText is a rule as written.
type RuleText struct {
	ID    string
	Phase string // ID of the phase
	When  string // expression
	Line  int    // of the document, on which the expression begins
}

// Cycle says what begins a new cycle of a customer: the cycle number rises when
// a customer moves from a phase with churned = From (default "lost") directly to
// one with churned = To (default "none").
type Cycle struct{ From, To string }

// Parse reads a lifecycle document:
//
//	lifecycle: role5                      # id
//	version: 1
//	labels: {en: Customer roles, de: Kundenrollen}
//	parameters: {lost_after_days: 365}    # numbers, true, false, texts; optional
//	cycle: {from: lost, to: none}         # optional, this is the default
//	phases:
//	  - {id: former, labels: {en: …, de: …}, level: …, churned: lost}
//	rules:                                # first match wins
//	  - {id: former, phase: former, when: days_since_last_order > param.lost_after_days}
//	  - {id: other, phase: prospect, when: true}
//
// level is optional, churned defaults to none. The error is Problems: unknown
// and repeated keys and everything else that is wrong, with lines.
func Parse(doc []byte) (*Document, error) {
	var r reader
	body := r.root(doc)
	if body == nil {
		return nil, r.problems.err()
	}
	d := &Document{Cycle: Cycle{From: ChurnedLost, To: ChurnedNone}}
	given := r.fields(body, "", fields{
		"lifecycle":  func(n ast.Node) { d.ID = r.name(n, "lifecycle") },
		"version":    func(n ast.Node) { d.Version = r.version(n) },
		"labels":     func(n ast.Node) { d.Labels = r.labels(n, "labels") },
		"parameters": func(n ast.Node) { d.Parameters = r.parameters(n) },
		"cycle":      func(n ast.Node) { d.Cycle = r.cycle(n, d.Cycle) },
		"phases":     func(n ast.Node) { d.Phases = r.phases(n) },
		"rules":      func(n ast.Node) { d.Rules = r.rules(n) },
	}, "lifecycle", "version", "labels", "parameters", "cycle", "phases", "rules")
	r.need(given, 0, "", "lifecycle", "version", "labels", "phases", "rules")
	if err := r.problems.err(); err != nil {
		return nil, err
	}
	return d, nil
}

// fields says what to do with the value of each key.
type fields map[string]func(ast.Node)

// fields hands the values of a mapping to the functions of their keys, in the
// order of the document, and returns the keys that were given. known lists the
// keys in the order in which messages name them.
func (r *reader) fields(n ast.Node, where string, f fields, known ...string) (given []string) {
	entries := r.mapping(n, where, known...)
	if entries == nil {
		return nil
	}
	given = make([]string, 0, len(entries))
	for _, e := range entries {
		f[e.key](e.value)
		given = append(given, e.key)
	}
	return given
}

// need notes the keys that are missing from a mapping; given is nil where there
// was none, which is noted already.
func (r *reader) need(given []string, line int, where string, keys ...string) {
	if given == nil {
		return
	}
	for _, k := range keys {
		if !has(given, k) {
			r.problems.add(line, where, "key %q is missing", k)
		}
	}
}

func (r *reader) labels(n ast.Node, where string) (l Labels) {
	given := r.fields(n, where, fields{
		"en": func(n ast.Node) { l.En = r.text(n, where+" en") },
		"de": func(n ast.Node) { l.De = r.text(n, where+" de") },
	}, "en", "de")
	r.need(given, lineOf(n), where, "en", "de")
	return l
}

func (r *reader) parameters(n ast.Node) (list []Parameter) {
	for _, e := range r.mapping(n, "parameters") {
		where := fmt.Sprintf("parameter %q", e.key)
		if !isName(e.key) || isReserved(e.key) {
			r.problems.add(e.line, where, "want a name of a-z, 0-9 and _, beginning with a letter, that is not reserved")
		}
		list = append(list, Parameter{Name: e.key, Value: r.value(e.value, where), Line: e.line})
	}
	return list
}

func (r *reader) cycle(n ast.Node, c Cycle) Cycle {
	r.fields(n, "cycle", fields{
		"from": func(n ast.Node) { c.From = r.churned(n, "cycle from") },
		"to":   func(n ast.Node) { c.To = r.churned(n, "cycle to") },
	}, "from", "to")
	if c.From == c.To {
		r.problems.add(lineOf(n), "cycle", "from and to must differ")
	}
	return c
}

func (r *reader) churned(n ast.Node, where string) string {
	s, _ := textOf(n)
	switch s {
	case ChurnedNone, ChurnedAtRisk, ChurnedLost:
		return s
	}
	r.problems.add(lineOf(n), where, "want none, at_risk or lost")
	return ""
}

func (r *reader) phases(n ast.Node) (list []Phase) {
	seen := map[string]bool{}
	for i, item := range r.sequence(n, "phases") {
		where := fmt.Sprintf("phase %d", i+1)
		p := Phase{Churned: ChurnedNone}
		given := r.fields(item, where, fields{
			"id":      func(n ast.Node) { p.ID = r.name(n, where+" id") },
			"labels":  func(n ast.Node) { p.Labels = r.labels(n, where+" labels") },
			"level":   func(n ast.Node) { p.Level = r.name(n, where+" level") },
			"churned": func(n ast.Node) { p.Churned = r.churned(n, where+" churned") },
		}, "id", "labels", "level", "churned")
		r.need(given, lineOf(item), where, "id", "labels")
		if p.ID != "" && seen[p.ID] {
			r.problems.add(lineOf(item), where, "id %q is repeated", p.ID)
		}
		seen[p.ID] = true
		list = append(list, p)
	}
	return list
}

func (r *reader) rules(n ast.Node) (list []RuleText) {
	seen := map[string]bool{}
	for i, item := range r.sequence(n, "rules") {
		where := fmt.Sprintf("rule %d", i+1)
		var rule RuleText
		given := r.fields(item, where, fields{
			"id":    func(n ast.Node) { rule.ID = r.name(n, where+" id") },
			"phase": func(n ast.Node) { rule.Phase = r.name(n, where+" phase") },
			"when":  func(n ast.Node) { rule.When, rule.Line = r.expression(n, where+" when") },
		}, "id", "phase", "when")
		r.need(given, lineOf(item), where, "id", "phase", "when")
		if rule.ID != "" && seen[rule.ID] {
			r.problems.add(lineOf(item), where, "id %q is repeated", rule.ID)
		}
		seen[rule.ID] = true
		list = append(list, rule)
	}
	return list
}

// expression takes `when: true` for the text it looks like. The text of a block
// scalar begins on the line after its `|`.
func (r *reader) expression(n ast.Node, where string) (text string, line int) {
	switch n := n.(type) {
	case *ast.BoolNode:
		return fmt.Sprint(n.Value), lineOf(n)
	case *ast.LiteralNode:
		return r.text(n, where), lineOf(n) + 1
	}
	return r.text(n, where), lineOf(n)
}
