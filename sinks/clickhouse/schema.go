package clickhouse

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"zyklus/pipeline"
)

// Schema is everything that the database shall hold.
type Schema struct {
	// Tables are the declared tables; Batch.Tables refer to them by name.
	Tables []*pipeline.Table
	// Views add to the reader's view that every table gets. At most one for each table.
	Views []View
	// MoneyExponent is the number of decimals of the reporting currency (ISO 4217), 2 for EUR.
	MoneyExponent int
}

// View says what the view `v_<table>` offers beyond the columns of its table.
type View struct {
	// Table is the name of a declared table.
	Table string
	// Rows is SQL of a query that is read instead of the table, "" for the table itself: with all its columns but
	// version and is_deleted, and without withdrawn rows. {database} stands for the database's name.
	Rows string
	// Join is SQL between FROM and WHERE, "" for none. The table itself is called t; {database} stands for the
	// database's name. A join must not multiply rows. Views with a join are created after those without.
	//
	//	LEFT JOIN {database}.v_checkpoints AS c ON c.partition = t.partition
	Join string
	// Comment replaces that of the table.
	Comment string
	// Columns follow those of the table.
	Columns []ViewColumn
}

// ViewColumn is a computed column of a View.
type ViewColumn struct {
	Name    string
	Type    string // of ClickHouse, such as Nullable(Float64); the value is cast to it
	SQL     string // over t, the joined tables and {database}
	Unit    string
	Comment string
}

// checkpointsTable is the table whose rows say that all others are there, so they go last.
const checkpointsTable = "checkpoints"

// Validate reports everything that is wrong with the declaration.
func (s Schema) Validate() error {
	var errs []error
	names := map[string]bool{}
	for _, t := range s.Tables {
		if names[t.Name] {
			errs = append(errs, fmt.Errorf("table %s is declared twice", t.Name))
		}
		names[t.Name] = true
		errs = append(errs, validateTable(t))
	}
	for _, v := range s.Views {
		if !names[v.Table] {
			errs = append(errs, fmt.Errorf("view of table %s, which is not declared", v.Table))
		}
	}
	if s.MoneyExponent < 0 || s.MoneyExponent > 8 {
		errs = append(errs, fmt.Errorf("money exponent %d is not in 0..8", s.MoneyExponent))
	}
	return errors.Join(errs...)
}

func validateTable(t *pipeline.Table) error {
	var errs []error
	add := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("table %s: "+format, append([]any{t.Name}, args...)...))
	}
	seen := map[string]pipeline.Column{}
	for _, c := range t.Columns {
		if _, twice := seen[c.Name]; twice {
			add("column %s is declared twice", c.Name)
		}
		if !isIdentifier(c.Name) {
			add("%q is not a column name", c.Name)
		}
		if c.Type == pipeline.TypeMoney && !strings.HasSuffix(c.Name, moneySuffix) {
			add("money column %s must end with %s", c.Name, moneySuffix)
		}
		seen[c.Name] = c
	}
	if !isIdentifier(t.Name) || len(t.Key) == 0 {
		add("needs a plain name and a key")
	}
	if p := t.PartitionByYear; p != "" && (seen[p].Type != pipeline.TypeDate || !slices.Contains(t.Key, p)) {
		add("years of %q cannot part it: needs a date of the key, else rows of one key would lie in two partitions", p)
	}
	for _, k := range t.Key {
		if c, ok := seen[k]; !ok || c.Nullable {
			add("key column %s must exist and not be nullable", k)
		}
	}
	if n := len(t.Columns); n < 2 || t.Columns[n-2].Name != "version" || t.Columns[n-1].Name != "is_deleted" {
		add("the last columns must be version and is_deleted")
	}
	if c := seen[t.TTLColumn]; t.TTLDays > 0 && (c.Type != pipeline.TypeInstant || c.Nullable) {
		add("TTL needs an instant that is never missing, column %q is not", t.TTLColumn)
	}
	return errors.Join(errs...)
}

// view returns the caller's part of a table's view.
func (s Schema) view(table string) View {
	i := slices.IndexFunc(s.Views, func(v View) bool { return v.Table == table })
	if i < 0 {
		return View{Table: table}
	}
	return s.Views[i]
}
