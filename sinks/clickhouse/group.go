package clickhouse

import (
	"slices"

	"zyklus/pipeline"
)

// group is the rows of the batches that are inserted together. The rows are copies: what a partition passed to Write
// is its own again as soon as Write returns, even while an insert is still trying.
type group struct {
	tables []*pipeline.Rows // in the order of insertion, `checkpoints` last
	rows   int
	taken  chan struct{} // closed when the writer takes the group: the next one is open
	done   chan struct{} // closed when all rows are stored
	spare  map[string]*pipeline.Rows
}

func newGroup() *group { return (&group{spare: map[string]*pipeline.Rows{}}).reset() }

// reset empties the group for reuse and keeps the memory of its rows.
func (g *group) reset() *group {
	for _, r := range g.tables {
		r.Reset()
		g.spare[r.Table.Name] = r
	}
	g.tables, g.rows = g.tables[:0], 0
	g.taken, g.done = make(chan struct{}), make(chan struct{})
	return g
}

// add copies the batch into the group. It does nothing and returns false if the group would become too large, or if
// the tables of the batch cannot keep their order in it.
func (g *group) add(b *pipeline.Batch, maxRows int) bool {
	if g.rows > 0 && g.rows+b.Rows() > maxRows || !g.orderFits(b) {
		return false
	}
	next := 0
	for _, rows := range b.Tables {
		if rows.N == 0 {
			continue
		}
		i := g.index(rows.Table.Name)
		if i < 0 {
			i = g.insert(rows.Table, next)
		}
		g.tables[i].Append(rows)
		next = i + 1
	}
	g.rows += b.Rows()
	return true
}

// orderFits reports whether the tables that batch and group share stand in the same order in both.
func (g *group) orderFits(b *pipeline.Batch) bool {
	last := -1
	for _, rows := range b.Tables {
		if i := g.index(rows.Table.Name); i >= 0 && rows.N > 0 {
			if i < last {
				return false
			}
			last = i
		}
	}
	return true
}

// index returns the place of a table, -1 if it is not in the group.
func (g *group) index(table string) int {
	return slices.IndexFunc(g.tables, func(r *pipeline.Rows) bool { return r.Table.Name == table })
}

// insert makes room for a table at or after a place. Checkpoints say that other rows are there, so they go behind
// the rows of all batches.
func (g *group) insert(t *pipeline.Table, place int) int {
	if t.Name == checkpointsTable {
		place = len(g.tables)
	}
	rows := g.spare[t.Name]
	if rows == nil || len(rows.Data) != len(t.Columns) {
		rows = pipeline.NewRows(t)
	}
	delete(g.spare, t.Name)
	rows.Table = t
	g.tables = slices.Insert(g.tables, place, rows)
	return place
}
