package clickhouse

import (
	"fmt"
	"strings"
	"testing"

	"zyklus/pipeline"
)

// batchOf returns a batch with n rows for each table named; all have the layout of checkpoints.
func batchOf(n int, tables ...string) *pipeline.Batch {
	b := &pipeline.Batch{Topic: "events"}
	for _, name := range tables {
		table := checkpointTable()
		table.Name = name
		rows := pipeline.NewRows(table)
		for i := range n {
			checkpointRow(rows, int64(i), 1)
		}
		b.Tables = append(b.Tables, rows)
	}
	return b
}

func TestGroupOrder(t *testing.T) {
	for _, tc := range []struct {
		batches []string // tables of each, space-separated; a leading ! must be refused
		want    string
	}{
		{[]string{"a b checkpoints", "a b checkpoints"}, "a b checkpoints"},
		{[]string{"b", "a b"}, "a b"},
		{[]string{"a b", "!b a"}, "a b"},
		{[]string{"a checkpoints", "b"}, "b a checkpoints"},
		{[]string{"a", "b checkpoints", "c checkpoints"}, "c b a checkpoints"},
		{[]string{"checkpoints", "a checkpoints", "a b"}, "a b checkpoints"},
	} {
		g := newGroup()
		for _, tables := range tc.batches {
			name, refused := strings.CutPrefix(tables, "!")
			if added := g.add(batchOf(2, strings.Fields(name)...), 1000); added == refused {
				t.Errorf("%v: %s added: %v", tc.batches, name, added)
			}
		}
		var got []string
		for _, r := range g.tables {
			got = append(got, r.Table.Name)
		}
		if s := strings.Join(got, " "); s != tc.want {
			t.Errorf("%v: got %s, want %s", tc.batches, s, tc.want)
		}
	}
}

func TestGroupLimitAndReuse(t *testing.T) {
	g := newGroup()
	if !g.add(batchOf(500, "a"), 100) {
		t.Error("a batch greater than the limit must go alone")
	}
	if g.add(batchOf(1, "a"), 100) {
		t.Error("limit not kept")
	}
	g.reset()
	for i := range 3 {
		b := batchOf(30, "a", "b")
		if !g.add(b, 1000) {
			t.Fatalf("batch %d refused", i)
		}
		b.Tables[0].Reset() // the group holds copies
	}
	if g.rows != 180 || g.tables[0].N != 90 {
		t.Errorf("rows %d, first table %d", g.rows, g.tables[0].N)
	}
	texts := g.tables[0].Data[0].Strings(nil)
	if got := fmt.Sprintln(len(texts), texts[0], texts[89]); got != "90 events events\n" {
		t.Error(got)
	}
}
