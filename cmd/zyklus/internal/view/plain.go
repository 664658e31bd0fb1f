package view

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// plainLine writes a snapshot as key=value pairs. Scripts read them: keys and order do not change.
func plainLine(s Snapshot) string {
	var b strings.Builder
	put := func(key, value string) {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(key + "=" + quoted(value))
	}
	clock, freshness := "", ""
	if !s.Clock.IsZero() {
		clock = s.Clock.UTC().Format(time.RFC3339)
	}
	if s.Freshness >= 0 {
		freshness = seconds(s.Freshness)
	}
	put("time", s.Now.UTC().Format(time.RFC3339))
	put("mode", s.Mode)
	put("clock", clock)
	put("progress", fmt.Sprintf("%.3f", s.Progress))
	put("eta_seconds", seconds(s.ETA))
	put("events", strconv.FormatInt(s.Events, 10))
	put("events_per_second", fmt.Sprintf("%.0f", s.EventsPerSecond))
	put("rows", strconv.FormatInt(s.Rows, 10))
	put("freshness_seconds", freshness)
	put("customers", strconv.FormatInt(s.customers(), 10))
	put("churned_last_day", strconv.FormatInt(s.ChurnedLastDay, 10))
	put("at_risk_share", fmt.Sprintf("%.4f", s.share("at_risk")))
	for _, p := range s.Phases {
		put("phase_"+p.ID, strconv.FormatInt(p.Customers, 10))
	}
	b.WriteByte('\n')
	return b.String()
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f", d.Seconds()) }

// quoted quotes a value that logfmt could not read otherwise.
func quoted(value string) string {
	if strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r == '"' || r == '=' || r > '~' }) {
		return strconv.Quote(value)
	}
	return value
}

// Banner writes addresses and queries as text, to be printed before the first Render: after Close it is still there.
func Banner(addresses []Address, queries []Query) string {
	var b strings.Builder
	name := 0
	for _, a := range addresses {
		name = max(name, widths.StringWidth(a.Name))
	}
	for _, a := range addresses {
		fmt.Fprintf(&b, "%s  %s\n", widths.FillRight(a.Name, name), a.URL)
	}
	for _, q := range queries {
		fmt.Fprintf(&b, "\n%s\n%s\n", q.Title, strings.Trim(q.Text, "\n"))
	}
	return b.String()
}
