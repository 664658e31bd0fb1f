// Package operators holds the folds from events to features, one operator per file. Each declares its section of the
// customer's record and the fields it offers; All is the one line that wires it in.
//
//	operator      section                              fields (columns of `customers`, features of rules)
//	ledger        orders by id, with lines             orders, net value, first and last order
//	windows       orders and value per business day    orders and net value over 7, 30, 90, 365 days
//	touchpoints   first and last contact               first_seen_at, last_seen_at …
//	cadence       none (from totals)                   expected gap, overdue ratio, expected next order
//	churn         none (from totals)                   P(alive), churn risk and its band, expected orders
//	categories    decayed weights per category         next best categories
package operators

import "zyklus/pipeline"

// All returns the operators in fold order. The ledger comes first: the others read the bookings it makes.
func All() []pipeline.Operator {
	return []pipeline.Operator{
		NewLedger(), Touchpoints{}, Windows{}, Cadence{}, Churn{}, Categories{},
	}
}

// stateless is the State of operators that compute everything from what others keep.
type stateless struct{}

func (stateless) Reset()                                        {}
func (stateless) Append(dst []byte) []byte                      { return dst }
func (stateless) Decode(byte, []byte, *pipeline.Customer) error { return nil }
func (stateless) Apply(*pipeline.Fold, *pipeline.Event)         {}
func (stateless) Deadline(*pipeline.Fold) int64                 { return pipeline.Never }
func (stateless) Fire(*pipeline.Fold)                           {}

// column declares a column that never is NULL.
func column(name string, t pipeline.Type, unit, comment string) pipeline.Column {
	return pipeline.Column{Name: name, Type: t, Unit: unit, Comment: comment}
}

// optional declares a column that is NULL where its value is undefined.
func optional(name string, t pipeline.Type, unit, comment string) pipeline.Column {
	return pipeline.Column{Name: name, Type: t, Nullable: true, Unit: unit, Comment: comment}
}

// null is the value of what is undefined.
func null() pipeline.Value { return pipeline.Value{Null: true} }

func integer(v int64) pipeline.Value { return pipeline.Value{Int: v} }

func number(v float64) pipeline.Value { return pipeline.Value{Float: v} }

// instant is a time that 0 leaves undefined.
func instant(ms int64) pipeline.Value { return pipeline.Value{Int: ms, Null: ms == 0} }

// layoutError is the error of a section written by a newer binary.
type layoutError struct{ layout byte }

func (e layoutError) Error() string {
	return "the section was written by a newer version of Zyklus; this one does not read its layout"
}
