// Package pipeline holds what Zyklus exists for: event time, keyed state, timers and exact checkpoints. It does no I/O,
// starts no goroutine and reads no clock; technology lives in packages around it.
//
// An Event of one partition goes to that partition's Task. The Task folds it, in event-time order, through the Operators
// into a Customer; deadlines between two events (silence) fire in the same fold, at their own instants. Lifecycles
// decide the phase after each event and deadline. A Checkpoint holds the customers touched since the last one, with
// position and clock; once it is committed, rows are projected from it for the Sink.
//
// Per customer, the state at rest is a settled record, folded up to the watermark, and the open events after it. The
// live record is the fold of both, advanced to the clock; all that is published comes from it. How the customer stood at
// the end of each day is captured by that fold as it leaves the day (days.go).
package pipeline
