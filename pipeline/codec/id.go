package codec

import "github.com/cespare/xxhash/v2"

// The byte between the source and what follows it keeps the two ways to name an event apart.
const (
	byMessageID = "\x00"
	byContent   = "\x01"
)

// EventID returns the id of the event that its source names id: xxhash64 of source, a zero byte and id. Equal ids are
// one event, so source must be a name within which the tracker's message ids are unique. It holds no zero byte.
func EventID(source string, id []byte) uint64 { return hash(source, byMessageID, id) }

// contentID returns the id of an event that its source does not name: only the same bytes are the same event.
func contentID(source string, value []byte) uint64 { return hash(source, byContent, value) }

func hash(source, separator string, b []byte) uint64 {
	var h xxhash.Digest
	h.Reset()
	// A hash never returns an error.
	_, _ = h.WriteString(source)
	_, _ = h.WriteString(separator)
	_, _ = h.Write(b)
	return h.Sum64()
}
