package operators

import "zyklus/pipeline"

// Touchpoints keeps the first and last contact of a customer.
type Touchpoints struct{}

type touchpoints struct {
	first, last int64
	touches     int64
	known       bool
}

// Section implements pipeline.Operator.
func (Touchpoints) Section() pipeline.Section {
	at := func(get func(*touchpoints) int64) func(pipeline.State, *pipeline.Customer, int64) pipeline.Value {
		return func(s pipeline.State, _ *pipeline.Customer, _ int64) pipeline.Value {
			return instant(get(s.(*touchpoints)))
		}
	}
	return pipeline.Section{
		Name: "touchpoints", Tag: 2, Layout: 1, OnEveryEvent: true,
		Fields: []pipeline.Field{{
			Column: column("known", pipeline.TypeBool, "", "1 if customer_id is a user id, 0 if it is an anonymous one."),
			Label:  pipeline.Labels{En: "Known", De: "Bekannt"}, Feature: true,
			Value: func(s pipeline.State, _ *pipeline.Customer, _ int64) pipeline.Value {
				if s.(*touchpoints).known {
					return integer(1)
				}
				return integer(0)
			},
		}, {
			Column: optional("first_seen_at", pipeline.TypeInstant, "", "Time of the first event. Of events later than allowed only those of orders count."),
			Label:  pipeline.Labels{En: "First seen", De: "Erster Kontakt"},
			Value:  at(func(t *touchpoints) int64 { return t.first }),
		}, {
			Column: optional("last_seen_at", pipeline.TypeInstant, "", "Time of the last event. Of events later than allowed only those of orders count."),
			Label:  pipeline.Labels{En: "Last seen", De: "Letzter Kontakt"},
			Value:  at(func(t *touchpoints) int64 { return t.last }),
		}, {
			Column: column("touches", pipeline.TypeCount, "events", "Events of the customer, orders included; those later than allowed are not counted."),
			Label:  pipeline.Labels{En: "Touches", De: "Kontakte"}, Feature: true,
			Value: func(s pipeline.State, _ *pipeline.Customer, _ int64) pipeline.Value {
				return integer(s.(*touchpoints).touches)
			},
		}},
	}
}

// NewState implements pipeline.Operator.
func (Touchpoints) NewState() pipeline.State { return &touchpoints{} }

func (t *touchpoints) Reset() { *t = touchpoints{} }

func (t *touchpoints) Append(dst []byte) []byte {
	if t.first == 0 {
		return dst
	}
	known := uint64(0)
	if t.known {
		known = 1
	}
	dst = pipeline.AppendInt(dst, t.first)
	dst = pipeline.AppendInt(dst, t.last-t.first)
	return pipeline.AppendUint(dst, uint64(t.touches)<<1|known)
}

func (t *touchpoints) Decode(layout byte, src []byte, _ *pipeline.Customer) error {
	if layout != 1 {
		return layoutError{layout}
	}
	r := pipeline.NewReader(src)
	t.first = r.Int()
	t.last = t.first + r.Int()
	touches := r.Uint()
	t.touches, t.known = int64(touches>>1), touches&1 != 0
	return r.Err()
}

func (t *touchpoints) Apply(f *pipeline.Fold, e *pipeline.Event) {
	t.known = t.known || e.Known
	if t.first == 0 || e.At < t.first {
		t.first = e.At
	}
	if e.At > t.last {
		t.last = e.At
	}
	if !f.Late {
		t.touches++
	}
}

func (t *touchpoints) Deadline(*pipeline.Fold) int64 { return pipeline.Never }
func (t *touchpoints) Fire(*pipeline.Fold)           {}
