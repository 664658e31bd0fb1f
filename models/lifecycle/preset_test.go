package lifecycle

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite golden files; review the difference")

// roleCatalogue holds the features role5 needs, and roleSource a customer of it:
// the last order at lastOrder, the expected gap in days.
func roleCatalogue() Catalogue {
	return Catalogue{
		{Name: "orders", Unit: "orders", Doc: "Net orders of a lifetime."},
		{Name: "days_since_last_order", Unit: "days", Doc: "Since the last net order.", Varies: Rising},
		{Name: "overdue_ratio", Doc: "Days since the last order over the expected gap.", Varies: Rising},
	}
}

type roleSource struct {
	orders    float64
	lastOrder int64
	gap       float64
}

func (s *roleSource) Number(feature int, at int64) (float64, bool) {
	switch feature {
	case 0:
		return s.orders, true
	case 1:
		return float64(at-s.lastOrder) / day, s.orders > 0
	}
	return float64(at-s.lastOrder) / day / s.gap, s.orders > 0
}

func (s *roleSource) Text(int) string { return "" }

func (s *roleSource) Crossing(feature int, at int64, threshold float64) int64 {
	if feature == 0 || s.orders == 0 {
		return Never
	}
	if feature == 2 {
		threshold *= s.gap
	}
	return max(at+1, s.lastOrder+int64(threshold*day))
}

func role5(t testing.TB) *Lifecycle {
	t.Helper()
	text, err := Preset("role5")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Compile(doc, roleCatalogue())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestPresets(t *testing.T) {
	if names := Presets(); len(names) == 0 || names[0] == "" {
		t.Fatal(names)
	}
	for _, name := range Presets() {
		text, err := Preset(name)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := Parse(text)
		if err != nil || doc.ID != name {
			t.Errorf("%s: %v, %v", name, doc, err)
		}
	}
	if _, err := Preset("role6"); err == nil || !strings.Contains(err.Error(), "role5") {
		t.Error(err)
	}
	if _, err := Preset("../lifecycle"); err == nil {
		t.Error("path accepted")
	}
}

// golden compares text with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs, got:\n%s", path, got)
	}
}

// The golden file shows role5 as compiled, and what silence makes of customers.
func TestRole5(t *testing.T) {
	l := role5(t)
	var b strings.Builder
	fmt.Fprintf(&b, "%s version %d: %s / %s, cycle %s -> %s\n\n", l.ID, l.Version, l.Labels.En, l.Labels.De, l.Cycle.From, l.Cycle.To)
	for _, p := range l.Phases {
		fmt.Fprintf(&b, "phase %-8s %-8s %-7s %s / %s\n", p.ID, p.Level, p.Churned, p.Labels.En, p.Labels.De)
	}
	b.WriteString("\n")
	for _, r := range l.Rules {
		fmt.Fprintf(&b, "rule %s -> %s: %s\n", r.ID, l.Phases[r.Phase].ID, strings.Join(strings.Fields(r.When), " "))
	}
	for _, s := range []roleSource{{0, 0, 60}, {1, 0, 60}, {1, 0, 20}, {2, 0, 60}, {2, 0, 45}, {12, 0, 7.3}, {3, 0, 400}, {-1, 0, 60}} {
		fmt.Fprintf(&b, "\n%g orders, expected gap %g days:\n", s.orders, s.gap)
		silence(&b, l, &s)
	}
	golden(t, "role5.golden", b.String())
}

// silence writes the phases that time alone brings.
func silence(b *strings.Builder, l *Lifecycle, s *roleSource) {
	for at := int64(0); at != Never; {
		phase, rule := l.Phase(s, at)
		fmt.Fprintf(b, "  day %d + %d ms: %s\n", at/day, at%day, l.Phases[phase].ID)
		at = l.Next(s, at, rule)
	}
}

func TestStartsCycle(t *testing.T) {
	l := role5(t)
	for i, from := range l.Phases {
		for j, to := range l.Phases {
			want := from.ID == "former" && (to.ID == "prospect" || to.ID == "new" || to.ID == "active")
			if l.StartsCycle(i, j) != want {
				t.Errorf("%s -> %s: %v", from.ID, to.ID, !want)
			}
		}
	}
}

func TestNoAllocations(t *testing.T) {
	l := role5(t)
	s := &roleSource{orders: 2, gap: 45}
	n := testing.AllocsPerRun(100, func() {
		_, rule := l.Phase(s, 0)
		l.Next(s, 0, rule)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkPhase(b *testing.B) {
	l := role5(b)
	for _, s := range []roleSource{{0, 0, 60}, {1, 0, 60}, {5, 0, 45}} {
		b.Run(fmt.Sprintf("orders=%g", s.orders), func(b *testing.B) {
			for b.Loop() {
				l.Phase(&s, 10*day)
			}
		})
	}
}

func BenchmarkNext(b *testing.B) {
	l := role5(b)
	for _, s := range []roleSource{{0, 0, 60}, {1, 0, 60}, {5, 0, 45}} {
		b.Run(fmt.Sprintf("orders=%g", s.orders), func(b *testing.B) {
			_, rule := l.Phase(&s, 10*day)
			for b.Loop() {
				l.Next(&s, 10*day, rule)
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	text, err := Preset("role5")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		doc, err := Parse(text)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := Compile(doc, roleCatalogue()); err != nil {
			b.Fatal(err)
		}
	}
}
