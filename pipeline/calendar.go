package pipeline

import (
	"sort"
	"time"
)

// DayMillis is a duration of 24 hours in milliseconds.
const DayMillis = int64(24 * time.Hour / time.Millisecond)

// Calendar cuts time into business days of one time zone. A day is named by its number: the days from 1970-01-01
// to the day's date. Days of 23 or 25 hours are counted like any other.
type Calendar struct {
	zone      string
	midnights []int64 // start of day firstDay+i, Unix ms; nil in UTC, where it is a multiplication
}

const (
	firstCalendarDay = 7305  // 1990-01-01
	lastCalendarDay  = 84370 // 2200-12-31
)

// NewCalendar returns the calendar of a time zone, which must be one with times from 1990 to 2200.
func NewCalendar(zone *time.Location) *Calendar {
	if zone == nil || zone == time.UTC || zone.String() == "UTC" {
		return &Calendar{zone: "UTC"}
	}
	c := &Calendar{zone: zone.String(), midnights: make([]int64, 0, lastCalendarDay-firstCalendarDay+1)}
	for d := firstCalendarDay; d <= lastCalendarDay; d++ {
		c.midnights = append(c.midnights, midnight(d, zone).UnixMilli())
	}
	return c
}

// midnight returns when a day begins: where its first hour is skipped, at the end of that hour.
func midnight(day int, zone *time.Location) time.Time {
	at := time.Date(1970, 1, 1+day, 0, 0, 0, 0, zone)
	if at.Hour() == 23 { // time.Date is in the time before the clocks went forward
		_, at = at.ZoneBounds()
	}
	return at
}

// Zone returns the name of the time zone.
func (c *Calendar) Zone() string { return c.zone }

// Day returns the business day that holds the instant at (Unix milliseconds).
func (c *Calendar) Day(at int64) int64 {
	day := floorDiv(at, DayMillis)
	if c.midnights == nil {
		return day
	}
	i := sort.Search(len(c.midnights), func(i int) bool { return c.midnights[i] > at })
	if i == 0 {
		return day // before 1990: no event is
	}
	return int64(firstCalendarDay + i - 1)
}

// Midnight returns the instant at which a business day begins, Unix milliseconds.
func (c *Calendar) Midnight(day int64) int64 {
	if i := day - firstCalendarDay; c.midnights != nil && i >= 0 && i < int64(len(c.midnights)) {
		return c.midnights[i]
	}
	return day * DayMillis
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
