package codec

import (
	"strings"
	"testing"

	"zyklus/pipeline"
)

func TestKnownCurrency(t *testing.T) {
	for code, want := range map[string]int{
		"EUR": 2, "USD": 2, "JPY": 0, "KWD": 3, "ISK": 0, "CLF": 4, "UYW": 4, "MRU": 2, "HUF": 2, "XOF": 0, "TND": 3, "ZWG": 2,
		"XCG": 2, "HRK": 2, "BGN": 2,
	} {
		if got, ok := KnownCurrency(code); !ok || got != want {
			t.Errorf("%s has %d digits (%v), want %d", code, got, ok, want)
		}
	}
	for _, code := range []string{"", "eur", "EU", "EURO", "XXX", "XAU", "DEM", "BTC"} {
		if _, ok := KnownCurrency(code); ok {
			t.Errorf("%q is taken for a currency", code)
		}
	}
}

func TestCurrencyCount(t *testing.T) {
	perExponent := make(map[int]int)
	for a := 'A'; a <= 'Z'; a++ {
		for b := 'A'; b <= 'Z'; b++ {
			for c := 'A'; c <= 'Z'; c++ {
				if exponent, ok := KnownCurrency(string([]rune{a, b, c})); ok {
					perExponent[exponent]++
				}
			}
		}
	}
	// 164 active codes and 6 withdrawn ones.
	if perExponent[0] != 17 || perExponent[2] != 144 || perExponent[3] != 7 || perExponent[4] != 2 {
		t.Errorf("currencies by digits: %v", perExponent)
	}
}

// TestMinorUnits reads the same texts in currencies of each exponent.
func TestMinorUnits(t *testing.T) {
	for code, want := range map[string]int64{"JPY": 13, "EUR": 1251, "KWD": 12505, "CLF": 125050} {
		o := newOracle(Options{Currency: code})
		d := mustSegment(t, Options{Currency: code})
		for _, properties := range []string{
			`{"order_id":"o1","revenue":12.505}`,
			`{"order_id":"o1","products":[{"price":"6.2525","quantity":2}]}`,
			`{"order_id":"o1","currency":"` + code + `","products":[{"price":8.336667,"quantity":1.5}]}`,
		} {
			value := []byte(record("Order Completed", properties))
			e, no := o.decode(value)
			if no.kind != 0 || e.Amount != want {
				t.Errorf("%s %s is %d (%v) to the oracle, want %d", code, properties, e.Amount, no.kind, want)
			}
			err := d.Decode(&pipeline.Record{Value: value}, &e)
			if err != nil || e.Amount != want {
				t.Errorf("%s %s is %d (%v), want %d", code, properties, e.Amount, err, want)
			}
		}
	}
}

// TestForeignCurrencies reads one text in currencies of each exponent that are not the reporting one.
func TestForeignCurrencies(t *testing.T) {
	d := mustSegment(t, Options{Currency: "EUR", Convert: true})
	for code, want := range map[string]int64{"jpy": 13, "USD": 1251, "KWD": 12505, "clf": 125050, "EUR": 1251, "eur": 1251, "": 1251} {
		value := []byte(record("Order Completed", `{"order_id":"o1","revenue":12.505,"currency":"`+code+`"}`))
		var e pipeline.Event
		err := d.Decode(&pipeline.Record{Value: value}, &e)
		var currency [3]byte
		if copy(currency[:], strings.ToUpper(code)); code == "EUR" || code == "eur" {
			currency = [3]byte{}
		}
		if err != nil || e.Amount != want || e.Currency != currency {
			t.Errorf("%q gives %d in %q (%v), want %d", code, e.Amount, e.Currency, err, want)
		}
		if n := testing.AllocsPerRun(100, func() { _ = d.Decode(&pipeline.Record{Value: value}, &e) }); n != 0 {
			t.Errorf("%v allocations for %q", n, code)
		}
	}
}
