package lifecycle

import (
	"fmt"

	"cel.dev/cel-go/cel"
)

// Compile checks a document against a catalogue and compiles its rules. The
// error is Problems, with positions and reasons, for everything in the document
// that is not allowed, or another error if the catalogue itself is unusable.
func Compile(doc *Document, cat Catalogue) (*Lifecycle, error) {
	if err := cat.Validate(); err != nil {
		return nil, fmt.Errorf("compile lifecycle %s: catalogue: %w", doc.ID, err)
	}
	env, err := environment(doc, cat)
	if err != nil {
		return nil, fmt.Errorf("compile lifecycle %s: %w", doc.ID, err)
	}
	c := newCompiler(doc, cat, env)
	for i, r := range doc.Rules {
		c.rule(i, r)
	}
	c.unused()
	if err := c.problems.err(); err != nil {
		return nil, fmt.Errorf("compile lifecycle %s: %w", doc.ID, err)
	}
	return c.out, nil
}

// compiler collects the rules of one document.
type compiler struct {
	doc      *Document
	cat      Catalogue
	env      *cel.Env
	features map[string]int
	params   map[string]Value
	phases   map[string]int
	used     map[string]bool // parameters
	reached  map[int]bool    // phases
	out      *Lifecycle
	problems Problems
}

func newCompiler(doc *Document, cat Catalogue, env *cel.Env) *compiler {
	c := &compiler{
		doc: doc, cat: cat, env: env,
		features: map[string]int{}, params: map[string]Value{}, phases: map[string]int{},
		used: map[string]bool{}, reached: map[int]bool{},
		out: &Lifecycle{ID: doc.ID, Version: doc.Version, Labels: doc.Labels, Cycle: doc.Cycle, Phases: doc.Phases},
	}
	for i, f := range cat {
		c.features[f.Name] = i
	}
	for _, p := range doc.Parameters {
		c.params[p.Name] = p.Value
	}
	for i, p := range doc.Phases {
		c.phases[p.ID] = i
	}
	if len(doc.Rules) == 0 {
		c.problems.add(0, "", "there must be at least one rule")
	}
	return c
}

func (c *compiler) rule(i int, r RuleText) {
	where := fmt.Sprintf("rule %q", r.ID)
	phase, known := c.phases[r.Phase]
	if !known {
		c.problems.add(r.Line, where, "phase %q is not among the phases", r.Phase)
	}
	c.reached[phase] = true
	n, problems := c.condition(r.When)
	for _, p := range problems {
		p.Line, p.Where = r.Line, where
		c.problems = append(c.problems, p)
	}
	if len(problems) > 0 {
		return
	}
	always, last := n.fixed && n.truth, i == len(c.doc.Rules)-1
	if last && !always {
		c.problems.add(r.Line, where, "the last rule is the fallback and must be true")
	}
	if always && !last {
		c.problems.add(r.Line, where, "always true: the rules after it never match")
	}
	c.out.Rules = append(c.out.Rules, Rule{ID: r.ID, Phase: phase, When: r.When})
	c.out.tests = append(c.out.tests, n.evaluator())
	c.out.flips = append(c.out.flips, n.flip)
}

// condition compiles one expression.
func (c *compiler) condition(text string) (node, Problems) {
	checked, problems := check(c.env, text)
	if len(problems) > 0 {
		return node{}, problems
	}
	s := subset{tree: checked.NativeRep(), features: c.features, params: c.params, cat: c.cat, used: c.used}
	n := s.condition(s.tree.Expr())
	return n, s.problems
}

// unused notes parameters and phases that no rule names: most often a slip.
func (c *compiler) unused() {
	if len(c.problems) > 0 {
		return // a rule that was refused may be the one that names them
	}
	for _, p := range c.doc.Parameters {
		if !c.used[p.Name] {
			c.problems.add(p.Line, fmt.Sprintf("parameter %q", p.Name), "no rule uses it")
		}
	}
	for i, p := range c.doc.Phases {
		if !c.reached[i] {
			c.problems.add(0, fmt.Sprintf("phase %q", p.ID), "no rule leads to it")
		}
	}
}
