package lifecycle

import (
	"errors"
	"strings"
	"testing"
)

// Every refusal has a position (line:column inside the expression) and a reason.
func TestRefusals(t *testing.T) {
	r := newReference(t)
	for _, c := range []struct{ rule, want string }{
		// time
		{"days == 3", "at 1:6: days changes with time: it can only be compared by <, <=, > or >="},
		{"window != 3", "at 1:8: window changes with time: it can only be compared by <, <=, > or >="},
		{"vip && days > orders", "at 1:13: days changes with time: it can only be compared with a constant"},
		{"days > left", "at 1:6: days changes with time: it can only be compared with a constant"},
		{"orders * 2 > days", "at 1:12: days changes with time: it can only be compared with a constant"},
		{"days - 1 > 3", "at 1:1: days changes with time: it cannot be calculated with, only compared with a constant"},
		{"-days < 3", "at 1:2: days changes with time: it cannot be calculated with, only compared with a constant"},
		{"vip\n|| days * 2 > 3", "at 2:4: days changes with time: it cannot be calculated with, only compared with a constant"},
		// names and types
		{"order >= 1", "at 1:1: 'order' is no feature, parameter (param.name) or function"},
		{"param.limits > 1", "at 1:1: 'param' is no feature, parameter (param.name) or function"},
		{"limit > 1", "at 1:1: 'limit' is no feature, parameter (param.name) or function"},
		{"orders > 'a'", "at 1:8: found no matching overload for '_>_' applied to '(double, string)'"},
		{"vip > true", "at 1:5: truth values are not compared: write the condition itself, or ! before it"},
		{"vip == true", "at 1:5: truth values are not compared: write the condition itself, or ! before it"},
		{"vip + 1 > 2", "at 1:5: found no matching overload for '_+_' applied to '(bool, double)'"},
		{"orders", "at 1:1: a rule must be true or false, this is a double"},
		{"1 + 2", "at 1:1: a rule must be true or false, this is a double"},
		{"segment < 'b'", "at 1:9: texts are only compared by ==, != and in"},
		{"segment == segment", "at 1:9: a text feature can only be compared with a constant text"},
		{"segment in ['a', segment]", "at 1:18: the list may only hold constant texts"},
		{"segment in []", "at 1:9: in is only for a text and a list of constant texts"},
		{"orders in [1, 2]", "at 1:8: in is only for a text and a list of constant texts"},
		{"segment + 'x' == 'ax'", "at 1:9: operator + is not part of the rule language"},
		{"null == null", "at 1:6: only numbers and texts are compared"},
		{"type(orders) == double", "at 1:14: only numbers and texts are compared"},
		// constants
		{"orders > 1 / 0", "at 1:12: the constant is +Inf, not a finite number"},
		{"days > 0 / 0", "at 1:10: the constant is NaN, not a finite number"},
		{"orders > 9007199254740993", "at 1:10: 9007199254740993 is too large to be exact"},
		{"orders > 7 % 2", "at 1:12: found no matching overload for '_%_' applied to '(double, double)'"},
		{"orders > 1u", "at 1:8: found no matching overload for '_>_' applied to '(double, uint)'"},
		// the rest of CEL
		{"vip ? days > 3 : false", "at 1:5: the choice ?: is not part of the rule language"},
		{"segment.startsWith('a')", "at 1:19: function startsWith() is not part of the rule language"},
		{"size(segment) > 1", "at 1:15: found no matching overload for '_>_' applied to '(int, double)'"},
		{"double(segment) > 1", "at 1:7: function double() is not part of the rule language"},
		{"[vip][0]", "at 1:6: found no matching overload"},
		{"has(orders.x)", "at 1:4: 'has' is no feature, parameter (param.name) or function"},
		{"[1, 2].exists(x, x > 1)", "at 1:14: 'exists' is no feature"},
		{"timestamp('2026-01-01T00:00:00Z') > timestamp('2025-01-01T00:00:00Z')", "at 1:35: only numbers and texts are compared"},
		{"{'a': 1}.a > orders", "at 1:9: selection of .a is not part of the rule language"},
		{"(vip ? 1 : 2) > orders", "at 1:6: the choice ?: is not part of the rule language"},
		// syntax
		{"", "at 1:1: Syntax error"},
		{"orders >", "at 1:9: Syntax error"},
		{"orders > 1 &&\n && vip", "at 2:2: Syntax error"},
		{"vip and fresh", "at 1:5: Syntax error"},
		{"vip = true", "at 1:5: Syntax error"},
	} {
		_, problems := r.c.condition(c.rule)
		if len(problems) == 0 {
			t.Errorf("%s: accepted, want %s", c.rule, c.want)
			continue
		}
		if !strings.HasPrefix(problems.Error(), c.want) && !strings.Contains(problems.Error(), "\n"+c.want) {
			t.Errorf("%s:\n got %s\nwant %s", c.rule, problems, c.want)
		}
	}
}

func TestRefusesAllAtOnce(t *testing.T) {
	_, problems := newReference(t).c.condition("days == 3 || left > spend && size('a') == size('b')")
	if len(problems) != 3 {
		t.Errorf("%d problems, want 3:\n%v", len(problems), problems)
	}
}

func document(rules string) []byte {
	return []byte(`lifecycle: x
version: 1
labels: {en: X, de: X}
parameters: {limit: 7}
phases:
  - {id: a, labels: {en: A, de: A}}
  - {id: b, labels: {en: B, de: B}}
rules:
` + rules)
}

func TestCompileRefuses(t *testing.T) {
	for _, c := range []struct{ name, rules, want string }{
		{"unknown phase", "  - {id: r, phase: c, when: true}\n", `line 9: rule "r": phase "c" is not among the phases`},
		{"no fallback", "  - {id: r, phase: a, when: vip}\n", `line 9: rule "r": the last rule is the fallback and must be true`},
		{"early fallback", "  - {id: r, phase: a, when: true}\n  - {id: s, phase: b, when: true}\n",
			`line 9: rule "r": always true: the rules after it never match`},
		{"folded to true", "  - {id: r, phase: a, when: vip || param.limit > 3}\n  - {id: s, phase: b, when: true}\n",
			`line 9: rule "r": always true: the rules after it never match`},
		{"unused parameter", "  - {id: r, phase: a, when: vip}\n  - {id: s, phase: b, when: true}\n",
			`line 4: parameter "limit": no rule uses it`},
		{"phase without rule", "  - {id: r, phase: a, when: orders > param.limit}\n  - {id: s, phase: a, when: true}\n",
			`phase "b": no rule leads to it`},
		{"position", "  - id: r\n    phase: a\n    when: |\n      vip ||\n        days == 1\n  - {id: s, phase: b, when: orders}\n",
			"line 12: rule \"r\": at 2:8: days changes with time: it can only be compared by <, <=, > or >=\n" +
				`line 14: rule "s": at 1:1: a rule must be true or false, this is a double`},
	} {
		doc, err := Parse(document(c.rules))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		_, err = Compile(doc, testCatalogue())
		var problems Problems
		if !errors.As(err, &problems) || problems.Error() != c.want {
			t.Errorf("%s:\n got %v\nwant %s", c.name, err, c.want)
		}
	}
}

func TestCatalogueValidate(t *testing.T) {
	cat := Catalogue{{Name: "Orders"}, {Name: "param"}, {Name: "x"}, {Name: "x"}, {Name: "int"}, {Name: "1a"}, {},
		{Name: "t", Kind: Text, Varies: Rising}, {Name: "k", Kind: 9}}
	doc, err := Parse(document("  - {id: s, phase: b, when: true}\n"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Compile(doc, cat)
	for _, want := range []string{"feature 0", "feature 1", "feature 3", "feature 4", "feature 5", "feature 6", "feature 7", "feature 8"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "feature 2") {
		t.Error(err)
	}
}
