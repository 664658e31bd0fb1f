package oracle

import (
	"fmt"
	"math/big"

	"zyklus/pipeline"
)

type order struct {
	id              string
	at, content     int64
	currency        string   // "" is the reporting currency
	rate            *big.Rat // reporting minor units of a minor unit of the currency
	value, refunded int64    // minor units of the currency
	other           int64    // refunded in other currencies, reporting minor units
	// What it is worth and what came back, in reporting minor units, after the last event.
	worthNow, backNow int64
	status            string // completed, refunded, cancelled
	lines             []line
	refunds           map[uint64]bool
}

type line struct {
	product                    uint64
	category                   string
	quantity, returned, amount int64
}

func (r *order) fill(e *pipeline.Event) {
	r.content, r.value, r.lines = e.At, e.Amount, nil
	for _, l := range e.Lines {
		r.lines = append(r.lines, line{l.Product, string(l.Category), l.Quantity, 0, l.Amount})
	}
}

func (o *Oracle) change(r *order, e *pipeline.Event) {
	defer r.price()
	rate := o.rate(e)
	if currencyOf(e) == r.currency {
		rate = r.rate
	}
	switch e.Kind {
	case pipeline.KindOrderUpdated:
		switch {
		case e.At < r.content:
			return
		case rate == nil:
			o.letters = append(o.letters, string(e.Raw))
			return
		case currencyOf(e) != r.currency:
			back := r.back()
			r.currency, r.rate, r.refunded, r.other = currencyOf(e), rate, 0, back
			if r.currency == "" {
				r.refunded, r.other = back, 0
			}
		}
		r.fill(e)
		r.limit()
	case pipeline.KindOrderCancelled:
		r.status = "cancelled"
	case pipeline.KindOrderRefunded:
		named := len(e.Lines) == 0 && e.HasAmount
		for _, l := range e.Lines {
			named = named || l.HasAmount
		}
		switch {
		case r.refunds[e.ID]:
		case named && rate == nil:
			o.letters = append(o.letters, string(e.Raw))
		default:
			r.refunds[e.ID] = true
			r.refund(e, rate)
			r.limit()
		}
	}
}

func (r *order) limit() {
	r.refunded = min(r.refunded, r.value)
	r.other = min(r.other, r.worth()-r.share())
}

func (r *order) worth() int64 {
	if r.currency == "" {
		return r.value
	}
	return Times(r.value, r.rate)
}

// share is the refunds in the order's own currency.
func (r *order) share() int64 {
	if r.value == 0 {
		return 0
	}
	return Times(r.worth(), big.NewRat(r.refunded, r.value))
}

func (r *order) back() int64 {
	if r.currency == "" {
		return r.refunded
	}
	return min(r.worth(), r.share()+r.other)
}

// price computes what the order counts for once an event: asked for at every candidate, fractions would take all the time.
func (r *order) price() { r.worthNow, r.backNow = r.worth(), r.back() }

func (r *order) refund(e *pipeline.Event, rate *big.Rat) {
	// give takes minor units of the event's currency.
	give := func(amount int64) {
		switch {
		case amount == 0:
		case currencyOf(e) == r.currency:
			r.refunded = min(r.value, r.refunded+amount)
		case r.currency == "":
			r.refunded = min(r.value, r.refunded+Times(amount, rate))
		default:
			r.other += Times(amount, rate)
		}
	}
	whole := false
	switch {
	case len(e.Lines) > 0:
		named := int64(0) // converted together, once
		for _, l := range e.Lines {
			if amount := r.giveBack(l); l.HasAmount {
				named += amount
			} else {
				r.refunded = min(r.value, r.refunded+amount)
			}
		}
		give(named)
		whole = len(r.lines) > 0
		for _, l := range r.lines {
			whole = whole && l.returned >= l.quantity
		}
	case e.HasAmount:
		give(e.Amount)
	default:
		whole = true
		r.refunded = r.value
	}
	emptied := r.value > 0 && r.refunded == r.value || r.other > 0 && r.worth() > 0 && r.back() == r.worth()
	if r.status == "completed" && (whole || emptied) {
		r.status, r.refunded = "refunded", r.value
	}
}

// giveBack returns what one returned line is worth.
func (r *order) giveBack(back pipeline.Line) (amount int64) {
	left := back.Quantity
	for i := range r.lines {
		l := &r.lines[i]
		n := min(left, l.quantity-l.returned)
		if l.product != back.Product || n <= 0 {
			continue
		}
		if !back.HasAmount {
			amount += part(l.amount, l.returned+n, l.quantity) - part(l.amount, l.returned, l.quantity)
		}
		l.returned += n
		left -= n
	}
	taken := back.Quantity - left
	if len(r.lines) == 0 {
		taken = back.Quantity
	}
	if back.HasAmount && back.Quantity > 0 {
		amount += part(back.Amount, taken, back.Quantity)
	}
	return amount
}

// part returns amount * n / of, rounded down.
func part(amount, n, of int64) int64 {
	product := new(big.Int).Mul(big.NewInt(amount), big.NewInt(n))
	return product.Div(product, big.NewInt(of)).Int64()
}

// original is what the columns of the order's own currency hold.
func (r *order) original() string {
	net := int64(0)
	switch {
	case r.currency == "":
		return " - -"
	case r.status == "completed" && r.other == 0:
		net = r.value - r.refunded
	case r.status == "completed":
		net = max(0, r.value-r.refunded-Times(r.value, big.NewRat(r.other, r.worth())))
	}
	return fmt.Sprint(r.currency, " ", r.value, " ", net)
}
