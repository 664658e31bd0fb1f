package pipeline

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Inspection is everything that one record of a customer says, for people and scripts. Instants are RFC 3339 in UTC.
type Inspection struct {
	Customer string `json:"customer_id"`
	// RowVersion is that of the customer's present row, empty if it has none.
	RowVersion string `json:"row_version"`
	// AsOf is the instant of the last event or deadline.
	AsOf string `json:"as_of"`
	// SettledTo is the last instant that no event can change any more but as a correction.
	SettledTo string            `json:"settled_to"`
	Wake      string            `json:"wake,omitempty"` // when open events are settled
	Deadlines []PendingDeadline `json:"deadlines"`
	Totals    InspectedTotals   `json:"totals"`
	Phases    []InspectedPhase  `json:"phases"`
	Sections  []InspectedPart   `json:"sections"`
	Open      []InspectedEvent  `json:"open_events"`
	Outbox    []InspectedRow    `json:"outbox"`
	Bytes     []PartSize        `json:"bytes"`
}

// PendingDeadline is an instant at which time alone changes something.
type PendingDeadline struct {
	At   string `json:"at"`
	Of   string `json:"of"`             // operator, or lifecycle
	Rule string `json:"rule,omitempty"` // that matches then
	To   string `json:"to,omitempty"`   // phase that it assigns
	at   int64
}

// InspectedTotals are the lifetime totals; amounts are minor units of the reporting currency.
type InspectedTotals struct {
	Orders       int64 `json:"orders"`
	Net          int64 `json:"net_minor"`
	Refunded     int64 `json:"refunded_minor"`
	PurchaseDays int64 `json:"purchase_days"`
}

// InspectedPhase is a customer's place in one lifecycle.
type InspectedPhase struct {
	Lifecycle     string `json:"lifecycle"`
	Phase         string `json:"phase"`
	Label         string `json:"label"`
	Since         string `json:"since"`
	Cycle         int64  `json:"cycle"`
	Rule          string `json:"rule"`
	Previous      string `json:"previous_phase,omitempty"`
	PreviousSince string `json:"previous_since,omitempty"`
}

// InspectedPart are the fields of one operator.
type InspectedPart struct {
	Name   string           `json:"name"`
	Fields []InspectedField `json:"fields"`
}

// InspectedField is one fact. Value is nil where it is undefined, a string for texts and instants, a bool or a number.
type InspectedField struct {
	Name  string `json:"name"`
	Label string `json:"label"`
	Unit  string `json:"unit,omitempty"`
	Value any    `json:"value"`
}

// InspectedEvent is an event that is not settled yet.
type InspectedEvent struct {
	Kind  string `json:"type"`
	At    string `json:"at"`
	Ahead int64  `json:"ahead_of_watermark_ms"` // it is settled once this is 0
	ID    string `json:"id"`
	Order string `json:"order_id,omitempty"`
	Bytes int    `json:"bytes"`
}

// InspectedRow is a history row that the sink had not acknowledged.
type InspectedRow struct {
	Table     string `json:"table"`
	Version   string `json:"version"`
	Withdrawn bool   `json:"withdrawn"`
	Key       string `json:"key,omitempty"`
	Lifecycle string `json:"lifecycle,omitempty"`
	From      string `json:"from,omitempty"`
	To        string `json:"to,omitempty"`
	At        string `json:"at,omitempty"`
	Cause     string `json:"cause,omitempty"`
}

// PartSize is the share of one part of the record.
type PartSize struct {
	Part  string `json:"part"`
	Bytes int    `json:"bytes"`
}

// Inspect decodes a customer's record of the changelog under the partition's own record m. It changes neither.
func (j *Job) Inspect(value []byte, m *Meta) (*Inspection, error) {
	t := NewTask(j, "", 0)
	t.clock, t.watermark, t.lineage, t.number = m.Clock, j.Watermark(m), m.Lineage, m.Number
	var h header
	if err := readHeader(value, &h); err != nil {
		return nil, err
	}
	if err := t.check(&h); err != nil {
		return nil, err
	}
	i := &Inspection{ // empty lists are lists, for scripts
		Customer: string(h.id), RowVersion: VersionText(h.rowVersion), Deadlines: []PendingDeadline{}, Phases: []InspectedPhase{},
		Open: []InspectedEvent{}, Outbox: []InspectedRow{},
	}
	if err := i.sizes(value, &h, t.scratch); err != nil {
		return nil, err
	}
	open, err := readOpen(nil, h.open)
	if err != nil {
		return nil, err
	}
	if err := i.events(open, t.Watermark()); err != nil {
		return nil, err
	}
	if err := i.rows(j, &h, m.Acked); err != nil {
		return nil, err
	}
	i.SettledTo = instantText(settledAsOf(h.settled))
	i.Wake = instantText(h.wake)
	c := t.scratch
	if err := c.load(&t.fold, &h, open, &t.event); err != nil {
		return nil, err
	}
	i.live(c, &t.fold)
	return i, nil
}

// live describes the live record.
func (i *Inspection) live(c *Customer, f *Fold) {
	i.AsOf = instantText(c.AsOf)
	i.Totals = InspectedTotals{
		Orders: c.Totals.Orders, Net: c.Totals.Net, Refunded: c.Totals.Refunded, PurchaseDays: c.Totals.PurchaseDays,
	}
	for n := range c.Phases {
		i.Phases = append(i.Phases, inspectPhase(c.job, n, &c.Phases[n]))
	}
	for n := range c.job.sections {
		s := &c.job.sections[n]
		part := InspectedPart{Name: s.Name}
		for k := range s.Fields {
			field := &s.Fields[k]
			part.Fields = append(part.Fields, InspectedField{
				Name: field.Name, Label: field.Label.En, Unit: field.Unit,
				Value: inspectValue(field.Type, field.Value(c.states[n], c, c.AsOf)),
			})
		}
		i.Sections = append(i.Sections, part)
	}
	i.deadlines(c, f)
}

func inspectPhase(j *Job, lifecycle int, p *PhaseState) InspectedPhase {
	l := j.lifecycles[lifecycle]
	out := InspectedPhase{Lifecycle: l.ID, Phase: j.Phase(lifecycle, p.Phase), Since: instantText(p.Since), Cycle: p.Cycle}
	if p.Phase > 0 {
		out.Label, out.Rule = l.Phases[p.Phase-1].Labels.En, l.Rules[p.Rule].ID
	}
	if p.Previous.Phase > 0 {
		out.Previous, out.PreviousSince = j.Phase(lifecycle, p.Previous.Phase), instantText(p.Previous.Since)
	}
	return out
}

// deadlines lists what time alone will do, soonest first. The record itself only keeps the first instant.
func (i *Inspection) deadlines(c *Customer, f *Fold) {
	f.Now, f.Customer, f.job = c.AsOf, c, c.job
	for n, s := range c.states {
		if at := s.Deadline(f); at != Never {
			i.Deadlines = append(i.Deadlines, PendingDeadline{Of: c.job.sections[n].Name, at: at})
		}
	}
	for n, l := range c.job.lifecycles {
		if c.Phases[n].Phase == 0 {
			continue
		}
		if at := c.nextRule(l, c.Phases[n].Rule); at != Never {
			phase, rule := l.Phase(c, at)
			i.Deadlines = append(i.Deadlines, PendingDeadline{
				Of: "lifecycle " + l.ID, Rule: l.Rules[rule].ID, To: l.Phases[phase].ID, at: at,
			})
		}
	}
	slices.SortStableFunc(i.Deadlines, func(a, b PendingDeadline) int { return cmp.Compare(a.at, b.at) })
	for n := range i.Deadlines {
		i.Deadlines[n].At = instantText(i.Deadlines[n].at)
	}
}

func (i *Inspection) events(open []openEvent, watermark int64) error {
	var e Event
	for _, o := range open {
		if err := DecodeEvent(o.bytes, &e); err != nil {
			return err
		}
		i.Open = append(i.Open, InspectedEvent{
			Kind: e.Kind.String(), At: instantText(e.At), Ahead: e.At - watermark, ID: fmt.Sprintf("%016x", e.ID),
			Order: string(e.OrderID), Bytes: len(o.bytes),
		})
	}
	return nil
}

func (i *Inspection) rows(j *Job, h *header, acked int64) error {
	outbox, _, err := readOutbox(nil, h.outbox, acked)
	for n := range outbox {
		o := &outbox[n]
		row := InspectedRow{Version: VersionText(o.version), Withdrawn: o.deleted}
		if o.table > 0 {
			row.Table, row.Key = j.history[o.table-1].Name, string(o.key)
		} else {
			t := &o.transition
			row.Table, row.Lifecycle, row.At = j.transitions.Name, j.lifecycles[t.Lifecycle].ID, instantText(t.At)
			row.From, row.To, row.Cause = j.Phase(t.Lifecycle, t.From), j.Phase(t.Lifecycle, t.To), t.Cause.String()
		}
		i.Outbox = append(i.Outbox, row)
	}
	return err
}

// sizes tells where the bytes of the record are, with the prefixes of the parts.
func (i *Inspection) sizes(value []byte, h *header, c *Customer) error {
	part := func(name string, bytes int) { i.Bytes = append(i.Bytes, PartSize{name, bytes}) }
	part("record", len(value))
	part("head", len(value)-len(h.settled)-len(h.open))
	if len(h.settled) > 0 {
		c.reset()
		r := Reader{b: h.settled}
		if err := c.decodeHead(&r); err != nil {
			return err
		}
		part("totals, names, phases", len(h.settled)-r.Len())
		for r.Len() > 0 {
			before := r.Len()
			tag, _, _ := r.Byte(), r.Byte(), r.Bytes()
			name := "section of a newer version, tag " + strconv.Itoa(int(tag))
			if n := c.job.byTag[tag]; n > 0 {
				name = c.job.sections[n-1].Name
			}
			part(name, before-r.Len())
		}
		if err := r.Err(); err != nil {
			return err
		}
	}
	part("open events", len(h.open)-len(h.outbox))
	part("outbox", len(h.outbox))
	return nil
}

// inspectValue makes a value readable without its type.
func inspectValue(t Type, v Value) any {
	switch {
	case v.Null:
		return nil
	case t == TypeText || t == TypeString:
		return string([]byte(v.Text)) // the text may be the customer's memory
	case t == TypeNumber:
		return v.Float
	case t == TypeInstant:
		return instantText(v.Int)
	case t == TypeBool:
		return v.Int != 0
	}
	return v.Int
}

// instantText is RFC 3339 with milliseconds; empty for none.
func instantText(at int64) string {
	if at == 0 || at == Never {
		return ""
	}
	return time.UnixMilli(at).UTC().Format("2006-01-02T15:04:05.000Z")
}

// VersionText writes a row's version as lineage and checkpoint number, such as 1.417; empty for none.
func VersionText(version int64) string {
	if version == 0 {
		return ""
	}
	lineage, number := SplitVersion(version)
	return fmt.Sprintf("%d.%d", lineage, number)
}

// Weight is how much a customer's record weighs.
type Weight struct {
	Bytes  int   // of the record
	Orders int64 // net orders settled
	Open   int   // events not settled yet
}

// RecordWeight reads the weight of a customer's record. It costs some 50 ns and decodes no section.
func RecordWeight(value []byte) (Weight, error) {
	var h header
	if err := readHeader(value, &h); err != nil {
		return Weight{}, err
	}
	settled, open := Reader{b: h.settled}, Reader{b: h.open}
	w := Weight{Bytes: len(value), Open: open.Count()}
	if len(h.settled) > 0 {
		settled.Int() // as of
		w.Orders = settled.Int()
	}
	return w, settled.Err()
}

// Projected returns the tables whose rows have the versions of checkpoints: those that a Task writes, but for the table of
// checkpoints itself.
func (j *Job) Projected() []*Table {
	return slices.DeleteFunc(j.written(), func(t *Table) bool { return t == j.checkpoints })
}

// Republish marks the rows of all customers as to be written again, under the versions that they have. It is called
// right after Restored; NextBatch then returns them, with the history rows that the sink has not acknowledged and at
// last the row of `checkpoints`. A Task that does nothing else may do so beside the partition's owner: equal versions
// are equal rows. History rows that were acknowledged are not in the state and do not come again.
func (t *Task) Republish() error {
	var h header
	for slot := range uint32(t.slab.len()) {
		if err := readHeader(t.slab.get(slot), &h); err != nil {
			return err
		}
		if h.rowVersion > 0 {
			t.markDirty(slot)
		}
	}
	return nil
}
