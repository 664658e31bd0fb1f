package embedded

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
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

// writeResult writes the result in the form the request asked for. An error of
// the connection ends it silently: the client has gone.
func (s *server) writeResult(w http.ResponseWriter, req *request, res *result) {
	h := w.Header()
	s.setHeaders(h, req.queryID)
	h.Set("Content-Type", contentType(req.format))
	h.Set("X-ClickHouse-Format", req.format)
	h.Set("X-ClickHouse-Summary", summary(res))
	data := res.data
	if len(data) == 0 {
		data = res.header
	}
	if len(data) == 0 {
		h.Set("Content-Length", "0")
		return
	}
	if req.encoding != "" {
		h.Set("Content-Encoding", req.encoding)
	}
	if err := writeData(w, req, data); err != nil {
		// The status is out: only a broken connection tells the client.
		panic(http.ErrAbortHandler)
	}
}

// writeData writes the data: Native blocks in the revision asked for, within
// ClickHouse's frames, within the HTTP encoding, each only if asked for.
func writeData(w io.Writer, req *request, data []byte) (err error) {
	encoded, err := encodeBody(req.encoding, w)
	if err != nil {
		return fmt.Errorf("encode response: %w", err)
	}
	defer closeInto(encoded, &err)
	var out io.Writer = encoded
	if req.frames {
		frames := newFrameWriter(encoded, req.method)
		defer closeInto(frames, &err)
		out = frames
	}
	if req.format == "Native" {
		return translateNative(out, data, req.protocol)
	}
	_, err = out.Write(data)
	return err
}

// closeInto closes c and keeps the first error.
func closeInto(c io.Closer, err *error) {
	if cerr := c.Close(); *err == nil {
		*err = cerr
	}
}

// writeError answers with an exception: status, code and text.
func (s *server) writeError(w http.ResponseWriter, queryID string, err error) {
	var exc *exception
	if !errors.As(err, &exc) {
		exc = otherException(err)
	}
	h := w.Header()
	s.setHeaders(h, queryID)
	h.Set("Content-Type", "text/plain; charset=UTF-8")
	h.Set("X-ClickHouse-Exception-Code", strconv.Itoa(exc.code))
	w.WriteHeader(httpStatus(exc.code))
	text := strings.TrimSpace(exc.text)
	if !strings.Contains(text, "(version ") {
		text += " (version " + s.version + " (embedded))"
	}
	_, _ = io.WriteString(w, text+"\n")
}

// otherException gives an error that is not the engine's a code.
func otherException(err error) *exception {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return raise(codeQueryWasCancelled, "QUERY_WAS_CANCELLED", err.Error())
	}
	return raise(codeUnknownException, "UNKNOWN_EXCEPTION", err.Error())
}

// summary is the value of X-ClickHouse-Summary.
func summary(res *result) string {
	return fmt.Sprintf(`{"read_rows":"%d","read_bytes":"%d","written_rows":"%d","written_bytes":"%d",`+
		`"total_rows_to_read":"0","result_rows":"0","result_bytes":"%d","elapsed_ns":"%d"}`,
		res.rowsRead, res.bytesRead, res.rowsWritten, res.bytesWritten, len(res.data), res.elapsed.Nanoseconds())
}

// contentType returns the media type of an output format.
func contentType(format string) string {
	switch {
	case format == "JSONEachRow", format == "NDJSON", format == "JSONLines":
		return "application/x-ndjson; charset=UTF-8"
	case strings.HasPrefix(format, "JSON"):
		return "application/json; charset=UTF-8"
	case strings.HasPrefix(format, "CSV"):
		return "text/csv; charset=UTF-8; header=absent"
	case strings.HasPrefix(format, "TSV"), strings.HasPrefix(format, "TabSeparated"):
		return "text/tab-separated-values; charset=UTF-8"
	case format == "XML":
		return "application/xml; charset=UTF-8"
	case format == "Native", strings.HasPrefix(format, "RowBinary"), format == "Parquet", format == "Arrow", format == "ORC":
		return "application/octet-stream"
	}
	return "text/plain; charset=UTF-8"
}
