package dataset

import (
	"strconv"
	"time"
)

// appendOrder appends an Order Completed. Its revenue is exact and says what the order is worth; prices are rounded.
func (r *Reader) appendOrder(b []byte, p *purchase) []byte {
	b = append(b, `{"type":"track","event":"Order Completed","userId":"`...)
	b = appendEscaped(b, p.customer)
	b = append(b, `","messageId":"`...)
	b = append(b, r.preset.Name...)
	b = r.preset.appendID(append(b, '/'), p)
	b = append(b, `","timestamp":"`...)
	b = time.UnixMilli(p.at).UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
	b = append(b, `","properties":{"order_id":"`...)
	b = r.preset.appendID(b, p)
	b = append(b, `","revenue":`...)
	b = appendDecimal(b, p.revenue)
	b = append(b, `,"currency":"`...)
	b = append(b, r.currency...)
	b = append(b, `","products":[`...)
	for at := p.first; at >= 0; at = r.lines[at].next {
		if at != p.first {
			b = append(b, ',')
		}
		b = appendLine(b, &r.lines[at])
	}
	return append(b, `]}}`...)
}

func appendLine(b []byte, l *orderLine) []byte {
	b = append(b, `{"product_id":"`...)
	b = appendEscaped(b, l.product)
	if l.category != "" {
		b = append(b, `","category":"`...)
		b = appendEscaped(b, l.category)
	}
	b = append(b, `","price":`...)
	b = appendDecimal(b, l.price)
	b = append(b, `,"quantity":`...)
	b = strconv.AppendInt(b, l.quantity, 10)
	return append(b, '}')
}

// appendEscaped appends UTF-8 text as the inside of a JSON string.
func appendEscaped(b []byte, text string) []byte {
	const hex = "0123456789abcdef"
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ':
			b = append(b, `\u00`...)
			b = append(b, hex[c>>4], hex[c&15])
		default:
			b = append(b, c)
		}
	}
	return b
}
