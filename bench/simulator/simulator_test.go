package simulator

import (
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

// small returns a configuration with everything in it, quick to play.
func small() Config {
	cfg := DefaultConfig()
	cfg.Customers = 1500
	cfg.Shares.TooLate = 0.01
	return cfg
}

func mustNew(t testing.TB, cfg Config) *Simulator {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// fingerprint plays up to n events and hashes all their bytes and times.
func fingerprint(t testing.TB, cfg Config, n int) string {
	t.Helper()
	s, h := mustNew(t, cfg), sha256.New()
	var e Event
	for range n {
		if !s.Next(&e) {
			break
		}
		h.Write(e.Key)
		h.Write(e.Value)
		h.Write([]byte(e.Arrival.Format(time.RFC3339Nano) + e.At.Format(time.RFC3339Nano)))
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

func TestGolden(t *testing.T) {
	const want = "e446560e946ca391"
	if got := fingerprint(t, small(), math.MaxInt); got != want {
		t.Errorf("the stream of the small configuration hashes to %s, not %s: if that is meant, recorded figures of "+
			"earlier runs no longer compare", got, want)
	}
}

func TestSeed(t *testing.T) {
	cfg := small()
	first := fingerprint(t, cfg, 5000)
	if again := fingerprint(t, cfg, 5000); again != first {
		t.Errorf("the same seed gave %s, then %s", first, again)
	}
	cfg.Seed++
	if other := fingerprint(t, cfg, 5000); other == first {
		t.Error("another seed gave the same stream")
	}
}

// TestEndOnlyCuts: with a fixed span of arrivals, End changes nothing that happens before it.
func TestEndOnlyCuts(t *testing.T) {
	cfg := small()
	cfg.Customers = 300
	cfg.Arrivals.Span = 300 * 24 * time.Hour
	end := cfg.End
	want := playUntil(t, cfg, end)
	for _, later := range []time.Time{end.AddDate(1, 0, 0), {}} {
		cfg.End = later
		if got := playUntil(t, cfg, end); got != want {
			t.Errorf("with end %v the events before %v differ: %s, not %s", later, end, got, want)
		}
	}
}

// playUntil hashes the events that happen before an instant.
func playUntil(t *testing.T, cfg Config, end time.Time) string {
	t.Helper()
	s, h := mustNew(t, cfg), sha256.New()
	var e Event
	for s.Next(&e) && !e.Arrival.After(end.Add(cfg.TooLateMax)) {
		if e.At.Before(end) {
			h.Write(e.Value)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

func TestOpenEndGoesOn(t *testing.T) {
	cfg := small()
	cfg.End = time.Time{}
	s := mustNew(t, cfg)
	var e Event
	for s.Next(&e) {
		if e.At.Year() >= 2028 {
			return
		}
	}
	t.Errorf("the stream without end ended at %v", e.At)
}

func TestValidateReportsAll(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Fatalf("the default configuration is invalid: %v", err)
	}
	bad := DefaultConfig()
	bad.Customers = 0
	bad.Currency = "euro"
	bad.Shares.Late = 1.5
	bad.Orders.R = math.NaN()
	bad.Categories[3].Name = `a"b`
	bad.End = bad.Start
	_, err := New(bad)
	if err == nil {
		t.Fatal("an invalid configuration was accepted")
	}
	for _, part := range []string{"Customers", "Currency", "Shares.Late", "Orders.R", "Categories[3]", "End"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not name %s: %v", part, err)
		}
	}
}

func TestTruth(t *testing.T) {
	cfg := small()
	s := mustNew(t, cfg)
	before := s.Truth(7, cfg.End)
	var e Event
	for s.Next(&e) {
	}
	after := s.Truth(7, cfg.End)
	if before.DiedAt != after.DiedAt || before.Orders != after.Orders {
		t.Errorf("Truth depends on how far the stream was read: %+v, then %+v", before, after)
	}
	middle := cfg.Start.AddDate(0, 9, 0)
	for i := range s.NumCustomers() {
		then, now := s.Truth(i, middle), s.Truth(i, cfg.End)
		if then.Orders > now.Orders || !then.AliveAt && now.AliveAt {
			t.Fatalf("customer %d lost orders or came back to life: %+v, then %+v", i, then, now)
		}
		if !now.AliveAt && now.Role == Buyer && now.DiedAt != now.LastOrder {
			t.Fatalf("customer %d died at %v, not at the last order %v", i, now.DiedAt, now.LastOrder)
		}
		for _, list := range [][]float64{now.Tastes, now.TrueNextCategory} {
			sum := 0.0
			for _, v := range list {
				sum += v
			}
			if math.Abs(sum-1) > 1e-9 {
				t.Fatalf("customer %d: shares sum to %v", i, sum)
			}
		}
	}
}

func TestWriteTruth(t *testing.T) {
	s := mustNew(t, small())
	var b strings.Builder
	if err := s.WriteTruth(&b); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(strings.NewReader(b.String())).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != s.NumCustomers()+1 || len(rows[0]) != 9+2*len(s.Popularity()) {
		t.Errorf("%d rows of %d cells", len(rows), len(rows[0]))
	}
	if err := s.WriteTruth(failingWriter{}); err == nil {
		t.Error("a failing writer was not reported")
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errFull }

var errFull = errors.New("full")

func TestPopularity(t *testing.T) {
	s, sum := mustNew(t, small()), 0.0
	for _, c := range s.Popularity() {
		sum += c.Share
	}
	if math.Abs(sum-1) > 1e-12 {
		t.Errorf("popularity sums to %v", sum)
	}
}

func TestHeartbeat(t *testing.T) {
	at := time.Date(2024, 3, 1, 13, 34, 56, 789e6, time.FixedZone("", 3600))
	const want = `x{"type":"heartbeat","timestamp":"2024-03-01T12:34:56.789Z"}`
	if got := string(Heartbeat([]byte("x"), at)); got != want {
		t.Errorf("%s, not %s", got, want)
	}
}

// BenchmarkNext plays the default configuration of 20,000 customers; bytes are those of the values.
func BenchmarkNext(b *testing.B) {
	cfg := DefaultConfig()
	s := mustNew(b, cfg)
	var e Event
	bytes := 0
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if !s.Next(&e) {
			b.StopTimer()
			s = mustNew(b, cfg)
			b.StartTimer()
			s.Next(&e)
		}
		bytes += len(e.Value)
	}
	b.ReportMetric(float64(bytes)/float64(b.N), "bytes/event")
}

func BenchmarkNew(b *testing.B) {
	for range b.N {
		mustNew(b, DefaultConfig())
	}
}
