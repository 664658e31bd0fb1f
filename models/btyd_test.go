package models

import (
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/integrate/quad"
	"gonum.org/v1/gonum/mathext"
)

// cdnow: MBG/NBD on the CDNOW 1/10 sample, the value of BTYDplus in the tests of
// lifetimes.
func cdnow() MBG { return BuiltIn().MBG }

// bgnbd gives BG/NBD with parameters r, alpha, a, b for x > 0: MBG/NBD counts one
// more survival, so that it equals BG/NBD with b-1.
func bgnbd(r, alpha, a, b float64) MBG { return MBG{R: r, Alpha: alpha, A: a, B: b - 1} }

func TestPublishedBGNBD(t *testing.T) {
	m := bgnbd(0.243, 4.414, 0.793, 2.426)
	// Fader, Hardie, Lee 2005, confirmed by Hardie's spreadsheet: 1.226.
	if got := m.Expected(2, 30.43, 38.86, 39); math.Abs(got-1.226) > 0.0005 {
		t.Errorf("Expected = %v, published 1.226", got)
	}
	// Crossing times checked in research/mission.md §7, two decimals.
	for theta, want := range map[float64]float64{0.5: 62.49, 0.33: 87.33, 0.2: 119.72} {
		got := m.PAliveCrossing(2, 30.43, theta)
		if math.Abs(got-want) > 0.005 {
			t.Errorf("PAliveCrossing(%v) = %v, want %v", theta, got, want)
		}
		near(t, "PAlive at its crossing", m.PAlive(2, 30.43, got), theta, 1e-12)
	}
}

// Values of reference_mbgnbd.csv (50-digit evaluation of the published closed
// forms): customers 1, 3 and 157, so that something is checked without the file.
func TestPublishedMBGNBD(t *testing.T) {
	for _, c := range []struct{ x, tx, T, alive, e39, active float64 }{
		{2, 213, 272, 0.7062150554621959848085, 1.263050263341913988463, 0.5600151002237320684484},
		{0, 0, 272, 0.3897430016855184856255, 0.1540244851484355417185, 0.1088359518114655553010},
		{29, 264, 266, 0.9659513003168907791163, 18.95426800765611006279, 0.9659512928679574452742},
	} {
		m := cdnow()
		near(t, "PAlive", m.PAlive(c.x, c.tx/7, c.T/7), c.alive, 1e-13)
		near(t, "Expected", m.Expected(c.x, c.tx/7, c.T/7, 39), c.e39, 1e-12)
		near(t, "PActive", m.PActive(c.x, c.tx/7, c.T/7, 39), c.active, 1e-13)
	}
}

func TestReferenceMBGNBD(t *testing.T) {
	m := cdnow()
	rows := sharedRows(t, "reference_mbgnbd.csv")
	if len(rows) != 20 {
		t.Fatalf("%d customers, want 20", len(rows))
	}
	for _, c := range rows {
		x, tx, T := c[1], c[2]/7, c[3]/7
		near(t, "PAlive", m.PAlive(x, tx, T), c[4], 1e-12)
		near(t, "Expected 39", m.Expected(x, tx, T, 39), c[5], 1e-11)
		near(t, "Expected 52", m.Expected(x, tx, T, 52), c[6], 1e-11)
		near(t, "PActive 39", m.PActive(x, tx, T, 39), c[7], 1e-12)
	}
}

// The extreme BG/NBD cases (overflow, a = 1, a+b < 1, 5,000 purchases) hold for
// MBG/NBD with b-1 wherever x > 0.
func TestReferenceExtreme(t *testing.T) {
	for _, c := range sharedRows(t, "reference_bgnbd_extreme.csv") {
		x := c[4]
		if x == 0 {
			continue
		}
		m := bgnbd(c[0], c[1], c[2], c[3])
		near(t, "PAlive", m.PAlive(x, c[5], c[6]), c[8], 1e-9)
		near(t, "Expected", m.Expected(x, c[5], c[6], c[7]), c[9], 1e-9)
	}
}

// expectedByGauss is the expected purchases as the mean over the leaving
// probability p ~ Beta(a, b+x+1), by Gauss-Legendre panels over logit p with the
// exact Beta function.
func expectedByGauss(m MBG, x, tx, T, h float64) float64 {
	beta := m.B + x + 1
	norm := mathext.Lbeta(m.A, beta)
	f := func(v float64) float64 {
		p := 1 / (1 + math.Exp(-v))
		density := math.Exp(-m.A*softplus(-v) - beta*softplus(v) - norm)
		return -density * math.Expm1(-(m.R+x)*math.Log1p(p*h/(m.Alpha+T))) / p
	}
	sum := 0.0
	for v := -45/m.A - 20; v < 50; v += 0.25 {
		sum += quad.Fixed(f, v, v+0.25, 12, quad.Legendre{}, 0)
	}
	return m.PAlive(x, tx, T) * sum
}

func randomMBG(rng *rand.Rand) MBG {
	wide := func(lo, hi float64) float64 {
		return math.Exp(math.Log(lo) + rng.Float64()*math.Log(hi/lo))
	}
	return MBG{R: wide(0.1, 10), Alpha: wide(0.5, 100), A: wide(0.1, 8), B: wide(0.05, 30)}
}

func TestExpectedAgainstIntegration(t *testing.T) {
	const seed = 1
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := range 400 {
		m := randomMBG(rng)
		x := math.Floor(math.Exp(rng.Float64()*6)) - 1
		T := rng.Float64() * 200
		tx := 0.0
		if x > 0 {
			tx = T * rng.Float64()
		}
		h := math.Exp(rng.Float64()*10 - 3)
		if i%20 == 0 {
			m.A = 1
		}
		got, want := m.Expected(x, tx, T, h), expectedByGauss(m, x, tx, T, h)
		if math.Abs(got-want) > 1e-9*want {
			t.Errorf("seed %d, case %d: %+v x=%v tx=%v T=%v h=%v: Expected %.15g, integral %.15g, off by %.1e",
				seed, i, m, x, tx, T, h, got, want, got/want-1)
		}
	}
}

// The two evaluations agree where they meet.
func TestExpectedContinuousAtSwitch(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 0))
	for range 500 {
		m, x := randomMBG(rng), float64(rng.IntN(50))
		h := (m.Alpha + 10) * seriesLimit / (1 - seriesLimit)
		near(t, "Expected across the switch", m.Expected(x, 10, 10, h*1.000001), m.Expected(x, 10, 10, h*0.999999), 1e-5)
		near(t, "quadrature", m.expectedByQuadrature(x, h/(m.Alpha+10)),
			m.expectedBySeries(x, seriesLimit, -math.Log1p(h/(m.Alpha+10))), 1e-9)
	}
}

func TestExtremesStayInRange(t *testing.T) {
	params := []MBG{cdnow(), {0.11, 2.24, 0.31, 0.5}, {0.5, 5, 1, 2}, {0.546, 13.4, 0.001, 0.039},
		{1e-4, 1e-3, 1e-4, 1e-4}, {1e3, 1e4, 1e3, 1e3}, {0.5, 5, 1e-9, 1e9}, {2, 3, 1 + 1e-12, 1}}
	xs := []float64{0, 1, 2, 50, 400, 5000, 1e6}
	spans := []float64{0, 1e-6, 0.1, 30, 2000, 1e9}
	for _, m := range params {
		if err := m.Validate(); err != nil {
			t.Fatal(err)
		}
		for _, x := range xs {
			for _, tx := range spans {
				for _, silence := range spans {
					for _, h := range spans {
						checkRange(t, m, [4]float64{x, tx, tx + silence, h})
					}
				}
			}
		}
	}
}

func checkRange(t *testing.T, m MBG, c [4]float64) {
	x, tx, T, h := c[0], c[1], c[2], c[3]
	for _, p := range []float64{m.PAlive(x, tx, T), m.PActive(x, tx, T, h), m.ChurnRisk(x, tx, T, h)} {
		if !(p >= 0 && p <= 1) {
			t.Errorf("%+v %v: probability %v", m, c, p)
		}
	}
	e := m.Expected(x, tx, T, h)
	if !(e >= 0) || math.IsInf(e, 1) {
		t.Errorf("%+v %v: Expected %v", m, c, e)
	}
	if most := (m.R + x) * h / (m.Alpha + T) * (1 + 1e-5); e > most+1e-12 {
		t.Errorf("%+v %v: Expected %v above the rate without churn %v", m, c, e, most)
	}
	for _, cross := range []float64{m.PAliveCrossing(x, tx, 0.3), m.ChurnRiskCrossing(x, tx, h, 0.7)} {
		if math.IsNaN(cross) || cross < tx {
			t.Errorf("%+v %v: crossing %v before tx", m, c, cross)
		}
	}
}

func TestCrossings(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 0))
	for range 3000 {
		m, x, tx := randomMBG(rng), float64(rng.IntN(40)), rng.Float64()*100
		theta, h := rng.Float64(), 1+rng.Float64()*50
		if T := m.PAliveCrossing(x, tx, theta); T > tx {
			near(t, "PAlive at its crossing", m.PAlive(x, tx, T), theta, 1e-9)
		} else if m.PAlive(x, tx, tx) > theta {
			t.Errorf("PAliveCrossing gives tx, PAlive there is above %v", theta)
		}
		if T := m.ChurnRiskCrossing(x, tx, h, theta); T > tx {
			near(t, "PActive at the risk's crossing", m.PActive(x, tx, T, h), 1-theta, 1e-8)
		} else if m.ChurnRisk(x, tx, tx, h) < theta-1e-12 {
			t.Errorf("ChurnRiskCrossing gives tx, ChurnRisk there is below %v", theta)
		}
	}
	m := cdnow()
	if !math.IsInf(m.PAliveCrossing(1, 2, 0), 1) || m.PAliveCrossing(1, 2, 1) != 2 {
		t.Error("PAliveCrossing at theta 0 and 1")
	}
	if !math.IsInf(m.ChurnRiskCrossing(1, 2, 13, 1), 1) || m.ChurnRiskCrossing(1, 2, 13, 0) != 2 {
		t.Error("ChurnRiskCrossing at risk 1 and 0")
	}
}

func TestRiskNeverFallsWithSilence(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 0))
	for range 200 {
		m, x, tx := randomMBG(rng), float64(rng.IntN(40)), rng.Float64()*100
		last := 0.0
		for silence := 0.0; silence < 300; silence += 1 + rng.Float64() {
			risk := m.ChurnRisk(x, tx, tx+silence, 13)
			if risk < last-1e-15 {
				t.Fatalf("%+v: risk falls from %v to %v after %v weeks", m, last, risk, silence)
			}
			last = risk
		}
	}
}

func TestMBGValidate(t *testing.T) {
	if err := cdnow().Validate(); err != nil {
		t.Error(err)
	}
	err := MBG{R: -1, Alpha: math.NaN(), A: math.Inf(1)}.Validate()
	want := "mbg.r: must be a finite number above 0, is -1\nmbg.alpha: must be a finite number above 0, is NaN\n" +
		"mbg.a: must be a finite number above 0, is +Inf\nmbg.b: must be a finite number above 0, is 0"
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

func TestNoAllocations(t *testing.T) {
	m := cdnow()
	n := testing.AllocsPerRun(100, func() {
		sink += m.PAlive(2, 30, 39) + m.PActive(2, 30, 39, 13) + m.Expected(2, 30, 39, 13) +
			m.Expected(2, 0, 0, 1300) + m.PAliveCrossing(2, 30, 0.2) + m.ChurnRiskCrossing(2, 30, 13, 0.8)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

var sink float64

func BenchmarkPAlive(b *testing.B) {
	m := cdnow()
	for b.Loop() {
		sink += m.PAlive(2, 30.43, 38.86)
	}
}

func BenchmarkChurnRisk(b *testing.B) {
	m := cdnow()
	for b.Loop() {
		sink += m.ChurnRisk(2, 30.43, 38.86, 13)
	}
}

func BenchmarkExpected(b *testing.B) {
	m := cdnow()
	for b.Loop() {
		sink += m.Expected(2, 30.43, 38.86, 13)
	}
}

func BenchmarkExpectedLongHorizon(b *testing.B) {
	m := cdnow()
	for b.Loop() {
		sink += m.Expected(0, 0, 0, 520)
	}
}

func BenchmarkPAliveCrossing(b *testing.B) {
	m := cdnow()
	for b.Loop() {
		sink += m.PAliveCrossing(2, 30.43, 0.2)
	}
}

func BenchmarkChurnRiskCrossing(b *testing.B) {
	m := cdnow()
	for b.Loop() {
		sink += m.ChurnRiskCrossing(2, 30.43, 13, 0.8)
	}
}
