package simulator

const maxLines = 6

// order is the content of an order. It is drawn again whenever an event needs it, so pending refunds cost no memory.
type order struct {
	lines [maxLines]orderLine
	count int

	// Cents. revenue is the sum of the lines, total adds shipping and tax.
	revenue, shipping, tax, total int64
}

type orderLine struct {
	product  uint16
	quantity int64
}

// drawOrder returns the content of an order before or after its update, and the stream with which to go on.
func (s *Simulator) drawOrder(it item) (order, stream) {
	random := newStream(s.cfg.Seed, useOrder, it.customer, it.order)
	month := s.season.monthAt(it.orderAt)
	var o order
	for more := true; more && o.count < maxLines; more = random.chance(s.cfg.Orders.MoreLines) {
		category := s.drawCategory(it.customer, month, &random)
		o.add(pick(category, &random), quantity(&random))
	}
	if it.updated {
		o.update()
	}
	s.sum(&o)
	return o, random
}

func quantity(random *stream) int64 {
	if u := random.float(); u >= 0.85 {
		return 2 + int64((u-0.85)*13)
	}
	return 1
}

// add adds a line, or raises the quantity of the one with that product.
func (o *order) add(product uint16, quantity int64) {
	for i := range o.count {
		if o.lines[i].product == product {
			o.lines[i].quantity += quantity
			return
		}
	}
	o.lines[o.count] = orderLine{product: product, quantity: quantity}
	o.count++
}

// update is what customers change: the last of several lines goes, a single line is wanted once more.
func (o *order) update() {
	if o.count > 1 {
		o.count--
		return
	}
	o.lines[0].quantity++
}

func (s *Simulator) sum(o *order) {
	o.revenue = 0
	for _, l := range o.lines[:o.count] {
		o.revenue += s.shop.products[l.product].price * l.quantity
	}
	o.shipping = s.cfg.Orders.Shipping
	if o.revenue >= s.cfg.Orders.FreeFrom {
		o.shipping = 0
	}
	o.tax = (o.revenue*s.cfg.Orders.TaxPercent + 50) / 100
	o.total = o.revenue + o.shipping + o.tax
}
