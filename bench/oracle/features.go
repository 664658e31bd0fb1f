package oracle

import (
	"cmp"
	"sort"
)

// Features are a customer's orders at an instant.
type Features struct {
	o                     *Oracle
	at                    int64
	orders, net, refunded int64
	first, last           int64
	days, span            int64
	gap                   float64
	birth                 int64
	windows               [8]int64
	band                  string
	touches               int64
	known                 bool
}

func (f *Features) daysSince(at int64) float64 { return float64(at-f.last) / dayMs }

func (o *Oracle) features(at int64) *Features {
	f := &Features{o: o, at: at, net: -o.adjust, refunded: o.adjust, touches: o.touches, known: o.known}
	today, days := o.day(at), map[int64]bool{}
	for _, r := range o.orders {
		if r.status != "completed" {
			f.refunded += r.worthNow
			continue
		}
		d := o.day(r.at)
		f.orders++
		f.net += r.worthNow - r.backNow
		f.refunded += r.backNow
		f.first = min(cmp.Or(f.first, r.at), r.at)
		f.last = max(f.last, r.at)
		days[d] = true
		for i, n := range [...]int64{7, 30, 90, 365} {
			if d > today-n {
				f.windows[2*i]++
				f.windows[2*i+1] += r.worthNow - r.backNow
			}
		}
	}
	if f.days = int64(len(days)); f.days == 0 {
		return f
	}
	f.span = o.day(f.last) - o.day(f.first)
	span, gaps := f.cadence()
	f.gap = span / gaps
	f.birth = o.midnight(o.day(f.first))
	f.band = "low"
	if risk := f.risk(at); risk >= o.Artefact.RiskBands.High {
		f.band = "high"
	} else if risk >= o.Artefact.RiskBands.Medium {
		f.band = "medium"
	}
	return f
}

// btyd is the customer as the purchase model takes it, in weeks.
func (f *Features) btyd(at int64) (x, tx, t float64) {
	return float64(f.days - 1), float64(f.span) / 7, float64(at-f.birth) / (7 * dayMs)
}

func (f *Features) risk(at int64) float64 {
	x, tx, t := f.btyd(at)
	return f.o.Artefact.MBG.ChurnRisk(x, tx, t, f.o.Artefact.HorizonDays/7)
}

// rises is the first instant after at, within thousands of years, at which the risk lies in a higher band.
func (f *Features) rises(at int64) (rises int64, ever bool) {
	bands := f.o.Artefact.RiskBands
	limit := bands.Medium
	if f.risk(at) >= bands.Medium {
		limit = bands.High
	}
	if f.risk(at) >= bands.High {
		return 0, false
	}
	const never = 1 << 47
	n := sort.Search(never, func(i int) bool { return f.risk(at+int64(i)) >= limit })
	return at + int64(n), n < never
}

func (f *Features) alive(at int64) float64 { return f.o.Artefact.MBG.PAlive(f.btyd(at)) }

// cadence is the customer's own gaps and those of the prior together: days, and how many gaps they are.
func (f *Features) cadence() (days, gaps float64) {
	a := &f.o.Artefact
	return a.GapPriorDays*a.GapPriorWeight + float64(f.span), a.GapPriorWeight + float64(f.days-1)
}

// overdue divides once: then three gaps are over at the exact millisecond.
func (f *Features) overdue(at int64) float64 {
	days, gaps := f.cadence()
	return float64(at-f.last) * gaps / (days * dayMs)
}

// number returns a feature as rules see it, nil if it is undefined; known reports whether there is such a feature.
func (f *Features) number(name string, at int64) (v any, known bool) {
	undefined := func(v func() float64) any {
		if f.orders == 0 {
			return nil
		}
		return v()
	}
	switch name {
	case "known":
		return f.known, true
	case "touches":
		return float64(f.touches), true
	case "orders":
		return float64(f.orders), true
	case "net_value_minor":
		return float64(f.net), true
	case "refunded_value_minor":
		return float64(f.refunded), true
	case "purchase_days":
		return float64(f.days), true
	case "days_since_last_order":
		return undefined(func() float64 { return f.daysSince(at) }), true
	case "expected_gap_days":
		return undefined(func() float64 { return f.gap }), true
	case "overdue_ratio":
		return undefined(func() float64 { return f.overdue(at) }), true
	case "p_alive":
		return undefined(func() float64 { return f.alive(at) }), true
	case "churn_risk":
		return undefined(func() float64 { return f.risk(at) }), true
	}
	for i, window := range [...]string{"7d", "30d", "90d", "365d"} {
		switch name {
		case "orders_" + window:
			return float64(f.windows[2*i]), true
		case "net_value_" + window + "_minor":
			return float64(f.windows[2*i+1]), true
		}
	}
	return nil, false
}
