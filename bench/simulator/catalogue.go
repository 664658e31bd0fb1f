package simulator

const (
	maxCategories       = 64
	productsPerCategory = 40
	tasteParts          = 1<<16 - 1 // tastes are kept as whole parts of this
)

// catalogue holds what the shop sells. Product p belongs to category p / productsPerCategory.
type catalogue struct {
	categories []Category
	popularity []float64    // shares, sum 1
	tilt       [12][]uint32 // by month and category: demand, in thousandths of that without a peak
	products   []product
}

// product is one article; fragments are parts of JSON prepared once.
type product struct {
	price int64  // cents
	line  string // "product_id":…,"category":…,"price":…
	path  string // of its page
}

func newCatalogue(categories []Category) *catalogue {
	c := &catalogue{categories: append([]Category(nil), categories...)}
	total := 0.0
	for _, category := range categories {
		total += category.Popularity
	}
	for i, category := range categories {
		c.popularity = append(c.popularity, category.Popularity/total)
		for month := range c.tilt {
			c.tilt[month] = append(c.tilt[month], tilt(category, month))
		}
		c.addProducts(i)
	}
	return c
}

// tilt returns the demand for a category in a month (0 to 11): its peak factor in the peak month, half way in the
// months beside it.
func tilt(c Category, month int) uint32 {
	factor := 1.0
	if c.Peak != 0 {
		switch distance := (month - int(c.Peak) + 1 + 12) % 12; distance {
		case 0:
			factor = c.PeakFactor
		case 1, 11:
			factor = (1 + c.PeakFactor) / 2
		}
	}
	return uint32(float64(factor*1000) + 0.5)
}

func (c *catalogue) addProducts(category int) {
	spec := c.categories[category]
	for i := range productsPerCategory {
		number := category*productsPerCategory + i
		id := "p" + string(appendPadded(nil, uint64(number), 4))
		price := price(spec, number)
		line := `"product_id":"` + id + `","category":"` + spec.Name + `","price":` + string(appendCents(nil, price))
		c.products = append(c.products, product{price: price, line: line, path: "/p/" + id})
	}
}

// price spreads the products of a category over its price range, cheap ones more often, and rounds up to x.90 or x.99
// where the range allows.
func price(c Category, number int) int64 {
	u := mix(uint64(number)) >> 44 // 20 bits
	spread := uint64(c.PriceMax - c.PriceMin)
	cents := c.PriceMin + int64(spread*(u*u>>20)>>20)
	pretty := cents - cents%100 + 90
	if number%3 == 0 {
		pretty += 9
	}
	if pretty < c.PriceMin || pretty > c.PriceMax {
		return cents
	}
	return pretty
}

// pick draws a product from a category, the first ones more often.
func pick(category int, random *stream) uint16 {
	u := random.float()
	return uint16(category*productsPerCategory + int(u*u*productsPerCategory))
}

// CategoryShare is the share of a category in demand.
type CategoryShare struct {
	Name  string
	Share float64 // 0 to 1; all together 1
}

// Popularity returns the expected tastes of a customer, without peaks, in the order of Config.Categories: what a
// popularity artefact should hold.
func (s *Simulator) Popularity() []CategoryShare {
	shares := make([]CategoryShare, len(s.shop.categories))
	for i, c := range s.shop.categories {
		shares[i] = CategoryShare{Name: c.Name, Share: s.shop.popularity[i]}
	}
	return shares
}
