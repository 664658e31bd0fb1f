package models

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func millis(t *testing.T, date string) int64 {
	t.Helper()
	at, err := time.Parse(time.DateOnly, date)
	if err != nil {
		t.Fatal(err)
	}
	return at.UnixMilli()
}

func TestGain(t *testing.T) {
	m := CategoryModel{HalfLifeDays: 30}
	landmark := millis(t, "2020-01-01")
	near(t, "Gain at the landmark", m.Gain(landmark), 1, 0)
	near(t, "Gain a half-life later", m.Gain(landmark+30*millisPerDay), 2, 0)
	near(t, "Gain a half-life before", m.Gain(landmark-30*millisPerDay), 0.5, 0)
	near(t, "Decayed", m.Decayed(m.Gain(landmark+60*millisPerDay), landmark+90*millisPerDay), 0.5, 1e-15)
	for _, at := range []int64{math.MinInt64 + landmark, math.MaxInt64} {
		if g := m.Gain(at); !(g > 0) || math.IsInf(g*1e12, 1) {
			t.Errorf("Gain(%d) = %v", at, g)
		}
	}
}

// weightsAt gives stored weights for amounts of the given instant.
func weightsAt(m *CategoryModel, at int64, names string, amounts ...float64) (w []CategoryWeight) {
	for i, name := range strings.Fields(names) {
		w = append(w, CategoryWeight{name, amounts[i] * m.Gain(at)})
	}
	return w
}

func describe(out []NextCategory) string {
	var b strings.Builder
	for _, c := range out {
		fmt.Fprintf(&b, "%s %.4f %s; ", c.Name, c.Probability, c.Reason)
	}
	return strings.TrimSuffix(b.String(), "; ")
}

func TestNext(t *testing.T) {
	popular := []CategoryShare{{"books", 0.2}, {"food", 0.5}, {"garden", 0.1}, {"toys", 0.2}}
	day := millis(t, "2026-03-01")
	for _, c := range []struct {
		name       string
		model      CategoryModel
		categories string
		amounts    []float64
		later      int64 // days after the purchases
		want       string
	}{
		{"no history", CategoryModel{180, 1, popular}, "", nil, 0,
			"food 0.5000 popular; books 0.2000 popular; toys 0.2000 popular"},
		{"history and popularity", CategoryModel{180, 1, popular}, "toys garden", []float64{2, 1}, 0,
			"toys 0.5500 personal; garden 0.2750 personal; food 0.1250 popular"},
		{"personal part equal to popularity", CategoryModel{180, 1, popular}, "food", []float64{0.5}, 0,
			"food 0.6667 personal; books 0.1333 popular; toys 0.1333 popular"},
		{"popularity outweighs", CategoryModel{180, 100, popular}, "food", []float64{1}, 0,
			"food 0.5050 popular; books 0.1980 popular; toys 0.1980 popular"},
		{"decays to popularity", CategoryModel{30, 1, popular}, "garden", []float64{1}, 3650,
			"food 0.5000 popular; books 0.2000 popular; toys 0.2000 popular"},
		{"one half-life", CategoryModel{30, 1, popular}, "garden", []float64{2}, 30,
			"garden 0.5500 personal; food 0.2500 popular; books 0.1000 popular"},
		{"without popularity K is ignored", CategoryModel{180, 30, nil}, "b c a d", []float64{1, 1, 1, 2}, 900,
			"d 0.4000 personal; a 0.2000 personal; b 0.2000 personal"},
		{"returned more than bought", CategoryModel{180, 1, nil}, "a b", []float64{-1, 1}, 0, "b 1.0000 personal"},
		{"nothing known", CategoryModel{180, 1, nil}, "", nil, 0, ""},
		{"K of 0 and no history", CategoryModel{180, 0, popular}, "", nil, 0, ""},
		{"unknown category", CategoryModel{180, 1, popular}, "zoo", []float64{1}, 0,
			"zoo 0.5000 personal; food 0.2500 popular; books 0.1000 popular"},
	} {
		out := [NextCount]NextCategory{{Name: "left over from the last customer"}}
		n := c.model.Next(weightsAt(&c.model, day, c.categories, c.amounts...), day+c.later*millisPerDay, &out)
		if got := describe(out[:n]); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

// nextBySort is the definition, without care for cost.
func nextBySort(m *CategoryModel, personal []CategoryWeight, at int64) []NextCategory {
	k := m.Shrink
	if len(m.Popularity) == 0 {
		k = 0
	}
	own, pop, total := map[string]float64{}, map[string]float64{}, k
	for _, w := range personal {
		own[w.Name] = math.Max(m.Decayed(w.Weight, at), 0)
		total += own[w.Name]
	}
	for _, c := range m.Popularity {
		pop[c.Name] = k * c.Share
	}
	var all []NextCategory
	for _, names := range []map[string]float64{own, pop} {
		for name := range names {
			c := NextCategory{name, (own[name] + pop[name]) / total, ReasonPopular}
			if own[name] > 0 && own[name] >= pop[name] {
				c.Reason = ReasonPersonal
			}
			if c.Probability > 0 && !slices.Contains(all, c) {
				all = append(all, c)
			}
		}
	}
	slices.SortFunc(all, func(a, b NextCategory) int {
		return cmp.Or(cmp.Compare(b.Probability, a.Probability), cmp.Compare(a.Name, b.Name))
	})
	return all[:min(len(all), NextCount)]
}

func TestNextAgainstSorting(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 0))
	for i := range 2000 {
		m := CategoryModel{HalfLifeDays: 30 + 300*rng.Float64(), Shrink: rng.Float64() * 20}
		for c := range rng.IntN(12) {
			m.Popularity = append(m.Popularity, CategoryShare{fmt.Sprintf("c%02d", 2*c), float64(rng.IntN(4)) / 8})
		}
		at := millis(t, "2026-01-01") + rng.Int64N(1000*millisPerDay)
		var personal []CategoryWeight
		for _, c := range rng.Perm(24)[:rng.IntN(12)] {
			personal = append(personal, CategoryWeight{fmt.Sprintf("c%02d", c), m.Gain(at) * float64(rng.IntN(5)-1)})
		}
		var out [NextCount]NextCategory
		n := m.Next(personal, at, &out)
		want := nextBySort(&m, personal, at)
		if n != len(want) {
			t.Fatalf("case %d: %d categories, want %d", i, n, len(want))
		}
		for j := range want {
			if out[j].Name != want[j].Name || out[j].Reason != want[j].Reason ||
				math.Abs(out[j].Probability-want[j].Probability) > 1e-12 {
				t.Fatalf("case %d: got %s, want %s", i, describe(out[:n]), describe(want))
			}
		}
	}
}

func TestExpectedGap(t *testing.T) {
	near(t, "no gap", ExpectedGap(0, 0, 60, 1), 60, 0)
	near(t, "one gap", ExpectedGap(1, 20, 60, 1), 40, 0)
	near(t, "many gaps", ExpectedGap(9, 90, 60, 1), 15, 0)
	near(t, "no weight", ExpectedGap(2, 30, 60, 0), 15, 0)
	near(t, "no weight, no gap", ExpectedGap(0, 0, 60, 0), 60, 0)
	a := BuiltIn()
	near(t, "built in", a.ExpectedGap(1, 20), 40, 0)
}

func benchCategories() (CategoryModel, []CategoryWeight, int64) {
	m := CategoryModel{HalfLifeDays: 180, Shrink: 50}
	for i := range 289 {
		m.Popularity = append(m.Popularity, CategoryShare{fmt.Sprintf("category-%03d", i), 1.0 / 289})
	}
	at := int64(1_780_000_000_000)
	return m, weightsAt(&m, at-90*millisPerDay, "category-017 category-100 category-250 other", 3, 1, 2, 1), at
}

func TestNextAllocatesNothing(t *testing.T) {
	m, personal, at := benchCategories()
	var out [NextCount]NextCategory
	if n := testing.AllocsPerRun(100, func() { m.Next(personal, at, &out) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkNext(b *testing.B) {
	m, personal, at := benchCategories()
	var out [NextCount]NextCategory
	for b.Loop() {
		m.Next(personal, at, &out)
	}
}
