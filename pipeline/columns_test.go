package pipeline_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"zyklus/bench/oracle"
	"zyklus/pipeline"
)

// uncompared are the tables, and the columns of the others, that the oracle says nothing about, and why.
var uncompared = map[string]string{
	"checkpoints":   "it says how far the pipeline has come, which depends on when it made checkpoints",
	"dead_letters":  "its rows are read from the dead-letter topic; History.DeadLetters says which events are there",
	"source_stalls": "its rows are read from the topic of outputs; guard_test.go and guard_real_test.go say what they are",
	"*.partition":   "the oracle knows no partitions; spread compares all other columns over 1 to 8 of them",
	"*.version":     "it depends on when checkpoints were made; Store.Write holds it to its rules",
	"*.is_deleted":  "it belongs to the version: a withdrawn row is no row",
}

// TestEveryColumnIsCompared changes one value of final rows at a time and holds that the oracle notices, whatever the
// column: so a column, an operator or a table that is new fails until the oracle knows it, or says above why it does not.
func TestEveryColumnIsCompared(t *testing.T) {
	noticed, changed := map[string]int{}, map[string]int{}
	for seed := range uint64(8) {
		h := oracle.NewHistory(seed, false)
		job := newJob(t, setting{h.Zone, h.Lateness, true})
		clean := newRun(h, job, 0, h.Clean(), nil)
		if err := clean.run(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if err := h.Compare(clean.sink); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for _, table := range job.Tables() {
			for i := range table.Columns[:len(table.Columns)-2] {
				name := table.Name + "." + table.Columns[i].Name
				if exempt := uncompared[table.Name] + uncompared["*."+table.Columns[i].Name]; exempt != "" {
					continue
				}
				changed[name] += 0
				for _, spoilt := range spoil(clean.sink, table, i, int(seed)) {
					changed[name]++
					if err := h.Compare(spoilt); err != nil && tells(err, table, i) {
						noticed[name]++
					}
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(changed)) {
		// Of the rows of days the oracle compares one in three.
		if least := changed[name]; least == 0 || noticed[name] == 0 || noticed[name] < least && !strings.HasPrefix(name, "customer_days.") {
			t.Errorf("%s: %d values were changed, and the oracle noticed %d: compare it in bench/oracle/compare.go, or say in uncompared why not",
				name, changed[name], noticed[name])
		}
	}
}

// tells reports whether an error is about a column, or a row as a whole.
func tells(err error, table *pipeline.Table, column int) bool {
	var d *oracle.Difference
	if !errors.As(err, &d) || d.Column == "" {
		return true
	}
	name := table.Columns[column].Name
	return d.Column == name || strings.HasPrefix(d.Column, name) // a name and its probability go together
}

// spoil returns stores that differ from one in a value of a column of one row: another value, and NULL where it is none, or
// none where it is NULL.
func spoil(s *oracle.Store, table *pipeline.Table, column, which int) (spoilt []*oracle.Store) {
	var keys []string
	for key, r := range s.Tables[table.Name] {
		if !r.Deleted {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	slices.Sort(keys)
	key := keys[which%len(keys)]
	old := s.Tables[table.Name][key]
	cell := old.Cells[column]
	other := cell
	other.Null = false
	switch cell.Type {
	case pipeline.TypeText, pipeline.TypeString:
		other.Text += "x"
	case pipeline.TypeNumber:
		other.Float += 0.001
	default:
		other.Int++
	}
	cells := []oracle.Cell{other}
	if table.Columns[column].Nullable && !cell.Null {
		cells = append(cells, oracle.Cell{Type: cell.Type, Null: true})
	}
	for _, c := range cells {
		r := old
		r.Cells = slices.Clone(old.Cells)
		r.Cells[column] = c
		store := &oracle.Store{Tables: maps.Clone(s.Tables)}
		rows := maps.Clone(s.Tables[table.Name])
		delete(rows, key)
		rows[r.Key()] = r
		store.Tables[table.Name] = rows
		spoilt = append(spoilt, store)
	}
	return spoilt
}
