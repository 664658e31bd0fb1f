package embedded

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// holdSize is how much of a result is held before its first byte is sent, in
// bytes: an error until then still has a status of its own.
const holdSize = 512 << 10

// responder sends a result that comes in pieces.
//
//	holding -> sending -> finished
//	   |
//	   +-> spilling (wait_end_of_query: all is kept in a file until the end)
type responder struct {
	s   *server
	w   http.ResponseWriter
	req *request
	// held is the result so far, until something is sent or spilled.
	held  []byte
	spill *os.File
	// out is where the result goes once the headers are out.
	out io.Writer
	// plain is below out and takes text of ours: the frames or the encoding.
	plain io.Writer
	// closers end out's layers, the innermost last.
	closers []io.Closer
	// tag marks an exception that comes after part of the result.
	tag string
	// soFar tells the statement's progress.
	soFar func() progress
	// early sends lines of progress before the headers end; it may be nil.
	early *earlyWriter
	// quiet stops such lines and waits for one under way.
	quiet func()
}

func (s *server) newResponder(w http.ResponseWriter, req *request) *responder {
	return &responder{s: s, w: w, req: req, tag: newExceptionTag(), quiet: func() {}}
}

// begin is called before the statement with the given tag starts.
func (r *responder) begin(tag string) {
	r.soFar = func() progress { return r.s.engine.progress(tag) }
	if r.early == nil {
		return
	}
	r.setHeaders()
	stop := r.s.engine.follow(tag, r.req.tellEvery, func(p progress) {
		if p.elapsed > 0 {
			r.early.Early("X-ClickHouse-Progress", p.json())
		}
	})
	r.quiet = sync.OnceFunc(stop)
}

// empty reports whether nothing has been written so far.
func (r *responder) empty() bool { return len(r.held) == 0 && r.out == nil && r.spill == nil }

// newExceptionTag returns sixteen random letters.
func newExceptionTag() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	for i := range b {
		b[i] = 'a' + b[i]%26
	}
	return string(b[:])
}

// Write takes a piece of the result.
func (r *responder) Write(p []byte) (int, error) {
	switch {
	case r.out != nil:
		return r.out.Write(p)
	case r.spill != nil:
		return r.spill.Write(p)
	case len(r.held)+len(p) <= holdSize:
		r.held = append(r.held, p...)
		return len(p), nil
	}
	target := r.startSpill
	if !r.req.waitEnd {
		target = r.start
	}
	if err := target(); err != nil {
		return 0, err
	}
	if _, err := r.Write(r.held); err != nil {
		return 0, err
	}
	r.held = nil
	return r.Write(p)
}

func (r *responder) startSpill() error {
	f, err := os.CreateTemp(r.s.spool.dir, "result-*")
	if err != nil {
		return fmt.Errorf("keep result until its end: %w", err)
	}
	r.spill = f
	return nil
}

// start sends the headers and builds the layers of the body.
func (r *responder) start() error {
	r.quiet()
	r.setHeaders()
	r.setSummary(r.soFar())
	return r.build(&patientWriter{dst: r.w, control: http.NewResponseController(r.w), timeout: cmp.Or(r.s.sendTimeout, httpSendTimeout)})
}

// httpSendTimeout is how long a client may take to accept a piece of a response,
// as long as ClickHouse's http_send_timeout. One that takes longer would keep the
// place of its statement for ever.
const httpSendTimeout = 30 * time.Second

// patientWriter bounds the time of each write to a client.
type patientWriter struct {
	dst     io.Writer
	control *http.ResponseController
	timeout time.Duration
}

// Write implements io.Writer.
func (p *patientWriter) Write(b []byte) (int, error) {
	if err := p.control.SetWriteDeadline(time.Now().Add(p.timeout)); err != nil {
		return 0, err
	}
	n, err := p.dst.Write(b)
	if err != nil {
		return n, err
	}
	return n, p.control.SetWriteDeadline(time.Time{})
}

// build stacks Native blocks in the revision asked for on ClickHouse's frames
// on the HTTP encoding on w, each only if asked for.
func (r *responder) build(w io.Writer) error {
	encoded, err := encodeBody(r.req.encoding, w)
	if err != nil {
		return fmt.Errorf("encode response: %w", err)
	}
	r.plain, r.closers = encoded, []io.Closer{encoded}
	if r.req.frames {
		frames := newFrameWriter(encoded, r.req.method)
		r.plain, r.closers = frames, append(r.closers, frames)
	}
	r.out = r.plain
	if r.req.format == "Native" && r.req.protocol > 0 {
		native := newNativeWriter(r.plain, r.req.protocol)
		r.out, r.closers = native, append(r.closers, native)
	}
	return nil
}

// closeLayers ends the body's layers from the outermost to the last.
func (r *responder) closeLayers() error {
	for i := len(r.closers) - 1; i >= 0; i-- {
		if err := r.closers[i].Close(); err != nil {
			return err
		}
	}
	return nil
}

// setHeaders sets what is known before the statement runs.
func (r *responder) setHeaders() {
	h := r.w.Header()
	r.s.setHeaders(h, r.req.queryID)
	h.Set("Content-Type", contentType(r.req.format))
	h.Set("X-ClickHouse-Format", r.req.format)
	h.Set("X-ClickHouse-Exception-Tag", r.tag)
}

func (r *responder) setSummary(p progress) {
	h := r.w.Header()
	h.Set("X-ClickHouse-Summary", p.json())
	if r.req.encoding != "" {
		h.Set("Content-Encoding", r.req.encoding)
	}
}

// finish sends the rest of the result, or the error.
func (r *responder) finish(res *result, err error) {
	defer r.removeSpill()
	if err == nil {
		err = r.finishResult(res)
	}
	switch {
	case err == nil:
	case r.out == nil:
		r.s.writeError(r.w, r.req.queryID, err)
	default:
		// The status is out: the exception's text, and then a connection broken
		// off, tell the client.
		r.sendException(err)
		panic(http.ErrAbortHandler)
	}
}

// finishResult sends what has not been sent.
func (r *responder) finishResult(res *result) error {
	if r.out != nil {
		return r.closeLayers()
	}
	if len(res.data) > 0 {
		if _, err := r.Write(res.data); err != nil {
			return err
		}
		if r.out != nil {
			return r.closeLayers()
		}
	}
	r.soFar = res.progress
	if r.spill != nil {
		return r.sendSpill()
	}
	if len(r.held) == 0 {
		r.held = res.header
	}
	return r.sendHeld(res)
}

// sendHeld sends a short result, with its length.
func (r *responder) sendHeld(res *result) error {
	var body bytes.Buffer
	if len(r.held) > 0 {
		err := r.encode(&body)
		r.out, r.plain, r.closers = nil, nil, nil // nothing was sent
		if err != nil {
			return err
		}
	} else {
		r.req.encoding = ""
	}
	r.setHeaders()
	r.setSummary(res.progress())
	r.w.Header().Set("Content-Length", strconv.Itoa(body.Len()))
	_, _ = r.w.Write(body.Bytes()) // a client that has gone needs no answer
	return nil
}

// encode writes what is held through the layers of the body to w.
func (r *responder) encode(w io.Writer) error {
	if err := r.build(w); err != nil {
		return err
	}
	if _, err := r.out.Write(r.held); err != nil {
		return err
	}
	return r.closeLayers()
}

func (r *responder) sendSpill() error {
	if _, err := r.spill.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read kept result: %w", err)
	}
	if err := r.start(); err != nil {
		return err
	}
	if _, err := io.Copy(r.out, r.spill); err != nil {
		return err
	}
	return r.closeLayers()
}

func (r *responder) removeSpill() {
	if r.spill != nil {
		_ = r.spill.Close()
		_ = os.Remove(r.spill.Name())
	}
}

// sendException appends an exception to a result of which part was sent, in the
// manner of ClickHouse 25.11 and later. Errors are of no use any more.
func (r *responder) sendException(err error) {
	if r.plain == nil {
		return
	}
	text := r.s.exceptionText(err)
	const mark = "__exception__"
	_, _ = fmt.Fprintf(r.plain, "\r\n%s\r\n%s\r\n%s\n%d %s\r\n%s\r\n", mark, r.tag, text, len(text)+1, r.tag, mark)
	for i := len(r.closers) - 1; i >= 0; i-- {
		if _, native := r.closers[i].(*nativeWriter); !native {
			_ = r.closers[i].Close()
		}
	}
	_ = http.NewResponseController(r.w).Flush()
}

// writeError answers with an exception: status, code and text.
func (s *server) writeError(w http.ResponseWriter, queryID string, err error) {
	exc := asException(err)
	h := w.Header()
	s.setHeaders(h, queryID)
	h.Set("Content-Type", "text/plain; charset=UTF-8")
	h.Set("X-ClickHouse-Exception-Code", strconv.Itoa(exc.code))
	status := httpStatus(exc.code)
	if status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Basic realm="ClickHouse server HTTP API"`)
	}
	text := s.exceptionText(err)
	h.Set("Content-Length", strconv.Itoa(len(text)+1))
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n")
}

// exceptionText is what a client is shown of an error, as one ends it.
func (s *server) exceptionText(err error) string {
	text := strings.TrimSpace(asException(err).text)
	if !strings.Contains(text, "(version ") {
		text += " (version " + s.version + " (embedded))"
	}
	return text
}

// asException gives an error that is not the engine's a code.
func asException(err error) *exception {
	var exc *exception
	if errors.As(err, &exc) {
		return exc
	}
	return otherException(err)
}
