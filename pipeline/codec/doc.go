// Package codec turns input records into pipeline.Events, or says why it cannot.
//
// New returns a Decoder of one of three formats: Segment (also RudderStack and Jitsu), CloudEvents, and any JSON objects by
// a Mapping, of which some are built in (Presets). A decoder is pure: the same record and options give the same event, it
// reads no clock and does no I/O. It belongs to one goroutine, for it reuses its scratch memory.
//
// The way of a record:
//
//	bytes ─ scan.go ─────────► tokens: where each member of interest stands; the whole document checked as JSON
//	      ─ segment.go         envelope: event type (aliases.go), time, event id, customer; one file a format
//	        cloudevents.go
//	        mapped.go ────────► by the rules of a mapping (mapping.go, yaml.go, reach.go), whose expressions are parsed and
//	                           checked by cel-go (language.go) and compiled to closures (compile.go, functions.go) over the
//	                           record (json.go, value.go)
//	      ─ reader.go ────────► what all formats share: times (time.go), ids (id.go), money (money.go, decimal.go,
//	        order.go           currency.go) and product lines
//
// Scanning decides alone whether the value is JSON, reading tokens decides what it means. So members may come in any
// order, the last of two equal members wins, and a member that no rule asks for cannot fail a record by its content.
//
// Money never passes through binary floating point: amounts are read from the digits as they are written, and what a
// mapping calculates is calculated in exact fractions and rounded once, half away from zero, to the currency's minor unit.
package codec
