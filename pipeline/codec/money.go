package codec

import "zyklus/pipeline"

const (
	// priceDigits is how many decimal digits of a price are kept; unit prices are often finer than the minor unit.
	priceDigits = 6
	// maxPrice is the greatest price, 10^13 units of the currency, in units of 10^-priceDigits.
	maxPrice = 10_000_000_000_000_000_000
	// quantityDigits is how many decimal digits of a quantity are kept.
	quantityDigits = 3
	// oneUnit is the quantity of a line that names none.
	oneUnit = 1000
)

// setCurrency makes the currency that text names, or the reporting one if it is empty, that of the order at hand. It
// refuses what is no currency, and what cannot be booked in the reporting currency.
func (d *reader) setCurrency(e *pipeline.Event, text []byte) error {
	d.exponent = d.reporting
	if len(text) == 0 || string(text) == d.options.Currency {
		return nil
	}
	var code [3]byte
	if len(text) == len(code) {
		copyUpper(code[:], text)
	}
	exponent, known := KnownCurrency(string(code[:]))
	switch {
	case !known:
		return d.fail(pipeline.ErrUnknownCurrency, "currency %s is not a code of ISO 4217", excerpt(text))
	case string(code[:]) == d.options.Currency:
		return nil
	case !d.options.Convert:
		return d.fail(pipeline.ErrCurrencyWithoutRate, "no rate from %s to %s", code, d.options.Currency)
	}
	e.Currency, d.exponent = code, exponent
	return nil
}

// amount reads an amount of the order's currency as minor units, rounded half away from zero.
func (d *reader) amount(name string, text []byte) (int64, error) {
	m, err := d.magnitude(name, text, measure{d.exponent, maxMagnitude})
	return int64(m), err
}

// minorAmount reads an amount that is written in minor units.
func (d *reader) minorAmount(name string, text []byte) (int64, error) {
	m, err := d.magnitude(name, text, measure{0, maxMagnitude})
	return int64(m), err
}

// quantity reads a quantity in thousandths.
func (d *reader) quantity(text []byte) (int64, error) {
	m, err := d.magnitude("quantity", text, measure{quantityDigits, maxMagnitude})
	return int64(m), err
}

// lineAmount returns price times quantity in minor units, rounded half away from zero once.
func (d *reader) lineAmount(price []byte, quantity int64) (int64, error) {
	return d.product(price, quantity, d.exponent)
}

// minorLineAmount is lineAmount for a price in minor units.
func (d *reader) minorLineAmount(price []byte, quantity int64) (int64, error) {
	return d.product(price, quantity, 0)
}

// product returns price times quantity in units of which the price's unit has 10^exponent.
func (d *reader) product(price []byte, quantity int64, exponent int) (int64, error) {
	p, err := d.magnitude("price", price, measure{priceDigits, maxPrice})
	if err != nil {
		return 0, err
	}
	m, ok := mulDiv(p, uint64(quantity), pow10(priceDigits+quantityDigits-exponent))
	if !ok {
		return 0, d.fail(pipeline.ErrAmountOutOfRange, "price times quantity is over %d minor units", int64(maxMagnitude))
	}
	return int64(m), nil
}

// measure is the unit 10^-digits in which a number is read, and the greatest number of it accepted.
type measure struct {
	digits int
	limit  uint64
}

// magnitude reads a decimal number that must not be negative. What rounds to zero is zero, also from below: sums of
// binary fractions in a browser leave such residues.
func (d *reader) magnitude(name string, text []byte, m measure) (uint64, error) {
	v, ok := parseDecimal(text, m.digits)
	if !ok {
		return 0, d.fail(pipeline.ErrAmountOutOfRange, "%s %s is not a decimal number", name, excerpt(text))
	}
	magnitude, ok := v.rounded(m.limit)
	switch {
	case v.negative && (magnitude > 0 || !ok):
		return 0, d.fail(pipeline.ErrNegativeAmount, "%s is %s", name, excerpt(text))
	case !ok:
		return 0, d.fail(pipeline.ErrAmountOutOfRange, "%s %s is too large", name, excerpt(text))
	}
	return magnitude, nil
}
