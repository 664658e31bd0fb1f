package view_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"zyklus/cmd/zyklus/internal/view"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the golden files; review the difference")

// golden compares with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

// sample is a demo in the middle of its history.
func sample() view.Snapshot {
	clock := time.Date(2025, 9, 14, 13, 0, 0, 0, time.UTC)
	change := func(minutes int, customer, from, to, cause string) view.Change {
		return view.Change{At: clock.Add(-time.Duration(minutes) * time.Minute), Customer: customer, From: from, To: to, Cause: cause}
	}
	return view.Snapshot{
		Now:   time.Date(2026, 11, 22, 21, 40, 5, 0, time.UTC),
		Clock: clock, Mode: view.ModeHistory,
		Events: 1_234_567, EventsPerSecond: 101_234.4, Rows: 456_789, Freshness: 430 * time.Millisecond,
		Progress: 0.42, ETA: 12 * time.Second,
		Phases: []view.PhaseCount{
			{ID: "prospect", LabelEn: "Prospect", LabelDe: "Interessent", Customers: 6_120, Churned: "none"},
			{ID: "new", LabelEn: "New customer", LabelDe: "Neukunde", Customers: 2_310, Churned: "none"},
			{ID: "active", LabelEn: "Active customer", LabelDe: "aktiver Bestandskunde", Customers: 7_405, Churned: "none"},
			{ID: "inactive", LabelEn: "Inactive customer", LabelDe: "inaktiver Bestandskunde", Customers: 3_164, Churned: "at_risk"},
			{ID: "former", LabelEn: "Former customer", LabelDe: "ehemaliger Kunde", Customers: 3, Churned: "lost"},
		},
		ChurnedLastDay: 17,
		Changes: []view.Change{
			change(0, "customer-000123", "active", "inactive", "deadline"),
			change(2, "customer-017310", "prospect", "new", "order_completed"),
			change(3, "customer-000007", "new", "active", "order_completed"),
			change(9, "customer-004242", "inactive", "former", "deadline"),
			change(11, "customer-012001", "inactive", "active", "order_completed"),
			change(15, "customer-000900", "new", "prospect", "order_cancelled"),
		},
		Addresses: []view.Address{
			{Name: "ClickHouse", URL: "http://127.0.0.1:8123"}, {Name: "Kafka", URL: "127.0.0.1:9092"}, {Name: "metrics", URL: "http://127.0.0.1:9464/metrics"},
		},
		Queries: []view.Query{
			{Title: "Who was lost within the last week, and what were they worth?", Text: "SELECT customer_id, at, from_phase, value_lifetime FROM zyklus.phase_transitions_v JOIN zyklus.customers_v USING customer_id WHERE to_phase = 'former' ORDER BY at DESC LIMIT 10"},
			{Title: "How many customers are in each phase?", Text: "SELECT phase, count() FROM zyklus.customers_v GROUP BY phase ORDER BY phase"},
			{Title: "Who should be called today?", Text: "SELECT customer_id, churn_risk\nFROM zyklus.customers_v\nORDER BY churn_risk * value_365 DESC LIMIT 20"},
		},
	}
}

func TestTerminal(t *testing.T) {
	f := func(columns, rows int, edit func(*view.Snapshot)) {
		t.Helper()
		s := sample()
		name := fmt.Sprintf("terminal_%dx%d_%s.golden", columns, rows, s.Mode)
		if edit != nil {
			edit(&s)
			name = fmt.Sprintf("terminal_%dx%d_%s.golden", columns, rows, s.Mode)
		}
		m := newTerminal(t, columns, rows)
		v := view.New(m, view.Options{Terminal: true, Colour: true, Size: func() (int, int) { return columns, rows }})
		if err := v.Render(s); err != nil {
			t.Fatal(err)
		}
		golden(t, name, m.String())
	}
	f(80, 24, nil)
	f(120, 40, nil)
	f(60, 16, nil)
	f(30, 6, nil)
	live := func(s *view.Snapshot) {
		s.Mode, s.Clock = view.ModeLive, s.Now
		s.Notice = "clickhouse: no answer from 127.0.0.1:8123, trying again"
		s.Freshness = 75 * time.Second
		s.Phases[0].LabelDe = "見込み客"
		s.Changes[0].Customer = "evil\x1b[2J\x9b\u202eid"
	}
	f(80, 24, live)
	f(100, 30, func(s *view.Snapshot) { *s = view.Snapshot{Mode: view.ModeFast, Freshness: -1} })
}

// Whatever the size, nothing is written outside of the screen.
func TestEverySize(t *testing.T) {
	for columns := 1; columns <= 140; columns += 11 {
		for rows := 1; rows <= 50; rows += 7 {
			v := view.New(newTerminal(t, columns, rows), view.Options{Terminal: true, Size: func() (int, int) { return columns, rows }})
			if err := v.Render(sample()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Changes alone are written, and the screen is what a first frame would be, also after a change of size.
func TestRedraw(t *testing.T) {
	columns, rows := 80, 24
	m := newTerminal(t, columns, rows)
	written := &bytes.Buffer{}
	v := view.New(writers{m, written}, view.Options{Terminal: true, Size: func() (int, int) { return columns, rows }})
	s := sample()
	render := func() string {
		written.Reset()
		if err := v.Render(s); err != nil {
			t.Fatal(err)
		}
		fresh := newTerminal(t, columns, rows)
		_ = view.New(fresh, view.Options{Terminal: true, Size: func() (int, int) { return columns, rows }}).Render(s)
		if m.String() != fresh.String() {
			t.Errorf("got\n%swant\n%s", m, fresh)
		}
		return written.String()
	}
	render()
	if text := render(); text != "\x1b[H" {
		t.Errorf("nothing changed, written %q", text)
	}
	s.Now = s.Now.Add(time.Second)
	if text := render(); strings.Count(text, "\x1b[K") != 1 || !strings.Contains(text, "21:40:06") {
		t.Errorf("one line changed, written %q", text)
	}
	s.Changes, s.Queries, s.Notice = s.Changes[:1], nil, "careful"
	render()
	columns, rows = 100, 30
	m.resize(columns, rows)
	render()
	columns, rows = 40, 10
	m.resize(columns, rows)
	render()
}

type writers []interface{ Write([]byte) (int, error) }

func (w writers) Write(p []byte) (int, error) {
	for _, w := range w {
		if n, err := w.Write(p); err != nil {
			return n, err
		}
	}
	return len(p), nil
}

func TestCloseRestoresTerminal(t *testing.T) {
	m := newTerminal(t, 80, 24)
	v := view.New(m, view.Options{Terminal: true})
	if err := v.Render(sample()); err != nil || !m.alternate || !m.hidden {
		t.Errorf("alternate %v, hidden %v, %v", m.alternate, m.hidden, err)
	}
	for range 2 {
		if err := v.Close(); err != nil || m.alternate || m.hidden {
			t.Errorf("alternate %v, hidden %v, %v", m.alternate, m.hidden, err)
		}
	}
	var b bytes.Buffer
	v = view.New(&b, view.Options{Terminal: true})
	_ = v.Close()
	_ = v.Render(sample())
	if b.Len() > 0 {
		t.Errorf("written %q", &b)
	}
}

func TestColours(t *testing.T) {
	f := func(colour bool) string {
		var b bytes.Buffer
		_ = view.New(&b, view.Options{Terminal: true, Colour: colour}).Render(sample())
		return b.String()
	}
	if strings.Contains(f(false), "\x1b[0m") {
		t.Error("colours in spite of none")
	}
	for _, want := range []string{"\x1b[33minactive", "\x1b[31mformer", "\x1b[36m█"} {
		if !strings.Contains(f(true), want) {
			t.Errorf("%q is missing", want)
		}
	}
}

func TestPlain(t *testing.T) {
	var b bytes.Buffer
	v := view.New(&b, view.Options{})
	s := sample()
	start := s.Now
	for i := range 40 { // a ticker that is late by up to 40 ms
		s.Now = start.Add(time.Duration(i)*250*time.Millisecond + time.Duration(i*7%40)*time.Millisecond)
		if err := v.Render(s); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(b.String(), "\n"); n != 10 {
		t.Errorf("%d lines in 10 s", n)
	}
	for render := range 10 { // a process that is held up for long
		s.Now = start.Add(time.Hour + time.Duration(render)*100*time.Millisecond)
		_ = v.Render(s)
	}
	if n := strings.Count(b.String(), "\n"); n != 11 {
		t.Errorf("%d lines, want one more than 10", n)
	}

	b.Reset()
	v = view.New(&b, view.Options{})
	_ = v.Render(sample())
	_ = v.Render(view.Snapshot{Now: start.Add(time.Second), Mode: view.ModeFast, Freshness: -1, Phases: []view.PhaseCount{{ID: "ab", Customers: 1}}})
	golden(t, "plain.golden", b.String())
}

func TestBanner(t *testing.T) {
	golden(t, "banner.golden", view.Banner(sample().Addresses, sample().Queries))
}
