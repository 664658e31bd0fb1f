package progress

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// status is how far work is.
type status struct {
	unit        Unit
	done, total int64 // total 0: unknown
	elapsed     time.Duration
	side        Unit // empty: no second figure
	counted     int64
}

// rate is what was done per second, on average.
func (s status) rate() float64 { return s.perSecond(s.done) }

func (s status) perSecond(n int64) float64 {
	if s.elapsed <= 0 {
		return 0
	}
	return float64(n) / s.elapsed.Seconds()
}

// left is the time that the rest takes at that rate; ok is false where it is not known.
func (s status) left() (d time.Duration, ok bool) {
	if s.done <= 0 || s.total == 0 {
		return 0, false
	}
	rest := max(s.total-s.done, 0)
	return time.Duration(float64(s.elapsed) / float64(s.done) * float64(rest)), true
}

func (s status) percent() int64 { return int64(100 * float64(min(s.done, s.total)) / float64(s.total)) }

// line is the text beside a bar.
func (s status) line() string {
	var b strings.Builder
	b.WriteString(s.amount(float64(s.done)))
	if s.total > 0 {
		b.WriteString(" of " + s.amount(float64(s.total)))
	}
	if s.unit != Bytes {
		b.WriteString(" " + string(s.unit))
	}
	if s.total > 0 {
		fmt.Fprintf(&b, ", %d %%", s.percent())
	}
	fmt.Fprintf(&b, ", %s/s", s.amount(s.rate()))
	if s.side != "" {
		fmt.Fprintf(&b, ", %s %s/s", grouped(int64(s.perSecond(s.counted))), s.side)
	}
	if left, ok := s.left(); ok && s.done < s.total {
		fmt.Fprintf(&b, ", %s left", rounded(left))
	} else {
		fmt.Fprintf(&b, ", %s", rounded(s.elapsed))
	}
	return b.String()
}

// attributes are those of a log line.
func (s status) attributes() []any {
	list := []any{"unit", string(s.unit), "done", s.done}
	if s.total > 0 {
		list = append(list, "total", s.total, "percent", s.percent())
	}
	list = append(list, "per_second", int64(s.rate()), "elapsed", rounded(s.elapsed))
	if s.side != "" {
		list = append(list, string(s.side), s.counted, string(s.side)+"_per_second", int64(s.perSecond(s.counted)))
	}
	if left, ok := s.left(); ok {
		list = append(list, "left", rounded(left))
	}
	return list
}

// amount writes a number, of bytes with its unit.
func (s status) amount(n float64) string {
	if s.unit != Bytes {
		return grouped(int64(n))
	}
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for n >= 1024 && i < len(units)-1 {
		n /= 1024
		i++
	}
	if i == 0 {
		return fmt.Sprintf("%.0f %s", n, units[i])
	}
	return fmt.Sprintf("%.1f %s", n, units[i])
}

// grouped writes 1234567 as 1,234,567.
func grouped(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

func rounded(d time.Duration) string {
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
