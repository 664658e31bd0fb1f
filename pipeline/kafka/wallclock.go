package kafka

import (
	"sync"
	"time"
)

// steadyClock says how late it may be at most, for believing records that carry no time of the brokers': the wall clock,
// but where that is set back, what it would be had it gone on. Else every event of now would lie in the future and end as
// a dead letter. Clocks are advanced by the wall clock itself: there, too early does no harm, and too late does.
type steadyClock struct {
	now func() time.Time

	mu   sync.Mutex
	last time.Time // as told
	at   time.Time // when that was, with the monotonic clock's reading
}

// read may be called from several goroutines.
func (c *steadyClock) read() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	wall, at := c.now(), time.Now()
	if steady := c.last.Add(at.Sub(c.at)); !c.last.IsZero() && wall.Before(steady) {
		wall = steady
	}
	c.last, c.at = wall, at
	return wall
}
