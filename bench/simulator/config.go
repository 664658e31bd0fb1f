package simulator

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Config says what to simulate. Shares are fractions from 0 to 1. Start from DefaultConfig.
type Config struct {
	Seed      uint64    // equal configurations with equal seeds give equal bytes
	Customers int       // persons and anonymous visitors, 1 to 9,999,999
	Start     time.Time // the earliest possible event time
	End       time.Time // events happen before it (they may arrive later); zero: the simulation never ends
	Currency  string    // ISO 4217 code with two decimals; amounts are not converted

	Arrivals   Arrivals
	Orders     Orders
	Browsing   Browsing
	Season     Season
	Shares     Shares
	Categories []Category // 1 to 64
	// TasteConcentration is the sum of the Dirichlet parameters of the tastes: small (1) gives customers who each
	// buy in one or two categories, large (100) customers who all follow the popularity.
	TasteConcentration float64

	// MaxDelay bounds how much later than it happened an event, or its duplicate, arrives. Keep it below the
	// allowed lateness of the pipeline under test. At least 2 s.
	MaxDelay time.Duration
	// TooLateMin and TooLateMax bound the delay of the events of Shares.TooLate. They belong above the allowed
	// lateness.
	TooLateMin, TooLateMax time.Duration
}

// Arrivals says when customers come for the first time.
type Arrivals struct {
	AtStart float64       // share of customers who come in the first week
	Span    time.Duration // the others come within Start + Span; 0: until End, or for one year if there is no End
	Growth  float64       // rate of arrivals at the end of the span over that at its begin, above 0; 1: constant
}

// Orders says how buyers buy. The unit of time is the week.
type Orders struct {
	R, Alpha float64 // purchase rate per week ~ Gamma(shape R, rate Alpha)
	A, B     float64 // chance to leave after an order ~ Beta(A, B)
	// FirstWithin is the mean time from the first visit to the first order of those who do not buy at once.
	FirstWithin time.Duration
	AtOnce      float64 // share of buyers who place the first order within an hour of coming
	MoreLines   float64 // chance of one more line, after each line; at most 6 lines
	Shipping    int64   // cents for each order; none from FreeFrom on
	FreeFrom    int64   // cents of merchandise
	TaxPercent  int64   // of the merchandise, rounded to cents
}

// Browsing says how customers look around.
type Browsing struct {
	BeforeOrder float64       // chance of one more product view before an order, after each view; at most 6
	PerOrder    float64       // sessions without an order, for each order of a buyer
	Cart        float64       // chance that a line of an order was added to the cart by an event of its own
	Checkout    float64       // chance that an order has a Checkout Started
	Afterwards  time.Duration // mean time for which a customer who left goes on browsing
	Prospects   time.Duration // mean time between the first and the last session of a prospect
	Anonymous   time.Duration // the same of an anonymous visitor
	PerWeek     float64       // sessions per week of prospects; anonymous visitors have four times as many
}

// Season says when events happen; each part is scaled to mean one. Hours and weekdays are those of UTC.
type Season struct {
	Weekday   [7]float64  // relative rate from Sunday to Saturday
	Hour      [24]float64 // relative rate of the hours of the day
	Christmas float64     // relative rate of mid-December over the rest of the year; 1: no season
	Summer    float64     // relative rate of the end of July over the rest of the year; 1: no season
}

// Shares says how many customers and events are special.
type Shares struct {
	Prospects float64 // of customers: identified, never buy
	Anonymous float64 // of customers: never identified, never buy

	Cancelled    float64 // of orders
	Updated      float64 // of orders that are not cancelled
	Refunded     float64 // of orders that are not cancelled
	RefundWhole  float64 // of refunds: name neither lines nor an amount
	RefundAmount float64 // of refunds: name an amount; the remaining refunds name lines

	Duplicated float64 // of events: delivered a second time, byte for byte
	Late       float64 // of events: arrive up to MaxDelay later than they happened, the others within half a second
	TooLate    float64 // of events: arrive TooLateMin to TooLateMax later than they happened
}

// Category is one shelf of the shop.
type Category struct {
	Name               string
	Popularity         float64    // relative, above 0
	PriceMin, PriceMax int64      // cents; products lie in between
	Peak               time.Month // the month in which it is wanted most; 0: none
	PeakFactor         float64    // how much more it is wanted then, 0.1 to 10; ignored without Peak
}

// DefaultConfig returns a lively shop in Europe: 20,000 customers over 18 months from 2024-01-01, about 0.57 million
// events.
func DefaultConfig() Config {
	return Config{
		Seed: 1, Customers: 20_000, Currency: "EUR",
		Start: time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC),
		End:   time.Date(2025, 7, 1, 0, 0, 0, 0, time.UTC),
		Arrivals: Arrivals{
			AtStart: 0.25, Growth: 1.5,
		},
		Orders: Orders{
			R: 0.9, Alpha: 3, A: 0.5, B: 4, FirstWithin: 14 * 24 * time.Hour, AtOnce: 0.5,
			MoreLines: 0.4, Shipping: 490, FreeFrom: 5000, TaxPercent: 19,
		},
		Browsing: Browsing{
			BeforeOrder: 0.45, PerOrder: 0.25, Cart: 0.65, Checkout: 0.65, Afterwards: 21 * 24 * time.Hour,
			Prospects: 84 * 24 * time.Hour, Anonymous: 7 * 24 * time.Hour, PerWeek: 0.25,
		},
		Season: Season{
			Weekday: [7]float64{1.25, 1.05, 0.95, 0.95, 0.95, 0.9, 0.95},
			Hour: [24]float64{
				0.3, 0.2, 0.1, 0.1, 0.1, 0.2, 0.5, 0.8, 1, 1.1, 1.2, 1.2,
				1.2, 1.2, 1.2, 1.2, 1.3, 1.4, 1.6, 2, 2.2, 2, 1.3, 0.7,
			},
			Christmas: 1.9, Summer: 0.85,
		},
		Shares: Shares{
			Prospects: 0.15, Anonymous: 0.15, Cancelled: 0.02, Updated: 0.03,
			Refunded: 0.07, RefundWhole: 0.35, RefundAmount: 0.25,
			Duplicated: 0.01, Late: 0.05,
		},
		Categories: defaultCategories(), TasteConcentration: 4,
		MaxDelay: 8 * time.Minute, TooLateMin: 15 * time.Minute, TooLateMax: 6 * time.Hour,
	}
}

func defaultCategories() []Category {
	return []Category{
		{Name: "Shoes", Popularity: 14, PriceMin: 2990, PriceMax: 15900},
		{Name: "Women", Popularity: 13, PriceMin: 1490, PriceMax: 12900},
		{Name: "Men", Popularity: 10, PriceMin: 1490, PriceMax: 12900},
		{Name: "Kids", Popularity: 8, PriceMin: 790, PriceMax: 5990},
		{Name: "Sports", Popularity: 8, PriceMin: 990, PriceMax: 14900, Peak: time.May, PeakFactor: 1.8},
		{Name: "Home & Living", Popularity: 9, PriceMin: 990, PriceMax: 19900},
		{Name: "Kitchen", Popularity: 7, PriceMin: 690, PriceMax: 14900, Peak: time.November, PeakFactor: 1.4},
		{Name: "Beauty", Popularity: 8, PriceMin: 390, PriceMax: 7900},
		{Name: "Electronics", Popularity: 7, PriceMin: 1990, PriceMax: 49900, Peak: time.November, PeakFactor: 2},
		{Name: "Books", Popularity: 5, PriceMin: 690, PriceMax: 3990},
		{Name: "Toys", Popularity: 4, PriceMin: 890, PriceMax: 7990, Peak: time.December, PeakFactor: 4},
		{Name: "Garden", Popularity: 3, PriceMin: 490, PriceMax: 19900, Peak: time.April, PeakFactor: 4},
		{Name: "Pets", Popularity: 2, PriceMin: 390, PriceMax: 5990},
		{Name: "Jewellery", Popularity: 2, PriceMin: 1990, PriceMax: 39900, Peak: time.December, PeakFactor: 2.5},
	}
}

// Validate reports everything that is wrong with the configuration, in one error.
func (c Config) Validate() error {
	p := &problems{}
	p.check(c.Customers >= 1 && c.Customers <= 9_999_999, "Customers %d is not in 1..9999999", c.Customers)
	p.check(within(c.Start), "Start %v is not in the years 1971 to 9000", c.Start)
	p.check(c.End.IsZero() || within(c.End) && c.End.After(c.Start), "End %v is not after Start %v", c.End, c.Start)
	p.check(validCurrency(c.Currency), "Currency %q is not three capital letters", c.Currency)
	p.check(c.TasteConcentration > 0 && c.TasteConcentration <= 1e6, "TasteConcentration %v is not in (0, 1e6]",
		c.TasteConcentration)
	p.check(c.MaxDelay >= 2*time.Second, "MaxDelay %v is less than 2s", c.MaxDelay)
	p.check(c.TooLateMin > 0 && c.TooLateMax > c.TooLateMin, "TooLateMin %v and TooLateMax %v are not ascending",
		c.TooLateMin, c.TooLateMax)
	p.arrivals(c.Arrivals)
	p.orders(c.Orders)
	p.browsing(c.Browsing)
	p.season(c.Season)
	p.shares(c.Shares)
	p.categories(c.Categories)
	return errors.Join(p.list...)
}

// within says whether all arithmetic with the instant stays in range.
func within(t time.Time) bool { return t.Year() >= 1971 && t.Year() <= 9000 }

func validCurrency(code string) bool {
	return len(code) == 3 && strings.IndexFunc(code, func(r rune) bool { return r < 'A' || r > 'Z' }) < 0
}

type problems struct{ list []error }

func (p *problems) check(ok bool, format string, args ...any) {
	if !ok {
		p.list = append(p.list, fmt.Errorf(format, args...))
	}
}

func (p *problems) share(name string, v float64) {
	p.check(v >= 0 && v <= 1, "%s %v is not in [0, 1]", name, v)
}

func (p *problems) positive(name string, v float64) {
	p.check(v > 0 && v <= 1e6, "%s %v is not in (0, 1e6]", name, v)
}

func (p *problems) arrivals(a Arrivals) {
	p.share("Arrivals.AtStart", a.AtStart)
	p.positive("Arrivals.Growth", a.Growth)
	p.check(a.Span >= 0, "Arrivals.Span %v is negative", a.Span)
}

func (p *problems) orders(o Orders) {
	p.positive("Orders.R", o.R)
	p.positive("Orders.Alpha", o.Alpha)
	p.positive("Orders.A", o.A)
	p.positive("Orders.B", o.B)
	p.share("Orders.AtOnce", o.AtOnce)
	p.share("Orders.MoreLines", o.MoreLines)
	p.check(o.FirstWithin > 0, "Orders.FirstWithin %v is not above 0", o.FirstWithin)
	p.check(o.Shipping >= 0 && o.FreeFrom >= 0, "Orders.Shipping %d or FreeFrom %d is negative", o.Shipping, o.FreeFrom)
	p.check(o.TaxPercent >= 0 && o.TaxPercent <= 100, "Orders.TaxPercent %d is not in 0..100", o.TaxPercent)
}

func (p *problems) browsing(b Browsing) {
	p.share("Browsing.BeforeOrder", b.BeforeOrder)
	p.share("Browsing.Cart", b.Cart)
	p.share("Browsing.Checkout", b.Checkout)
	p.check(b.PerOrder >= 0 && b.PerOrder <= 100, "Browsing.PerOrder %v is not in [0, 100]", b.PerOrder)
	p.positive("Browsing.PerWeek", b.PerWeek)
	p.check(b.Afterwards > 0 && b.Prospects > 0 && b.Anonymous > 0,
		"Browsing.Afterwards %v, Prospects %v or Anonymous %v is not above 0", b.Afterwards, b.Prospects, b.Anonymous)
}

func (p *problems) season(s Season) {
	for i, v := range s.Weekday {
		p.positive(fmt.Sprintf("Season.Weekday[%d]", i), v)
	}
	for i, v := range s.Hour {
		p.positive(fmt.Sprintf("Season.Hour[%d]", i), v)
	}
	p.check(s.Christmas >= 0.1 && s.Christmas <= 10, "Season.Christmas %v is not in [0.1, 10]", s.Christmas)
	p.check(s.Summer >= 0.1 && s.Summer <= 10, "Season.Summer %v is not in [0.1, 10]", s.Summer)
}

func (p *problems) shares(s Shares) {
	p.share("Shares.Prospects", s.Prospects)
	p.share("Shares.Anonymous", s.Anonymous)
	p.share("Shares.Prospects + Anonymous", s.Prospects+s.Anonymous)
	p.share("Shares.Cancelled", s.Cancelled)
	p.share("Shares.Updated", s.Updated)
	p.share("Shares.Refunded", s.Refunded)
	p.share("Shares.RefundWhole", s.RefundWhole)
	p.share("Shares.RefundAmount", s.RefundAmount)
	p.share("Shares.RefundWhole + RefundAmount", s.RefundWhole+s.RefundAmount)
	p.share("Shares.Duplicated", s.Duplicated)
	p.share("Shares.Late", s.Late)
	p.share("Shares.TooLate", s.TooLate)
	p.share("Shares.Late + TooLate", s.Late+s.TooLate)
}

func (p *problems) categories(list []Category) {
	p.check(len(list) >= 1 && len(list) <= maxCategories, "%d categories are not in 1..%d", len(list), maxCategories)
	seen := make(map[string]bool, len(list))
	for i, c := range list {
		plain := c.Name != "" && utf8.ValidString(c.Name) &&
			strings.IndexFunc(c.Name, func(r rune) bool { return r < ' ' || r == '"' || r == '\\' }) < 0
		p.check(plain, "Categories[%d].Name %q is empty or needs escaping", i, c.Name)
		p.check(!seen[c.Name], "Categories[%d].Name %q occurs twice", i, c.Name)
		seen[c.Name] = true
		p.positive(fmt.Sprintf("Categories[%d].Popularity", i), c.Popularity)
		p.check(c.PriceMin > 0 && c.PriceMax >= c.PriceMin && c.PriceMax <= 1e9,
			"Categories[%d] prices %d and %d are not ascending cents above 0", i, c.PriceMin, c.PriceMax)
		p.check(c.Peak >= 0 && c.Peak <= time.December, "Categories[%d].Peak %d is no month", i, c.Peak)
		p.check(c.Peak == 0 || c.PeakFactor >= 0.1 && c.PeakFactor <= 10,
			"Categories[%d].PeakFactor %v is not in [0.1, 10]", i, c.PeakFactor)
	}
}
