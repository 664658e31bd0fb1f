package codec

import (
	"fmt"
	"strings"

	"zyklus/pipeline"
)

// The formats of New.
const (
	FormatSegment     = "segment"     // JSON of Segment, RudderStack and Jitsu
	FormatCloudEvents = "cloudevents" // CloudEvents 1.0, structured or binary
	FormatMapping     = "mapping"     // any JSON objects, by Options.Mapping
)

// Formats lists the formats of New, sorted.
func Formats() []string { return []string{FormatCloudEvents, FormatMapping, FormatSegment} }

// Decoder turns records into Events. It is pure: the same record and options give the same event, it reads no clock and
// does no I/O. It belongs to one goroutine, for it reuses its memory.
type Decoder interface {
	// Decode reads a record into e, of which it sets all fields but Origin. The slices in e alias the record or memory of
	// the decoder and are valid until the next call.
	//
	// It returns nil; or pipeline.ErrIgnored for an event whose only ids are ignored ones, or that a mapping ignores; or
	// a *pipeline.RecordError, valid until the next call. On a RecordError e is not to be used but for At, the event time
	// if it was known by then, else 0. time_in_future is reported here only for times after 2199: comparing with the
	// append time is the caller's part.
	Decode(r *pipeline.Record, e *pipeline.Event) error
}

var (
	_ Decoder = (*Segment)(nil)
	_ Decoder = (*CloudEvents)(nil)
	_ Decoder = (*Mapped)(nil)
)

// New returns a decoder of a format. It fails if the format is unknown, an option is out of its range, or Options.Mapping
// is missing, or given to a format that has no use for it.
func New(format string, options Options) (Decoder, error) {
	if options.Mapping != nil && format != FormatMapping {
		return nil, fmt.Errorf("format %s takes no mapping: remove it, or choose format %s", format, FormatMapping)
	}
	switch format {
	case FormatSegment:
		return NewSegment(options)
	case FormatCloudEvents:
		return NewCloudEvents(options)
	case FormatMapping:
		return NewMapped(options)
	}
	return nil, fmt.Errorf("unknown format %q: choose one of %s", format, strings.Join(Formats(), ", "))
}
