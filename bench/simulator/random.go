package simulator

import (
	"math"
	"math/rand/v2"
)

// stream is one sequence of random numbers. It uses PCG and nothing of math/rand's distributions, and it does its own
// logarithm, because those may change between versions of Go and between processors. For the same reason each product
// that enters a sum is converted explicitly: without that a compiler may fuse the two and round once instead of twice.
type stream struct{ pcg rand.PCG }

// The uses of random numbers, each with streams of its own, so that one does not disturb another.
const (
	useTraits = iota + 1
	useBuying
	useBrowsing
	useOrder
	useContent
	useDelivery
	useMessage
	useAnonymous
)

// newStream returns the stream of a use, a customer and a number within both.
func newStream(seed uint64, use, customer, number uint32) stream {
	var s stream
	hi := mix(seed ^ mix(uint64(use)<<32|uint64(customer)))
	s.pcg.Seed(hi, mix(hi^uint64(number)))
	return s
}

// mix is the finaliser of SplitMix64: a bijection in which every bit depends on every bit.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// float returns a number in [0, 1).
func (s *stream) float() float64 { return float64(s.pcg.Uint64()>>11) * 0x1p-53 }

// chance returns true with probability p.
func (s *stream) chance(p float64) bool { return s.float() < p }

// below returns a number in [0, n); n is above 0 and below 2^31.
func (s *stream) below(n int64) int64 { return int64((s.pcg.Uint64() >> 33) * uint64(n) >> 31) }

// between returns a number in [from, to), or from if that is empty. Both are durations in milliseconds.
func (s *stream) between(from, to int64) int64 {
	if to <= from {
		return from
	}
	return from + int64(s.float()*float64(to-from))
}

// exp returns an exponentially distributed number with mean one.
func (s *stream) exp() float64 { return -ln(1 - s.float()) }

// normal returns a normally distributed number (Marsaglia's polar method).
func (s *stream) normal() float64 {
	for {
		u, v := s.float()*2-1, s.float()*2-1
		q := float64(u*u) + float64(v*v)
		if q > 0 && q < 1 {
			return u * math.Sqrt(-2*ln(q)/q)
		}
	}
}

// gamma returns a gamma distributed number with mean shape (Marsaglia and Tsang).
func (s *stream) gamma(shape float64) float64 {
	if shape < 1 {
		return s.gamma(shape+1) * exp(ln(1-s.float())/shape)
	}
	d := shape - 1.0/3
	c := 1 / math.Sqrt(9*d)
	for {
		x := s.normal()
		v := 1 + float64(c*x)
		if v <= 0 {
			continue
		}
		v = v * v * v
		bound := float64(x*x)/2 + float64(d*(1-v+ln(v)))
		if ln(1-s.float()) < bound {
			return d * v
		}
	}
}

// beta returns a beta distributed number.
func (s *stream) beta(a, b float64) float64 {
	x, y := s.gamma(a), s.gamma(b)
	if x+y == 0 { // both underflowed: the distribution is all but two points
		return 0
	}
	return x / (x + y)
}

// ln returns the natural logarithm of a finite x above 0, exact to some units in the last place.
func ln(x float64) float64 {
	frac, power := math.Frexp(x)
	if frac < math.Sqrt2/2 {
		frac *= 2
		power--
	}
	s := (frac - 1) / (frac + 1)
	z := s * s
	sum := 1.0 / 21
	for i := 19.0; i >= 1; i -= 2 {
		sum = float64(sum*z) + 1/i
	}
	return float64(float64(power)*math.Ln2) + float64(2*s*sum)
}

// exp returns e to the power of x, at most 700.
func exp(x float64) float64 {
	if x < -700 {
		return 0
	}
	power := math.Floor(x/math.Ln2 + 0.5)
	r := x - float64(power*math.Ln2)
	sum := 1.0
	for i := 14.0; i >= 1; i-- {
		sum = 1 + float64(sum*r)/i
	}
	return math.Ldexp(sum, int(power))
}
