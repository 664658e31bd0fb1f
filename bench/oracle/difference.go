package oracle

import "fmt"

// Difference is a row, or a value of one, that is not what the oracle says. It is an error.
type Difference struct {
	Customer   string
	Table, Key string // key of the row, its parts each followed by |
	Column     string // empty where the row as a whole is printed
	Got, Want  string // empty for no row
}

// Error implements error.
func (d *Difference) Error() string {
	what := "the row"
	if d.Column != "" {
		what = d.Column
	}
	return fmt.Sprintf("customer %s: %s %s: %s is %q, want %q", d.Customer, d.Table, d.Key, what, d.Got, d.Want)
}

// differs is about one value of a row.
func differs(row *Row, column string, want any) error {
	return &Difference{
		Customer: row.Get("customer_id").Text, Table: row.Table.Name, Key: row.Key(), Column: column,
		Got: row.Get(column).String(), Want: fmt.Sprint(want),
	}
}

// CompareRows tells how two rows of one table differ, bit for bit, apart from their versions; nil if they do not.
func CompareRows(got, want *Row) error {
	column := differing(got, want, "")
	if column == "" {
		return nil
	}
	return differs(got, column, want.Get(column))
}
