package verify

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"zyklus/bench/oracle"
	"zyklus/pipeline"
)

// verdict is what was found of one customer.
type verdict struct {
	reason      Reason // why not everything could be told; empty if it could
	totals      bool   // whether totals could be
	differences []Difference
}

// differ reports whether something is wrong.
func (v *verdict) differ() bool { return len(v.differences) > 0 }

// stands reports whether another look could tell nothing else.
func (v *verdict) stands() bool { return !v.differ() && v.reason != inMotion }

// trial is one customer being judged.
type trial struct {
	*batch
	id     string
	life   *life         // nil if the input does not know the customer
	state  *oracle.Row   // nil if the state has no row
	store  *oracle.Store // what ClickHouse held as of the snapshot
	newest int64         // greatest version in ClickHouse
	oracle *oracle.Oracle
	days   []error // differences of customer_days
}

func (b *batch) verdict(id string) (verdict, error) {
	t := &trial{batch: b, id: id, life: b.s.history.lives[id], state: b.states[id], store: b.stores[id], newest: b.newest[id]}
	if err := b.broken[id]; err != nil {
		return verdict{differences: []Difference{t.difference("changelog", "?", "the record does not decode: "+err.Error(), "?")}}, nil
	}
	stored, moving, err := t.compareStored()
	if err != nil {
		return verdict{}, err
	}
	if moving {
		return verdict{reason: inMotion}, nil
	}
	state, history, err := t.compareOracle()
	if err != nil {
		return verdict{}, err
	}
	v := verdict{differences: append(stored, state...)}
	if len(history) > 0 && t.unsettled() {
		return verdict{reason: inMotion}, nil
	}
	v.differences = append(v.differences, history...)
	if len(v.differences) == 0 {
		return v, nil
	}
	if len(state) > 0 && b.s.meta.Heard < b.s.meta.Clock {
		return verdict{reason: inMotion}, nil // not all timers have fired
	}
	v.reason, v.totals = t.excuse()
	if v.reason == "" {
		return v, nil
	}
	chains := t.compareChains()
	if len(chains) > 0 && t.unsettled() {
		return verdict{reason: inMotion}, nil
	}
	v.differences = append(stored, chains...)
	if v.totals && t.state != nil {
		v.differences = append(v.differences, t.ofState(t.oracle.CompareTotals(t.state, b.s.meta.Clock))...)
	}
	return v, nil
}

// pending reports whether ClickHouse may yet be without the customer's last rows.
func (t *trial) pending() bool { return t.state != nil && t.state.Version > t.s.acked }

// newer reports whether ClickHouse has been given rows since the snapshot: others may be gone for them.
func (t *trial) newer() bool { return t.newest > t.s.meta.Version() }

// unsettled reports whether rows as of the snapshot may be missing in ClickHouse: not there yet, or not any more.
func (t *trial) unsettled() bool { return t.pending() || t.newer() }

// compareStored compares the row in ClickHouse with that of the state, which must be the same under the same version. No
// reason keeps it from that, but that instances go on meanwhile.
func (t *trial) compareStored() (list []Difference, moving bool, err error) {
	row, has := t.store.Tables["customers"][t.id+"|"]
	newest := newestOf(t.store)
	version := int64(0)
	if t.state != nil {
		version = t.state.Version
	}
	if t.newer() {
		last, err := t.last()
		switch {
		case err != nil:
			return nil, false, err
		case t.newest > last:
			newest = t.newest // of no checkpoint
		case version == 0 && t.life == nil || len(t.store.Faults) > 0:
			return nil, true, nil // nobody knew the customer then; or which of two rows of one version counts is not told
		}
	}
	stamp := func(v int64) string { return cmp.Or(pipeline.VersionText(v), "no row") }
	switch {
	case newest > version:
		list = append(list, t.difference("customers", "?", "version "+stamp(version), "version "+stamp(newest)+" in a table"))
	case !has && t.state == nil:
	case (!has || row.Version < version) && t.unsettled():
		return nil, true, nil
	case !has || row.Version < version:
		list = append(list, t.difference("customers", "?", "version "+stamp(version), "version "+stamp(row.Version)))
	}
	var d *oracle.Difference
	if has && t.state != nil && errors.As(oracle.CompareRows(&row, t.state), &d) {
		out := t.difference(d.Table, "?", d.Want, d.Got)
		out.Key, out.Column = d.Key, d.Column
		list = append(list, out)
	}
	return list, false, nil
}

// newestOf returns the greatest version of all rows.
func newestOf(s *oracle.Store) (version int64) {
	for _, rows := range s.Tables {
		for _, r := range rows {
			version = max(version, r.Version)
		}
	}
	return version
}

// compareOracle compares the state, and the histories in ClickHouse, with the oracle.
func (t *trial) compareOracle() (state, history []Difference, err error) {
	m := t.s.meta
	// Behind the re-keying stage events are folded before time has come to them; of customers whom no event has touched
	// since, only up to as_of.
	to := []int64{max(m.Clock, t.asOf())}
	if t.s.v.Rekeyed {
		to = append(to, max(to[0], min(m.Hold.Clock, m.Clock+t.s.v.Job.Lateness)))
	}
	for _, until := range slices.Backward(to) {
		events, err := t.life.decode(t.id, until)
		if err != nil {
			return nil, nil, err
		}
		t.run(events, m.Clock)
		if state = t.compareState(); len(state) == 0 {
			break
		}
	}
	return state, t.compareHistory(), nil
}

func (t *trial) asOf() int64 {
	if t.state == nil {
		return 0
	}
	return t.state.Get("as_of").Int
}

// run makes the oracle of the customer, and compares its days on the way.
func (t *trial) run(events []pipeline.Event, until int64) {
	rows := t.store.Tables["customer_days"]
	t.oracle, t.days = oracle.New(t.s.v.Setting), nil
	first := firstDay(rows)
	t.oracle.OnDay = func(day int64) {
		row, ok := rows[fmt.Sprintf("%s|%d|", t.id, day)]
		switch {
		case ok:
			if err := t.oracle.CompareRow(&row); err != nil {
				t.days = append(t.days, err)
			}
		case day > first:
			t.days = append(t.days, &oracle.Difference{Customer: t.id, Table: "customer_days", Key: dayText(day), Want: "a row"})
		}
	}
	t.oracle.Run(events, until)
}

// firstDay returns the first day that has a row. Of earlier ones there need not be any: customer_days may have been off.
func firstDay(rows map[string]oracle.Row) int64 {
	first := pipeline.Never
	for _, r := range rows {
		first = min(first, r.Get("day").Int)
	}
	return first
}

func dayText(day int64) string { return time.Unix(day*86400, 0).UTC().Format(time.DateOnly) }

// compareState compares the row of the state with the oracle.
func (t *trial) compareState() []Difference {
	switch {
	case t.state == nil && t.oracle.Known():
		return []Difference{t.difference("customers", "a row", "", "?")}
	case t.state != nil && !t.oracle.Known():
		return []Difference{t.difference("customers", "", "a row", "?")}
	case t.state == nil:
		return nil
	}
	return t.ofState(t.oracle.CompareRow(t.state))
}

func (t *trial) ofState(err error) []Difference {
	var d *oracle.Difference
	if !errors.As(err, &d) {
		return nil
	}
	out := t.difference(d.Table, d.Want, d.Got, "?")
	out.Key, out.Column = d.Key, d.Column
	if row, ok := t.store.Tables["customers"][t.id+"|"]; ok {
		out.ClickHouse = row.Get(d.Column).String()
	}
	return []Difference{out}
}

// compareHistory compares orders, transitions and days in ClickHouse with the oracle.
func (t *trial) compareHistory() (list []Difference) {
	all := append(t.days, t.oracle.CompareHistory(t.store, t.id))
	if rows := t.store.Tables["customer_days"]; len(rows) > 0 {
		days := t.oracle.Days()
		for key, r := range rows {
			if day := r.Get("day").Int; !slices.Contains(days, day) {
				all = append(all, &oracle.Difference{Customer: t.id, Table: "customer_days", Key: key, Got: "a row"})
			}
		}
	}
	for _, err := range flat(all) {
		var d *oracle.Difference
		if errors.As(err, &d) {
			out := t.difference(d.Table, d.Want, "?", d.Got)
			out.Key, out.Column = d.Key, d.Column
			list = append(list, out)
		}
	}
	slices.SortFunc(list, func(a, b Difference) int { return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(a.Key, b.Key)) })
	return list
}

// flat takes joined errors apart.
func flat(errs []error) (all []error) {
	for _, err := range errs {
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			all = append(all, joined.Unwrap()...)
		} else if err != nil {
			all = append(all, err)
		}
	}
	return all
}

// compareChains checks that transitions lead from one to the next, and the last one to the present phase.
func (t *trial) compareChains() (list []Difference) {
	rows := map[string][]oracle.Row{}
	for _, r := range t.store.Tables["phase_transitions"] {
		l := r.Get("lifecycle").Text
		rows[l] = append(rows[l], r)
	}
	for _, l := range t.s.v.Job.Lifecycles() {
		chain := rows[l.ID]
		slices.SortFunc(chain, func(a, b oracle.Row) int { return cmp.Compare(a.Get("at").Int, b.Get("at").Int) })
		phase := ""
		for _, r := range chain {
			if from := r.Get("from_phase").Text; from != phase {
				d := t.difference("phase_transitions", "?", "?", "from "+from+" after to "+phase)
				d.Key, d.Column = r.Key(), "from_phase"
				list = append(list, d)
			}
			phase = r.Get("to_phase").Text
		}
		if t.state != nil && t.state.Get(l.ID+"_phase").Text != phase {
			d := t.difference("phase_transitions", "?", t.state.Get(l.ID+"_phase").Text, "the last one leads to "+cmp.Or(phase, "none"))
			d.Key = l.ID + "|" + t.id + "|"
			list = append(list, d)
		}
	}
	return list
}

func (t *trial) difference(table, want, state, stored string) Difference {
	return Difference{
		Customer: t.id, Partition: t.s.partition, Table: table, Key: t.id + "|", Oracle: want, State: state, ClickHouse: stored,
	}
}
