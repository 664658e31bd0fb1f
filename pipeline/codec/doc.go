// Package codec turns the bytes of one input record into a pipeline.Event, or says why it cannot.
//
// Segment reads the JSON of Segment, RudderStack and Jitsu. A decoder is pure: the same bytes and options give the
// same event, it reads no clock and does no I/O. It belongs to one goroutine, for it reuses its scratch memory.
//
// The way of a record through Segment.Decode:
//
//	bytes ─ scan.go ────► tokens: where each member of interest stands; the whole document checked as JSON
//	      ─ segment.go ─► envelope: time, kind (aliases.go), customer, event id (id.go)
//	      ─ order.go ───► order id, currency (currency.go), money (decimal.go), product lines
//
// Scanning decides alone whether the value is JSON, reading tokens decides what it means. So members may come in any
// order, the last of two equal members wins, and a member that no rule asks for cannot fail a record by its content.
package codec
