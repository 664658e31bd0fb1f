package pipeline

import (
	"errors"
	"fmt"
)

// ErrorKind classifies why a record became a dead letter. Its name is the `error` column and metric label.
type ErrorKind uint8

// The kinds of errors of dead letters.
const (
	ErrNone                ErrorKind = iota
	ErrNullValue                     // the record has no value
	ErrTooLarge                      // larger than the decoder accepts
	ErrNotJSON                       // not a JSON object, or a member of the wrong type
	ErrTruncated                     // JSON that ends too early
	ErrUnknownEvent                  // type or event name that no alias maps to an event type
	ErrNoCustomer                    // neither user id nor anonymous id
	ErrNoTime                        // no member holds an event time
	ErrTimeFormat                    // a time of no known format
	ErrTimeTooOld                    // before the earliest time accepted, mostly an unset clock
	ErrTimeInFuture                  // later than the record's append time plus the allowed clock skew
	ErrNoOrderID                     // an order event without order id
	ErrNoAmount                      // an order that names no amount at all
	ErrNegativeAmount                // an amount or quantity below zero
	ErrAmountOutOfRange              // an amount, price or quantity too large, or not a decimal number
	ErrUnknownCurrency               // not a code of ISO 4217
	ErrCurrencyWithoutRate           // a currency that cannot be converted to the reporting currency
	ErrIDTooLong                     // a customer or order id of more than MaxID bytes
	ErrOrderUnknown                  // an update, refund or cancellation whose order never came
	ErrOrderTooOld                   // an order older than the ledger remembers: it cannot be told from a repeat
	ErrNotRekeyed                    // a record of the events' topic that the re-keying stage cannot have written
	ErrMapping                       // an expression of the mapping that has no value for the record
	ErrRecordsLost                   // records that the topic lost before they were read; the letter stands for all of them
	errorKindCount
)

// MaxID is the greatest length of a customer or order id in bytes.
const MaxID = 256

var errorKindNames = [errorKindCount]string{
	"none", "null_value", "too_large", "not_json", "truncated", "unknown_event", "no_customer", "no_time",
	"time_format", "time_too_old", "time_in_future", "no_order_id", "no_amount", "negative_amount",
	"amount_out_of_range", "unknown_currency", "currency_without_rate", "id_too_long", "order_unknown", "order_too_old",
	"not_rekeyed",
	"mapping", "records_lost",
}

// String returns the kind's stable name.
func (k ErrorKind) String() string {
	if k < errorKindCount {
		return errorKindNames[k]
	}
	return fmt.Sprintf("error(%d)", uint8(k))
}

// ErrorKinds lists the names of all kinds, for registering metrics.
func ErrorKinds() []string { return errorKindNames[1:] }

// RecordError says why one record cannot become an Event. It is data, not a failure of the pipeline.
type RecordError struct {
	Kind  ErrorKind
	Cause string // what exactly was wrong, for a person; holds no customer id
}

func (e *RecordError) Error() string { return e.Kind.String() + ": " + e.Cause }

// ErrIgnored is returned by a decoder for events of ids that are no persons (`guest`, `null` …) and for records that a
// mapping says to ignore: counted, not kept.
var ErrIgnored = errors.New("the record is ignored by configuration")

// DeadLetter is a record that could not be used, with its cause and its original bytes.
type DeadLetter struct {
	Kind   ErrorKind
	Cause  string
	At     int64 // Unix milliseconds: the event time if known, else the clock of the partition
	Money  int64 // minor units of the reporting currency that it would have moved, 0 if unknown
	Key    []byte
	Value  []byte
	Origin Origin

	refused int64 // when an accepted event ended so; 0 if it was never accepted
}
