package pipeline

import "fmt"

// Kind is the canonical type of an Event. Its order is the type rank: events of one customer at the same
// instant are folded in the order of their kinds, so an order exists before its refund does.
type Kind uint8

// The canonical event types. Their names, as they appear in causes and tables, come from Kind.String.
const (
	KindInvalid         Kind = iota
	KindHeartbeat            // says how far time has come in a partition; belongs to no customer
	KindIdentified           // traits of a known person
	KindPageViewed           // page or screen
	KindProductViewed        // product or product list viewed, search
	KindCartChanged          // product added to or removed from the cart, cart viewed
	KindCheckoutStarted      // checkout started or a step of it completed
	KindOrderCompleted
	KindOrderUpdated
	KindOrderRefunded
	KindOrderCancelled
	kindCount
)

var kindNames = [kindCount]string{
	"invalid", "heartbeat", "identity.identified", "touch.page", "product.viewed", "cart.changed",
	"checkout.started", "order.completed", "order.updated", "order.refunded", "order.cancelled",
}

// String returns the canonical name of the event type, as used for the cause of a transition.
func (k Kind) String() string {
	if k < kindCount {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// The families of events, as Kind.Family names them.
const (
	FamilyOrders   = "orders"
	FamilyProducts = "products"
	FamilyWeb      = "web"
	FamilyIdentity = "identity"
)

// Families lists the families of events: each may be watched for silence of its own.
func Families() []string { return []string{FamilyOrders, FamilyProducts, FamilyWeb, FamilyIdentity} }

// Family returns the family that events of the kind belong to; heartbeats have none, "".
func (k Kind) Family() string {
	switch k {
	case KindIdentified:
		return FamilyIdentity
	case KindPageViewed:
		return FamilyWeb
	case KindProductViewed, KindCartChanged, KindCheckoutStarted:
		return FamilyProducts
	case KindOrderCompleted, KindOrderUpdated, KindOrderRefunded, KindOrderCancelled:
		return FamilyOrders
	}
	return ""
}

// Valid reports whether k is a known kind.
func (k Kind) Valid() bool { return k > KindInvalid && k < kindCount }

// Order reports whether events of this kind act on the order ledger. They are never dropped for being late.
func (k Kind) Order() bool { return k >= KindOrderCompleted && k <= KindOrderCancelled }

// Event is one decoded customer interaction. A decoder fills and reuses it: every byte slice is valid only until
// the next one is decoded, so whoever keeps an Event copies it (AppendEvent).
type Event struct {
	Kind     Kind
	At       int64  // event time, Unix milliseconds UTC
	ID       uint64 // EventID of source and event id; equal ids name the same event
	Customer []byte // user id, else anonymous id
	Known    bool   // Customer is a user id

	OrderID []byte
	// Currency is the code of ISO 4217 in upper case that Amount and Lines are in; zero is the reporting currency.
	Currency [3]byte
	// Amount is money in minor units of Currency: the net value of an order, or what a refund gives back. HasAmount is
	// false where an event names none (a refund of lines or of the whole order).
	Amount    int64
	HasAmount bool
	Lines     []Line
	// Rate converts Currency at the event's business day. Task.Process sets it once, so that what was accepted never
	// depends on a later table. It is zero in the reporting currency, and where a refund or update came without a rate:
	// those can do without if they are in the currency of their order.
	Rate Rate

	// Raw is the record's original value, needed where an event may end as a dead letter after it was accepted.
	Raw []byte
	// Origin tells where the event was read.
	Origin Origin
}

// Foreign reports whether the event's amounts are in another than the reporting currency.
func (e *Event) Foreign() bool { return e.Currency != [3]byte{} }

// Money returns Amount in minor units of the reporting currency; 0 where there is no rate for it, or too much of it.
func (e *Event) Money() int64 {
	if !e.Foreign() {
		return e.Amount
	}
	v, _ := e.Rate.Convert(e.Amount)
	return v
}

// Sound reports whether amounts and quantities are within their range, from 0 to MaxAmount, as they are in all that a
// Decoder returns: the ledger takes them as they are.
func (e *Event) Sound() bool {
	for i := range e.Lines {
		if l := &e.Lines[i]; min(l.Quantity, l.Amount) < 0 || max(l.Quantity, l.Amount) > MaxAmount {
			return false
		}
	}
	return e.Amount >= 0 && e.Amount <= MaxAmount
}

// Line is one product line of an order or of a refund.
type Line struct {
	Product   uint64 // hash of the product id, 0 where it has none
	Category  []byte // empty where unknown
	Quantity  int64  // thousandths of a unit
	Amount    int64  // price times quantity, minor units; meaningful if HasAmount
	HasAmount bool
}

// Record is one record of a topic, as a decoder reads it. Its bytes are overwritten after the Event has been processed.
type Record struct {
	Key, Value []byte
	Headers    []Header // in the order of the record; nil where it has none
}

// Header is one header of a record.
type Header struct {
	Key   string
	Value []byte
}

// Origin is the place of a record in Kafka.
type Origin struct {
	Topic     string
	Partition int32
	Offset    int64
}
