package codec

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"

	"zyklus/pipeline"
)

// Mapped decodes JSON objects by a mapping. It is used by one goroutine.
type Mapped struct {
	reader
	mapping *Mapping

	// Of the record at hand:
	record *pipeline.Record
	nodes  []node
	line   value // the element of lines
	steps  int
	lets   []let

	// Scratch:
	vars     []value // the variables of loops
	operands []value
}

// let is a name's value, once it was asked for.
type let struct {
	known bool
	value value
	err   error
}

// NewMapped returns a decoder. It fails if Options.Mapping is missing, the reporting currency is unknown or a limit is out
// of its range.
func NewMapped(options Options) (*Mapped, error) {
	if options.Mapping == nil {
		return nil, errors.New("format mapping needs a mapping: give a file or the name of a preset")
	}
	r, err := newReader(options, nil)
	if err != nil {
		return nil, err
	}
	return &Mapped{reader: r, mapping: options.Mapping, lets: make([]let, len(options.Mapping.lets))}, nil
}

// Decode implements Decoder.
func (d *Mapped) Decode(r *pipeline.Record, e *pipeline.Event) error {
	*e = pipeline.Event{Origin: e.Origin}
	d.record, d.steps, d.text, d.operands = r, 0, d.text[:0], d.operands[:0]
	clear(d.lets)
	if err := d.begin(r.Value); err != nil {
		return err
	}
	d.scanTree()
	if err := d.end(); err != nil {
		return err
	}
	rule, err := d.match()
	switch {
	case err != nil:
		d.tryTime(e)
		return err
	case rule == nil:
		d.tryTime(e)
		return d.fail(pipeline.ErrUnknownEvent, "no rule of mapping %s matches%s", excerpt([]byte(d.mapping.name)), d.asked())
	case rule.ignore:
		return pipeline.ErrIgnored
	}
	if err = d.apply(rule, e); err != nil && !errors.Is(err, pipeline.ErrIgnored) {
		d.err.Cause = fmt.Sprintf("rule %+q: %s", rule.name, d.err.Cause)
	}
	return err
}

// match returns the first rule whose condition holds; nil if there is none.
func (d *Mapped) match() (*rule, error) {
	for i := range d.mapping.rules {
		r := &d.mapping.rules[i]
		yes, err := condition(d, r.when.eval)
		if err != nil {
			err = d.evalError("when", err)
			d.err.Cause = fmt.Sprintf("rule %+q: %s", r.name, d.err.Cause)
			return nil, err
		}
		if yes {
			return r, nil
		}
	}
	return nil, nil
}

// asked says what the member is by which the rules tell records apart.
func (d *Mapped) asked() string {
	asks := d.mapping.asks
	if asks == nil {
		return ""
	}
	v, err := asks.member(d)
	switch {
	case err != nil:
		return ""
	case v.kind == tokenString:
		return fmt.Sprintf(": %s is %s", asks.path, excerpt(v.text))
	case v.kind == tokenNumber:
		return fmt.Sprintf(": %s is %s", asks.path, v.digits(0)[:min(len(v.digits(0)), 20)])
	}
	return fmt.Sprintf(": %s is %s", asks.path, v.kind)
}

// tryTime sets e.At for a dead letter, if the time can be told.
func (d *Mapped) tryTime(e *pipeline.Event) {
	refused := d.err
	if d.mapping.time != nil {
		_ = d.setRuleTime(e, d.mapping.time, d.mapping.unit)
	}
	d.err = refused
}

// evalError classifies the error of an expression.
func (d *Mapped) evalError(slot string, err error) error {
	var refused *pipeline.RecordError
	switch {
	case errors.As(err, &refused):
		d.err = pipeline.RecordError{Kind: refused.Kind, Cause: slot + ": " + refused.Cause}
		return &d.err
	case errors.Is(err, errTooMuch):
		return d.fail(pipeline.ErrTooLarge, "%s: %v", slot, err)
	}
	return d.fail(pipeline.ErrMapping, "%s: %v", slot, err)
}

// scalar evaluates an expression that must be a text or a number, or may be missing, as a nil one is.
func (d *Mapped) scalar(name string, e *expression) (v value, err error) {
	if e == nil {
		return v, nil
	}
	v, err = e.eval(d)
	switch {
	case err != nil:
		return value{}, d.evalError(name, err)
	case v.absent():
		return value{}, nil
	case v.kind == tokenString && !utf8.Valid(v.text):
		return value{}, d.fail(pipeline.ErrNotJSON, "%s is not UTF-8", name)
	case v.kind != tokenString && v.kind != tokenNumber:
		return value{}, d.fail(pipeline.ErrNotJSON, "%s is %s", name, v.kind)
	}
	return v, nil
}

// slot is the text of a scalar, empty if it is missing. A calculated number is rounded to so many decimal digits.
func (d *Mapped) slot(name string, e *expression, digits int) (written, error) {
	v, err := d.scalar(name, e)
	return written{name: name, text: v.digits(digits), number: v.kind == tokenNumber}, err
}

// slotKey is slot for an id that state is kept by.
func (d *Mapped) slotKey(name string, e *expression) ([]byte, error) {
	w, err := d.slot(name, e, idDigits)
	if err != nil {
		return nil, err
	}
	return d.checkKey(name, w.text)
}

// apply makes an event by a rule.
func (d *Mapped) apply(r *rule, e *pipeline.Event) error {
	if err := d.setRuleTime(e, r.time, r.unit); err != nil {
		return err
	}
	e.Kind = r.kind
	id, err := d.slot("id", r.id, idDigits)
	if err != nil {
		return err
	}
	if e.ID = EventID(d.options.Source, id.text); len(id.text) == 0 {
		e.ID = contentID(d.options.Source, d.record.Value)
	}
	if r.kind == pipeline.KindHeartbeat {
		return nil
	}
	if err := d.applyCustomer(r, e); err != nil || !r.kind.Order() {
		return err
	}
	e.Raw = d.record.Value
	return d.applyOrder(r, e)
}

func (d *Mapped) setRuleTime(e *pipeline.Event, from *expression, unit *timeUnit) error {
	w, err := d.slot("time", from, 3)
	switch {
	case err != nil:
		return err
	case len(w.text) == 0:
		return d.fail(pipeline.ErrNoTime, "time is missing")
	}
	if unit != nil {
		if ms, ok := parseUnixIn(*unit, w.text); ok {
			return d.setInstant(e, w, ms)
		}
	}
	return d.setTime(e, w)
}

func (d *Mapped) applyCustomer(r *rule, e *pipeline.Event) error {
	user, err := d.slotKey("customer", r.customer)
	if err != nil || d.setCustomer(e, user, nil) {
		return err
	}
	anonymous, err := d.slotKey("anonymous", r.anonymous)
	switch {
	case err != nil || d.setCustomer(e, nil, anonymous):
		return err
	case len(user)+len(anonymous) > 0:
		return pipeline.ErrIgnored
	}
	return d.fail(pipeline.ErrNoCustomer, "neither customer nor anonymous has a value")
}

func (d *Mapped) applyOrder(r *rule, e *pipeline.Event) (err error) {
	if e.OrderID, err = d.slotKey("order_id", r.orderID); err != nil {
		return err
	}
	switch {
	case len(e.OrderID) == 0:
		return d.fail(pipeline.ErrNoOrderID, "order_id is missing")
	case r.kind == pipeline.KindOrderCancelled:
		return nil
	}
	items, err := d.lineItems(r)
	if err != nil {
		return err
	}
	amount, err := d.scalar("amount", r.amount)
	if err != nil {
		return err
	}
	if r.kind == pipeline.KindOrderRefunded && len(items) == 0 && amount.absent() {
		return nil // the whole order, which needs no currency
	}
	currency, err := d.slot("currency", r.currency, 0)
	if err != nil {
		return err
	}
	if err = d.setCurrency(e, currency.text); err != nil {
		return err
	}
	if e.Lines, err = d.applyLines(r.lines, items); err != nil {
		return err
	}
	if r.kind == pipeline.KindOrderRefunded && len(items) > 0 {
		return nil
	}
	return d.applyAmount(r, e, amount)
}

// applyAmount sets what the order names, else the sum of its priced lines.
func (d *Mapped) applyAmount(r *rule, e *pipeline.Event, v value) (err error) {
	if e.HasAmount = !v.absent(); e.HasAmount {
		e.Amount, err = d.money("amount", v, r.minor)
	} else {
		for i := range e.Lines {
			e.Amount += e.Lines[i].Amount
			e.HasAmount = e.HasAmount || e.Lines[i].HasAmount
		}
	}
	switch {
	case err != nil:
		return err
	case !e.HasAmount:
		return d.fail(pipeline.ErrNoAmount, "neither amount nor lines with a price have a value")
	}
	return d.checkNet(e)
}

// money reads an amount of the order's currency, or one in its minor units, rounded half away from zero once.
func (d *Mapped) money(name string, v value, minor bool) (int64, error) {
	if minor {
		return d.minorAmount(name, v.digits(0))
	}
	return d.amount(name, v.digits(d.exponent))
}

// lineItems returns the list that lines come from.
func (d *Mapped) lineItems(r *rule) ([]value, error) {
	if r.lines == nil {
		return nil, nil
	}
	v, err := r.lines.from.eval(d)
	if err != nil {
		return nil, d.evalError("lines.from", err)
	}
	if n := d.length(v); n > maxLines {
		return nil, d.fail(pipeline.ErrTooLarge, "lines.from has %d elements, at most %d are read", n, maxLines)
	}
	items, err := d.list(v)
	if err != nil {
		return nil, d.evalError("lines.from", err)
	}
	return items, nil
}

// length is the number of elements of a list.
func (d *Mapped) length(v value) int {
	if v.json {
		return int(d.nodes[v.node].size)
	}
	return len(v.items)
}

func (d *Mapped) applyLines(r *lineRule, items []value) ([]pipeline.Line, error) {
	d.lines = d.lines[:0]
	for i, item := range items {
		d.line = item
		line, err := d.applyLine(r)
		if err != nil {
			d.err.Cause = fmt.Sprintf("line %d: %s", i, d.err.Cause)
			return nil, err
		}
		d.lines = append(d.lines, line)
	}
	if len(d.lines) == 0 {
		return nil, nil
	}
	return d.lines, nil
}

func (d *Mapped) applyLine(r *lineRule) (line pipeline.Line, err error) {
	product, err := d.slot("product", r.product, idDigits)
	if err != nil {
		return line, err
	}
	if len(product.text) > 0 {
		line.Product = xxhash.Sum64(product.text)
	}
	category, err := d.slot("category", r.category, idDigits)
	if err != nil {
		return line, err
	}
	line.Category, line.Quantity = category.text, oneUnit
	quantity, err := d.slot("quantity", r.quantity, quantityDigits)
	if err != nil {
		return line, err
	}
	if len(quantity.text) > 0 {
		if line.Quantity, err = d.quantity(quantity.text); err != nil {
			return line, err
		}
	}
	line.Amount, line.HasAmount, err = d.lineMoney(r, line.Quantity)
	return line, err
}

// lineMoney is a line's amount, else its price times its quantity.
func (d *Mapped) lineMoney(r *lineRule, quantity int64) (v int64, named bool, err error) {
	amount, err := d.scalar("amount", r.amount)
	switch {
	case err != nil:
		return 0, false, err
	case !amount.absent():
		v, err = d.money("amount", amount, r.minorAmount)
		return v, true, err
	}
	price, err := d.slot("price", r.price, priceDigits)
	if err != nil || len(price.text) == 0 {
		return 0, false, err
	}
	if r.minorPrice {
		v, err = d.minorLineAmount(price.text, quantity)
	} else {
		v, err = d.lineAmount(price.text, quantity)
	}
	return v, true, err
}

// let returns the value of a name, which is evaluated once for a record.
func (d *Mapped) let(i int) (value, error) {
	l := &d.lets[i]
	if !l.known {
		v, err := d.mapping.lets[i].eval(d)
		*l = let{known: true, value: v, err: err}
	}
	return l.value, l.err
}

// header returns the last header of a name.
func (d *Mapped) header(name []byte) (v value, err error) {
	for i := range d.record.Headers {
		if h := &d.record.Headers[i]; bytes.Equal([]byte(h.Key), name) {
			v = value{kind: tokenString, text: h.Value}
		}
	}
	return v, d.spend(len(d.record.Headers))
}
