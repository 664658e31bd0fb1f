package codec

import "fmt"

// Options of a decoder. The zero value of each field but Currency stands for its default.
type Options struct {
	// Source names the tracker or topic within which message ids are unique. Changing it gives every event a new id,
	// so events that are read twice across the change count twice.
	Source string
	// Currency is the reporting currency, a code of ISO 4217 in upper case, which amounts without a currency are in.
	Currency string
	// Convert accepts orders in other currencies: Event.Currency names it and amounts are in its minor units, to be
	// converted by a dated rate table. Default (false): such an order is a dead letter (currency_without_rate).
	Convert bool
	// MinTime is the earliest event time accepted, in Unix milliseconds; earlier is time_too_old, mostly an unset
	// clock. Default (0): 1990-01-01 UTC. It may be negative.
	MinTime int64
	// MaxBytes is the greatest length of a value; longer is too_large. Default (0): 1 MiB. At most 1 GiB. Scratch
	// memory of a decoder grows to a small multiple of the largest value it met.
	MaxBytes int
	// IgnoredIDs are customer ids that are no persons, compared without regard to ASCII case. Default (nil):
	// DefaultIgnoredIDs. An empty list ignores none.
	IgnoredIDs []string
	// Mapping says how records become events; of FormatMapping only.
	Mapping *Mapping
}

// DefaultIgnoredIDs lists the ids that trackers send for "nobody", in lower case. One of them believed would merge all
// anonymous visitors into one heavy customer.
func DefaultIgnoredIDs() []string {
	return []string{
		"guest", "anonymous", "not_authenticated", "unknown", "(not set)",
		"null", "nil", "none", "undefined", "nan", "n/a", "[object object]", "true", "false",
		"0", "-1", "00000000-0000-0000-0000-000000000000",
		"id", "email", "distinct_id", "distinctid", "userid", "user_id",
	}
}

// withDefaults returns the options with defaults in place of zero values, or what is wrong with them.
func (o Options) withDefaults() (Options, error) {
	const maxMaxBytes = 1 << 30 // tokens hold 32-bit offsets
	if o.MinTime == 0 {
		o.MinTime = earliest
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 1 << 20
	}
	if o.IgnoredIDs == nil {
		o.IgnoredIDs = DefaultIgnoredIDs()
	}
	switch _, known := KnownCurrency(o.Currency); {
	case !known:
		return o, fmt.Errorf("reporting currency %q is not a code of ISO 4217 in upper case", o.Currency)
	case o.MaxBytes < 0 || o.MaxBytes > maxMaxBytes:
		return o, fmt.Errorf("greatest value length %d is not from 1 to %d bytes", o.MaxBytes, maxMaxBytes)
	case o.MinTime > latest:
		return o, fmt.Errorf("earliest event time %d is after 2200-01-01", o.MinTime)
	}
	return o, nil
}
