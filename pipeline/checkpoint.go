package pipeline

import "context"

// Checkpoint is everything that one transaction of a partition holds. The order of a checkpoint is:
//
//  1. Task.Checkpoint encodes the touched customers; the state at rest is now ahead of the changelog.
//  2. One Kafka transaction writes Changes, DeadLetters and Outputs. If its outcome is unknown or it is fenced, the Task is
//     dropped and restored from the changelog: state, timers, clock and position go back together.
//  3. Task.Committed.
//  4. Task.NextBatch projects committed customers to rows; they go to the Sink; Task.Acknowledge.
//
// The number that the Sink has acknowledged travels in the next checkpoint. After a restart, everything that
// changed later is written again under the same versions.
type Checkpoint struct {
	Number      uint64
	Position    int64 // offset of the next record to read
	Clock       int64 // Unix milliseconds
	Watermark   int64 // Unix milliseconds; rows dated before it are final; corrections are dated at it
	Changes     []Change
	DeadLetters []DeadLetter
	Outputs     []Output
}

// Change is one record of the changelog. The key of a customer holds the customer id, the key of the partition's
// own record (position, clock, versions) does not. Keys are never deleted.
type Change struct{ Key, Value []byte }

// Batch is a part of the projection of one partition's committed state.
type Batch struct {
	Topic     string
	Partition int32
	// Version is that of the checkpoint up to which everything is written once this batch and its predecessors
	// are.
	Version int64
	// Tables are the rows to write, in this order: `checkpoints`, if present, comes last and says that all rows up
	// to its version are there.
	Tables []*Rows
}

// Rows counts the rows of all tables.
func (b *Batch) Rows() int {
	n := 0
	for _, t := range b.Tables {
		n += t.N
	}
	return n
}

// Sink stores rows. It is safe for concurrent use by the goroutines of several partitions.
type Sink interface {
	// Write stores all rows of the batch, in the order of its tables, and returns when they are durable. It retries
	// while the error may pass, until ctx ends. Writing a row again is harmless: of one key the greatest version
	// counts, and equal versions mean equal rows. An error other than ctx's means that retrying cannot help.
	Write(ctx context.Context, b *Batch) error
	// Version returns the greatest version stored for a partition, 0 if there is none.
	Version(ctx context.Context, topic string, partition int32) (int64, error)
}

// lineageShift leaves 40 bits for the checkpoint number: 34,000 years of checkpoints at one a second.
const lineageShift = 40

// Version packs lineage and checkpoint number so that a later lineage is always greater.
func Version(lineage, number uint64) int64 { return int64(lineage<<lineageShift | number) }

// SplitVersion is the inverse of Version.
func SplitVersion(v int64) (lineage, number uint64) {
	return uint64(v) >> lineageShift, uint64(v) & (1<<lineageShift - 1)
}
