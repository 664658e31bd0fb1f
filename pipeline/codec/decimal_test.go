package codec

import (
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestParseDecimal(t *testing.T) {
	cases := []struct {
		text  string
		scale int
		want  string // rounded, "" for no number, "!" for too large
	}{
		{"0", 2, "0"}, {"-0", 2, "-0"}, {"12.5", 2, "1250"}, {"12.345", 2, "1235"}, {"12.3449999999999", 2, "1234"},
		{"-12.345", 2, "-1235"}, {"0.5", 0, "1"}, {"0.49", 0, "0"}, {"0.05", 0, "0"}, {"1e3", 2, "100000"}, {"1E-3", 2, "0"},
		{"5e-3", 2, "1"}, {"49e-4", 2, "0"}, {"123456e-4", 2, "1235"}, {"0.00012e5", 2, "1200"}, {"+7", 0, "7"}, {"007", 1, "70"},
		{".5", 1, "5"}, {"5.", 1, "50"}, {"0e99999999999999999999", 2, "0"}, {"1e-99999999999999999999", 2, "0"},
		{"1e99999999999999999999", 2, "!"}, {"0." + strings.Repeat("0", 5000) + "1e5001", 0, "1"},
		{"1" + strings.Repeat("0", 5000) + "e-5000", 3, "1000"}, {"18446744073709551609", 0, "18446744073709551609"},
		{"18446744073709551620", 0, "!"}, {"9.99999999999999999999999", 2, "1000"},
		{"", 2, ""}, {"-", 2, ""}, {".", 2, ""}, {"e5", 2, ""}, {"1e", 2, ""}, {"1e+", 2, ""}, {"1.2.3", 2, ""}, {"--1", 2, ""},
		{"1 ", 2, ""}, {"1e1e1", 2, ""}, {"1e1.5", 2, ""}, {"NaN", 2, ""}, {"0x10", 2, ""}, {"1_0", 2, ""}, {"١", 2, ""},
	}
	for _, c := range cases {
		if got := rounded(c.text, c.scale); got != c.want {
			t.Errorf("%.40q in 10^-%d is %q, want %q", c.text, c.scale, got, c.want)
		}
	}
}

// rounded spells what parseDecimal makes of a text.
func rounded(text string, scale int) string {
	d, ok := parseDecimal([]byte(text), scale)
	if !ok {
		return ""
	}
	magnitude, ok := d.rounded(1<<64 - 2)
	if !ok {
		return "!"
	}
	s := new(big.Int).SetUint64(magnitude).String()
	if d.negative {
		return "-" + s
	}
	return s
}

func TestParseDecimalAgainstBig(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	limit := new(big.Int).SetUint64(1e19)
	for range 50_000 {
		text, scale := randomDecimal(rng), rng.IntN(7)
		r, ok := rational(text)
		if !ok {
			t.Fatalf("%q is no decimal number", text)
		}
		want := halfAway(r.Mul(r, new(big.Rat).SetInt64(int64(pow10(scale))))).Num()
		d, ok := parseDecimal([]byte(text), scale)
		magnitude, fits := d.rounded(1e19)
		got := new(big.Int).SetUint64(magnitude)
		if d.negative {
			got.Neg(got)
		}
		if !ok || fits != (want.CmpAbs(limit) <= 0) || fits && got.Cmp(want) != 0 {
			t.Fatalf("%q in 10^-%d is %v (fits %v), want %v", text, scale, got, fits, want)
		}
	}
}

// randomDecimal favours halves and the edges of rounding.
func randomDecimal(rng *rand.Rand) string {
	digits := func(n int) string {
		const favoured = "0123456789000555499"
		b := make([]byte, n)
		for i := range b {
			b[i] = favoured[rng.IntN(len(favoured))]
		}
		return string(b)
	}
	s := [...]string{"", "", "-", "+"}[rng.IntN(4)] + digits(1+rng.IntN(16))
	if rng.IntN(3) > 0 {
		s += "." + digits(rng.IntN(12))
	}
	if rng.IntN(3) == 0 {
		s += [...]string{"e", "E"}[rng.IntN(2)] + [...]string{"", "-", "+"}[rng.IntN(3)] + digits(1+rng.IntN(2))
	}
	return s
}

func TestMulDivAgainstBig(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 50_000 {
		a, b := rng.Uint64()>>rng.IntN(64), rng.Uint64N(maxMagnitude+1)>>rng.IntN(44)
		divisor := pow10(5 + rng.IntN(5))
		if rng.IntN(4) == 0 {
			a, b = divisor/2, 2*b+1 // a half
		}
		product := new(big.Int).Mul(new(big.Int).SetUint64(a), new(big.Int).SetUint64(b))
		want := halfAway(new(big.Rat).SetFrac(product, new(big.Int).SetUint64(divisor))).Num()
		got, ok := mulDiv(a, b, divisor)
		if ok != (want.Cmp(big.NewInt(maxMagnitude)) <= 0) || ok && got != want.Uint64() {
			t.Fatalf("%d*%d/%d is %d (%v), want %v", a, b, divisor, got, ok, want)
		}
	}
}
