package lifecycle

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	doc, err := Parse([]byte(`
lifecycle: x
version: 3
labels: {en: Ex, de: Iks}
parameters: {n: 2.5, i: -7, on: false, name: "12"}
cycle: {from: at_risk}
phases:
  - {id: a, labels: {en: A, de: Ä}, level: top, churned: at_risk}
  - {id: b, labels: {en: B, de: B}}
rules:
  - {id: r, phase: a, when: "vip && n > param.n"}
  - id: s
    phase: b
    when: true
`))
	if err != nil {
		t.Fatal(err)
	}
	want := &Document{
		ID: "x", Version: 3, Labels: Labels{"Ex", "Iks"},
		Parameters: []Parameter{
			{"n", Value{Kind: Number, Number: 2.5}, 5}, {"i", Value{Kind: Number, Number: -7}, 5},
			{"on", Value{Kind: Bool}, 5}, {"name", Value{Kind: Text, Text: "12"}, 5}},
		Cycle:  Cycle{From: "at_risk", To: "none"},
		Phases: []Phase{{"a", Labels{"A", "Ä"}, "top", "at_risk"}, {"b", Labels{"B", "B"}, "", "none"}},
		Rules:  []RuleText{{"r", "a", "vip && n > param.n", 11}, {"s", "b", "true", 14}},
	}
	if !reflect.DeepEqual(doc, want) {
		t.Errorf("got %+v\nwant %+v", doc, want)
	}
}

func TestParseProblems(t *testing.T) {
	for _, c := range []struct{ name, doc, want string }{
		{"empty", "", "want exactly one YAML document, found 0"},
		{"comment only", "# nothing\n", "want exactly one YAML document, found 0"},
		{"two documents", "a: 1\n---\nb: 2\n", "want exactly one YAML document, found 2"},
		{"no mapping", "[1, 2]", "line 1: want a mapping"},
		{"not YAML", "a: [1\nb: }", "line 2: "},
		{"all at once", `lifecycle: Role 5
version: 0
version: 2
labels: {en: X}
colour: red
parameters: {Limit: 1, x: [1], y: .inf, param: 1}
cycle: {from: lost, to: lost}
phases:
  - {id: a, labels: {en: A, de: A}, churned: maybe}
  - {id: a, labels: {en: " ", de: 3}, size: 1}
rules:
  - {id: r, phase: a, when: true}
  - {id: r, phase: 7}
  - 5
`, `line 1: lifecycle: want a name of a-z, 0-9 and _, beginning with a letter
line 2: version: want a whole number from 1
line 3: key "version" is repeated
line 4: labels: key "de" is missing
line 5: unknown key "colour", known are lifecycle, version, labels, parameters, cycle, phases, rules
line 6: parameter "Limit": want a name of a-z, 0-9 and _, beginning with a letter, that is not reserved
line 6: parameter "x": want a finite number, true, false or a text
line 6: parameter "y": want a finite number, true, false or a text
line 6: parameter "param": want a name of a-z, 0-9 and _, beginning with a letter, that is not reserved
line 7: cycle: from and to must differ
line 9: phase 1 churned: want none, at_risk or lost
line 10: phase 2: unknown key "size", known are id, labels, level, churned
line 10: phase 2 labels en: want a text
line 10: phase 2 labels de: want a text
line 10: phase 2: id "a" is repeated
line 13: rule 2 phase: want a name of a-z, 0-9 and _, beginning with a letter
line 13: rule 2: key "when" is missing
line 13: rule 2: id "r" is repeated
line 14: rule 3: want a mapping`},
		{"missing", "version: 1", "key \"lifecycle\" is missing\nkey \"labels\" is missing\nkey \"phases\" is missing\nkey \"rules\" is missing"},
	} {
		_, err := Parse([]byte(c.doc))
		var problems Problems
		if !errors.As(err, &problems) {
			t.Errorf("%s: got %v", c.name, err)
			continue
		}
		if got := problems.Error(); got != c.want && !(strings.HasSuffix(c.want, " ") && strings.HasPrefix(got, c.want)) {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("lifecycle: x\nversion: 1\n"))
	f.Add(document("  - {id: s, phase: b, when: true}\n"))
	for _, name := range Presets() {
		doc, err := Preset(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(doc)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		doc, err := Parse(text)
		if err != nil {
			return
		}
		if l, err := Compile(doc, testCatalogue()); err == nil {
			src := &valueSource{}
			_, rule := l.Phase(src, 0)
			l.Next(src, 0, rule)
		}
	})
}
