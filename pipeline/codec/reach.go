package codec

import (
	"bytes"
	"fmt"

	"github.com/goccy/go-yaml/ast"
)

// reach notes the rules that can never match: those after one that always does, those whose condition is false, and those
// that ask a member for values which rules before them have taken.
func (p *mappingParser) reach(m *Mapping, nodes []ast.Node) {
	taken := map[string][]value{}
	always := ""
	for i := range m.rules {
		r := &m.rules[i]
		where := fmt.Sprintf("events[%d]", i-m.ignored())
		if r.ignore {
			where = fmt.Sprintf("ignore[%d]", i)
		}
		switch {
		case always != "":
			p.add(place(nodes[i]), where, "never matches: %s before it always does; move that to the end", always)
			continue
		case r.when.constant:
			if v, _ := r.when.eval(&Mapped{}); !v.truth {
				p.add(place(nodes[i]), where+".when", "is never true: remove the rule or mend its condition")
				continue
			}
			always = r.name
		case r.when.among != nil:
			p.reachValues(r.when.among, taken, place(nodes[i]), where)
		}
	}
}

// ignored counts the rules that ignore records.
func (m *Mapping) ignored() (n int) {
	for n < len(m.rules) && m.rules[n].ignore {
		n++
	}
	return n
}

// reachValues notes a rule all of whose values are taken, and takes its values.
func (p *mappingParser) reachValues(asks *members, taken map[string][]value, at position, where string) {
	free := false
	for _, v := range asks.values {
		if !hasValue(taken[asks.path], v) {
			free = true
			taken[asks.path] = append(taken[asks.path], v)
		}
	}
	if !free {
		p.add(at, where+".when", "never matches: rules before it take every value of %s that it asks for", asks.path)
	}
}

func hasValue(list []value, v value) bool {
	for _, w := range list {
		if w.kind == v.kind && w.truth == v.truth && bytes.Equal(w.text, v.text) {
			return true
		}
	}
	return false
}
