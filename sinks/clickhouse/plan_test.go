package clickhouse

import (
	"strings"
	"testing"

	"zyklus/pipeline"
)

// asDeclared is a server that has exactly the schema.
func asDeclared(s Schema) found {
	f := found{database: true, tables: map[string]foundTable{migrationsTable: {}}, applied: map[string]string{}}
	for _, t := range s.Tables {
		have := foundTable{engine: "ReplacingMergeTree", sortingKey: strings.Join(t.Key, ", "), partitionKey: partition(t.PartitionByYear), comment: t.Comment}
		have.engineFull = "ReplacingMergeTree(version, is_deleted) ORDER BY " + have.sortingKey
		if t.TTLDays > 0 {
			have.engineFull = "ReplacingMergeTree(version, is_deleted) TTL " + ttl(t) + " SETTINGS index_granularity = 8192"
		}
		for i := range t.Columns {
			c := &t.Columns[i]
			have.columns = append(have.columns, foundColumn{c.Name, columnType(c), columnComment(c.Comment, c.Unit)})
		}
		f.tables[t.Name] = have
		f.tables[viewName(t.Name)] = foundTable{engine: "View"}
	}
	for _, c := range planViews("zyklus", s, found{}) {
		f.applied[c.name] = c.checksum()
	}
	return f
}

func TestPlanDeclared(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(s *Schema, f *found)
		want   string // names of the changes, or the error after "error: "
	}{
		{"nothing", func(*Schema, *found) {}, ""},
		{"table missing", func(_ *Schema, f *found) { delete(f.tables, "dead_letters") }, "create table dead_letters"},
		{"view missing", func(_ *Schema, f *found) { delete(f.tables, "v_dead_letters") }, "create view v_dead_letters"},
		{"column added", func(s *Schema, _ *found) {
			c := s.Tables[3].Columns
			s.Tables[3].Columns = append(append([]pipeline.Column{}, c[:2]...), append([]pipeline.Column{{Name: "lag", Type: pipeline.TypeNumber}}, c[2:]...)...)
		}, "add column checkpoints.lag, create view v_checkpoints"},
		{"comment changed", func(s *Schema, _ *found) { s.Tables[3].Columns[2].Comment = "New." }, "comment column checkpoints.clock, create view v_checkpoints"},
		{"table comment changed", func(s *Schema, _ *found) { s.Tables[3].Comment = "New." }, "comment table checkpoints, create view v_checkpoints"},
		{"TTL changed", func(s *Schema, _ *found) { s.Tables[2].TTLDays = 7 }, "set TTL of dead_letters"},
		{"TTL removed", func(s *Schema, _ *found) { s.Tables[2].TTLDays = 0 }, "remove TTL of dead_letters"},
		{"currency changed", func(s *Schema, _ *found) { s.MoneyExponent = 0 }, "create view v_customer_days, create view v_customers"},
		{"undeclared column stays", func(_ *Schema, f *found) {
			h := f.tables["checkpoints"]
			h.columns = append(h.columns, foundColumn{"old", "String", ""})
			f.tables["checkpoints"] = h
		}, ""},
		{"view of a newer version", func(_ *Schema, f *found) {
			f.applied["create view v_checkpoints"] = "another"
			f.tables["v_checkpoints"] = viewOf("topic", "LowCardinality(String)", "partition", "UInt32", "clock", "DateTime64(3, 'UTC')", "lag", "Float64")
		}, "(create view v_checkpoints)"},
		{"view of an older version", func(_ *Schema, f *found) {
			f.applied["create view v_checkpoints"] = "another"
			f.tables["v_checkpoints"] = viewOf("topic", "LowCardinality(String)", "partition", "UInt32", "old", "UInt32", "older", "UInt32")
		}, "create view v_checkpoints"},
		{"type differs", func(_ *Schema, f *found) { f.tables["checkpoints"].columns[1].kind = "String" },
			"error: column checkpoints.partition has type String, declared is UInt32"},
		{"key differs", func(s *Schema, _ *found) { s.Tables[3].Key = []string{"topic"} }, "error: table checkpoints is sorted by (topic, partition)"},
		{"partitions differ", func(s *Schema, _ *found) { s.Tables[4].PartitionByYear = "" }, `error: table customer_days is partitioned by "toYear(day)"`},
		{"engine differs", func(_ *Schema, f *found) {
			h := f.tables["checkpoints"]
			h.engine = "MergeTree"
			f.tables["checkpoints"] = h
		}, "error: table checkpoints has engine MergeTree"},
	} {
		s := testSchema()
		f := asDeclared(s)
		tc.change(&s, &f)
		changes, err := planDeclared("zyklus", s, f)
		got := ""
		if err != nil {
			got = "error: " + err.Error()
		} else {
			got = strings.Join(names(changes), ", ")
		}
		if got != tc.want && (err == nil || !strings.HasPrefix(got, tc.want)) {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
	}
}

// viewOf is a view with columns, given as names and types.
func viewOf(columns ...string) foundTable {
	t := foundTable{engine: "View"}
	for i := 0; i < len(columns); i += 2 {
		t.columns = append(t.columns, foundColumn{columns[i], columns[i+1], ""})
	}
	return t
}

// names lists changes, those of views that the pipeline can do without in parentheses.
func names(changes []change) []string {
	var n []string
	for _, c := range changes {
		name := c.name
		if c.cosmetic && strings.HasPrefix(name, "create view") {
			name = "(" + name + ")"
		}
		n = append(n, name)
	}
	return n
}

func TestPlanStepsRefusesNewer(t *testing.T) {
	f := asDeclared(testSchema())
	f.latest = latestStep() + 1
	if _, err := planSteps("zyklus", testSchema(), f); err == nil || !strings.Contains(err.Error(), "by a newer zyklus") {
		t.Errorf("got %v", err)
	}
}
