package kafka

import (
	"bytes"
	"context"
	"fmt"

	"zyklus/pipeline"
)

// Republish is the work of writing the rows of one partition again from its changelog.
type Republish struct {
	Partition int32
	// Customer is the only one to write; nil for all. The row of `checkpoints` is then left out: it would promise the
	// rows of all.
	Customer []byte
	Job      *pipeline.Job
	Sink     pipeline.Sink
	// Restoring is told how many of the changelog's offsets have been read, Writing how many customers are yet to be
	// written. Either may be nil.
	Restoring func(done, total int64)
	Writing   func(left int64)
}

// Republished is what was written.
type Republished struct {
	Partition int32
	Version   int64 // of the checkpoint that the rows are as of; 0 if the partition has none
	Customers int64
	Rows      int64 // of all tables
}

// Republish restores a Task from what is committed and writes its rows: all customers, and what the Sink had not
// acknowledged. It joins no group and begins no transaction. The partition's owner may run: the rows have the versions
// of the state, and equal versions are equal rows. Memory is that of the partition's state.
func (a *Admin) Republish(ctx context.Context, r Republish) (Republished, error) {
	out := Republished{Partition: r.Partition}
	// Before the changelog is read: what the Sink holds by now was committed before.
	stored, err := r.Sink.Version(ctx, a.o.Topic, r.Partition)
	if err != nil {
		return out, err
	}
	task := pipeline.NewTask(r.Job, a.o.Topic, r.Partition)
	defer task.Close()
	if err := a.restoreTask(ctx, task, &r); err != nil {
		return out, err
	}
	if out.Version = task.Version(); stored > out.Version {
		return out, fmt.Errorf("the changelog of partition %d is older (%s) than the database (%s): its rows would lose; see zyklus admin rebuild",
			r.Partition, versionText(out.Version), versionText(stored))
	}
	if out.Version == 0 {
		return out, nil
	}
	if err := task.Republish(); err != nil {
		return out, err
	}
	for b := task.NextBatch(a.o.BatchRows); b != nil; b = task.NextBatch(a.o.BatchRows) {
		out.Customers += int64(rowsOf(b, "customers"))
		if r.Customer != nil {
			dropTable(b, "checkpoints")
		}
		out.Rows += int64(b.Rows())
		if err := r.Sink.Write(ctx, b); err != nil {
			return out, fmt.Errorf("write rows of partition %d: %w", r.Partition, err)
		}
		task.Acknowledge()
		if r.Writing != nil {
			r.Writing(task.Stats().RowsPending)
		}
	}
	return out, nil
}

func (a *Admin) restoreTask(ctx context.Context, task *pipeline.Task, r *Republish) error {
	err := a.Scan(ctx, Scan{Partitions: []int32{r.Partition}, Progress: r.Restoring, Each: func(_ int32, key, value []byte) error {
		if r.Customer != nil {
			customer, err := pipeline.ChangelogKey(key)
			if err != nil || customer != nil && !bytes.Equal(customer, r.Customer) {
				return err
			}
		}
		return task.Restore(key, value)
	}})
	if err != nil {
		return err
	}
	if err := task.Restored(); err != nil {
		return fmt.Errorf("restore %s partition %d: %w", a.o.ChangelogTopic, r.Partition, err)
	}
	return nil
}

func rowsOf(b *pipeline.Batch, table string) int {
	for _, rows := range b.Tables {
		if rows.Table.Name == table {
			return rows.N
		}
	}
	return 0
}

func dropTable(b *pipeline.Batch, table string) {
	for _, rows := range b.Tables {
		if rows.Table.Name == table {
			rows.Reset()
		}
	}
}
