package lifecycle

import (
	"math/rand/v2"
	"testing"

	"cel.dev/cel-go/cel"
)

// reference evaluates conditions by cel-go itself.
type reference struct {
	env *cel.Env
	c   *compiler
}

// newReference declares, besides the catalogue and the test parameters, a
// variable has_x for every feature x.
func newReference(t testing.TB) *reference {
	t.Helper()
	doc := &Document{Parameters: testParameters()}
	env, err := environment(doc, testCatalogue())
	if err != nil {
		t.Fatal(err)
	}
	r := &reference{env: env, c: newCompiler(doc, testCatalogue(), env)}
	for _, f := range testCatalogue() {
		if r.env, err = r.env.Extend(cel.Variable("has_"+f.Name, cel.BoolType)); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// program compiles a condition for cel-go.
func (r *reference) program(t testing.TB, text string) cel.Program {
	t.Helper()
	checked, problems := check(r.env, text)
	if len(problems) > 0 {
		t.Fatalf("%s: %v", text, problems)
	}
	program, err := r.env.Program(checked)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return program
}

// eval is cel-go's result; an error where it gives none (NaN has no order).
func (r *reference) eval(program cel.Program, src *valueSource) (bool, error) {
	out, _, err := program.Eval(r.variables(src))
	if err != nil {
		return false, err
	}
	return out.Value().(bool), nil
}

func (r *reference) variables(src *valueSource) map[string]any {
	vars := map[string]any{}
	for i, f := range r.c.cat {
		vars["has_"+f.Name] = src.defined[i]
		switch f.Kind {
		case Number:
			vars[f.Name] = src.numbers[i]
		case Bool:
			vars[f.Name] = src.numbers[i] != 0
		case Text:
			vars[f.Name] = src.text
		}
	}
	for _, p := range r.c.doc.Parameters {
		vars["param."+p.Name] = map[Kind]any{Number: p.Value.Number, Bool: p.Value.Bool, Text: p.Value.Text}[p.Value.Kind]
	}
	return vars
}

// differ compiles a generated condition and compares it with cel-go over random
// values; it reports whether the condition was in the subset.
func (r *reference) differ(t testing.TB, seed uint64) bool {
	t.Helper()
	g := generator{rng: rand.New(rand.NewPCG(seed, 1))}
	rule, guarded := g.condition(4)
	n, problems := r.c.condition(rule)
	if len(problems) > 0 {
		// Only a constant that is not finite or a comparison of NaN may be refused.
		for _, p := range problems {
			if p.Reason != "the constant is +Inf, not a finite number" && p.Reason != "the constant is NaN, not a finite number" &&
				p.Reason != "the constant is -Inf, not a finite number" {
				t.Fatalf("seed %d: %s: %v", seed, rule, p)
			}
		}
		return false
	}
	program := r.program(t, guarded)
	for range 8 {
		src := randomValues(g.rng, r.c.cat, 0.2)
		want, err := r.eval(program, src)
		if got := n.evaluator()(src, 0); err == nil && got != want {
			t.Fatalf("seed %d: %s\n%+v\nclosures %v, cel-go %v", seed, rule, src, got, want)
		}
	}
	return true
}

func TestClosuresEqualCEL(t *testing.T) {
	r, compiled := newReference(t), 0
	const rounds = 2000
	for seed := range uint64(rounds) {
		if r.differ(t, seed) {
			compiled++
		}
	}
	if compiled < rounds*9/10 {
		t.Errorf("only %d of %d random conditions were in the subset", compiled, rounds)
	}
}

// FuzzGenerated holds generated conditions equal to cel-go.
func FuzzGenerated(f *testing.F) {
	r := newReference(f)
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { r.differ(t, seed) })
}

// FuzzRule holds any text that compiles equal to cel-go, with every feature
// defined, and finds texts that crash the compiler.
func FuzzRule(f *testing.F) {
	r := newReference(f)
	for _, s := range []string{
		"true", "vip && !trial", "orders >= 2 || spend / orders > 50.5", "days > param.limit * 2 - 1", "7 <= left",
		`segment in ["a", param.name]`, `segment != "b"`, "orders == -1", "(orders + 1) * spend != 4e3 / 2", "param.on",
		"risk < 1 ? true : false", "[1, 2].size() > 1", "has(orders.x)", "0x10 < orders", ".orders > 1u", "'a' == r'a'",
	} {
		f.Add(s, uint64(1))
	}
	f.Fuzz(func(t *testing.T, rule string, seed uint64) {
		n, problems := r.c.condition(rule)
		if len(problems) > 0 {
			return
		}
		src := randomValues(rand.New(rand.NewPCG(seed, 2)), r.c.cat, 0)
		want, err := r.eval(r.program(t, rule), src)
		if got := n.evaluator()(src, 0); err == nil && got != want {
			t.Fatalf("%s\n%+v\nclosures %v, cel-go %v", rule, src, got, want)
		}
	})
}
