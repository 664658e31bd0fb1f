package simulator

import (
	"math"
	"testing"
)

func TestLnAndExp(t *testing.T) {
	random := newStream(1, 1, 1, 1)
	for range 100_000 {
		x := exp(random.normal() * 20)
		if got, want := ln(x), math.Log(x); math.Abs(got-want) > 1e-14*math.Max(1, math.Abs(want)) {
			t.Fatalf("ln(%v) = %v, not %v", x, got, want)
		}
		y := random.normal() * 100
		if got, want := exp(y), math.Exp(y); math.Abs(got-want) > 1e-13*want {
			t.Fatalf("exp(%v) = %v, not %v", y, got, want)
		}
	}
	if exp(-1000) != 0 {
		t.Error("exp(-1000) is not 0")
	}
}

// TestMoments holds the distributions to their means and variances, within five standard errors or so.
func TestMoments(t *testing.T) {
	tests := []struct {
		name           string
		draw           func(*stream) float64
		mean, variance float64
	}{
		{"float", (*stream).float, 0.5, 1.0 / 12},
		{"exp", (*stream).exp, 1, 1},
		{"normal", (*stream).normal, 0, 1},
		{"gamma 0.3", func(s *stream) float64 { return s.gamma(0.3) }, 0.3, 0.3},
		{"gamma 2.5", func(s *stream) float64 { return s.gamma(2.5) }, 2.5, 2.5},
		{"beta", func(s *stream) float64 { return s.beta(0.5, 4) }, 0.5 / 4.5, 2 / (4.5 * 4.5 * 5.5)},
		{"below", func(s *stream) float64 { return float64(s.below(10)) }, 4.5, 8.25},
	}
	for _, tt := range tests {
		const n = 200_000
		random, sum, squares := newStream(2, 3, 4, 5), 0.0, 0.0
		for range n {
			x := tt.draw(&random)
			sum += x
			squares += x * x
		}
		mean := sum / n
		variance := squares/n - mean*mean
		if math.Abs(mean-tt.mean) > 5*math.Sqrt(tt.variance/n) || math.Abs(variance/tt.variance-1) > 0.05 {
			t.Errorf("%s: mean %.4f, variance %.4f, not %.4f, %.4f", tt.name, mean, variance, tt.mean, tt.variance)
		}
	}
}

func TestSeasonHasMeanOne(t *testing.T) {
	s := newSeason(DefaultConfig().Season)
	sum, n := 0.0, 0
	for ms := int64(0); ms < 7*fourYears*dayMs; ms += hourMs {
		v := s.at(ms)
		if v > s.max {
			t.Fatalf("the season %v at %d is above its bound %v", v, ms, s.max)
		}
		sum += v
		n++
	}
	if mean := sum / float64(n); math.Abs(mean-1) > 1e-9 {
		t.Errorf("the season has mean %v", mean)
	}
}

func TestQueueSorts(t *testing.T) {
	var q queue
	random := newStream(1, 2, 3, 4)
	last, size := int64(math.MinInt64), 0
	for i := range 20_000 {
		q.push(max(last, 0)+random.below(1000), item{serial: uint32(i)})
		size++
		if random.chance(0.6) || i > 15_000 {
			arrival, _, ok := q.pop()
			if size--; !ok || arrival < last {
				t.Fatalf("popped %d after %d, ok %v", arrival, last, ok)
			}
			last = arrival
		}
	}
	for range size {
		arrival, _, ok := q.pop()
		if !ok || arrival < last {
			t.Fatalf("popped %d after %d, ok %v", arrival, last, ok)
		}
		last = arrival
	}
	if _, _, ok := q.pop(); ok {
		t.Error("the empty queue is not empty")
	}
}
