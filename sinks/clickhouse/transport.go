package clickhouse

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// idleTimeout closes HTTP connections that nothing uses. The driver leaves one open for each login that the server
// refused, by default for an hour.
const idleTimeout = time.Minute

// transport sends our encoded blocks. Whether a body is compressed is said with the body: as a setting of the context
// it would also apply to the query with which the driver opens a connection, whose body is plain, and after an outage
// no connection would ever open again.
type transport struct{ *http.Transport }

// newTransport finishes the transport that the driver has configured.
func (o *Options) newTransport(t *http.Transport) (http.RoundTripper, error) {
	t.IdleConnTimeout = idleTimeout
	if o.TLS != nil {
		t.DialTLSContext = o.dial
	}
	return transport{t}, nil
}

// RoundTrip implements http.RoundTripper. The driver takes any answer with status 200 for a success: rows would be lost
// to a page that something in front of ClickHouse answers in its place.
func (t transport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.send(req)
	if err != nil || resp.StatusCode != http.StatusOK || ofClickHouse(resp.Header) {
		return resp, err
	}
	_ = resp.Body.Close() // the error that counts is who has answered
	return nil, errImpostor
}

// errImpostor says that an answer is not ClickHouse's.
var errImpostor = errors.New("something in front of ClickHouse answers in its place")

// ofClickHouse reports whether an answer has any of the headers that ClickHouse puts into all of its own.
func ofClickHouse(header http.Header) bool {
	for name := range header {
		if strings.HasPrefix(name, "X-Clickhouse-") {
			return true
		}
	}
	return false
}

func (t transport) send(req *http.Request) (*http.Response, error) {
	lent, ok := req.Body.(*body)
	if !ok {
		return t.Transport.RoundTrip(req)
	}
	req = req.WithContext(req.Context()) // a copy: a RoundTripper must not change its request
	req.ContentLength = int64(len(lent.rest))
	if lent.compressed {
		url := *req.URL
		url.RawQuery += "&decompress=1"
		req.URL = &url
	}
	return t.Transport.RoundTrip(req)
}

// body lends bytes to an HTTP request until it is closed. net/http may still read a request's body after it has
// returned an error; without this the next attempt's bytes would be mixed into an insert that the server still
// receives.
type body struct {
	compressed bool

	mu     sync.Mutex
	rest   []byte
	closed bool
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, io.ErrClosedPipe // not EOF, which would end the body as if it were complete
	}
	if len(b.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// Close ends the loan.
func (b *body) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rest, b.closed = nil, true
	return nil
}
