package embedded

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ClickHouse/ch-go/proto"
)

// Exception codes that only the native protocol needs.
const (
	codeNoSuchColumn     = 16
	codeUnknownPacket    = 99
	codeUnexpectedPacket = 101
	codeNoFreeConnection = 203
)

// tcpConn is one native connection. One goroutine serves it; while a statement
// runs, a second one watches for a cancellation.
//
//	accepted -> hello -> waiting for a packet <-> statement, ping
//	               |          |                      |
//	               | refused  | idle, stop           | broken packet
//	               v          v                      v
//	             closed     closed                 closed
type tcpConn struct {
	server  *tcpServer
	nc      net.Conn
	in      *bufio.Reader
	out     *bufio.Writer
	session tcpSession
	// revision is the protocol's, agreed on by the hello.
	revision int
	// surplus connections are told that there are too many.
	surplus bool
	// idle is owned by the server's lock.
	idle bool
}

const tcpBuffer = 64 << 10

func newTCPConn(t *tcpServer, nc net.Conn) *tcpConn {
	return &tcpConn{
		server: t, nc: nc, session: tcpSession{engine: t.engine},
		in: bufio.NewReaderSize(nc, tcpBuffer), out: bufio.NewWriterSize(timedWriter{nc, cmp.Or(t.sendTimeout, packetTimeout)}, tcpBuffer),
	}
}

// timedWriter gives each write its time.
type timedWriter struct {
	nc      net.Conn
	timeout time.Duration
}

// Write implements io.Writer.
func (w timedWriter) Write(p []byte) (int, error) {
	if err := w.nc.SetWriteDeadline(time.Now().Add(w.timeout)); err != nil {
		return 0, err
	}
	return w.nc.Write(p)
}

// protocolError is an error after which the connection cannot go on: what
// follows on it cannot be understood.
type protocolError struct{ exc *exception }

// Error returns the text of the exception.
func (p *protocolError) Error() string { return p.exc.text }

func fatal(code int, name, message string) error {
	return &protocolError{raise(code, name, message)}
}

// serve talks to the client until it goes away, breaks the protocol, stays
// silent too long or the server stops.
func (c *tcpConn) serve() {
	defer c.session.close()
	err := c.handshake()
	for err == nil {
		err = c.packet()
	}
	var broken *protocolError
	if errors.As(err, &broken) && c.sendException(broken.exc) == nil {
		c.linger()
	}
}

// linger waits for the client to read the last exception: closing while data of
// the client is unread would take it away.
func (c *tcpConn) linger() {
	const most, atMost = 64 << 20, 2 * time.Second
	if half, ok := c.nc.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_ = c.nc.SetReadDeadline(time.Now().Add(atMost))
	_, _ = io.CopyN(io.Discard, c.in, most)
}

// reader returns a reader of packets from the client.
func (c *tcpConn) reader() *wireReader { return &wireReader{r: c.in, left: maxPacket} }

// malformed tells what is wrong with a packet. Errors of the connection itself
// stay what they are.
func malformed(what string, err error) error {
	var netErr net.Error
	switch {
	case errors.As(err, &netErr), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return err
	case errors.Is(err, syscall.ENOSPC):
		return fatal(codeNotEnoughSpace, "NOT_ENOUGH_SPACE", what+": "+err.Error())
	case errors.Is(err, errUnsupported), errors.Is(err, errCustom), errors.Is(err, errShape):
		return fatal(codeUnsupported, "NOT_IMPLEMENTED", what+": "+err.Error())
	case errors.Is(err, errTooLarge):
		return fatal(codeQueryTooLarge, "QUERY_IS_TOO_LARGE", what+": "+err.Error())
	case errors.Is(err, errChecksum):
		return fatal(codeChecksumDoesntMatch, "CHECKSUM_DOESNT_MATCH", what+": "+err.Error())
	}
	return fatal(codeUnexpectedPacket, "UNEXPECTED_PACKET_FROM_CLIENT", what+": "+err.Error())
}

// handshake reads the hello and answers it.
func (c *tcpConn) handshake() error {
	first, err := c.wait(handshakeTimeout)
	if err != nil {
		return err
	}
	if first[0] != byte(proto.ClientCodeHello) {
		return c.foreign(first[0])
	}
	_, _ = c.in.Discard(1)
	r := c.reader()
	h := r.hello()
	if r.err != nil {
		return malformed("Hello", r.err)
	}
	if err := c.admit(h); err != nil {
		return err
	}
	if err := c.sendHello(); err != nil {
		return err
	}
	if proto.FeatureAddendum.In(c.revision) {
		r.str(maxName) // quota key
	}
	return r.err
}

// foreign answers a client that begins with something else than a hello.
func (c *tcpConn) foreign(first byte) error {
	if first >= 'A' && first <= 'Z' {
		_, _ = io.WriteString(c.out, "HTTP/1.0 400 Bad Request\r\n\r\nThis port is for clickhouse-client program and other clients of the native protocol, HTTP has another port.\r\n")
		_ = c.out.Flush()
		c.linger()
		return errors.New("a client of HTTP")
	}
	return fatal(codeUnexpectedPacket, "UNEXPECTED_PACKET_FROM_CLIENT", fmt.Sprintf("Unexpected packet %d instead of Hello", first))
}

// admit decides whether the client may stay and sets up the connection.
func (c *tcpConn) admit(h hello) error {
	if h.revision < uint64(oldestRevision) {
		return fatal(codeUnsupported, "NOT_IMPLEMENTED", fmt.Sprintf("Protocol revision %d of client %q is too old: "+
			"the embedded server speaks %d and later, use a client of ClickHouse 20.1 or later, or HTTP", h.revision, h.client, oldestRevision))
	}
	if c.surplus {
		return fatal(codeNoFreeConnection, "NO_FREE_CONNECTION", fmt.Sprintf("Too many connections: %d are open", maxConnections))
	}
	if err := c.server.users.authenticate(firstOf(h.user, defaultUser), h.password); err != nil {
		return &protocolError{asException(err)}
	}
	c.revision = int(min(h.revision, nativeRevision))
	c.session.database = h.database
	if h.database == "" {
		return nil
	}
	res, err := c.server.engine.run(c.server.life, command{sql: "SELECT 1", format: "Null", database: h.database})
	if err != nil {
		return &protocolError{asException(err)}
	}
	res.free()
	return nil
}

func (c *tcpConn) sendHello() error {
	h := proto.ServerHello{Name: "ClickHouse", Revision: nativeRevision, Timezone: c.server.timezone, DisplayName: c.server.name}
	for i, part := range strings.SplitN(c.server.version, ".", 4) {
		number, err := strconv.Atoi(part)
		if err != nil || i > 2 {
			break
		}
		*[]*int{&h.Major, &h.Minor, &h.Patch}[i] = number
	}
	var b proto.Buffer
	h.EncodeAware(&b, c.revision)
	return c.send(&b)
}

// send writes a packet and flushes.
func (c *tcpConn) send(b *proto.Buffer) error {
	if _, err := c.out.Write(b.Buf); err != nil {
		return err
	}
	return c.out.Flush()
}

// wait waits for the client's next packet and returns its first byte, unread.
func (c *tcpConn) wait(timeout time.Duration) ([]byte, error) {
	if !c.server.await(c, timeout) {
		return nil, net.ErrClosed
	}
	first, err := c.in.Peek(1)
	if !c.server.begin(c) {
		return nil, net.ErrClosed
	}
	return first, err
}

// packet waits for a packet and does what it asks for.
func (c *tcpConn) packet() error {
	if _, err := c.wait(idleTimeout); err != nil {
		return err
	}
	r := c.reader()
	switch code := r.uvarint(); proto.ClientCode(min(code, 255)) {
	case proto.ClientCodePing:
		var b proto.Buffer
		proto.ServerCodePong.Encode(&b)
		return c.send(&b)
	case proto.ClientCodeQuery:
		return c.serveQuery(r)
	case proto.ClientCodeCancel:
		return nil // came after the end of the statement
	case proto.ClientTablesStatusRequest:
		return fatal(codeUnsupported, "NOT_IMPLEMENTED", "TablesStatusRequest: the embedded server is no part of a cluster")
	case proto.ClientCodeData, proto.ClientCodeHello:
		return fatal(codeUnexpectedPacket, "UNEXPECTED_PACKET_FROM_CLIENT", fmt.Sprintf("Unexpected packet %d outside of a query", code))
	default:
		return fatal(codeUnknownPacket, "UNKNOWN_PACKET_FROM_CLIENT", fmt.Sprintf("Unknown packet %d", code))
	}
}

// sendException tells an exception. Over this protocol its text goes without
// the code, which has a field of its own.
func (c *tcpConn) sendException(exc *exception) error {
	const name, longestCode = "DB::Exception", len("Error: Code: 1000000. ")
	text := c.server.exceptionText(exc)
	if i := strings.Index(text, name); i <= longestCode {
		text = text[max(i, 0):]
	}
	var b proto.Buffer
	proto.ServerCodeException.Encode(&b)
	e := proto.Exception{Code: proto.Error(exc.code), Name: name, Message: text}
	e.EncodeAware(&b, c.revision)
	return c.send(&b)
}
