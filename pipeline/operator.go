package pipeline

import (
	"slices"

	"zyklus/models/lifecycle"
)

// Never is the instant of what does not happen.
const Never = int64(1<<63 - 1)

// Operator folds the events of a customer, in event-time order, into one section of the customer's state.
// It is immutable and shared by all Tasks; what it knows of one customer is a State.
type Operator interface {
	// Section declares the operator's bytes at rest and the fields it offers. The same declaration gives the
	// codec's tag, the features of rules, the columns of `customers` and the data dictionary.
	Section() Section
	// NewState returns the state of a customer of whom nothing is known.
	NewState() State
}

// State is what one operator keeps of one customer. States are reused: Reset makes one as good as new.
//
// For each event the fold calls Apply, and for each deadline Fire, of all states in the order of the operators;
// Fold.Now never goes back. A state must not keep the Event or its bytes.
type State interface {
	Reset()
	// Append encodes the state in the section's current layout. A state that appends nothing is not stored.
	Append(dst []byte) []byte
	// Decode reads what Append of this or an older layout wrote. The state is Reset before.
	Decode(layout byte, src []byte, c *Customer) error
	Apply(f *Fold, e *Event)
	// Deadline returns the next instant, after f.Now or not yet fired at it, at which Fire, or a field that is a column, changes by time
	// alone; Never if there is none. It may be too early, never too late. It is asked again after a deadline, after an
	// event that made bookings, and after Fold.Reschedule: no other event may move it.
	Deadline(f *Fold) int64
	// Fire lets the deadlines at f.Now happen.
	Fire(f *Fold)
}

// Section declares one operator's part of a customer's record.
type Section struct {
	Name   string
	Tag    uint8 // unique, never reused
	Layout byte  // version of the bytes that Append writes
	Fields []Field
	// OnEveryEvent says that features change with events that make no booking. Rules that use one are asked at each.
	OnEveryEvent bool
	// Table is the history table whose rows the operator announces with Fold.Touch; nil for most. The states of
	// such an operator are RowWriters.
	Table *Table
}

// RowWriter is a State with rows of its own, one for each key that it announced with Fold.Touch.
type RowWriter interface {
	// WriteRow appends the row of the key without its version. It reports false if there is no such row any more.
	WriteRow(key []byte, c *Customer, rows *Rows) bool
	// Compact drops what no feature and no later event can depend on at c.AsOf, but nothing that a key of
	// pending names. It is called before the state is encoded.
	Compact(c *Customer, pending func(key []byte) bool)
}

// Checker is a State that Decode leaves partly encoded. Check decodes the rest and reports what no fold could have
// written; it is called once for each record that is restored, so that later faults can only be our own.
type Checker interface {
	Check(c *Customer) error
}

// Field is one fact about a customer: a column of `customers` and, where Feature is set, a feature of rules.
type Field struct {
	Column
	Label   Labels
	Feature bool
	// Varies says how the value moves while nothing happens.
	Varies lifecycle.Varies
	// Value returns the value at an instant not before c.AsOf and not after its next deadline.
	Value func(s State, c *Customer, at int64) Value
	// Crossing returns, for a feature that varies, a lower bound later than at of the next instant at which the
	// value may pass the threshold. Only such features need it.
	Crossing func(s State, c *Customer, at int64, threshold float64) int64
}

// Value is the value of a Field. Which member counts follows from the field's Type; Null stands for undefined.
type Value struct {
	Int   int64
	Float float64
	Text  string
	Null  bool
}

// Fold is the context of one call of an operator.
type Fold struct {
	// Now is the instant of the event or deadline. For an event later than allowed it is the watermark.
	Now int64
	// Late marks an event later than allowed: totals take it, features that depend on order ignore it.
	Late bool
	// Customer is the customer being folded.
	Customer *Customer
	// Bookings are the changes of net orders and net value made by this event, written by the order ledger for
	// the operators after it.
	Bookings []Booking

	job         *Job
	touched     *[]RowKey
	letters     *[]DeadLetter
	rescheduled bool
	captured    int  // bytes of rows of days captured since the last checkpoint
	crowded     bool // one customer alone has many
}

// Booking is one change of a customer's net orders, always on the day and at the time of the order itself.
type Booking struct {
	At     int64 // the order's time
	Orders int64 // +1, 0 or -1 net orders
	Net    int64 // change of net value, minor units
	// Categories are the indexes in Customer.Names of the distinct categories that the order gained or lost.
	Gained, Lost []uint16
}

// Job returns the job's settings.
func (f *Fold) Job() *Job { return f.job }

// Reschedule says that the event has moved a deadline of the calling state, though it made no booking.
func (f *Fold) Reschedule() { f.rescheduled = true }

// Touch announces that the row of the key, in the operator's own table, has changed.
func (f *Fold) Touch(table *Table, key []byte) {
	for i := range *f.touched {
		if t := &(*f.touched)[i]; t.Table == table && string(t.Key) == string(key) {
			return
		}
	}
	n := len(*f.touched)
	*f.touched = slices.Grow(*f.touched, 1)[:n+1]
	k := &(*f.touched)[n] // memory of an earlier key
	k.Table, k.Key = table, append(k.Key[:0], key...)
}

// Refuse ends an accepted event as a dead letter. It takes effect once the watermark has passed Now.
func (f *Fold) Refuse(l DeadLetter) {
	l.refused = f.Now
	*f.letters = append(*f.letters, l)
}

// RowKey names one row of a history table.
type RowKey struct {
	Table *Table
	Key   []byte
}
