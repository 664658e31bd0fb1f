package simulator

// join is the first visit: a page, who he is, and the plans for what follows.
func (s *Simulator) join(it item) {
	c := &s.customers[it.customer]
	s.emit(item{kind: eventPage, at: c.joined, customer: it.customer})
	if c.role != Anonymous {
		s.emit(item{kind: eventIdentify, at: c.joined + 30_000, customer: it.customer})
	}
	s.planOrder(it.customer, c.joined)
	s.planBrowsing(it.customer, c.joined)
}

// planOrder queues the session of the customer's next order, which begins at the earliest now.
func (s *Simulator) planOrder(index uint32, now int64) {
	c := &s.customers[index]
	if c.order == never {
		return
	}
	begin := max(now, c.order-sessionMs)
	s.wake(item{kind: wakeOrder, at: begin, orderAt: c.order, customer: index, order: c.orders}, begin)
}

func (s *Simulator) planBrowsing(index uint32, now int64) {
	c := &s.customers[index]
	begin := s.season.next(now, c.browse, &c.browsing)
	if begin == never {
		return
	}
	s.wake(item{kind: wakeBrowse, at: begin, customer: index}, begin)
}

// browseSession is a visit without an order: a page and some products.
func (s *Simulator) browseSession(it item) {
	c := &s.customers[it.customer]
	if it.at > c.until {
		return
	}
	at := it.at
	s.emit(item{kind: eventPage, at: at, customer: it.customer})
	for more := true; more; more = c.browsing.chance(0.5) {
		at += c.browsing.between(10_000, 120_000)
		s.emit(item{kind: eventView, at: at, customer: it.customer})
	}
	s.planBrowsing(it.customer, it.at)
}

// orderSession is a visit that ends in an order: views, cart, checkout, the order, and what becomes of it later.
// Times before the order lie in thirds of the session, so that their order is the natural one.
func (s *Simulator) orderSession(it item) {
	c := &s.customers[it.customer]
	o, random := s.drawOrder(it)
	begin, third := it.at, (it.orderAt-it.at)/3
	like := item{customer: it.customer, order: it.order, orderAt: it.orderAt}
	for views := 0; views < 6 && random.chance(s.cfg.Browsing.BeforeOrder); views++ {
		view := like
		view.kind, view.line = eventView, uint8(random.below(int64(o.count)))
		view.at = random.between(begin, begin+third)
		s.emit(view)
	}
	for line := range o.count {
		if random.chance(s.cfg.Browsing.Cart) {
			cart := like
			cart.kind, cart.line = eventCart, uint8(line)
			cart.at = random.between(begin+third, begin+2*third)
			s.emit(cart)
		}
	}
	if random.chance(s.cfg.Browsing.Checkout) {
		checkout := like
		checkout.kind, checkout.at = eventCheckout, random.between(begin+2*third, it.orderAt)
		s.emit(checkout)
	}
	like.kind, like.at = eventOrder, it.orderAt
	s.emit(like)
	s.aftermath(like, &random)
	s.afterOrder(c)
	s.planOrder(it.customer, begin)
}

// aftermath cancels, updates and refunds an order, if it comes to that.
func (s *Simulator) aftermath(o item, random *stream) {
	const minute = hourMs / 60
	shares := s.cfg.Shares
	if random.chance(shares.Cancelled) {
		o.kind, o.at = eventCancel, o.orderAt+random.between(10*minute, dayMs)
		s.emit(o)
		return
	}
	if random.chance(shares.Updated) {
		o.updated = true
		o.kind, o.at = eventUpdate, o.orderAt+random.between(5*minute, 2*hourMs)
		s.emit(o)
	}
	if !random.chance(shares.Refunded) {
		return
	}
	switch u := random.float(); {
	case u < shares.RefundWhole:
		o.kind = eventRefundWhole
	case u < shares.RefundWhole+shares.RefundAmount:
		o.kind = eventRefundAmount
	default:
		o.kind = eventRefundLines
	}
	o.at = o.orderAt + random.between(2*dayMs, 30*dayMs)
	s.emit(o)
}
