package verify

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestSampleIsTheSame: of whoever comes in whatever order and however often, the same customers are picked, as many as
// asked for, and later on only they.
func TestSampleIsTheSame(t *testing.T) {
	pick := func(seed uint64) map[string]bool {
		p, picked := (&Sample{Count: 90}).picker(3), map[string]bool{}
		r := rand.New(rand.NewPCG(seed, 0))
		for range 20_000 {
			id := fmt.Sprint("customer-", r.IntN(1000))
			if !p.picks([]byte(id)) || picked[id] {
				continue
			}
			picked[id] = true
			if dropped, drop := p.add(id); drop {
				delete(picked, dropped)
			}
		}
		p.close()
		for i := range 1000 {
			if id := fmt.Sprint("customer-", i); p.picks([]byte(id)) != picked[id] {
				t.Errorf("seed %d: %s is picked: %t", seed, id, picked[id])
			}
		}
		return picked
	}
	want := pick(0)
	for seed := range uint64(5) {
		if got := pick(seed); len(got) != 30 || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("seed %d picks %d: %v, want %v", seed, len(got), got, want)
		}
	}
}
