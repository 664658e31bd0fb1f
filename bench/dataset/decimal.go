package dataset

import (
	"bytes"
	"strconv"
)

const (
	unit      = 1_000_000            // millionths in one
	maxAmount = 1_000_000_000 * unit // of a row and of an order
)

// parseDecimal reads digits with an optional point and exponent, such as 29.33 or 4.4e-16, into millionths. It is
// exact up to the sixth decimal; the rest, which only the noise of somebody's floating point numbers has, is rounded.
func parseDecimal(text []byte) (millionths int64, ok bool) {
	exponent := 0
	if at := bytes.IndexAny(text, "eE"); at >= 0 {
		e, err := strconv.Atoi(string(text[at+1:]))
		if err != nil || e < -400 || e > 400 {
			return 0, false
		}
		text, exponent = text[:at], e
	}
	whole, fraction, _ := bytes.Cut(text, []byte("."))
	if len(whole)+len(fraction) == 0 {
		return 0, false
	}
	// The digits before position end make up the millionths.
	end := len(whole) + exponent + 6
	position := 0
	for _, part := range [2][]byte{whole, fraction} {
		for _, digit := range part {
			if digit < '0' || digit > '9' {
				return 0, false
			}
			if position < end {
				millionths = millionths*10 + int64(digit-'0')
			} else if position == end && digit >= '5' {
				millionths++
			}
			if millionths > maxAmount {
				return 0, false
			}
			position++
		}
	}
	for ; position < end && millionths > 0; position++ {
		if millionths *= 10; millionths > maxAmount {
			return 0, false
		}
	}
	return millionths, true
}

// appendDecimal appends millionths with two to six decimals.
func appendDecimal(b []byte, millionths int64) []byte {
	b = strconv.AppendInt(b, millionths/unit, 10)
	rest, decimals := millionths%unit, 6
	for ; decimals > 2 && rest%10 == 0; decimals-- {
		rest /= 10
	}
	b = append(b, '.')
	for scale := power10(decimals - 1); scale > 0; scale /= 10 {
		b = append(b, byte('0'+rest/scale%10))
	}
	return b
}

// unitPrice returns quantity and price of a line so that their product, rounded to cents, is the amount; the price
// has as few decimals as that takes. Where there is no quantity, or six decimals do not suffice (more than ten
// thousand units), the whole amount is the price of one.
func unitPrice(amount, quantity int64) (units, price int64) {
	if quantity <= 1 {
		return 1, amount
	}
	for decimals := 2; decimals <= 6; decimals++ {
		step := power10(6 - decimals)
		price = roundTo(amount/quantity, amount%quantity, quantity, step)
		if cents(price*quantity) == cents(amount) {
			return quantity, price
		}
	}
	return 1, amount
}

// roundTo rounds quotient + remainder/divisor to the nearest multiple of step, halves up.
func roundTo(quotient, remainder, divisor, step int64) int64 {
	down := quotient - quotient%step
	// Twice the distance from down, in parts of the divisor, against the step.
	if 2*((quotient-down)*divisor+remainder) >= step*divisor {
		return down + step
	}
	return down
}

// cents rounds millionths to cents, halves up.
func cents(millionths int64) int64 { return (millionths + 5_000) / 10_000 }

func power10(n int) int64 {
	p := int64(1)
	for range n {
		p *= 10
	}
	return p
}
