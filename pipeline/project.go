package pipeline

import "slices"

// projection is the part of the committed state that is on its way to the sink: the customers that had changed when
// the last row had been written, taken in slices.
type projection struct {
	queue  []uint32   // slots yet to be projected
	target checkpoint // once the queue is written, everything up to here is
	batch  *Batch     // last returned, not acknowledged
	last   bool       // whether batch completes target
	shed   []uint32   // slots whose records hold pending days that are written once target is
	rows   map[*Table]*Rows
	tables []*Rows
}

// NextBatch projects committed customers whose rows are yet to be written, some maxRows rows. It returns nil while there
// are none, or while an earlier batch is not acknowledged. Call it only right after Committed or Restored, or while
// nothing but Process, AdvanceClock and Drain has been called since.
func (t *Task) NextBatch(maxRows int) *Batch {
	p := &t.project
	if p.batch != nil {
		return nil
	}
	if len(p.queue) == 0 {
		if Version(t.lineage, t.committed.number) <= t.acked || t.committed.number == 0 {
			return nil
		}
		p.queue, t.dirty = t.dirty, p.queue[:0]
		p.target = t.committed
	}
	p.begin(t.job)
	n := 0
	for rows := 0; n < len(p.queue) && rows < maxRows; n++ {
		t.isDirty[p.queue[n]] = false
		rows += t.projectCustomer(p.queue[n])
	}
	p.queue = p.queue[n:]
	p.last = len(p.queue) == 0
	if p.last {
		t.checkpointRow()
	}
	p.batch = &Batch{
		Topic: t.topic, Partition: t.partition, Version: Version(t.lineage, p.target.number), Tables: p.tables,
	}
	return p.batch
}

// Acknowledge says that the sink has stored the batch that NextBatch returned last.
func (t *Task) Acknowledge() {
	p := &t.project
	if p.batch == nil {
		panic("BUG: no batch to acknowledge")
	}
	if p.last {
		t.acked = p.batch.Version
		p.shed = slices.DeleteFunc(p.shed, t.shedDays) // others hold days of later checkpoints, which may be written, too
	}
	p.batch = nil
}

func (p *projection) begin(job *Job) {
	if p.rows == nil {
		p.rows = map[*Table]*Rows{}
		for _, table := range job.written() {
			p.rows[table] = NewRows(table)
			p.tables = append(p.tables, p.rows[table])
		}
	}
	for _, r := range p.tables {
		r.Reset()
	}
}

// projectCustomer appends the customer's row and the history rows in its outbox, and returns how many.
func (t *Task) projectCustomer(slot uint32) int {
	var h header
	var err error
	must(readHeader(t.slab.get(slot), &h))
	c := t.scratch
	t.opens, err = readOpen(t.opens[:0], h.open)
	must(err)
	must(c.load(&t.fold, &h, t.opens, &t.event))
	t.customerRow(c, h.rowVersion)
	var days []byte
	t.outs, days, err = readOutbox(t.outs[:0], h.outbox, t.acked)
	must(err)
	for i := range t.outs {
		o := &t.outs[i]
		if o.table == 0 {
			t.transitionRow(c.ID, o)
			continue
		}
		table := t.job.history[o.table-1]
		rows := t.project.rows[table]
		for i, n := range t.job.tableOf {
			if n == o.table && c.states[i].(RowWriter).WriteRow(o.key, c, rows) {
				rows.End(o.version, false)
			}
		}
	}
	return 1 + len(t.outs) + t.dayRows(slot, c.ID, days)
}

func (t *Task) customerRow(c *Customer, version int64) {
	rows := t.project.rows[t.job.customers]
	rows.Text(c.ID)
	c.values(rows)
	rows.Int(int64(t.partition))
	rows.End(version, false)
}

func (t *Task) transitionRow(id []byte, o *outboxRow) {
	rows := t.project.rows[t.job.transitions]
	tr := &o.transition
	l := t.job.lifecycles[tr.Lifecycle]
	rows.String(l.ID)
	rows.Text(id)
	rows.Int(tr.At)
	rows.String(t.job.Phase(tr.Lifecycle, tr.From))
	rows.String(t.job.Phase(tr.Lifecycle, tr.To))
	rows.String(t.churned(tr.Lifecycle, tr.From))
	rows.String(t.churned(tr.Lifecycle, tr.To))
	rows.String(tr.Cause.String())
	rows.String(l.Rules[tr.Rule].ID)
	rows.Int(tr.Cycle)
	rows.Int(int64(l.Version))
	rows.Int(int64(t.job.Artefact.Version))
	rows.Int(int64(t.partition))
	rows.End(o.version, o.deleted)
}

func (t *Task) churned(l, phase int) string {
	if phase == 0 {
		return ""
	}
	return t.job.lifecycles[l].Phases[phase-1].Churned
}

func (t *Task) checkpointRow() {
	rows, c := t.project.rows[t.job.checkpoints], &t.project.target
	rows.String(t.topic)
	rows.Int(int64(t.partition))
	rows.Int(int64(t.lineage))
	rows.Int(int64(c.number))
	rows.Int(c.position)
	rows.Int(c.clock)
	rows.Int(c.watermark)
	rows.End(Version(t.lineage, c.number), false)
}
