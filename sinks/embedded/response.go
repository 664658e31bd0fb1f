package embedded

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// newQueryID returns a random UUID.
func newQueryID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// setHeaders sets the headers every answer has.
func (s *server) setHeaders(h http.Header, queryID string) {
	h.Set("X-ClickHouse-Server-Display-Name", s.name)
	h.Set("X-ClickHouse-Timezone", s.timezone)
	if queryID != "" {
		h.Set("X-ClickHouse-Query-Id", queryID)
	}
}

// otherException gives an error that is not the engine's a code.
func otherException(err error) *exception {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return raise(codeQueryWasCancelled, "QUERY_WAS_CANCELLED", err.Error())
	}
	return raise(codeUnknownException, "UNKNOWN_EXCEPTION", err.Error())
}

// contentType returns the media type of an output format.
func contentType(format string) string {
	begins := func(names ...string) bool {
		return slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(format, name) })
	}
	switch {
	case begins("JSONEachRow", "JSONStringsEachRow", "NDJSON", "JSONLines"):
		return "application/x-ndjson; charset=UTF-8"
	case begins("JSON"):
		return "application/json; charset=UTF-8"
	case begins("CSVWithNames"):
		return "text/csv; charset=UTF-8; header=present"
	case begins("CSV"):
		return "text/csv; charset=UTF-8; header=absent"
	case begins("TSV", "TabSeparated"):
		return "text/tab-separated-values; charset=UTF-8"
	case format == "XML":
		return "application/xml; charset=UTF-8"
	case begins("Native", "RowBinary", "Parquet", "Arrow", "ORC", "Avro", "MsgPack", "Protobuf", "CapnProto"):
		return "application/octet-stream"
	}
	return "text/plain; charset=UTF-8"
}
