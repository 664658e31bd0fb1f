package dataset

import "strconv"

// cdnow is the CDNOW panel of Fader and Hardie: one row for each purchase, with a day and the number of CDs. Orders are
// at midnight UTC. An order's id counts the customer's purchases, so it does not depend on the order of the file but
// among purchases of one day.
func cdnow() Preset {
	return Preset{
		Name:     "cdnow",
		Describe: "CDNOW purchases 1997 to 1998: customer_id, date, quantity, value; one order per row",
		columns:  []string{"customer_id", "date", "quantity", "value"},
		load:     loadCDNOW,
		finish:   numberOrders,
		appendID: func(b []byte, p *purchase) []byte {
			b = append(b, "cdnow-"...)
			b = appendEscaped(b, p.customer)
			return strconv.AppendInt(append(b, '-'), int64(p.number), 10)
		},
	}
}

func loadCDNOW(r *Reader, row *row) error {
	customer, err := row.id(0)
	if err != nil {
		return err
	}
	at, err := row.time(1, "2006-01-02")
	if err != nil {
		return err
	}
	quantity, err := row.quantity(2)
	if err != nil {
		return err
	}
	value, err := row.amount(3)
	if err != nil {
		return err
	}
	p := r.add(purchase{at: at, customer: r.keep(customer)})
	r.addLine(p, orderLine{product: "cd", category: "CDs", quantity: quantity}, value)
	return nil
}

// numberOrders counts the orders of each customer, in their final order.
func numberOrders(r *Reader) {
	counts := make(map[string]int)
	for i := range r.purchases {
		p := &r.purchases[i]
		counts[p.customer]++
		p.number = counts[p.customer]
	}
}
