package simulator

import (
	"math"
	"time"
)

// Role is what a customer is.
type Role uint8

// The roles.
const (
	Buyer     Role = iota // identified, buys at least once if the simulation lasts
	Prospect              // identified, never buys
	Anonymous             // known by an anonymous id only, never buys
)

// String returns the role in lower case.
func (r Role) String() string { return [...]string{"buyer", "prospect", "anonymous"}[r] }

// customer is the state of one customer. Times are Unix ms, never if they do not come.
type customer struct {
	buying, browsing stream

	rate   float64 // orders per week while alive, before the season
	leave  float64 // chance to leave after an order
	browse float64 // sessions without an order per week

	joined int64 // first visit
	order  int64 // next order
	died   int64 // instant of the last order, if it is known to be the last
	until  int64 // last session without an order

	orders uint32 // number of the next order, from 1
	serial uint32 // events made up so far
	role   Role
}

// newCustomer returns the customer as he comes and stores his tastes, one for each category. It is a function of the
// configuration and the index alone.
func (s *Simulator) newCustomer(index int, tastes []uint16) customer {
	traits := newStream(s.cfg.Seed, useTraits, uint32(index), 0)
	c := customer{
		buying:   newStream(s.cfg.Seed, useBuying, uint32(index), 0),
		browsing: newStream(s.cfg.Seed, useBrowsing, uint32(index), 0),
		order:    never, died: never, until: never, orders: 1,
	}
	u := traits.float()
	switch shares := s.cfg.Shares; {
	case u < shares.Anonymous:
		c.role = Anonymous
	case u < shares.Anonymous+shares.Prospects:
		c.role = Prospect
	}
	c.joined = s.firstVisit(&traits)
	s.drawTastes(&traits, tastes)
	s.drawHabits(&c, &traits)
	return c
}

// firstVisit draws the instant at which a customer comes.
func (s *Simulator) firstVisit(random *stream) int64 {
	rough := s.start + random.between(0, weekMs)
	if !random.chance(s.cfg.Arrivals.AtStart) {
		g, u := s.cfg.Arrivals.Growth, random.float()
		share := u * (g + 1) / (1 + math.Sqrt(1+float64(float64(g*g-1)*u)))
		rough = s.start + int64(share*float64(s.span))
	}
	const perWeek = 14 // shifts him by half a day, into the hours at which people are awake
	return s.season.next(rough, perWeek, random)
}

// drawTastes draws from a Dirichlet distribution and stores the shares in whole parts.
func (s *Simulator) drawTastes(random *stream, tastes []uint16) {
	var weights [maxCategories]float64
	sum := 0.0
	for i, share := range s.shop.popularity {
		weights[i] = random.gamma(s.cfg.TasteConcentration * share)
		sum += weights[i]
	}
	if sum < math.SmallestNonzeroFloat64*tasteParts { // all underflowed
		copy(weights[:], s.shop.popularity)
		sum = 1
	}
	for i := range tastes {
		tastes[i] = uint16(float64(weights[i]/sum*tasteParts) + 0.5)
	}
}

func (s *Simulator) drawHabits(c *customer, random *stream) {
	browsing := s.cfg.Browsing
	switch c.role {
	case Anonymous:
		c.browse = 4 * browsing.PerWeek
		c.until = c.joined + lasting(browsing.Anonymous, random)
	case Prospect:
		c.browse = browsing.PerWeek
		c.until = c.joined + lasting(browsing.Prospects, random)
	default:
		c.rate = random.gamma(s.cfg.Orders.R) / s.cfg.Orders.Alpha
		c.leave = random.beta(s.cfg.Orders.A, s.cfg.Orders.B)
		c.browse = c.rate * browsing.PerOrder
		c.order = s.firstOrder(c)
	}
}

// lasting draws a duration in ms with the given mean.
func lasting(mean time.Duration, random *stream) int64 {
	return int64(random.exp() * float64(mean.Milliseconds()))
}

func (s *Simulator) firstOrder(c *customer) int64 {
	if c.buying.chance(s.cfg.Orders.AtOnce) {
		return c.joined + c.buying.between(sessionMs, 3*sessionMs)
	}
	perWeek := float64(weekMs) / float64(max(1, s.cfg.Orders.FirstWithin.Milliseconds()))
	return s.season.next(c.joined+sessionMs, perWeek, &c.buying)
}

// afterOrder lets the customer leave for good, or draws the instant of his next order. It is the whole MBG/NBD
// process, and uses no random numbers but those of buying.
func (s *Simulator) afterOrder(c *customer) {
	if c.buying.chance(c.leave) {
		c.died, c.order = c.order, never
		c.until = c.died + lasting(s.cfg.Browsing.Afterwards, &c.buying)
		return
	}
	c.order = s.season.next(c.order, c.rate, &c.buying)
	c.orders++
}

// drawCategory draws what a customer wants in a month (0 to 11): his tastes times the peaks.
func (s *Simulator) drawCategory(index uint32, month int, random *stream) int {
	tastes, tilt := s.tastesOf(int(index)), s.shop.tilt[month]
	sum := int64(0)
	for i, taste := range tastes {
		sum += int64(taste) * int64(tilt[i])
	}
	rest := int64(random.float() * float64(sum))
	for i, taste := range tastes {
		rest -= int64(taste) * int64(tilt[i])
		if rest < 0 {
			return i
		}
	}
	panic("BUG: a random number was not below one")
}

func (s *Simulator) tastesOf(index int) []uint16 {
	n := len(s.shop.categories)
	return s.tastes[index*n : (index+1)*n]
}
