package dataset

import (
	"math/rand/v2"
	"testing"
)

func TestParseDecimal(t *testing.T) {
	tests := []struct {
		text string
		want int64 // -1: refused
	}{
		{"29.33", 29_330_000}, {"0", 0}, {"0.0", 0}, {".5", 500_000}, {"5.", 5_000_000}, {"007", 7_000_000},
		{"0.1234565", 123_457}, {"0.1234564999", 123_456}, {"0.0000005", 1}, {"4.440892e-16", 0}, {"1.5e2", 150_000_000},
		{"1E+1", 10_000_000}, {"12e-1", 1_200_000}, {"0e300", 0}, {"5e-7", 1}, {"5e-8", 0},
		{"1000000000", maxAmount}, {"1000000000.01", -1}, {"99999999999999999999", -1}, {"1e300", -1},
		{"", -1}, {".", -1}, {"-1", -1}, {"+1", -1}, {"1,5", -1}, {"1.2.3", -1}, {"e5", -1}, {"1e", -1}, {"1e999", -1},
		{" 1", -1}, {"Inf", -1},
	}
	for _, tt := range tests {
		got, ok := parseDecimal([]byte(tt.text))
		if !ok {
			got = -1
		}
		if got != tt.want {
			t.Errorf("%q: %d, not %d", tt.text, got, tt.want)
		}
	}
}

func TestAppendDecimal(t *testing.T) {
	for millionths, want := range map[int64]string{
		0: "0.00", 29_330_000: "29.33", 500_000: "0.50", 3_333_000: "3.333", 1: "0.000001", 120_450_600: "120.4506",
	} {
		if got := string(appendDecimal(nil, millionths)); got != want {
			t.Errorf("%d: %s, not %s", millionths, got, want)
		}
		if back, ok := parseDecimal([]byte(want)); !ok || back != millionths {
			t.Errorf("%s is read as %d, %v", want, back, ok)
		}
	}
}

// TestUnitPrice: price times quantity always rounds to the amount.
func TestUnitPrice(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	whole := 0
	for range 200_000 {
		amount, quantity := random.Int64N(1e6)*10_000, 1+random.Int64N(1+random.Int64N(20_000))
		units, price := unitPrice(amount, quantity)
		if cents(units*price) != cents(amount) {
			t.Fatalf("%d units at %d are not %d", units, price, amount)
		}
		if units != quantity {
			whole++
			if quantity <= 9_999 {
				t.Fatalf("quantity %d of %d became %d", quantity, amount, units)
			}
		}
	}
	if whole == 0 {
		t.Error("no case fell back to the whole amount")
	}
	if units, price := unitPrice(5_000_000, 0); units != 1 || price != 5_000_000 {
		t.Errorf("without quantity: %d at %d", units, price)
	}
}
