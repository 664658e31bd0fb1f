package operators

import (
	"encoding/binary"
	"fmt"
	"math"

	"zyklus/models"
	"zyklus/pipeline"
)

// Categories keeps how often a customer has bought in each category, decayed with time, and proposes the next best ones:
// personal weights shrunk to the artefact's popularity. An order counts once in each of its distinct categories; what is
// refunded or cancelled does not count.
type Categories struct{}

// weight is the decayed count of one category, on the scale of models.CategoryModel.
type weight struct {
	name   uint16 // in Customer.Names
	orders int64  // undecayed
	value  float64
}

type categories struct {
	weights []weight
	// The proposals are computed once for the instant that they were asked for.
	asked    int64
	proposed int
	personal []models.CategoryWeight
	out      [models.NextCount]models.NextCategory
}

// Section implements pipeline.Operator.
func (Categories) Section() pipeline.Section {
	s := pipeline.Section{Name: "categories", Tag: 6, Layout: 1}
	for i := range models.NextCount {
		proposal := func(value func(*models.NextCategory) pipeline.Value) func(pipeline.State, *pipeline.Customer, int64) pipeline.Value {
			return func(s pipeline.State, c *pipeline.Customer, at int64) pipeline.Value {
				return s.(*categories).proposal(c, at, i, value)
			}
		}
		n := i + 1
		s.Fields = append(s.Fields, pipeline.Field{
			Column: column(fmt.Sprintf("next_category_%d", n), pipeline.TypeText, "", fmt.Sprintf("Next best category no. %d; empty where none is known.", n)),
			Label:  pipeline.Labels{En: fmt.Sprintf("Next best category %d", n), De: fmt.Sprintf("Nächstbeste Kategorie %d", n)},
			Value:  proposal(func(p *models.NextCategory) pipeline.Value { return pipeline.Value{Text: p.Name} }),
		}, pipeline.Field{
			Column: column(fmt.Sprintf("next_category_%d_probability", n), pipeline.TypeNumber, "probability", fmt.Sprintf("Probability that the next order holds category no. %d, at as_of.", n)),
			Label:  pipeline.Labels{En: "Probability", De: "Wahrscheinlichkeit"},
			Value:  proposal(func(p *models.NextCategory) pipeline.Value { return number(p.Probability) }),
		}, pipeline.Field{
			Column: column(fmt.Sprintf("next_category_%d_reason", n), pipeline.TypeText, "", "Why: `personal` or `popular`."),
			Label:  pipeline.Labels{En: "Reason", De: "Grund"},
			Value:  proposal(func(p *models.NextCategory) pipeline.Value { return pipeline.Value{Text: string(p.Reason)} }),
		})
	}
	return s
}

// NewState implements pipeline.Operator.
func (Categories) NewState() pipeline.State { return &categories{} }

func (s *categories) Reset() { s.weights, s.asked = s.weights[:0], 0 }

func (s *categories) Append(dst []byte) []byte {
	for _, w := range s.weights {
		dst = pipeline.AppendUint(dst, uint64(w.name))
		dst = pipeline.AppendUint(dst, uint64(w.orders))
		dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(w.value))
	}
	return dst
}

func (s *categories) Decode(layout byte, src []byte, _ *pipeline.Customer) error {
	if layout != 1 {
		return layoutError{layout}
	}
	r := pipeline.NewReader(src)
	for r.Len() > 0 {
		w := weight{name: uint16(r.Uint()), orders: int64(r.Uint())}
		w.value = math.Float64frombits(r.Uint64())
		s.weights = append(s.weights, w)
	}
	return r.Err()
}

func (s *categories) Apply(f *pipeline.Fold, _ *pipeline.Event) {
	s.asked = 0
	for i := range f.Bookings {
		b := &f.Bookings[i]
		if len(b.Gained)+len(b.Lost) == 0 {
			continue
		}
		gain := f.Job().Artefact.Category.Gain(b.At)
		for _, name := range b.Gained {
			s.add(name, 1, gain)
		}
		for _, name := range b.Lost {
			s.add(name, -1, -gain)
		}
	}
}

// add changes the weight of a category. One without orders left has no weight, whatever rounding would leave.
func (s *categories) add(name uint16, orders int64, value float64) {
	for i := range s.weights {
		w := &s.weights[i]
		if w.name != name {
			continue
		}
		w.orders += orders
		w.value += value
		if w.orders <= 0 {
			s.weights = append(s.weights[:i], s.weights[i+1:]...)
		}
		return
	}
	if orders > 0 {
		s.weights = append(s.weights, weight{name: name, orders: orders, value: value})
	}
}

func (s *categories) Deadline(*pipeline.Fold) int64 { return pipeline.Never }
func (s *categories) Fire(*pipeline.Fold)           { s.asked = 0 }

// proposal returns a part of the i-th proposal.
func (s *categories) proposal(c *pipeline.Customer, at int64, i int, value func(*models.NextCategory) pipeline.Value) pipeline.Value {
	if s.asked != at {
		s.personal = s.personal[:0]
		for _, w := range s.weights {
			s.personal = append(s.personal, models.CategoryWeight{Name: c.Names.Name(w.name), Weight: w.value})
		}
		s.proposed = c.Job().Artefact.Category.Next(s.personal, at, &s.out)
		s.asked = at
	}
	if i >= s.proposed {
		return pipeline.Value{}
	}
	return value(&s.out[i])
}
