package simulator

import (
	"strconv"
	"time"
)

// encoder holds the buffers that Next hands out.
type encoder struct {
	currency string
	key      []byte
	value    []byte
	day      int64  // days since 1970-01-01 that date stands for
	date     []byte // "2006-01-02T" of day
}

// encode returns key and value of an event.
func (s *Simulator) encode(it item) (key, value []byte) {
	role := s.customers[it.customer].role
	s.encoder.key = s.appendCustomer(s.encoder.key[:0], it.customer, role)
	b := append(s.encoder.value[:0], opening(it.kind)...)
	b = s.appendEnvelope(b, it, role)
	switch it.kind {
	case eventIdentify:
		b = s.appendIdentify(b, it)
	case eventPage:
		b = s.appendPage(b, it)
	case eventView, eventCart:
		b = s.appendProduct(b, it)
	case eventCheckout:
		b = s.appendCheckout(b, it)
	case eventOrder, eventUpdate:
		b = s.appendOrder(b, it)
	default:
		b = s.appendRefund(b, it)
	}
	s.encoder.value = append(b, '}', '}')
	return s.encoder.key, s.encoder.value
}

// opening returns the first members, which depend on the kind alone.
func opening(k kind) string {
	switch k {
	case eventIdentify:
		return `{"type":"identify",`
	case eventPage:
		return `{"type":"page","name":"Product",`
	case eventView:
		return `{"type":"track","event":"Product Viewed",`
	case eventCart:
		return `{"type":"track","event":"Product Added",`
	case eventCheckout:
		return `{"type":"track","event":"Checkout Started",`
	case eventOrder:
		return `{"type":"track","event":"Order Completed",`
	case eventUpdate:
		return `{"type":"track","event":"Order Updated",`
	case eventCancel:
		return `{"type":"track","event":"Order Cancelled",`
	default:
		return `{"type":"track","event":"Order Refunded",`
	}
}

// appendEnvelope appends who, which and when, and opens the object of properties or traits.
func (s *Simulator) appendEnvelope(b []byte, it item, role Role) []byte {
	if role == Anonymous {
		b = append(b, `"anonymousId":"`...)
	} else {
		b = append(b, `"userId":"`...)
	}
	b = append(b, s.encoder.key...)
	b = append(b, `","messageId":"`...)
	b = appendUUID(b, newStream(s.cfg.Seed, useMessage, it.customer, it.serial))
	b = append(b, `","timestamp":"`...)
	b = s.encoder.appendTime(b, it.at)
	b = append(b, `","context":{"channel":"web"},`...)
	if it.kind == eventIdentify {
		return append(b, `"traits":{`...)
	}
	return append(b, `"properties":{`...)
}

func (s *Simulator) appendIdentify(b []byte, it item) []byte {
	countries := [...]string{"DE", "DE", "DE", "DE", "AT", "CH", "NL", "FR"}
	random := newStream(s.cfg.Seed, useContent, it.customer, it.serial)
	b = append(b, `"email":"`...)
	b = append(b, s.encoder.key...)
	b = append(b, `@example.com","country":"`...)
	b = append(b, countries[random.below(int64(len(countries)))]...)
	return append(b, '"')
}

func (s *Simulator) appendPage(b []byte, it item) []byte {
	product := s.wanted(it)
	b = append(b, `"path":"`...)
	b = append(b, product.path...)
	b = append(b, `","url":"https://shop.example`...)
	b = append(b, product.path...)
	return append(b, `","referrer":""`...)
}

// appendProduct appends what a view or a cart is about: a line of the order it leads to, else what the customer likes.
func (s *Simulator) appendProduct(b []byte, it item) []byte {
	if it.order == 0 {
		b = append(b, s.wanted(it).line...)
		return s.appendCurrency(b)
	}
	o, _ := s.drawOrder(it)
	line := o.lines[it.line]
	b = append(b, s.shop.products[line.product].line...)
	if it.kind == eventCart {
		b = append(b, `,"quantity":`...)
		b = strconv.AppendInt(b, line.quantity, 10)
	}
	return s.appendCurrency(b)
}

// wanted draws a product that the customer likes.
func (s *Simulator) wanted(it item) *product {
	random := newStream(s.cfg.Seed, useContent, it.customer, it.serial)
	category := s.drawCategory(it.customer, s.season.monthAt(it.at), &random)
	return &s.shop.products[pick(category, &random)]
}

// appendCheckout appends the order that the checkout leads to and its merchandise value.
func (s *Simulator) appendCheckout(b []byte, it item) []byte {
	o, _ := s.drawOrder(it)
	b = append(s.appendOrderID(b, it), `,"value":`...)
	return s.appendCurrency(appendCents(b, o.revenue))
}

// appendOrder appends all of an order. One order in eight leaves revenue to be computed from the other amounts.
func (s *Simulator) appendOrder(b []byte, it item) []byte {
	o, _ := s.drawOrder(it)
	b = s.appendOrderID(b, it)
	b = append(b, `,"total":`...)
	b = appendCents(b, o.total)
	if mix(uint64(it.customer)<<32|uint64(it.order))%8 != 0 {
		b = append(b, `,"revenue":`...)
		b = appendCents(b, o.revenue)
	}
	b = append(b, `,"shipping":`...)
	b = appendCents(b, o.shipping)
	b = append(b, `,"tax":`...)
	b = appendCents(b, o.tax)
	b = s.appendCurrency(b)
	return s.appendLines(b, o.lines[:o.count])
}

// appendRefund appends a refund of the whole order, of an amount or of lines, or a cancellation.
func (s *Simulator) appendRefund(b []byte, it item) []byte {
	b = s.appendOrderID(b, it)
	if it.kind == eventRefundWhole || it.kind == eventCancel {
		return b
	}
	o, _ := s.drawOrder(it)
	random := newStream(s.cfg.Seed, useContent, it.customer, it.serial)
	if it.kind == eventRefundAmount {
		percent := 10 + random.below(51)
		b = append(b, `,"total":`...)
		b = appendCents(b, max(1, o.revenue*percent/100))
		return s.appendCurrency(b)
	}
	line := o.lines[random.below(int64(o.count))]
	line.quantity = 1 + random.below(line.quantity)
	b = s.appendCurrency(b)
	return s.appendLines(b, []orderLine{line})
}

func (s *Simulator) appendLines(b []byte, lines []orderLine) []byte {
	b = append(b, `,"products":[`...)
	for i, line := range lines {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '{')
		b = append(b, s.shop.products[line.product].line...)
		b = append(b, `,"quantity":`...)
		b = strconv.AppendInt(b, line.quantity, 10)
		b = append(b, '}')
	}
	return append(b, ']')
}

func (s *Simulator) appendCurrency(b []byte) []byte {
	b = append(b, `,"currency":"`...)
	b = append(b, s.encoder.currency...)
	return append(b, '"')
}

// appendOrderID appends the order's id.
func (s *Simulator) appendOrderID(b []byte, it item) []byte {
	b = append(b, `"order_id":"o`...)
	b = appendPadded(b, uint64(it.customer), 7)
	b = append(b, '-')
	b = strconv.AppendUint(b, uint64(it.order), 10)
	return append(b, '"')
}

// appendCustomer appends the customer's id: c and seven digits, or a UUID for anonymous visitors.
func (s *Simulator) appendCustomer(b []byte, index uint32, role Role) []byte {
	if role == Anonymous {
		return appendUUID(b, newStream(s.cfg.Seed, useAnonymous, index, 0))
	}
	return appendPadded(append(b, 'c'), uint64(index), 7)
}

// Heartbeat appends an event that tells how far time has come to dst and returns it. It belongs to no customer: send
// one to each partition.
func Heartbeat(dst []byte, at time.Time) []byte {
	dst = append(dst, `{"type":"heartbeat","timestamp":"`...)
	dst = at.UTC().AppendFormat(dst, "2006-01-02T15:04:05.000Z")
	return append(dst, `"}`...)
}

// appendTime appends an instant in RFC 3339 with milliseconds.
func (e *encoder) appendTime(b []byte, ms int64) []byte {
	day := ms / dayMs
	if day != e.day || len(e.date) == 0 {
		e.day = day
		e.date = time.UnixMilli(ms).UTC().AppendFormat(e.date[:0], "2006-01-02T")
	}
	b = append(b, e.date...)
	rest := uint64(ms - day*dayMs)
	b = append(appendPadded(b, rest/3_600_000, 2), ':')
	b = append(appendPadded(b, rest/60_000%60, 2), ':')
	b = append(appendPadded(b, rest/1000%60, 2), '.')
	return append(appendPadded(b, rest%1000, 3), 'Z')
}

// appendCents appends an amount, which is not negative, with two decimals.
func appendCents(b []byte, cents int64) []byte {
	b = strconv.AppendInt(b, cents/100, 10)
	return appendPadded(append(b, '.'), uint64(cents%100), 2)
}

// appendPadded appends a number with at least the given digits, at most 20.
func appendPadded(b []byte, n uint64, digits int) []byte {
	var text [20]byte
	i := len(text)
	for ; n > 0 || digits > 0; digits-- {
		i--
		text[i] = byte('0' + n%10)
		n /= 10
	}
	return append(b, text[i:]...)
}

// appendUUID appends 128 random bits in the form of a UUID of version 4.
func appendUUID(b []byte, random stream) []byte {
	const hex = "0123456789abcdef"
	words := [2]uint64{random.pcg.Uint64(), random.pcg.Uint64()}
	words[0] = words[0]&^0xf000 | 0x4000
	words[1] = words[1]&^(3<<62) | 2<<62
	for i := range 32 {
		if i == 8 || i == 12 || i == 16 || i == 20 {
			b = append(b, '-')
		}
		b = append(b, hex[words[i/16]>>(60-4*(i%16))&15])
	}
	return b
}
