package dataset

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// open opens a real file in the folder shared/data beside the project, or in that of ZYKLUS_SHARED.
func open(t *testing.T, name string) *os.File {
	t.Helper()
	var tried []string
	if shared := os.Getenv("ZYKLUS_SHARED"); shared != "" {
		tried = append(tried, filepath.Join(shared, "data", name))
	}
	folder, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; folder != filepath.Dir(folder); folder = filepath.Dir(folder) {
		tried = append(tried, filepath.Join(folder, "shared", "data", name))
	}
	for _, path := range tried {
		if file, err := os.Open(path); err == nil {
			t.Cleanup(func() { _ = file.Close() })
			return file
		}
	}
	t.Skipf("SKIPPED: NO REAL DATA: %s is in none of %v; set ZYKLUS_SHARED", name, tried)
	return nil
}

// totals are what a whole file adds up to.
type totals struct {
	events, customers, quantity, lines int
	revenue, priced                    int64 // millionths, cents
}

func total(t *testing.T, preset, name string) totals {
	t.Helper()
	r, err := Open(preset, open(t, name), "USD")
	if err != nil {
		t.Fatal(err)
	}
	var sum totals
	var e Event
	customers := map[string]bool{}
	for {
		ok, err := r.Next(&e)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		sum.events++
		customers[string(e.Key)] = true
		sum.add(t, e.Value)
	}
	if r.RefusedCount() > 0 {
		t.Errorf("%d refused: %v", r.RefusedCount(), r.Refused())
	}
	sum.customers = len(customers)
	return sum
}

func (s *totals) add(t *testing.T, value []byte) {
	t.Helper()
	var m struct {
		Properties struct {
			Revenue  json.Number
			Products []struct {
				Price    json.Number
				Quantity int
			}
		}
	}
	if err := json.Unmarshal(value, &m); err != nil {
		t.Fatalf("%v: %s", err, value)
	}
	revenue, ok := parseDecimal([]byte(m.Properties.Revenue))
	if !ok {
		t.Fatalf("revenue of %s", value)
	}
	s.revenue += revenue
	for _, p := range m.Properties.Products {
		price, ok := parseDecimal([]byte(p.Price))
		if !ok {
			t.Fatalf("price of %s", value)
		}
		s.lines++
		s.quantity += p.Quantity
		s.priced += cents(price * int64(p.Quantity))
	}
}

// TestRealCDNOW: eight orders are free and still orders.
func TestRealCDNOW(t *testing.T) {
	got := total(t, "cdnow", "cdnow_sample.csv.gz")
	want := totals{
		events: 6919, customers: 2357, quantity: 16479, lines: 6919, revenue: 244_091_940_000, priced: 24_409_194,
	}
	if got != want {
		t.Errorf("%+v, not %+v", got, want)
	}
}

func TestRealCompleteJourney(t *testing.T) {
	got := total(t, "complete-journey", "complete_journey_sample.csv.gz")
	got.quantity = 0 // not published; lines without quantity count as one
	want := totals{events: 47243, customers: 2377, lines: 75000, revenue: 233_935_240_000, priced: 23_393_524}
	if got != want {
		t.Errorf("%+v, not %+v", got, want)
	}
}
