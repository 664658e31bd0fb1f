package operators_test

import (
	"strings"
	"testing"

	"zyklus/operators"
)

// TestSections holds what every operator's declaration must have: it is schema, catalogue and data dictionary at once.
func TestSections(t *testing.T) {
	tags := map[uint8]string{}
	for _, op := range operators.All() {
		s := op.Section()
		if other := tags[s.Tag]; other != "" || s.Tag == 0 || s.Layout == 0 {
			t.Errorf("%s: tag %d, layout %d; the tag is that of %q", s.Name, s.Tag, s.Layout, other)
		}
		tags[s.Tag] = s.Name
		for _, f := range s.Fields {
			if f.Label.En == "" || f.Label.De == "" || !strings.HasSuffix(f.Comment, ".") {
				t.Errorf("%s: %s has no label or no comment", s.Name, f.Name)
			}
			if f.Value == nil || f.Feature && f.Varies != 0 && f.Crossing == nil {
				t.Errorf("%s: %s has no value, or varies without a crossing", s.Name, f.Name)
			}
		}
	}
}

// TestStates holds what every state must do: forget on Reset, encode nothing of a stranger, refuse what it cannot read.
func TestStates(t *testing.T) {
	for _, op := range operators.All() {
		s, name := op.NewState(), op.Section().Name
		s.Reset()
		if b := s.Append(nil); len(b) > 0 {
			t.Errorf("%s: a stranger takes %d bytes", name, len(b))
		}
		if name == "cadence" || name == "churn" {
			continue // keep nothing
		}
		if err := s.Decode(op.Section().Layout+1, []byte{0}, nil); err == nil {
			t.Errorf("%s: reads a layout that it does not know", name)
		}
	}
}
