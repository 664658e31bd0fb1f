package codec

import (
	"fmt"

	"github.com/cespare/xxhash/v2"

	"zyklus/pipeline"
)

// maxLines is how many products an order may have; one with more is too_large.
const maxLines = 10_000

// order holds the members of properties that order events use.
type order struct {
	id, otherID                   token
	currency                      token
	revenue, total, value, amount token
	shipping, tax, discount       token
	products                      token
	customer, user, anonymous     token // of CloudEvents, whose data may tell whose it is
	stray                         token // the last element of products that is no object
	tooMany                       bool  // products has more than maxLines objects
}

// product holds the members of one element of products.
type product struct {
	id, sku, category, price, quantity token
}

// scanProperties reads the value of properties and replaces what an earlier member of that name left.
func (d *reader) scanProperties() token {
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
		case "customer_id", "customerId":
			o.customer = s.value()
		case "user_id", "userId":
			o.user = s.value()
		case "anonymous_id", "anonymousId":
			o.anonymous = s.value()
		default:
			s.value()
		}
	}
	t.end = int32(s.i)
	return t
}

// scanProducts reads the value of products and replaces what an earlier member of that name left.
func (d *reader) scanProducts() token {
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
func (d *reader) scanProduct() {
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

// readOrder sets the fields of an order event from the object that scanProperties read, which is the member name.
func (d *reader) readOrder(e *pipeline.Event, name string, properties token) (err error) {
	if properties.kind != tokenObject && !properties.absent() {
		return d.wrongType(name, properties)
	}
	if properties.kind == tokenObject {
		if e.OrderID, err = d.readOrderID(); err != nil {
			return err
		}
	}
	if len(e.OrderID) == 0 {
		return d.fail(pipeline.ErrNoOrderID, "neither %s.order_id nor %[1]s.orderId", name)
	}
	switch e.Kind {
	case pipeline.KindOrderCancelled:
		return nil
	case pipeline.KindOrderRefunded:
		return d.readRefund(e)
	}
	return d.readSale(e)
}

func (d *reader) readOrderID() ([]byte, error) {
	if id, err := d.readKey("order_id", d.order.id); err != nil || len(id) > 0 {
		return id, err
	}
	return d.readKey("orderId", d.order.otherID)
}

// readSale sets lines and net value of a completed or updated order.
func (d *reader) readSale(e *pipeline.Event) (err error) {
	if err = d.readCurrency(e); err != nil {
		return err
	}
	if e.Lines, err = d.readLines(); err != nil {
		return err
	}
	e.Amount, e.HasAmount, err = d.netValue(e.Lines)
	if err != nil {
		return err
	}
	if !e.HasAmount {
		return d.fail(pipeline.ErrNoAmount, "none of revenue, total, value and products with a price")
	}
	return d.checkNet(e)
}

// checkNet refuses a net value that no order has.
func (d *reader) checkNet(e *pipeline.Event) error {
	switch {
	case e.Amount < 0:
		return d.fail(pipeline.ErrNegativeAmount, "the net value is %d minor units", e.Amount)
	case e.Amount > maxMagnitude:
		return d.fail(pipeline.ErrAmountOutOfRange, "the net value is %d minor units", e.Amount)
	}
	return nil
}

// netValue returns what the seller earns by the order, in minor units: revenue, else total - shipping - tax, else
// value, else the sum of the priced lines - discount. named is false if the order has none of them.
func (d *reader) netValue(lines []pipeline.Line) (v int64, named bool, err error) {
	o := &d.order
	switch {
	case !o.revenue.absent():
		v, err = d.readMoney("revenue", o.revenue)
		return v, true, err
	case !o.total.absent():
		v, err = d.readMoney("total", o.total)
		if err == nil {
			v, err = d.minus(v, "shipping", o.shipping)
		}
		if err == nil {
			v, err = d.minus(v, "tax", o.tax)
		}
		return v, true, err
	case !o.value.absent():
		v, err = d.readMoney("value", o.value)
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
func (d *reader) readRefund(e *pipeline.Event) (err error) {
	name, amount := d.refundAmount()
	if amount.absent() && d.order.products.absent() {
		return nil
	}
	if err = d.readCurrency(e); err != nil {
		return err
	}
	if e.Lines, err = d.readLines(); err != nil || len(e.Lines) > 0 || amount.absent() {
		return err
	}
	e.Amount, err = d.readMoney(name, amount)
	e.HasAmount = err == nil
	return err
}

// refundAmount returns the member that names the amount of a refund.
func (d *reader) refundAmount() (name string, t token) {
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
func (d *reader) readLines() ([]pipeline.Line, error) {
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

func (d *reader) readLine(p *product) (line pipeline.Line, err error) {
	if line.Product, err = d.productHash(p); err != nil {
		return line, err
	}
	if line.Category, err = d.label("category", p.category); err != nil {
		return line, err
	}
	line.Quantity = oneUnit
	if !p.quantity.absent() {
		if line.Quantity, err = d.readQuantity(p.quantity); err != nil {
			return line, err
		}
	}
	if p.price.absent() {
		return line, nil
	}
	price, err := d.readText("price", p.price)
	if err != nil {
		return line, err
	}
	line.HasAmount = true
	line.Amount, err = d.lineAmount(price, line.Quantity)
	return line, err
}

func (d *reader) readQuantity(t token) (int64, error) {
	text, err := d.readText("quantity", t)
	if err != nil {
		return 0, err
	}
	return d.quantity(text)
}

// productHash returns the hash of the product's id, 0 if it has none.
func (d *reader) productHash(p *product) (uint64, error) {
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
func (d *reader) label(name string, t token) ([]byte, error) {
	if t.kind != tokenString && t.kind != tokenNumber {
		return nil, nil
	}
	return d.readText(name, t)
}

// readCurrency sets the currency of an order from its member.
func (d *reader) readCurrency(e *pipeline.Event) error {
	text, err := d.readText("currency", d.order.currency)
	if err != nil {
		return err
	}
	return d.setCurrency(e, text)
}

// readMoney returns an amount in minor units, rounded half away from zero; 0 if the member is absent.
func (d *reader) readMoney(name string, t token) (int64, error) {
	if t.absent() {
		return 0, nil
	}
	text, err := d.readText(name, t)
	if err != nil {
		return 0, err
	}
	return d.amount(name, text)
}

// minus returns v less an amount.
func (d *reader) minus(v int64, name string, t token) (int64, error) {
	m, err := d.readMoney(name, t)
	return v - m, err
}
