package dataset

// completeJourney is the receipts of The Complete Journey: one row for each line of a receipt. The lines of a basket
// are one order, at the time of the earliest; its revenue is the exact sum of their sales values.
func completeJourney() Preset {
	return Preset{
		Name: "complete-journey",
		Describe: "The Complete Journey grocery receipts 2017: household_id, basket_id, ts, product_id, " +
			"product_category, quantity, sales_value; one order per basket",
		columns: []string{
			"household_id", "basket_id", "ts", "product_id", "product_category", "quantity", "sales_value",
		},
		load:     loadJourney,
		appendID: func(b []byte, p *purchase) []byte { return appendEscaped(b, p.id) },
	}
}

func loadJourney(r *Reader, row *row) error {
	household, err := row.id(0)
	if err != nil {
		return err
	}
	basket, err := row.id(1)
	if err != nil {
		return err
	}
	at, err := row.time(2, "2006-01-02 15:04:05")
	if err != nil {
		return err
	}
	l, value, err := journeyLine(r, row)
	if err != nil {
		return err
	}
	index, known := r.baskets[string(basket)]
	if !known {
		id := string(basket)
		r.baskets[id] = len(r.purchases)
		r.addLine(r.add(purchase{at: at, customer: r.keep(household), id: id}), l, value)
		return nil
	}
	p := &r.purchases[index]
	if p.customer != string(household) {
		return refusedf("basket %.40q belongs to household %.40q, not %.40q", basket, p.customer, household)
	}
	if p.revenue+value > maxAmount {
		return refusedf("basket %.40q costs more than a thousand million", basket)
	}
	p.at = min(p.at, at)
	r.addLine(p, l, value)
	return nil
}

func journeyLine(r *Reader, row *row) (l orderLine, value int64, err error) {
	product, err := row.id(3)
	if err != nil {
		return l, 0, err
	}
	quantity, err := row.quantity(5)
	if err != nil {
		return l, 0, err
	}
	value, err = row.amount(6)
	if err != nil {
		return l, 0, err
	}
	return orderLine{product: r.keep(product), category: r.keep(row.text(4)), quantity: quantity}, value, nil
}
