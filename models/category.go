package models

import (
	"errors"
	"fmt"
	"math"
	"sort"
	"strings"
)

// landmarkMillis is 2020-01-01T00:00:00Z in Unix milliseconds: the instant to
// which all category weights are relative. It is part of the state format;
// changing it invalidates every stored weight.
const landmarkMillis = 1_577_836_800_000

// minHalfLifeDays keeps stored weights inside float64: at 30 days they double
// about 12 times a year, and float64 holds 1,023 doublings.
const minHalfLifeDays = 30

// maxDoublings caps the exponent of a weight, so that money times a weight times
// many orders stays finite whatever instant an event claims.
const maxDoublings = 900

const millisPerDay = 86_400_000

// NextCount is the number of categories that CategoryModel.Next gives.
const NextCount = 3

// Reason tells why a category is proposed.
type Reason string

// The reasons of a proposed category.
const (
	ReasonPersonal Reason = "personal" // the customer's own purchases weigh at least as much as popularity
	ReasonPopular  Reason = "popular"  // popularity weighs more
)

// CategoryShare is a category's share of the population's purchases, in [0, 1].
type CategoryShare struct {
	Name  string  `yaml:"name"`
	Share float64 `yaml:"share"`
}

// CategoryWeight is a customer's stored weight of one category: the sum of
// amounts (1 per order, or money, as the deployment chooses) each times
// CategoryModel.Gain at its instant. Weights <= 0 (more returned than bought)
// count as none.
type CategoryWeight struct {
	Name   string
	Weight float64
}

// NextCategory is a proposed category with its probability in (0, 1].
type NextCategory struct {
	Name        string
	Probability float64
	Reason      Reason
}

// CategoryModel proposes categories by time-decayed personal weights w shrunk to
// popularity: p = (w + Shrink*popularity) / (sum of w + Shrink).
type CategoryModel struct {
	// HalfLifeDays is the age at which a purchase counts half; default 180, at
	// least 30. A switch of artefact that changes it invalidates stored weights:
	// they must be computed anew from the order ledger.
	HalfLifeDays float64 `yaml:"half_life_days"`
	// Shrink is K, the weight of popularity in the unit of the weights (orders,
	// or money), >= 0. With weights in orders 0.3 to 1 was best for 24
	// categories and 30 to 100 for 289; see DefaultShrink. Ignored while
	// Popularity is empty.
	Shrink float64 `yaml:"shrink"`
	// Popularity holds the shares, sorted by name, names unique, sum 1.
	Popularity []CategoryShare `yaml:"popularity"`
}

// DefaultShrink is K for weights in orders where none was fitted: 1 up to 50
// categories, 50 above (back-tests on UCI Online Retail and Complete Journey).
func DefaultShrink(categories int) float64 {
	if categories <= 50 {
		return 1
	}
	return 50
}

// Gain is the factor by which an amount at the given instant (Unix ms) enters a
// stored weight: 2^((at - 2020-01-01)/half-life). This is forward decay (Cormode
// et al. 2009): relative weights never change, so nothing is rescaled as time
// passes and late events just add. Capped at 2^±900.
func (m *CategoryModel) Gain(at int64) float64 {
	return math.Exp2(m.doublings(at))
}

// Decayed is a stored weight as it counts at the given instant (Unix ms).
func (m *CategoryModel) Decayed(weight float64, at int64) float64 {
	return weight * math.Exp2(-m.doublings(at))
}

func (m *CategoryModel) doublings(at int64) float64 {
	days := float64(at-landmarkMillis) / millisPerDay
	return math.Max(-maxDoublings, math.Min(maxDoublings, days/m.HalfLifeDays))
}

// Next fills out with the most probable categories at the given instant (Unix
// ms), best first, ties by name, and returns how many there are: fewer than
// three only where fewer are known at all. Names in personal must be unique;
// order does not matter. It allocates nothing; names are shared with the inputs.
// Cost: k log n for k personal and n popular categories, plus one pass over n.
func (m *CategoryModel) Next(personal []CategoryWeight, at int64, out *[NextCount]NextCategory) int {
	scale, shrink := math.Exp2(-m.doublings(at)), m.Shrink
	if len(m.Popularity) == 0 {
		scale, shrink = 1, 0
	}
	total := shrink
	for i := range personal {
		total += math.Max(personal[i].Weight, 0) * scale
	}
	if total <= 0 {
		return 0
	}
	r := ranking{out: out}
	for i := range personal {
		w := math.Max(personal[i].Weight, 0) * scale
		r.offer(personal[i].Name, w, shrink*m.share(personal[i].Name), total)
	}
	for i := range m.Popularity {
		part := shrink * m.Popularity[i].Share
		if r.beats(m.Popularity[i].Name, part/total) && !contains(personal, m.Popularity[i].Name) {
			r.offer(m.Popularity[i].Name, 0, part, total)
		}
	}
	return r.n
}

// share is the popularity of a category, 0 where it is unknown.
func (m *CategoryModel) share(name string) float64 {
	i := sort.Search(len(m.Popularity), func(i int) bool { return m.Popularity[i].Name >= name })
	if i < len(m.Popularity) && m.Popularity[i].Name == name {
		return m.Popularity[i].Share
	}
	return 0
}

func contains(personal []CategoryWeight, name string) bool {
	for i := range personal {
		if personal[i].Name == name {
			return true
		}
	}
	return false
}

// ranking keeps the best categories offered so far in out[:n], best first.
type ranking struct {
	out *[NextCount]NextCategory
	n   int
}

// beats reports whether a category would enter the ranking.
func (r *ranking) beats(name string, p float64) bool {
	if p <= 0 {
		return false
	}
	return r.n < NextCount || ahead(name, p, &r.out[NextCount-1])
}

// ahead reports whether (name, p) ranks before c.
func ahead(name string, p float64, c *NextCategory) bool {
	if p != c.Probability {
		return p > c.Probability
	}
	return name < c.Name
}

func (r *ranking) offer(name string, personal, popular, total float64) {
	p := (personal + popular) / total
	if !r.beats(name, p) {
		return
	}
	reason := ReasonPopular
	if personal > 0 && personal >= popular {
		reason = ReasonPersonal
	}
	i := min(r.n, NextCount-1)
	for ; i > 0 && ahead(name, p, &r.out[i-1]); i-- {
		r.out[i] = r.out[i-1]
	}
	r.out[i] = NextCategory{Name: name, Probability: p, Reason: reason}
	r.n = min(r.n+1, NextCount)
}

// Validate reports all problems of the model.
func (m *CategoryModel) Validate() error {
	var errs []error
	if !(m.HalfLifeDays >= minHalfLifeDays) || math.IsInf(m.HalfLifeDays, 1) {
		errs = append(errs, fmt.Errorf("category.half_life_days: must be at least %d, is %v", minHalfLifeDays, m.HalfLifeDays))
	}
	if !(m.Shrink >= 0) || math.IsInf(m.Shrink, 1) {
		errs = append(errs, fmt.Errorf("category.shrink: must be a finite number, 0 or above, is %v", m.Shrink))
	}
	return errors.Join(append(errs, m.validatePopularity()...)...)
}

func (m *CategoryModel) validatePopularity() (errs []error) {
	sum := 0.0
	for i, c := range m.Popularity {
		if strings.TrimSpace(c.Name) == "" {
			errs = append(errs, fmt.Errorf("category.popularity[%d]: name is empty", i))
		}
		if i > 0 && c.Name <= m.Popularity[i-1].Name {
			errs = append(errs, fmt.Errorf("category.popularity[%d]: %q is repeated or not sorted by name", i, c.Name))
		}
		if !(c.Share >= 0 && c.Share <= 1) {
			errs = append(errs, fmt.Errorf("category.popularity[%d]: share of %q must be within 0 to 1, is %v", i, c.Name, c.Share))
		}
		sum += c.Share
	}
	if len(m.Popularity) > 0 && !(math.Abs(sum-1) <= 1e-3) {
		errs = append(errs, fmt.Errorf("category.popularity: shares must add up to 1, are %v", sum))
	}
	return errs
}
