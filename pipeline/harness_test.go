package pipeline_test

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"zyklus/models"
	"zyklus/models/lifecycle"
	"zyklus/operators"
	"zyklus/pipeline"
)

// setting is what the tests vary of a job.
type setting struct {
	zone     string
	lateness time.Duration
}

var jobs sync.Map // setting -> *pipeline.Job

// newJob returns the job of all operators and role5.
func newJob(t testing.TB, s setting) *pipeline.Job {
	t.Helper()
	if j, ok := jobs.Load(s); ok {
		return j.(*pipeline.Job)
	}
	o := options(t)
	o.Lateness = s.lateness
	zone, err := time.LoadLocation(s.zone)
	if err != nil {
		t.Fatal(err)
	}
	o.Calendar = pipeline.NewCalendar(zone)
	j, err := pipeline.NewJob(o)
	if err != nil {
		t.Fatal(err)
	}
	jobs.Store(s, j)
	return j
}

func options(t testing.TB) pipeline.Options {
	t.Helper()
	preset, err := lifecycle.Preset("role5")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := lifecycle.Parse(preset)
	if err != nil {
		t.Fatal(err)
	}
	return pipeline.Options{
		Operators: operators.All(), Lifecycles: []*lifecycle.Document{doc}, Artefact: artefact(),
		Lateness: 10 * time.Minute, Skew: time.Minute, WallClock: true, Days: true, Rates: parseRates(t, ratesCSV()),
	}
}

func parseRates(t testing.TB, table string) *pipeline.Rates {
	t.Helper()
	rates, err := pipeline.ParseRates([]byte(table), pipeline.RateOptions{Currency: "EUR"})
	if err != nil {
		t.Fatal(err)
	}
	return rates
}

// readRates reads a table of testdata/rates.
func readRates(t testing.TB, name string) *pipeline.Rates {
	t.Helper()
	table, err := os.ReadFile("testdata/rates/" + name + ".csv")
	if err != nil {
		t.Fatal(err)
	}
	return parseRates(t, string(table))
}

// rateTexts are rates into EUR by "date,currency". Weekends have none, nor has the most of each August.
var rateTexts = sync.OnceValue(func() map[string]string {
	texts := map[string]string{}
	for day := time.Date(2022, 12, 20, 0, 0, 0, 0, time.UTC); day.Year() < 2046; day = day.AddDate(0, 0, 1) {
		if w := day.Weekday(); w == time.Saturday || w == time.Sunday || day.Month() == time.August && day.Day() < 25 {
			continue
		}
		for i, rate := range []struct {
			currency string
			base     float64
		}{{"USD", 0.92}, {"GBP", 1.17}, {"JPY", 0.0061}, {"KWD", 3.01}} {
			wave := 1 + 0.1*math.Sin(float64(day.Unix()/86400)/float64(50+i))
			texts[day.Format("2006-01-02")+","+rate.currency] = fmt.Sprintf("%.6f", rate.base*wave)
		}
	}
	return texts
})

var ratesCSV = sync.OnceValue(func() string {
	table := "date,currency,rate\n"
	var b strings.Builder
	for _, key := range sortedKeys(rateTexts()) {
		b.WriteString(key + "," + rateTexts()[key] + "\n")
	}
	return table + b.String()
})

// artefact is the built-in one with some popularity, so that next categories are shrunk to it.
func artefact() models.Artefact {
	a := models.BuiltIn()
	a.Category.Shrink = 0.5
	a.Category.Popularity = []models.CategoryShare{{Name: "books", Share: 0.25}, {Name: "hats", Share: 0.125}, {Name: "shoes", Share: 0.625}}
	return a
}

// cell is one value of a row.
type cell struct {
	kind pipeline.Type
	null bool
	i    int64
	f    float64
	s    string
}

func (c cell) String() string {
	switch {
	case c.null:
		return "-"
	case c.kind == pipeline.TypeText || c.kind == pipeline.TypeString:
		return c.s
	case c.kind == pipeline.TypeNumber:
		return fmt.Sprint(c.f)
	}
	return fmt.Sprint(c.i)
}

// row is one row of a table, with its version apart.
type row struct {
	table   *pipeline.Table
	cells   []cell // without version and is_deleted
	version int64
	deleted bool
}

// get returns the value of a column.
func (r *row) get(column string) cell {
	for i := range r.cells {
		if r.table.Columns[i].Name == column {
			return r.cells[i]
		}
	}
	panic("no column " + column + " in " + r.table.Name)
}

func (r *row) key() string {
	var b strings.Builder
	for _, k := range r.table.Key {
		fmt.Fprintf(&b, "%v|", r.get(k))
	}
	return b.String()
}

// readRows copies what a batch holds of one table.
func readRows(rows *pipeline.Rows) []row {
	out := make([]row, rows.N)
	n := len(rows.Table.Columns) - 2
	for i := range out {
		out[i] = row{table: rows.Table, cells: make([]cell, n)}
		out[i].version = rows.Data[n].Ints[i]
		out[i].deleted = rows.Data[n+1].Ints[i] != 0
	}
	for k := range n {
		d, column := &rows.Data[k], &rows.Table.Columns[k]
		texts := d.Strings(nil)
		for i := range out {
			c := &out[i].cells[k]
			c.kind = column.Type
			switch column.Type {
			case pipeline.TypeText, pipeline.TypeString:
				c.s = strings.Clone(texts[i])
			case pipeline.TypeNumber:
				c.f = d.Floats[i]
			default:
				c.i = d.Ints[i]
			}
			if column.Nullable && d.Nulls[i] {
				*c = cell{kind: column.Type, null: true}
			}
		}
	}
	return out
}

// store is what a sink with FINAL by version would show, and what it was told on the way.
type store struct {
	tables map[string]map[string]row
	faults []string
}

func newStore() *store { return &store{tables: map[string]map[string]row{}} }

// write takes rows as a sink does: of one key the greatest version counts. Rule 3 is checked on the way.
func (s *store) write(rows []row) {
	for _, r := range rows {
		m := s.tables[r.table.Name]
		if m == nil {
			m = map[string]row{}
			s.tables[r.table.Name] = m
		}
		k := r.key()
		old, ok := m[k]
		switch {
		case ok && r.version < old.version:
			s.faults = append(s.faults, fmt.Sprintf("%s %s: version %d after %d", r.table.Name, k, r.version, old.version))
			continue
		case ok && r.version == old.version:
			if d := differ(&old, &r, ""); d != "" || old.deleted != r.deleted {
				s.faults = append(s.faults, fmt.Sprintf("%s %s: two rows of version %d: %s", r.table.Name, k, r.version, d))
			}
		}
		m[k] = r
	}
}

// batchRows copies all rows of a batch.
func batchRows(b *pipeline.Batch) (all []row) {
	for _, t := range b.Tables {
		all = append(all, readRows(t)...)
	}
	return all
}

// differ tells in which column two rows differ, bit for bit, apart from their versions.
func differ(a, b *row, except string) string {
	for i := range a.cells {
		x, y := a.cells[i], b.cells[i]
		if x.null != y.null || x.i != y.i || x.s != y.s || math.Float64bits(x.f) != math.Float64bits(y.f) {
			if name := a.table.Columns[i].Name; name != except {
				return fmt.Sprintf("%s is %v, not %v", name, y, x)
			}
		}
	}
	return ""
}

// same tells how the final rows of two stores differ in a table.
func (s *store) same(want *store, table, except string) string {
	a, b := want.tables[table], s.tables[table]
	for _, k := range sortedKeys(a) {
		x := a[k]
		y, ok := b[k]
		switch {
		case x.deleted && (!ok || y.deleted):
		case !ok || x.deleted != y.deleted:
			return fmt.Sprintf("%s %s: missing or withdrawn: %v, want %v", table, k, y.cells, x.cells)
		default:
			if d := differ(&x, &y, except); d != "" {
				return fmt.Sprintf("%s %s: %s", table, k, d)
			}
		}
	}
	for _, k := range sortedKeys(b) {
		if x, ok := a[k]; !b[k].deleted && (!ok || x.deleted) {
			return fmt.Sprintf("%s %s: should not be there: %v", table, k, b[k].cells)
		}
	}
	return ""
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// changelog is what was committed.
type changelog []pipeline.Change

func (l *changelog) append(cp *pipeline.Checkpoint) {
	for _, c := range cp.Changes {
		*l = append(*l, pipeline.Change{Key: bytes.Clone(c.Key), Value: bytes.Clone(c.Value)})
	}
}

// compacted keeps the last record of each key.
func (l changelog) compacted() (kept changelog) {
	seen := map[string]bool{}
	for _, c := range slices.Backward(l) {
		if !seen[string(c.Key)] {
			seen[string(c.Key)] = true
			kept = append(kept, c)
		}
	}
	slices.Reverse(kept)
	return kept
}

// restore returns a Task that continues from a changelog.
func (l changelog) restore(job *pipeline.Job, partition int32) (*pipeline.Task, error) {
	task := pipeline.NewTask(job, "events", partition)
	for _, c := range l {
		if err := task.Restore(c.Key, c.Value); err != nil {
			return nil, err
		}
	}
	return task, task.Restored()
}

// copyEvent makes a deep copy in memory that scribble overwrites: a Task must not keep an event's bytes.
func copyEvent(e *pipeline.Event) *pipeline.Event {
	c := *e
	c.Customer, c.OrderID, c.Raw = bytes.Clone(e.Customer), bytes.Clone(e.OrderID), bytes.Clone(e.Raw)
	c.Lines = slices.Clone(e.Lines)
	for i := range c.Lines {
		c.Lines[i].Category = bytes.Clone(c.Lines[i].Category)
	}
	return &c
}

func scribble(e *pipeline.Event) {
	over := func(b []byte) {
		for i := range b {
			b[i] = '#'
		}
	}
	over(e.Customer)
	over(e.OrderID)
	over(e.Raw)
	for i := range e.Lines {
		over(e.Lines[i].Category)
		e.Lines[i] = pipeline.Line{Quantity: -1, Amount: -1}
	}
}
