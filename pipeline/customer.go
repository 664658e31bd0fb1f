package pipeline

import (
	"unsafe"

	"zyklus/models/lifecycle"
)

// Customer is one customer's state at work: a plain struct that operators fold events into. At rest the same state is
// bytes (record.go). It is reused for one customer after another.
type Customer struct {
	// ID is the user id, else the anonymous id.
	ID []byte
	// AsOf is the instant of the last event or deadline folded in, Unix milliseconds.
	AsOf int64
	// Totals are written by the order ledger and read by all.
	Totals Totals
	// Phases is the customer's place in each lifecycle of the job, in the job's order.
	Phases []PhaseState
	// Names are short texts that several sections refer to by index, each kept once.
	Names Names

	job    *Job
	states []State
	// unknown holds sections of a newer binary, as they are.
	unknown []byte
	next    int64 // deadline; valid if timed
	timed   bool
	wake    int64 // earliest deadline of the states; valid if quiet: no event has moved it since
	quiet   bool
	capture capture
	dayEnd  int64 // end of the business day of AsOf, not later than it; valid while days are captured

	// What the fold since the last Reset produced.
	transitions []Transition
	touched     []RowKey
	letters     []DeadLetter
	bookings    []Booking
	moved       bool // an event or deadline was folded in
	past        []pastDay
	pastBytes   []byte
	firstFire   int64 // first and last deadline that fired, 0 if none
	lastFire    int64
}

// Totals are a customer's net orders over the whole lifetime.
type Totals struct {
	Orders       int64 // net orders: completed, not cancelled and not refunded as a whole
	Net          int64 // net value of all orders, minor units
	Refunded     int64 // refunds and cancellations, minor units
	FirstOrderAt int64 // time of the first net order, Unix ms; 0 without orders
	LastOrderAt  int64 // time of the last net order, Unix ms; 0 without orders
	PurchaseDays int64 // business days with at least one net order
}

// PhaseState is a customer's place in one lifecycle.
type PhaseState struct {
	Stay          // the present stay in a phase
	Previous Stay // the stay before
	Older    int  // the phase before Previous, for undoing a transition of this instant
	Rule     int  // rule that assigned the present phase
}

// Stay is a stay in a phase. The zero Stay is in no phase.
type Stay struct {
	Phase int   // index in the lifecycle's phases plus one; 0 is none
	Since int64 // Unix ms
	Cycle int64 // how many times the circle has been entered; 1 at first
}

// Transition is a change of phase, keyed by lifecycle, customer and instant.
type Transition struct {
	Lifecycle int // index in the job
	At        int64
	From, To  int // phases as in Stay; From == To marks a transition that is undone
	Rule      int
	Cause     Cause
	Cycle     int64
}

// Cause says what made a transition happen: an event type, or one of the causes below.
type Cause uint8

// Causes beside the event types.
const (
	CauseDeadline   Cause = 200 + iota // silence: nothing happened until then
	CauseCorrection                    // an event later than allowed
	CauseDefinition                    // a new version of the lifecycle
	CauseArtefact                      // a new version of the artefact
)

// String returns the cause as it appears in tables.
func (c Cause) String() string {
	switch c {
	case CauseDeadline:
		return "deadline"
	case CauseCorrection:
		return "correction"
	case CauseDefinition:
		return "definition"
	case CauseArtefact:
		return "artefact"
	}
	return Kind(c).String()
}

// Names is a customer's own small dictionary. Index 0 is the empty name, index 1 stands for all names beyond the
// dictionary's bound.
type Names struct {
	list     [][]byte
	Overflow int64 // names that did not fit
}

// Bounds of a customer's dictionary: the number of names, and the bytes of each.
const (
	maxNames = 250
	maxName  = 128
)

// Index returns the index of a name, adding it if there is room. A name that is too long is one without room: its bytes
// are a stranger's choice, and a record must stay small.
func (n *Names) Index(name []byte) uint16 {
	if len(name) == 0 {
		return 0
	}
	for i, have := range n.list {
		if string(have) == string(name) {
			return uint16(i + 2)
		}
	}
	if len(n.list) >= maxNames || len(name) > maxName {
		n.Overflow++
		return 1
	}
	n.add(name)
	return uint16(len(n.list) + 1)
}

// add reuses the memory of names of an earlier customer.
func (n *Names) add(name []byte) {
	if k := len(n.list); k < cap(n.list) {
		n.list = n.list[:k+1]
		n.list[k] = append(n.list[k][:0], name...)
		return
	}
	n.list = append(n.list, append([]byte(nil), name...))
}

// Name returns the name of an index. It is valid until the customer is reset.
func (n *Names) Name(i uint16) string {
	switch {
	case i == 0:
		return ""
	case int(i) < len(n.list)+2 && i > 1:
		b := n.list[i-2]
		return unsafe.String(unsafe.SliceData(b), len(b))
	}
	return "other"
}

func newCustomer(job *Job) *Customer {
	c := &Customer{job: job, Phases: make([]PhaseState, len(job.lifecycles))}
	for _, o := range job.operators {
		c.states = append(c.states, o.NewState())
	}
	return c
}

// reset makes c a customer of whom nothing is known.
func (c *Customer) reset() {
	c.quiet = false
	c.AsOf, c.Totals, c.next, c.timed, c.firstFire, c.lastFire = 0, Totals{}, 0, false, 0, 0
	c.ID, c.unknown, c.bookings = c.ID[:0], c.unknown[:0], c.bookings[:0]
	c.Names.list, c.Names.Overflow = c.Names.list[:0], 0
	clear(c.Phases)
	for _, s := range c.states {
		s.Reset()
	}
	c.dayEnd, c.past, c.pastBytes = 0, c.past[:0], c.pastBytes[:0]
	c.resetOutput()
}

var _ lifecycle.Source = (*Customer)(nil)

func (c *Customer) resetOutput() {
	c.transitions, c.touched, c.letters, c.moved = c.transitions[:0], c.touched[:0], c.letters[:0], false
}

// Job returns the settings of the job.
func (c *Customer) Job() *Job { return c.job }

// Number implements lifecycle.Source over the job's features.
func (c *Customer) Number(feature int, at int64) (float64, bool) {
	f := &c.job.features[feature]
	v := f.field.Value(c.states[f.operator], c, at)
	if f.field.Type == TypeNumber {
		return v.Float, !v.Null
	}
	return float64(v.Int), !v.Null
}

// Text implements lifecycle.Source.
func (c *Customer) Text(feature int) string {
	f := &c.job.features[feature]
	return f.field.Value(c.states[f.operator], c, c.AsOf).Text
}

// Crossing implements lifecycle.Source.
func (c *Customer) Crossing(feature int, at int64, threshold float64) int64 {
	f := &c.job.features[feature]
	return f.field.Crossing(c.states[f.operator], c, at, threshold)
}

// cycle returns the cycle number of a stay.
func cycle(l *lifecycle.Lifecycle, from Stay, to int) int64 {
	switch {
	case from.Phase == 0:
		return 1
	case l.StartsCycle(from.Phase-1, to-1):
		return from.Cycle + 1
	}
	return from.Cycle
}
