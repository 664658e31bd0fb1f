package codec

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// formulas writes random expressions over ground that mean the same in CEL and in the language of mappings.
type formulas struct {
	*rand.Rand
	items, words []string // variables of the loops around: elements of record.items and of texts
}

func (g *formulas) pick(list ...string) string { return list[g.IntN(len(list))] }

func (g *formulas) truth(depth int) string {
	if depth == 0 {
		return g.pick("true", "false", "record.yes", "record.no", "has(record.user.id)", "has(record.user.name)", "record.s == \"Tee\"")
	}
	d := depth - 1
	switch g.IntN(10) {
	case 0:
		return "!(" + g.truth(d) + ")"
	case 1:
		return "(" + g.truth(d) + g.pick(" && ", " || ") + g.truth(d) + ")"
	case 2:
		return "(" + g.whole(d) + g.pick(" == ", " != ", " < ", " <= ", " > ", " >= ") + g.whole(d) + ")"
	case 3:
		return "(" + g.text(d) + g.pick(" == ", " != ", " < ", " <= ", " > ", " >= ") + g.text(d) + ")"
	case 4:
		return "(" + g.whole(d) + " in [" + g.whole(d) + ", " + g.whole(d) + "])"
	case 5:
		return "(" + g.text(d) + " in " + g.list(d) + ")"
	case 6:
		return g.text(d) + "." + g.pick("startsWith", "endsWith", "contains") + "(" + g.text(d) + ")"
	case 7:
		return "(" + g.truth(d) + " ? " + g.truth(d) + " : " + g.truth(d) + ")"
	case 8:
		return g.overWords(g.pick("exists", "all", "exists_one"), func() string { return g.truth(d) })
	}
	return g.overItems(g.pick("exists", "all", "exists_one"), func() string { return g.truth(d) })
}

func (g *formulas) whole(depth int) string {
	if depth == 0 || g.IntN(4) == 0 {
		list := []string{"record.n", "3", "7", "0", "size(record.items)", "record.s.size()"}
		for _, v := range g.items {
			list = append(list, v+".n")
		}
		return g.pick(list...)
	}
	d := depth - 1
	switch g.IntN(4) {
	case 0:
		return "size(" + g.list(d) + ")"
	case 1:
		return "(" + g.truth(d) + " ? " + g.whole(d) + " : " + g.whole(d) + ")"
	case 2:
		return "-(" + g.whole(d) + ")"
	}
	return "(" + g.whole(d) + g.pick(" + ", " - ", " * ") + g.whole(d) + ")"
}

func (g *formulas) text(depth int) string {
	if depth == 0 || g.IntN(3) == 0 {
		list := []string{"record.s", "record.user.id", "record.t", `"a"`, `""`, "key", "headers.h", "record.user.tags[1]"}
		for _, v := range g.items {
			list = append(list, v+".sku")
		}
		return g.pick(append(list, g.words...)...)
	}
	d := depth - 1
	switch g.IntN(3) {
	case 0:
		return "string(" + g.whole(d) + ")"
	case 1:
		return "(" + g.truth(d) + " ? " + g.text(d) + " : " + g.text(d) + ")"
	}
	return "(" + g.text(d) + " + " + g.text(d) + ")"
}

// list is a list of texts.
func (g *formulas) list(depth int) string {
	if depth == 0 || g.IntN(3) == 0 {
		return g.pick("record.user.tags", "record.e", `["a", "x", key]`)
	}
	d := depth - 1
	switch g.IntN(3) {
	case 0:
		return g.overWords("filter", func() string { return g.truth(d) })
	case 1:
		return g.overWords("map", func() string { return g.text(d) })
	}
	return g.overItems("map", func() string { return g.truth(d) + ", " + g.text(d) })
}

func (g *formulas) overWords(macro string, body func() string) string {
	name := fmt.Sprintf("w%d", len(g.words))
	g.words = append(g.words, name)
	defer func() { g.words = g.words[:len(g.words)-1] }()
	return fmt.Sprintf("record.user.tags.%s(%s, %s)", macro, name, body())
}

func (g *formulas) overItems(macro string, body func() string) string {
	name := fmt.Sprintf("i%d", len(g.items))
	g.items = append(g.items, name)
	defer func() { g.items = g.items[:len(g.items)-1] }()
	return fmt.Sprintf("record.items.%s(%s, %s)", macro, name, body())
}

// TestRandomFormulas holds random expressions to cel-go's own interpreter.
func TestRandomFormulas(t *testing.T) {
	var record map[string]any
	decoder := json.NewDecoder(strings.NewReader(ground))
	decoder.UseNumber()
	if err := decoder.Decode(&record); err != nil {
		t.Fatal(err)
	}
	env, err := language()
	if err != nil {
		t.Fatal(err)
	}
	g := &formulas{Rand: rand.New(rand.NewPCG(3, 4))}
	compared := 0
	for range 3_000 {
		text := g.pick(g.truth(3), g.whole(3), g.text(3), g.list(2))
		want, wantErr := reference(t, env, record, text)
		got, err := evaluate(t, text)
		if err != nil && strings.Contains(err.Error(), "too costly") {
			continue
		}
		if compared++; got != want || (err != nil) != (wantErr != nil) {
			t.Fatalf("%s is %s (%v), CEL says %s (%v)", text, got, err, want, wantErr)
		}
	}
	if compared < 2_000 {
		t.Errorf("only %d expressions were compared", compared)
	}
}
