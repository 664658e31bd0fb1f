package pipeline

import "unsafe"

// Type is the type of a column or feature. Sinks map it to their own types, one to one.
type Type uint8

// The column types.
const (
	TypeText    Type = iota // short text with few distinct values (phases, causes, categories)
	TypeString              // text with many distinct values (ids)
	TypeCount               // whole number, 0 or more
	TypeInteger             // whole number of either sign
	TypeMoney               // minor units of the reporting currency
	TypeNumber              // floating point: ratios, probabilities, days
	TypeInstant             // Unix milliseconds UTC
	TypeBool                // 0 or 1
	TypeDate                // business day, in days since 1970-01-01
)

// Labels are the names of a thing for people, per language.
type Labels struct{ En, De string }

// Column is one column of a table that sinks write.
type Column struct {
	Name     string // lower snake case, stable
	Type     Type
	Nullable bool
	Unit     string // "" where it has none; `days`, `minor units`, `share` …
	Comment  string
}

// Table declares a table: its columns are the schema, the data dictionary and the layout of Rows alike.
type Table struct {
	Name    string
	Comment string
	Columns []Column
	// Key names the columns that identify a row. Of rows with one key the greatest `version` counts.
	Key []string
	// PartitionByYear names a date of the key by whose years the rows are kept apart, "" for none.
	PartitionByYear string
	// TTLDays is how long rows are kept by their TTLColumn, 0 for ever.
	TTLDays   int
	TTLColumn string
}

// WithVersion appends the two columns that every table ends with, which Rows.End fills: the row's version, and whether
// it withdraws the row of its key.
func WithVersion(columns []Column) []Column {
	return append(columns,
		Column{Name: "version", Type: TypeInteger, Comment: "Version of the row: lineage and checkpoint number of its partition. The greatest version of a key counts."},
		Column{Name: "is_deleted", Type: TypeBool, Comment: "1 where this version withdraws the row."})
}

// Rows are rows of one table, column by column, ready for a columnar insert.
type Rows struct {
	Table *Table
	N     int
	Data  []ColumnData // one for each of Table.Columns
	next  int
}

// ColumnData holds the values of one column; which slice is in use follows from the column's type: Floats for
// TypeNumber, text for TypeText and TypeString, Ints for all others. A nullable column also fills Nulls.
type ColumnData struct {
	Ints   []int64
	Floats []float64
	Nulls  []bool
	text   []byte
	ends   []uint32
}

// NewRows returns empty rows of a table.
func NewRows(t *Table) *Rows { return &Rows{Table: t, Data: make([]ColumnData, len(t.Columns))} }

// Reset empties r and keeps its memory.
func (r *Rows) Reset() {
	for i := range r.Data {
		d := &r.Data[i]
		d.Ints, d.Floats, d.Nulls, d.text, d.ends = d.Ints[:0], d.Floats[:0], d.Nulls[:0], d.text[:0], d.ends[:0]
	}
	r.N, r.next = 0, 0
}

// Strings appends the texts of a column to dst. They alias r and are valid until r is reset.
func (d *ColumnData) Strings(dst []string) []string {
	begin := uint32(0)
	for _, end := range d.ends {
		dst = append(dst, unsafe.String(unsafe.SliceData(d.text[begin:end]), int(end-begin)))
		begin = end
	}
	return dst
}

// The values of a row are appended in the order of the table's columns; End closes the row.

// Int appends a value of an integer-like column.
func (r *Rows) Int(v int64) { r.value(Value{Int: v}) }

// Float appends a value of a TypeNumber column.
func (r *Rows) Float(v float64) { r.value(Value{Float: v}) }

// Text appends a value of a text column.
func (r *Rows) Text(v []byte) {
	r.value(Value{Text: unsafe.String(unsafe.SliceData(v), len(v))})
}

// String appends a value of a text column.
func (r *Rows) String(v string) { r.value(Value{Text: v}) }

// Null appends a missing value of a nullable column.
func (r *Rows) Null() { r.value(Value{Null: true}) }

// value appends v to the next column.
func (r *Rows) value(v Value) {
	d, c := &r.Data[r.next], &r.Table.Columns[r.next]
	r.next++
	switch c.Type {
	case TypeText, TypeString:
		d.text = append(d.text, v.Text...)
		d.ends = append(d.ends, uint32(len(d.text)))
	case TypeNumber:
		d.Floats = append(d.Floats, v.Float)
	default:
		d.Ints = append(d.Ints, v.Int)
	}
	if c.Nullable {
		d.Nulls = append(d.Nulls, v.Null)
	}
}

// End closes a row with its version and whether it withdraws the row of its key.
func (r *Rows) End(version int64, deleted bool) {
	r.Int(version)
	r.Int(boolInt(deleted))
	if r.next != len(r.Data) {
		panic("BUG: a row of " + r.Table.Name + " has the wrong number of values")
	}
	r.next = 0
	r.N++
}

// Append adds all rows of o, which is of the same table.
func (r *Rows) Append(o *Rows) {
	for i := range r.Data {
		d, s := &r.Data[i], &o.Data[i]
		base := uint32(len(d.text))
		d.Ints = append(d.Ints, s.Ints...)
		d.Floats = append(d.Floats, s.Floats...)
		d.Nulls = append(d.Nulls, s.Nulls...)
		d.text = append(d.text, s.text...)
		for _, e := range s.ends {
			d.ends = append(d.ends, base+e)
		}
	}
	r.N += o.N
}

func boolInt(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
