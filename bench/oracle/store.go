package oracle

import (
	"fmt"
	"math"
	"sort"
	"strings"

	"zyklus/pipeline"
)

// Cell is one value of a row, in the field of its type.
type Cell struct {
	Type  pipeline.Type
	Null  bool
	Int   int64
	Float float64
	Text  string
}

// String prints the value; "-" is NULL.
func (c Cell) String() string {
	switch {
	case c.Null:
		return "-"
	case c.Type == pipeline.TypeText || c.Type == pipeline.TypeString:
		return c.Text
	case c.Type == pipeline.TypeNumber:
		return fmt.Sprint(c.Float)
	}
	return fmt.Sprint(c.Int)
}

// Row is one row of a table, with its version apart.
type Row struct {
	Table   *pipeline.Table
	Cells   []Cell // without version and is_deleted
	Version int64
	Deleted bool
}

// Get returns the value of a column.
func (r *Row) Get(column string) Cell {
	for i := range r.Cells {
		if r.Table.Columns[i].Name == column {
			return r.Cells[i]
		}
	}
	panic("no column " + column + " in " + r.Table.Name)
}

// Key identifies the row in its table.
func (r *Row) Key() string {
	var b strings.Builder
	for _, k := range r.Table.Key {
		fmt.Fprintf(&b, "%v|", r.Get(k))
	}
	return b.String()
}

// ReadRows copies what a batch holds of one table.
func ReadRows(rows *pipeline.Rows) []Row {
	out := make([]Row, rows.N)
	n := len(rows.Table.Columns) - 2
	for i := range out {
		out[i] = Row{Table: rows.Table, Cells: make([]Cell, n)}
		out[i].Version = rows.Data[n].Ints[i]
		out[i].Deleted = rows.Data[n+1].Ints[i] != 0
	}
	for k := range n {
		d, column := &rows.Data[k], &rows.Table.Columns[k]
		texts := d.Strings(nil)
		for i := range out {
			c := &out[i].Cells[k]
			c.Type = column.Type
			switch column.Type {
			case pipeline.TypeText, pipeline.TypeString:
				c.Text = strings.Clone(texts[i])
			case pipeline.TypeNumber:
				c.Float = d.Floats[i]
			default:
				c.Int = d.Ints[i]
			}
			if column.Nullable && d.Nulls[i] {
				*c = Cell{Type: column.Type, Null: true}
			}
		}
	}
	return out
}

// Store is what a sink with FINAL by version would show, and what was wrong with what it was told on the way.
type Store struct {
	Tables map[string]map[string]Row // by name and key
	Faults []string
}

// NewStore returns an empty Store.
func NewStore() *Store { return &Store{Tables: map[string]map[string]Row{}} }

// Write takes rows as a sink does: of one key the greatest version counts. Rule 3 is checked on the way.
func (s *Store) Write(rows []Row) {
	for _, r := range rows {
		m := s.Tables[r.Table.Name]
		if m == nil {
			m = map[string]Row{}
			s.Tables[r.Table.Name] = m
		}
		k := r.Key()
		old, ok := m[k]
		switch {
		case ok && r.Version < old.Version:
			s.Faults = append(s.Faults, fmt.Sprintf("%s %s: version %d after %d", r.Table.Name, k, r.Version, old.Version))
			continue
		case ok && r.Version == old.Version:
			if d := differ(&old, &r, ""); d != "" || old.Deleted != r.Deleted {
				s.Faults = append(s.Faults, fmt.Sprintf("%s %s: two rows of version %d: %s", r.Table.Name, k, r.Version, d))
			}
		}
		m[k] = r
	}
}

// BatchRows copies all rows of a batch.
func BatchRows(b *pipeline.Batch) (all []Row) {
	for _, t := range b.Tables {
		all = append(all, ReadRows(t)...)
	}
	return all
}

// differ tells in which column two rows differ, bit for bit, apart from their versions.
func differ(a, b *Row, except string) string {
	column := differing(a, b, except)
	if column == "" {
		return ""
	}
	return fmt.Sprintf("%s is %v, not %v", column, b.Get(column), a.Get(column))
}

// differing names the first column in which two rows differ.
func differing(a, b *Row, except string) string {
	for i := range a.Cells {
		x, y := a.Cells[i], b.Cells[i]
		if x.Null != y.Null || x.Int != y.Int || x.Text != y.Text || math.Float64bits(x.Float) != math.Float64bits(y.Float) {
			if name := a.Table.Columns[i].Name; name != except {
				return name
			}
		}
	}
	return ""
}

// Same tells how the final rows of two stores differ in a table.
func (s *Store) Same(want *Store, table, except string) string {
	a, b := want.Tables[table], s.Tables[table]
	for _, k := range sortedKeys(a) {
		x := a[k]
		y, ok := b[k]
		switch {
		case x.Deleted && (!ok || y.Deleted):
		case !ok || x.Deleted != y.Deleted:
			return fmt.Sprintf("%s %s: missing or withdrawn: %v, want %v", table, k, y.Cells, x.Cells)
		default:
			if d := differ(&x, &y, except); d != "" {
				return fmt.Sprintf("%s %s: %s", table, k, d)
			}
		}
	}
	for _, k := range sortedKeys(b) {
		if x, ok := a[k]; !b[k].Deleted && (!ok || x.Deleted) {
			return fmt.Sprintf("%s %s: should not be there: %v", table, k, b[k].Cells)
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
