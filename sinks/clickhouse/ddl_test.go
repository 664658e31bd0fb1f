package clickhouse

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"zyklus/pipeline"
)

// golden compares with a file in testdata; UPDATE_GOLDEN=1 writes it. Review what it writes.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs, got:\n%s", path, got)
	}
}

func TestDDLGolden(t *testing.T) {
	changes, err := planBase("zyklus", testSchema(), found{})
	if err != nil {
		t.Fatal(err)
	}
	declared, err := planDeclared("zyklus", testSchema(), found{})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, c := range append(changes, declared...) {
		b.WriteString("-- " + c.name + "\n" + c.sql + ";\n\n")
	}
	golden(t, "schema.sql", b.String())
}

func TestSchemaValidate(t *testing.T) {
	broken := func(change func(*pipeline.Table)) Schema {
		table := customersTable()
		change(table)
		return Schema{Tables: []*pipeline.Table{table}}
	}
	for _, tc := range []struct {
		name, want string
		schema     Schema
	}{
		{"duplicate table", "declared twice", Schema{Tables: []*pipeline.Table{customersTable(), customersTable()}}},
		{"view of nothing", "not declared", Schema{Views: []View{{Table: "x"}}}},
		{"exponent", "0..8", Schema{MoneyExponent: 9}},
		{"nullable key", "must exist and not be nullable", broken(func(t *pipeline.Table) { t.Key = []string{"note"} })},
		{"no key", "plain name and a key", broken(func(t *pipeline.Table) { t.Key = nil })},
		{"no version", "last columns", broken(func(t *pipeline.Table) { t.Columns = t.Columns[:3] })},
		{"money name", "must end with _minor", broken(func(t *pipeline.Table) { t.Columns[8].Name = "value" })},
		{"injection", "not a column name", broken(func(t *pipeline.Table) { t.Columns[1].Name = "a` Int8, b" })},
		{"parts", "years of", broken(func(t *pipeline.Table) { t.PartitionByYear = "first_seen" })},
		{"ttl", "TTL needs an instant", broken(func(t *pipeline.Table) { t.TTLDays, t.TTLColumn = 3, "last_order" })},
	} {
		if err := tc.schema.Validate(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", tc.name, err, tc.want)
		}
	}
	if err := testSchema().Validate(); err != nil {
		t.Error(err)
	}
}
