package oracle

import (
	"maps"
	"slices"
	"testing"
)

// TestDocumentReadsRole5: read from its document, role5 is what the oracle knows by heart.
func TestDocumentReadsRole5(t *testing.T) {
	read, err := NewDocument(Lifecycles()[0])
	if err != nil {
		t.Fatal(err)
	}
	moves := 0
	for seed := range uint64(100) {
		h := NewHistory(seed, false)
		for _, id := range h.Customers() {
			o := New(h.Setting())
			o.courses = []course{{lifecycle: RoleFive{}, transitions: map[int64]transition{}}, {lifecycle: read, transitions: map[int64]transition{}}}
			o.Run(h.of(id, h.End), h.End)
			a, b := o.courses[0], o.courses[1]
			if !slices.Equal(a.stays, b.stays) || !maps.Equal(a.transitions, b.transitions) {
				t.Fatalf("seed %d, customer %s:\nby heart %v\nread     %v", seed, id, a, b)
			}
			moves += len(a.transitions)
		}
	}
	if moves < 500 {
		t.Errorf("only %d transitions", moves)
	}
}
