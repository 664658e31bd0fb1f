package codec

import (
	"fmt"

	"github.com/cespare/xxhash/v2"

	"zyklus/pipeline"
)

const (
	// maxLines is how many products an order may have; one with more is too_large.
	maxLines = 10_000
	// priceDigits is how many decimal digits of a price are kept; unit prices are often finer than the minor unit.
	priceDigits = 6
	// maxPrice is the greatest price, 10^13 units of the currency, in units of 10^-priceDigits.
	maxPrice = 10_000_000_000_000_000_000
	// quantityDigits is how many decimal digits of a quantity are kept.
	quantityDigits = 3
)

// order holds the members of properties that order events use.
type order struct {
	id, otherID                   token
	currency                      token
	revenue, total, value, amount token
	shipping, tax, discount       token
	products                      token
	stray                         token // the last element of products that is no object
	tooMany                       bool  // products has more than maxLines objects
}

// product holds the members of one element of products.
type product struct {
	id, sku, category, price, quantity token
}

// scanProperties reads the value of properties and replaces what an earlier member of that name left.
func (d *Segment) scanProperties() token {
	s, o := &d.scan, &d.order
	d.order, d.products = order{}, d.products[:0]
	if s.peek() != '{' {
		return s.value()
	}
	t := token{start: int32(s.i), kind: tokenObject}
	s.open()
	for name, ok := s.member(true); ok; name, ok = s.member(false) {
		switch string(d.name(name)) {
		case "order_id":
			o.id = s.value()
		case "orderId":
			o.otherID = s.value()
		case "currency":
			o.currency = s.value()
		case "revenue":
			o.revenue = s.value()
		case "total":
			o.total = s.value()
		case "value":
			o.value = s.value()
		case "amount":
			o.amount = s.value()
		case "shipping":
			o.shipping = s.value()
		case "tax":
			o.tax = s.value()
		case "discount":
			o.discount = s.value()
		case "products":
			o.products = d.scanProducts()
		default:
			s.value()
		}
	}
	t.end = int32(s.i)
	return t
}

// scanProducts reads the value of products and replaces what an earlier member of that name left.
func (d *Segment) scanProducts() token {
	s, o := &d.scan, &d.order
	d.products, o.stray, o.tooMany = d.products[:0], token{}, false
	if s.peek() != '[' {
		return s.value()
	}
	t := token{start: int32(s.i), kind: tokenArray}
	s.open()
	for ok := s.element(true); ok; ok = s.element(false) {
		switch {
		case s.peek() != '{':
			o.stray = s.value()
		case len(d.products) == maxLines:
			o.tooMany = true
			s.value()
		default:
			d.scanProduct()
		}
	}
	t.end = int32(s.i)
	return t
}

// scanProduct reads the object that the scanner stands at into a new element of d.products.
func (d *Segment) scanProduct() {
	s := &d.scan
	d.products = append(d.products, product{})
	p := &d.products[len(d.products)-1]
	s.open()
	for name, ok := s.member(true); ok; name, ok = s.member(false) {
		switch string(d.name(name)) {
		case "product_id":
			p.id = s.value()
		case "sku":
			p.sku = s.value()
		case "category":
			p.category = s.value()
		case "price":
			p.price = s.value()
		case "quantity":
			p.quantity = s.value()
		default:
			s.value()
		}
	}
}

// readOrder sets the fields of an order event.
func (d *Segment) readOrder(e *pipeline.Event) (err error) {
	if t := d.envelope.properties; t.kind != tokenObject && !t.absent() {
		return d.wrongType("properties", t)
	}
	if d.envelope.properties.kind == tokenObject {
		if e.OrderID, err = d.readOrderID(); err != nil {
			return err
		}
	}
	if len(e.OrderID) == 0 {
		return d.fail(pipeline.ErrNoOrderID, "neither properties.order_id nor properties.orderId")
	}
	switch e.Kind {
	case pipeline.KindOrderCancelled:
		return nil
	case pipeline.KindOrderRefunded:
		return d.readRefund(e)
	}
	return d.readSale(e)
}

func (d *Segment) readOrderID() ([]byte, error) {
	if id, err := d.readKey("order_id", d.order.id); err != nil || len(id) > 0 {
		return id, err
	}
	return d.readKey("orderId", d.order.otherID)
}

// readSale sets lines and net value of a completed or updated order.
func (d *Segment) readSale(e *pipeline.Event) (err error) {
	if err = d.checkCurrency(); err != nil {
		return err
	}
	if e.Lines, err = d.readLines(); err != nil {
		return err
	}
	e.Amount, e.HasAmount, err = d.netValue(e.Lines)
	switch {
	case err != nil:
		return err
	case !e.HasAmount:
		return d.fail(pipeline.ErrNoAmount, "none of revenue, total, value and products with a price")
	case e.Amount < 0:
		return d.fail(pipeline.ErrNegativeAmount, "the net value is %d minor units", e.Amount)
	case e.Amount > maxMagnitude:
		return d.fail(pipeline.ErrAmountOutOfRange, "the net value is %d minor units", e.Amount)
	}
	return nil
}

// netValue returns what the seller earns by the order, in minor units: revenue, else total - shipping - tax, else
// value, else the sum of the priced lines - discount. named is false if the order has none of them.
func (d *Segment) netValue(lines []pipeline.Line) (v int64, named bool, err error) {
	o := &d.order
	switch {
	case !o.revenue.absent():
		v, err = d.money("revenue", o.revenue)
		return v, true, err
	case !o.total.absent():
		v, err = d.money("total", o.total)
		if err == nil {
			v, err = d.minus(v, "shipping", o.shipping)
		}
		if err == nil {
			v, err = d.minus(v, "tax", o.tax)
		}
		return v, true, err
	case !o.value.absent():
		v, err = d.money("value", o.value)
		return v, true, err
	}
	for i := range lines {
		v += lines[i].Amount // 0 without a price
		named = named || lines[i].HasAmount
	}
	v, err = d.minus(v, "discount", o.discount)
	return v, named, err
}

// readRefund sets what is given back: the lines if products are given, else an amount, else neither, which means the
// whole order. The latter needs no currency.
func (d *Segment) readRefund(e *pipeline.Event) (err error) {
	name, amount := d.refundAmount()
	if amount.absent() && d.order.products.absent() {
		return nil
	}
	if err = d.checkCurrency(); err != nil {
		return err
	}
	if e.Lines, err = d.readLines(); err != nil || len(e.Lines) > 0 || amount.absent() {
		return err
	}
	e.Amount, err = d.money(name, amount)
	e.HasAmount = err == nil
	return err
}

// refundAmount returns the member that names the amount of a refund.
func (d *Segment) refundAmount() (name string, t token) {
	o := &d.order
	switch {
	case !o.total.absent():
		return "total", o.total
	case !o.value.absent():
		return "value", o.value
	case !o.revenue.absent():
		return "revenue", o.revenue
	}
	return "amount", o.amount
}

// readLines returns the product lines, nil if there are none.
func (d *Segment) readLines() ([]pipeline.Line, error) {
	o := &d.order
	switch {
	case o.products.absent():
		return nil, nil
	case o.products.kind != tokenArray:
		return nil, d.wrongType("products", o.products)
	case o.stray.kind != tokenNone:
		return nil, d.wrongType("an element of products", o.stray)
	case o.tooMany:
		return nil, d.fail(pipeline.ErrTooLarge, "more than %d products", maxLines)
	case len(d.products) == 0:
		return nil, nil
	}
	d.lines = d.lines[:0]
	for i := range d.products {
		line, err := d.readLine(&d.products[i])
		if err != nil {
			d.err.Cause = fmt.Sprintf("product %d: %s", i, d.err.Cause)
			return nil, err
		}
		d.lines = append(d.lines, line)
	}
	return d.lines, nil
}

func (d *Segment) readLine(p *product) (line pipeline.Line, err error) {
	if line.Product, err = d.productHash(p); err != nil {
		return line, err
	}
	if line.Category, err = d.label("category", p.category); err != nil {
		return line, err
	}
	line.Quantity = 1000
	if !p.quantity.absent() {
		line.Quantity, err = d.quantity(p.quantity)
	}
	if err != nil || p.price.absent() {
		return line, err
	}
	line.HasAmount = true
	line.Amount, err = d.lineAmount(p.price, line.Quantity)
	return line, err
}

// productHash returns the hash of the product's id, 0 if it has none.
func (d *Segment) productHash(p *product) (uint64, error) {
	id, err := d.label("product_id", p.id)
	if len(id) == 0 && err == nil {
		id, err = d.label("sku", p.sku)
	}
	if len(id) == 0 || err != nil {
		return 0, err
	}
	return xxhash.Sum64(id), nil
}

// label is readText for a member that only describes: one of the wrong type is unknown rather than an error, because
// shops send `false` or `[]` for an empty category and the money of the order matters more.
func (d *Segment) label(name string, t token) ([]byte, error) {
	if t.kind != tokenString && t.kind != tokenNumber {
		return nil, nil
	}
	return d.readText(name, t)
}

// checkCurrency refuses what cannot be booked in the reporting currency.
func (d *Segment) checkCurrency() error {
	text, err := d.readText("currency", d.order.currency)
	if err != nil || len(text) == 0 || string(text) == d.options.Currency {
		return err
	}
	code := upperASCII(text)
	if _, known := KnownCurrency(code); !known {
		return d.fail(pipeline.ErrUnknownCurrency, "currency %s is not a code of ISO 4217", excerpt(text))
	}
	if code != d.options.Currency {
		return d.fail(pipeline.ErrCurrencyWithoutRate, "no rate from %s to %s", code, d.options.Currency)
	}
	return nil
}

// money returns an amount in minor units, rounded half away from zero; 0 if the member is absent.
func (d *Segment) money(name string, t token) (int64, error) {
	if t.absent() {
		return 0, nil
	}
	m, err := d.magnitude(name, t, measure{d.exponent, maxMagnitude})
	return int64(m), err
}

// minus returns v less an amount.
func (d *Segment) minus(v int64, name string, t token) (int64, error) {
	m, err := d.money(name, t)
	return v - m, err
}

// quantity returns a quantity in thousandths.
func (d *Segment) quantity(t token) (int64, error) {
	m, err := d.magnitude("quantity", t, measure{quantityDigits, maxMagnitude})
	return int64(m), err
}

// lineAmount returns price times quantity in minor units, rounded half away from zero once.
func (d *Segment) lineAmount(price token, quantity int64) (int64, error) {
	p, err := d.magnitude("price", price, measure{priceDigits, maxPrice})
	if err != nil {
		return 0, err
	}
	m, ok := mulDiv(p, uint64(quantity), pow10(priceDigits+quantityDigits-d.exponent))
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

// magnitude reads a number that must not be negative, from a JSON number or from text. What rounds to zero is zero,
// also from below: sums of binary fractions in a browser leave such residues.
func (d *Segment) magnitude(name string, t token, m measure) (uint64, error) {
	text, err := d.readText(name, t)
	if err != nil {
		return 0, err
	}
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
