package codec

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
)

// scanSeeds are texts at the edges of JSON's grammar.
func scanSeeds() []string {
	return []string{
		`{"a":-0}`, `{"a":0e0}`, `{"a":1E+5}`, `{"a":-}`, `{"a":+1}`, `{"a":.5}`, `{"a":0x1}`, `{"a":NaN}`, `{"a":1e400}`,
		`{"a":"\ud800"}`, `{"a":"\uD834\uDD1E"}`, `{"a":"\u0000"}`, "{\"a\":\"\x00\"}", "{\"a\":\"\x7f\"}", "{\"a\":\"\x1f\"}",
		`{"a":"1234567\"90123456\\"}`, `{"":{}}`, `{"a":[[[]]]}`, `{"a":[1,]}`, `{"a":[,1]}`, `{"a":{"b":1,"b":2}}`,
		`{"a":truefalse}`, `{"a":nulll}`, `{a:1}`, `{'a':1}`, "{\"a\":1}\x00", `{"a":1}/**/`, "\u00a0{}", `{"a"::1}`, `{]`, `{"a":[}]`,
	}
}

// scansAsObject reports whether the scanner takes value for a JSON object.
func scansAsObject(value []byte) bool {
	d := Segment{reader: reader{options: Options{MaxBytes: 1 << 20}}}
	return d.read(value) == nil
}

func TestScanSeeds(t *testing.T) {
	for _, s := range scanSeeds() {
		if got, want := scansAsObject([]byte(s)), json.Valid([]byte(s)); got != want {
			t.Errorf("%q scans: %v, want %v", s, got, want)
		}
	}
}

// TestScanMutations changes good records byte by byte and holds the scanner to encoding/json.
func TestScanMutations(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const bytes = "\"\\{}[],:0-+.eE \n\x00\x1f\x80utfn"
	var values []string
	for _, c := range goodRecords() {
		values = append(values, c.value)
	}
	for n := range 50_000 {
		value := []byte(values[n%len(values)])
		for range 1 + rng.IntN(2) {
			value[rng.IntN(len(value))] = bytes[rng.IntN(len(bytes))]
		}
		want := json.Valid(value) && strings.HasPrefix(strings.TrimSpace(string(value)), "{") && depth(value) <= maxDepth
		if got := scansAsObject(value); got != want {
			t.Fatalf("%q scans: %v, want %v", value, got, want)
		}
	}
}

// TestPlain finds every byte that ends plain text at every place of a word, after every other byte.
func TestPlain(t *testing.T) {
	for place := range 20 {
		for c := range 256 {
			for _, filler := range []byte{' ', 'a', 0x7f, 0x80, 0xff, '!', '#', '[', ']'} {
				b := make([]byte, 24)
				for i := range b {
					b[i] = filler
				}
				b[place], b[23] = byte(c), '"'
				want := 23
				if c < ' ' || c == '"' || c == '\\' {
					want = place
				}
				s := scanner{b: b}
				if s.plain(); s.i != want {
					t.Fatalf("plain stops at %d, want %d, in %q", s.i, want, b)
				}
			}
		}
	}
}
