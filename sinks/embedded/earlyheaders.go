package embedded

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"
	"time"
)

// earlyWriter is a response whose headers can begin before the answer is known:
// it takes the connection over at the first line of progress, since net/http
// sends headers only whole. The status then is 200 whatever comes, as on a
// ClickHouse server, and the connection closes with the response.
//
//	as net/http has it --Early--> headers begun --Write--> body --Close--> closed
type earlyWriter struct {
	http.ResponseWriter
	// gone is called when the client closes the connection.
	gone context.CancelFunc

	mu     sync.Mutex
	conn   net.Conn
	buf    *bufio.ReadWriter
	header http.Header
	// sent are the headers that have gone out.
	sent map[string]bool
	body io.WriteCloser
	// watched is closed when the connection is no longer watched.
	watched chan struct{}
	// closed says that the plain response has begun, so that it is too late.
	closed bool
}

// Header implements http.ResponseWriter.
func (w *earlyWriter) Header() http.Header {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.header != nil {
		return w.header
	}
	return w.ResponseWriter.Header()
}

// Early sends a line of the headers now, and before the first those that are
// set so far. It does nothing once the body has begun.
func (w *earlyWriter) Early(name, value string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.body != nil {
		return
	}
	if w.conn == nil && !w.takeOver() {
		return
	}
	_, _ = fmt.Fprintf(w.buf, "%s: %s\r\n", name, value)
	_ = w.buf.Flush() // a client that has gone ends the statement by w.gone
}

// takeOver takes the connection and begins the headers.
func (w *earlyWriter) takeOver() bool {
	header := w.ResponseWriter.Header()
	conn, buf, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		w.closed = true
		return false
	}
	_ = conn.SetDeadline(time.Time{})
	w.conn, w.buf, w.header, w.watched = conn, buf, http.Header{}, make(chan struct{})
	w.sent = map[string]bool{"Content-Length": true} // the body comes in chunks
	header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	header.Set("Connection", "close")
	header.Set("Transfer-Encoding", "chunked")
	_, _ = io.WriteString(buf, "HTTP/1.1 200 OK\r\n")
	_ = header.WriteSubset(buf, w.sent)
	for name := range header {
		w.sent[name] = true
	}
	go func() {
		defer close(w.watched)
		// A client sends nothing more on this connection: the read ends with it.
		_, _ = io.Copy(io.Discard, buf.Reader)
		w.gone()
	}()
	return true
}

// WriteHeader implements http.ResponseWriter.
func (w *earlyWriter) WriteHeader(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begin(status)
}

// begin ends the headers.
func (w *earlyWriter) begin(status int) {
	switch {
	case w.closed || w.body != nil:
	case w.conn == nil:
		w.closed = true
		w.ResponseWriter.WriteHeader(status)
	default:
		_ = w.header.WriteSubset(w.buf, w.sent)
		_, _ = io.WriteString(w.buf, "\r\n")
		w.body = httputil.NewChunkedWriter(w.buf)
	}
}

// Write implements http.ResponseWriter.
func (w *earlyWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begin(http.StatusOK)
	if w.body == nil {
		return w.ResponseWriter.Write(p)
	}
	if len(p) == 0 {
		return 0, nil // an empty chunk would end the body
	}
	n, err := w.body.Write(p)
	if err != nil {
		return n, err
	}
	return n, w.buf.Flush()
}

// SetWriteDeadline serves http.ResponseController.
func (w *earlyWriter) SetWriteDeadline(deadline time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn == nil {
		return http.NewResponseController(w.ResponseWriter).SetWriteDeadline(deadline)
	}
	return w.conn.SetWriteDeadline(deadline)
}

// Flush implements http.Flusher.
func (w *earlyWriter) Flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn == nil {
		_ = http.NewResponseController(w.ResponseWriter).Flush()
		return
	}
	_ = w.buf.Flush()
}

// Close ends a response whose connection was taken over; a broken one is broken
// off without an end.
func (w *earlyWriter) Close(broken bool) {
	w.mu.Lock()
	if w.conn == nil {
		w.mu.Unlock()
		return
	}
	if !broken {
		w.begin(http.StatusOK)
		_ = w.body.Close()
		_, _ = io.WriteString(w.buf, "\r\n")
		_ = w.buf.Flush()
	}
	w.mu.Unlock()
	_ = w.conn.Close()
	<-w.watched
}
