package simulator

import (
	"fmt"
	"time"
)

const sessionMs = 20 * 60 * 1000 // an order's session begins this long before the order

// Simulator plays the customers. It is not safe for concurrent use.
type Simulator struct {
	cfg       Config
	start     int64 // Unix ms
	end       int64 // Unix ms, endOfTime if the configuration has none
	span      int64 // of arrivals, ms
	season    *season
	shop      *catalogue
	customers []customer
	tastes    []uint16 // for each customer one for each category
	queue     queue
	reached   int64 // arrival of the last event, Unix ms
	encoder   encoder
}

// Event is one record of the stream.
type Event struct {
	Arrival time.Time // when it reaches the topic, UTC, whole ms; never decreases from event to event
	At      time.Time // when it happened, UTC, whole ms; equals "timestamp" in Value
	Key     []byte    // user id, else anonymous id
	Value   []byte    // Segment JSON
}

// New returns a simulator at the start of its stream. It costs about 4 µs for each customer. The error lists
// everything that is wrong with the configuration.
func New(cfg Config) (*Simulator, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("validate simulator configuration: %w", err)
	}
	s := &Simulator{
		cfg: cfg, start: cfg.Start.UnixMilli(), end: endOfTime,
		season: newSeason(cfg.Season), shop: newCatalogue(cfg.Categories),
		customers: make([]customer, cfg.Customers),
		tastes:    make([]uint16, cfg.Customers*len(cfg.Categories)),
		encoder:   encoder{currency: cfg.Currency},
	}
	if !cfg.End.IsZero() {
		s.end = cfg.End.UnixMilli()
	}
	s.span = s.arrivalSpan()
	s.reached = s.start
	for i := range s.customers {
		c := s.newCustomer(i, s.tastesOf(i))
		s.customers[i] = c
		s.wake(item{kind: wakeJoin, at: c.joined, customer: uint32(i)}, c.joined)
	}
	return s, nil
}

func (s *Simulator) arrivalSpan() int64 {
	switch {
	case s.cfg.Arrivals.Span > 0:
		return s.cfg.Arrivals.Span.Milliseconds()
	case !s.cfg.End.IsZero():
		return s.end - s.start
	}
	return 365 * dayMs
}

// NumCustomers returns the number of customers, those who have not come yet included.
func (s *Simulator) NumCustomers() int { return len(s.customers) }

// Next stores the next event in order of arrival and returns true, or returns false if there are none left, which
// without Config.End is when every customer has gone. Key and Value are overwritten by the following call.
func (s *Simulator) Next(e *Event) bool {
	for {
		arrival, it, ok := s.queue.pop()
		if !ok {
			return false
		}
		switch it.kind {
		case wakeJoin:
			s.join(it)
		case wakeOrder:
			s.orderSession(it)
		case wakeBrowse:
			s.browseSession(it)
		default:
			s.reached = arrival
			e.Arrival, e.At = time.UnixMilli(arrival).UTC(), time.UnixMilli(it.at).UTC()
			e.Key, e.Value = s.encode(it)
			return true
		}
	}
}

// wake queues the making up of further events, unless all of them would come after the end. No event made up then
// may happen before at.
func (s *Simulator) wake(it item, first int64) {
	if first < s.end {
		s.queue.push(it.at, it)
	}
}

// emit queues an event with its delay, perhaps twice.
func (s *Simulator) emit(it item) {
	c := &s.customers[it.customer]
	it.serial = c.serial
	c.serial++
	if it.at >= s.end {
		return
	}
	random := newStream(s.cfg.Seed, useDelivery, it.customer, it.serial)
	delay, bound := s.delay(&random)
	s.queue.push(it.at+delay, it)
	if random.chance(s.cfg.Shares.Duplicated) {
		s.queue.push(it.at+random.between(delay+1, bound), it)
	}
}

// delay draws how many ms after its event time an event arrives, and returns the bound that holds for a duplicate too.
func (s *Simulator) delay(random *stream) (delay, bound int64) {
	const usual = 500
	shares, longest := s.cfg.Shares, s.cfg.MaxDelay.Milliseconds()
	switch u := random.float(); {
	case u < shares.TooLate:
		bound = s.cfg.TooLateMax.Milliseconds()
		return random.between(s.cfg.TooLateMin.Milliseconds(), bound), bound
	case u < shares.TooLate+shares.Late:
		return random.between(usual, longest), longest
	}
	return random.between(20, usual), longest
}
