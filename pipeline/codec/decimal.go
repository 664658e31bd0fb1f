package codec

import (
	"math"
	"math/bits"
)

// maxMagnitude is the greatest amount in minor units and the greatest quantity in thousandths. Sums of maxLines of
// them fit an int64.
const maxMagnitude = 10_000_000_000_000

// decimal is a decimal number in units of a chosen power of ten: exact but for digits below that unit, of which up
// keeps what rounding half away from zero needs.
type decimal struct {
	units    uint64 // magnitude, truncated
	negative bool
	up       bool // the first digit below the unit is 5 or more
	overflow bool // the magnitude does not fit units
}

// rounded returns the magnitude rounded half away from zero. ok is false above limit, which is below MaxUint64.
func (d decimal) rounded(limit uint64) (magnitude uint64, ok bool) {
	if d.overflow || d.units > limit {
		return 0, false
	}
	if d.up {
		d.units++
	}
	return d.units, d.units <= limit
}

// parseDecimal reads a decimal number of any length, with optional sign, fraction and exponent, in units of 10^-scale.
// Beyond the grammar of JSON it accepts a plus sign, leading zeros and a point at either end. ok is false for other
// text. No digit is lost before rounding: half away from zero depends on the first digit below the unit alone.
func parseDecimal(b []byte, scale int) (d decimal, ok bool) {
	if len(b) > 0 && (b[0] == '-' || b[0] == '+') {
		d.negative = b[0] == '-'
		b = b[1:]
	}
	mantissa, exponent, ok := splitExponent(b)
	if !ok {
		return decimal{}, false
	}
	point := len(mantissa)
	for i, c := range mantissa {
		if c == '.' {
			point = i
			break
		}
	}
	// The mantissa without its point is a row of digits; the first `keep` of them are whole units.
	keep := point + exponent + scale
	n := 0
	for i, c := range mantissa {
		if i == point {
			continue
		}
		if !isDigit(c) {
			return decimal{}, false
		}
		d.digit(c-'0', keep-n)
		n++
	}
	for ; n < keep && d.units != 0 && !d.overflow; n++ {
		d.digit(0, keep-n)
	}
	return d, len(mantissa) > 1 || point == 1
}

// digit takes the next digit, which is a whole unit if rank is positive and the first one below the unit if it is 0.
func (d *decimal) digit(v byte, rank int) {
	switch {
	case rank < 0:
	case rank == 0:
		d.up = v >= 5
	case d.units > (math.MaxUint64-9)/10:
		d.overflow = true
	default:
		d.units = d.units*10 + uint64(v)
	}
}

// splitExponent cuts "12e3" into "12" and 3.
func splitExponent(b []byte) (mantissa []byte, exponent int, ok bool) {
	at := len(b)
	for i, c := range b {
		if c|0x20 == 'e' {
			at = i
			break
		}
	}
	if at == len(b) {
		return b, 0, true
	}
	exponent, ok = parseExponent(b[at+1:])
	return b[:at], exponent, ok
}

// parseExponent reads a signed integer. Beyond ±2^40, more than any input has digits, it stays there: the value is
// zero or too large either way.
func parseExponent(b []byte) (exponent int, ok bool) {
	sign := 1
	if len(b) > 0 && (b[0] == '-' || b[0] == '+') {
		if b[0] == '-' {
			sign = -1
		}
		b = b[1:]
	}
	for _, c := range b {
		if !isDigit(c) {
			return 0, false
		}
		exponent = min(exponent*10+int(c-'0'), 1<<40)
	}
	return sign * exponent, len(b) > 0
}

// pow10 returns 10^n for n of 0 to 19.
func pow10(n int) uint64 {
	p := uint64(1)
	for range n {
		p *= 10
	}
	return p
}

// mulDiv returns a*b/divisor rounded half away from zero. ok is false above maxMagnitude.
func mulDiv(a, b, divisor uint64) (magnitude uint64, ok bool) {
	high, low := bits.Mul64(a, b)
	if high >= divisor {
		return 0, false
	}
	quotient, remainder := bits.Div64(high, low, divisor)
	d := decimal{units: quotient, up: remainder >= divisor-remainder}
	return d.rounded(maxMagnitude)
}
