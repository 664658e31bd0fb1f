package simulator

import "time"

const (
	hourMs = int64(time.Hour / time.Millisecond)
	dayMs  = 24 * hourMs
	weekMs = 7 * dayMs

	fourYears = 4*365 + 1 // days after which the calendar repeats (until 2100)
	never     = int64(1) << 60
	endOfTime = int64(253_402_300_800_000) // 10000-01-01, where RFC 3339 ends
)

// season holds the relative rate of events at each instant, as a product of three factors with mean one.
type season struct {
	day  [fourYears]float64 // by days since 1970-01-01
	week [7]float64         // from Sunday
	hour [24]float64
	max  float64 // above every product

	month [fourYears]uint8 // 0 to 11, by days since 1970-01-01
}

func newSeason(cfg Season) *season {
	s := &season{week: cfg.Weekday, hour: cfg.Hour}
	date := time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range s.day {
		yearDay := date.AddDate(0, 0, i).YearDay()
		s.month[i] = uint8(date.AddDate(0, 0, i).Month() - 1)
		s.day[i] = peak(yearDay, 345, 25, cfg.Christmas) * peak(yearDay, 208, 40, cfg.Summer)
	}
	s.max = scale(s.day[:]) * scale(s.week[:]) * scale(s.hour[:])
	return s
}

// peak returns a factor that rises linearly from 1 at width days before the middle to its height, and falls again.
func peak(yearDay, middle, width int, height float64) float64 {
	distance := max(yearDay-middle, middle-yearDay)
	if distance >= width {
		return 1
	}
	return 1 + float64((height-1)*float64(width-distance))/float64(width)
}

// scale divides the factors by their mean and returns the largest.
func scale(factors []float64) float64 {
	sum, largest := 0.0, 0.0
	for _, f := range factors {
		sum += f
	}
	for i := range factors {
		factors[i] *= float64(len(factors)) / sum
		largest = max(largest, factors[i])
	}
	return largest
}

// at returns the relative rate at an instant in Unix milliseconds, which is not negative.
func (s *season) at(ms int64) float64 {
	day := ms / dayMs
	return s.day[day%fourYears] * s.week[(day+4)%7] * s.hour[(ms-day*dayMs)/hourMs]
}

// monthAt returns the month of an instant, from 0 to 11.
func (s *season) monthAt(ms int64) int { return int(s.month[ms/dayMs%fourYears]) }

// next returns the first event after an instant of a Poisson process with the given rate per week, which the season
// modulates (by thinning), or never.
func (s *season) next(after int64, perWeek float64, random *stream) int64 {
	rate := perWeek * s.max
	if rate <= 0 {
		return never
	}
	t := after
	for t < never {
		gap := random.exp() / rate
		if gap > 1e6 {
			return never
		}
		t += max(1, int64(gap*float64(weekMs)))
		if random.float()*s.max < s.at(t) {
			return t
		}
	}
	return never
}
