package oracle

import (
	"fmt"
	"slices"
)

// FinalTables are the tables whose final rows are a function of the input, but for the column partition.
func FinalTables() []string {
	return []string{"customers", "customer_days", "phase_transitions", "orders"}
}

// Compare tells how the final rows differ from what the oracles of all customers say, once the clock is at End. Of a
// customer who is not punctual, orders and money are compared, which no order of arrival may change.
func (h *History) Compare(s *Store) error {
	for _, id := range h.Customers() {
		if err := h.compare(s, id); err != nil {
			return err
		}
	}
	return nil
}

func (h *History) compare(s *Store, id string) error {
	o := h.Oracle(id, h.End)
	if !h.Punctual(id) {
		row, ok := s.Tables["customers"][id+"|"]
		switch {
		case ok:
			return o.CompareTotals(&row, h.End)
		case len(o.orders) > 0:
			return &Difference{Customer: id, Table: "customers", Key: id + "|", Want: "a row"}
		}
		return nil // all events were refused, or came too late to count
	}
	if err := o.Compare(s, id); err != nil {
		return err
	}
	return h.compareDays(s, id, o.Days())
}

// compareDays checks that a customer has rows of the days on which something changed, but for the last, and that such
// a row is the one in `customers` had time ended with the day.
func (h *History) compareDays(s *Store, id string, days []int64) error {
	got := map[int64]*Row{}
	for _, r := range s.Tables["customer_days"] {
		if r.Get("customer_id").Text != id || r.Deleted {
			continue
		}
		day := r.Get("day").Int
		if got[day] = &r; !slices.Contains(days, day) {
			return fmt.Errorf("customer %s: a row of day %d, on which nothing changed or which has not ended", id, day)
		}
	}
	for _, day := range days {
		r := got[day]
		if r == nil {
			return fmt.Errorf("customer %s: no row of day %d", id, day)
		}
		if (uint64(day)+h.Seed)%3 > 0 {
			continue // one in three: each takes a whole life
		}
		o := h.Oracle(id, New(h.Setting()).midnight(day+1)-1)
		if err := o.CompareRow(r); err != nil {
			return fmt.Errorf("day %d: %w", day, err)
		}
	}
	return nil
}

// DeadLetters returns the Raw of the events of punctual customers that must be dead letters once the clock is at Final,
// sorted.
func (h *History) DeadLetters() (all []string) {
	for _, id := range h.Customers() {
		if !h.Punctual(id) {
			continue
		}
		o := h.Oracle(id, h.End)
		o.Silence(h.Final())
		all = append(all, o.letters...)
	}
	slices.Sort(all)
	return all
}

// FinalReader reads a Store as somebody who wants nothing but what is final: transitions earlier than the watermark of
// their partition, and days that ended before it. As in v_customer_days, the row in customers is that of the last day.
type FinalReader struct {
	setting    Setting
	seen       map[string]string // by table and key
	watermarks map[int64]int64   // by partition
}

// NewFinalReader returns a reader that has read nothing.
func NewFinalReader(s Setting) *FinalReader {
	return &FinalReader{setting: s, seen: map[string]string{}, watermarks: map[int64]int64{}}
}

// finalRow is something with an instant.
type finalRow struct {
	name, text    string
	at, partition int64
}

// Read tells what was final and has been withdrawn or changed since, and what should have been there when it became
// final.
func (f *FinalReader) Read(s *Store) error {
	before := map[int64]int64{}
	for _, r := range s.Tables["checkpoints"] {
		p := r.Get("partition").Int
		before[p] = f.watermarks[p]
		f.watermarks[p] = max(before[p], r.Get("watermark").Int)
	}
	found := map[string]bool{}
	for _, r := range f.rows(s) {
		if r.at >= f.watermarks[r.partition] {
			continue
		}
		old := f.seen[r.name]
		switch found[r.name] = true; {
		case old != "" && old != r.text:
			return fmt.Errorf("%s was final and has changed from %q to %q", r.name, old, r.text)
		case old == "" && r.at < before[r.partition]:
			return fmt.Errorf("%s was missing when it became final: %q, watermark %d", r.name, r.text, before[r.partition])
		}
		f.seen[r.name] = r.text
	}
	for _, name := range sortedKeys(f.seen) {
		if !found[name] {
			return fmt.Errorf("%s was final and has been withdrawn: %q", name, f.seen[name])
		}
	}
	return nil
}

func (f *FinalReader) rows(s *Store) (rows []finalRow) {
	o := New(f.setting)
	for key, r := range s.Tables["phase_transitions"] {
		if !r.Deleted {
			rows = append(rows, finalRow{"transition " + key, printed(&r), r.Get("at").Int, r.Get("partition").Int})
		}
	}
	day := func(r *Row, day int64, cells []Cell) {
		name := fmt.Sprintf("day %s %d", r.Get("customer_id"), day)
		rows = append(rows, finalRow{name, fmt.Sprint(cells), o.midnight(day+1) - 1, r.Get("partition").Int})
	}
	for _, r := range s.Tables["customer_days"] {
		if !r.Deleted {
			day(&r, r.Get("day").Int, r.Cells[2:])
		}
	}
	for _, r := range s.Tables["customers"] {
		day(&r, o.day(r.Get("as_of").Int), r.Cells[1:])
	}
	return rows
}
