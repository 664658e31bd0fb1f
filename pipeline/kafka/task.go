package kafka

import "zyklus/pipeline"

// Task is what a session runs: a *pipeline.Task, or a stand-in for tests. See there for the contract; all calls come
// from one goroutine.
type Task interface {
	// Restore takes one record of the changelog, in the order of the log.
	Restore(key, value []byte) error
	// Restored ends the restoration.
	Restored() error
	// Position is the offset of the next record to read, -1 for the topic's first.
	Position() int64
	// TopicID identifies the topic that Position is an offset of, zero if it is not known. SetTopicID makes it known.
	TopicID() pipeline.TopicID
	SetTopicID(id pipeline.TopicID)
	// Version is that of the last checkpoint, 0 for none.
	Version() int64
	// Process takes one event; believable is the latest instant that is no future to it, Unix milliseconds. The
	// event's bytes are overwritten afterwards.
	Process(e *pipeline.Event, believable int64)
	// Reject takes a record that could not be decoded.
	Reject(l pipeline.DeadLetter)
	// Ignore counts a record of an ignored id.
	Ignore()
	// SetPosition says that all records before next have been dealt with.
	SetPosition(next int64)
	// AdvanceClock says that everything appended up to now, Unix milliseconds, has been processed.
	AdvanceClock(now int64)
	// Hold bounds clock and watermark.
	Hold(h pipeline.Hold)
	// Mark takes a marker of the re-keying stage. The marker is overwritten afterwards.
	Mark(m *pipeline.Marker)
	// Drain fires due timers of at most max customers and reports whether more are due.
	Drain(max int) (more bool)
	// Full asks for a checkpoint before its time.
	Full() bool
	// Crowded asks for neither Process nor Drain until the Sink has taken more rows.
	Crowded() bool
	// Pending reports whether a checkpoint would hold anything.
	Pending() bool
	// Checkpoint, Committed, NextBatch and Acknowledge are the steps described at pipeline.Checkpoint.
	Checkpoint() *pipeline.Checkpoint
	Committed()
	NextBatch(maxRows int) *pipeline.Batch
	Acknowledge()
	// Stats returns the Task's figures.
	Stats() *pipeline.Stats
	// Close releases memory.
	Close()
}

var (
	_ Task = (*pipeline.Task)(nil)
	_ Task = (*pipeline.Rekeyer)(nil)
)

// Decoder turns a record into an Event. The error is nil, a *pipeline.RecordError or pipeline.ErrIgnored. The record, and
// what the Event takes from it, is overwritten after the Event has been processed. Each attempt has its own Decoder, so
// it need not be safe for concurrent use.
type Decoder interface {
	Decode(r *pipeline.Record, e *pipeline.Event) error
}
