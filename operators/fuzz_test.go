package operators

import (
	"bytes"
	"testing"

	"zyklus/pipeline"
)

// FuzzSections holds the codec of every operator: what a section decodes to is encoded as bytes that decode to the same.
func FuzzSections(f *testing.F) {
	for _, op := range All() {
		f.Add(op.Section().Tag, op.Section().Layout, []byte{})
		f.Add(op.Section().Tag, op.Section().Layout, []byte{2, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	}
	o := order{
		id: []byte("o1"), at: 1_700_000_000_000, content: 1_700_000_000_000, refunds: []uint64{7},
		lines: []line{{product: 1, category: 2, quantity: 1000, returned: 500, amount: 99}},
	}
	o.value, o.refunded, o.currency, o.rate, o.other = 100, 10, [3]byte{'U', 'S', 'D'}, pipeline.Rate{Units: 9231, Digits: 4}, 1
	later := o
	later.at, later.content, later.currency, later.rate, later.other = o.at+5, o.at+9, [3]byte{}, pipeline.Rate{}, 0
	s := ledgerState{ledger: ledger{
		orders: []order{o, later}, adjusted: []uint64{3}, older: older{orders: 1, firstAt: 5, lastAt: 6}, expires: 1_700_000_000_001,
		waiting: []waiting{{expires: 1_700_000_000_001, event: pipeline.AppendEvent(nil, &pipeline.Event{Kind: pipeline.KindOrderRefunded, At: 1, ID: 2, OrderID: []byte("o2")})}},
	}}
	f.Add(byte(1), byte(ledgerLayout), s.Append(nil))
	f.Add(byte(1), byte(1), s.Append(nil))
	f.Fuzz(func(t *testing.T, tag, layout byte, body []byte) {
		for _, op := range All() {
			section := op.Section()
			if section.Tag != tag {
				continue
			}
			before := bytes.Clone(body)
			first, ok := encodedAgain(op, layout, body)
			if !bytes.Equal(before, body) {
				t.Fatalf("%s changed its bytes", section.Name)
			}
			if !ok || len(first) == 0 {
				return
			}
			if second, ok := encodedAgain(op, section.Layout, first); !ok || !bytes.Equal(first, second) {
				t.Fatalf("%s: %x became %x, then %x (read: %v)", section.Name, body, first, second, ok)
			}
		}
	})
}

// encodedAgain decodes a section and encodes it. The ledger, which leaves orders
// encoded until they are needed, is made to need them.
func encodedAgain(op pipeline.Operator, layout byte, body []byte) ([]byte, bool) {
	s := op.NewState()
	s.Reset()
	if s.Decode(layout, body, nil) != nil {
		return nil, false
	}
	l, ok := s.(*ledgerState)
	if ok && len(l.raw) > 0 {
		if l.decodeRaw() != nil {
			return nil, false
		}
		l.expires = l.firstExpiry()
	}
	return s.Append(nil), true
}
