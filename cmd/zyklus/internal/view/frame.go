package view

import (
	"fmt"
	"slices"
	"strconv"
	"time"
)

const (
	leastChanges = 3  // rows of changes that come before addresses and queries
	mostChanges  = 15 // more are not read
	barColumns   = 40 // of the longest bar
	indent       = 2
)

// screen is the size and manner of a terminal.
type screen struct {
	columns, rows int
	colour        bool
}

// frame draws a snapshot: at most rows lines, each at most columns wide. What does not fit is left out, the least
// important first: queries, addresses, changes.
func (c screen) frame(s Snapshot) []string {
	lines := c.head(s)
	lines = append(lines, c.phases(s)...)
	room := c.rows - len(lines)
	var notice []string
	if s.Notice != "" {
		notice = []string{"", c.line().to(indent).put(warn, "! "+s.Notice).String()}
		room -= len(notice)
	}
	changes := 2 + min(len(s.Changes), leastChanges)
	addresses := c.fits(room-changes, c.addresses(s))
	queries := c.queries(s, room-changes-len(addresses))
	lines = append(lines, c.changes(s, room-len(addresses)-len(queries))...)
	lines = append(lines, addresses...)
	lines = append(lines, queries...)
	lines = append(lines, notice...)
	return lines[:min(len(lines), max(c.rows, 0))]
}

// fits returns block if there is room for all of it.
func (c screen) fits(room int, block []string) []string {
	if len(block) > room {
		return nil
	}
	return block
}

func (c screen) line() *line { return &line{width: c.columns, colour: c.colour} }

// String returns the line, without spaces at its end.
func (l *line) String() string { return l.text.String() }

// head shows time and throughput.
func (c screen) head(s Snapshot) []string {
	title := c.line().to(indent).put(strong, "zyklus").to(0).put(modeStyle(s.Mode), "● "+modeText(s.Mode))
	title.right(c.columns-indent, faint, s.Now.Format(time.DateTime))

	clock := c.line().to(indent).put(faint, "Clock").to(12).put(strong, instant(s.Clock))
	if s.Mode != ModeLive {
		cells := min(max(c.columns-64, 10), barColumns)
		done, rest := rail(s.Progress, cells)
		clock.to(36).put(accent, done).put(faint, rest).put(normal, fmt.Sprintf(" %3.0f %%", 100*s.Progress))
		if s.ETA > 0 {
			clock.put(faint, "  "+left(s.ETA)+" left")
		}
	}
	flow := c.line().to(indent).put(faint, "Events").to(12).put(strong, grouped(s.Events))
	flow.to(25).put(normal, grouped(int64(s.EventsPerSecond+0.5))+"/s")
	flow.to(38).put(faint, "Rows").to(0).put(normal, grouped(s.Rows))
	flow.to(57).put(faint, "Freshness").to(0).put(freshStyle(s.Freshness), freshness(s.Freshness))
	return []string{title.String(), "", clock.String(), flow.String(), ""}
}

func modeText(mode string) string {
	switch mode {
	case ModeHistory:
		return "replaying history"
	case ModeFast:
		return "catching up with now"
	case ModeLive:
		return "live"
	default:
		return mode
	}
}

func modeStyle(mode string) style {
	if mode == ModeLive {
		return "32" // green, here only: all is as it should be
	}
	return accent
}

func instant(t time.Time) string {
	if t.IsZero() {
		return "not yet"
	}
	return t.Format("2006-01-02 15:04 MST")
}

func freshness(d time.Duration) string {
	if d < 0 {
		return "not yet"
	}
	return left(d)
}

func freshStyle(d time.Duration) style {
	if d > 10*time.Second {
		return warn
	}
	return normal
}

// phases shows how many customers are where.
func (c screen) phases(s Snapshot) []string {
	all := s.customers()
	title := c.line().to(indent).put(strong, "Kunden").put(faint, " · customers")
	title.right(c.numbers(), strong, grouped(all))
	lines := []string{title.String()}
	most := int64(1)
	for _, p := range s.Phases {
		most = max(most, p.Customers)
	}
	for _, p := range s.Phases {
		lines = append(lines, c.phase(p, most, all))
	}
	churn := c.line().to(indent).put(faint, "Churn").to(12).put(strong, grouped(s.ChurnedLastDay)).put(normal, " lost within a day")
	churn.to(38).put(warn, percent(s.share("at_risk"))).put(normal, " at risk")
	churn.to(57).put(alarm, percent(s.share("lost"))).put(normal, " lost")
	return append(lines, churn.String())
}

// numbers is the column at which the numbers of customers end.
func (c screen) numbers() int { return min(c.columns-11, 49+barColumns+12) }

func (c screen) phase(p PhaseCount, most, all int64) string {
	l := c.line().to(indent).put(normal, cut(clean(p.LabelDe), 24))
	column := 28
	if c.columns >= 76 {
		l.to(column).put(faint, cut(clean(p.LabelEn), 19))
		column = 49
	}
	if cells := c.numbers() - 10 - column; cells >= 5 {
		l.to(column).put(churnStyle(p.Churned), bar(float64(p.Customers)/float64(most), min(cells, barColumns)))
	}
	l.right(c.numbers(), normal, grouped(p.Customers))
	share := 0.0
	if all > 0 {
		share = float64(p.Customers) / float64(all)
	}
	return l.right(c.numbers()+9, faint, percent(share)).String()
}

func churnStyle(churned string) style {
	switch churned {
	case "lost":
		return alarm
	case "at_risk":
		return warn
	default:
		return accent
	}
}

// changes shows the newest changes of phases in at most so many lines.
func (c screen) changes(s Snapshot, room int) []string {
	if room < 3 || len(s.Changes) == 0 {
		return nil
	}
	lines := []string{"", c.line().to(indent).put(strong, "Phasenwechsel").put(faint, " · latest changes").String()}
	for _, change := range s.Changes[:min(len(s.Changes), room-2, mostChanges)] {
		from, _ := c.phaseName(s, change.From)
		to, style := c.phaseName(s, change.To)
		l := c.line().to(indent).put(faint, change.At.Format("2006-01-02 15:04"))
		l.to(20).put(normal, cut(clean(change.Customer), 15))
		l.to(36).put(faint, from+" → ").put(style, to)
		l.right(c.columns-indent, faint, change.Cause)
		lines = append(lines, l.String())
	}
	return lines
}

// phaseName is how a phase is called where there is room for labels, and where there is not, and its style.
func (c screen) phaseName(s Snapshot, id string) (string, style) {
	i := slices.IndexFunc(s.Phases, func(p PhaseCount) bool { return p.ID == id })
	if i < 0 {
		return id, normal
	}
	look := normal
	if mark := s.Phases[i].Churned; mark == "lost" || mark == "at_risk" {
		look = churnStyle(mark)
	}
	if c.columns >= 105 {
		return s.Phases[i].LabelDe, look
	}
	return id, look
}

// addresses shows where the parts listen, several a line.
func (c screen) addresses(s Snapshot) []string {
	if len(s.Addresses) == 0 {
		return nil
	}
	lines := []string{""}
	l := c.line().to(indent)
	for _, a := range s.Addresses {
		width := widths.StringWidth(clean(a.Name + " " + a.URL))
		if l.used > indent && l.used+3+width > c.columns {
			lines = append(lines, l.String())
			l = c.line().to(indent)
		}
		if l.used > indent {
			l.put(normal, "   ")
		}
		l.put(faint, a.Name+" ").put(normal, a.URL)
	}
	return append(lines, l.String())
}

// queries shows as many questions as there is room for, whole ones: they are there to be pasted.
func (c screen) queries(s Snapshot, room int) (lines []string) {
	for _, q := range s.Queries {
		block := []string{"", c.line().to(indent).put(faint, q.Title).String()}
		for _, text := range wrap(q.Text, c.columns-indent) {
			if widths.StringWidth(text) > c.columns-indent {
				return lines // cut, it would be wrong
			}
			block = append(block, c.line().to(indent).put(normal, text).String())
		}
		if len(lines)+len(block) > room {
			return lines
		}
		lines = append(lines, block...)
	}
	return lines
}

func percent(share float64) string { return fmt.Sprintf("%.1f %%", 100*share) }

// left writes a duration for people: 0.4 s, 42 s, 3 min 20 s, 2 h 05 min.
func left(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min %02d s", int(d.Minutes()), int(d.Seconds())%60)
	default:
		return fmt.Sprintf("%d h %02d min", int(d.Hours()), int(d.Minutes())%60)
	}
}

// grouped writes 1234567 as 1,234,567.
func grouped(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
