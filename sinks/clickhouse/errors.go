package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"

	ch "github.com/ClickHouse/clickhouse-go/v2"
)

// class says what an error calls for. Its value is the metric label.
type class string

const (
	// classOverload: the server is there and cannot take more now. Wait and try again.
	classOverload class = "overload"
	// classNetwork: no answer, or none in time; the outcome of an insert is unknown. Wait and try again.
	classNetwork class = "network"
	// classStop: the same insert will fail until a person acts. Try again slowly, and say so.
	classStop class = "stop"
	// classUnknown: nothing is known of it. Treated like overload, because giving up loses rows.
	classUnknown class = "unknown"
)

// Away reports whether an error says that the server cannot be asked now, which may pass on its own: it is down, starting,
// overloaded or out of reach. Of a name that nobody knows that holds, too: names of services come and go with them. Any
// other error needs a person.
func Away(err error) bool {
	if err == nil {
		return false
	}
	c := classify(err)
	return c == classNetwork || c == classOverload
}

// classify is the one place that decides whether an error may pass on its own.
func classify(err error) class {
	var exception *ch.Exception
	if errors.As(err, &exception) {
		return classifyCode(exception.Code)
	}
	var status *ch.HTTPError
	var op *ch.OpError
	var own *credentialsError
	var netErr net.Error
	switch {
	case errors.As(err, &status):
		return classifyStatus(status.StatusCode)
	case errors.Is(err, errImpostor):
		return classOverload // like any other answer of a load balancer without a living server
	case errors.As(err, &op):
		return classStop // the driver cannot convert a column: the table's types are not the declared ones
	case errors.Is(err, ch.ErrAcquireConnTimeout), errors.Is(err, context.DeadlineExceeded):
		return classNetwork // the attempt took too long; the insert may have happened
	case errors.As(err, &own), mismatched(err):
		return classStop // certificate, port, protocol or TLS are not as configured
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.EPIPE),
		errors.Is(err, syscall.ECONNRESET), errors.As(err, &netErr), errors.Is(err, net.ErrClosed):
		return classNetwork // refused, reset or closed: a restart or a cut cable
	default:
		return classUnknown
	}
}

// classifyCode sorts the server's exceptions.
func classifyCode(code int32) class {
	switch code {
	case 252, // TOO_MANY_PARTS: merges are behind
		202, 203, // TOO_MANY_SIMULTANEOUS_QUERIES, NO_FREE_CONNECTION
		241,      // MEMORY_LIMIT_EXCEEDED: of the server or of this insert, merges free it
		243,      // NOT_ENOUGH_SPACE: TTL, merges or a person free it, and no row must be lost until then
		159, 160, // TIMEOUT_EXCEEDED, TOO_SLOW
		201, // QUOTA_EXCEEDED: until its interval ends
		439, // CANNOT_SCHEDULE_TASK: no thread
		473, // DEADLOCK_AVOIDED
		745: // SERVER_OVERLOADED
		return classOverload
	case 209, 210, // SOCKET_TIMEOUT, NETWORK_ERROR
		198, 279, // DNS_ERROR, ALL_CONNECTION_TRIES_FAILED
		225, 999, // NO_ZOOKEEPER, KEEPER_EXCEPTION: the keeper is away
		242,           // TABLE_IS_READ_ONLY: the replica has lost its keeper session
		285, 286, 319, // TOO_FEW_LIVE_REPLICAS, UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE, UNKNOWN_STATUS_OF_INSERT
		236, 394, // ABORTED, QUERY_WAS_CANCELLED: the server is shutting down or somebody killed the query
		3, 32, 33, 101, 271, // UNEXPECTED_END_OF_FILE, ATTEMPT_TO_READ_AFTER_EOF, CANNOT_READ_ALL_DATA, UNEXPECTED_PACKET, CANNOT_DECOMPRESS: a cut stream
		425, 499: // SYSTEM_ERROR, S3_ERROR
		return classNetwork
	case 60, 81, 218, // UNKNOWN_TABLE, UNKNOWN_DATABASE, TABLE_IS_DROPPED
		8, 10, 16, 20, 47, // no such column, in all its names
		6, 27, 53, 70, 72, 117, 349, // types do not match the declared ones
		164, 497, // READONLY, ACCESS_DENIED
		192, 193, 194, 195, 516, // user, password, address not allowed
		115, 452, // UNKNOWN_SETTING, SETTING_CONSTRAINT_VIOLATION
		36, 48, 62: // BAD_ARGUMENTS, NOT_IMPLEMENTED, SYNTAX_ERROR: this version of the server does not know our SQL
		return classStop
	default:
		return classUnknown
	}
}

// classifyStatus sorts answers that do not come from ClickHouse itself but from something in front of it.
func classifyStatus(status int) class {
	switch {
	case status == http.StatusTooManyRequests, status >= 500:
		return classOverload // a load balancer without a living server
	case status >= 400:
		return classStop // refused as such: credentials, path, size
	default:
		return classUnknown
	}
}

// problem is an error with a line for a person.
type problem struct {
	text  string
	cause error
}

func (p *problem) Error() string { return p.text }
func (p *problem) Unwrap() error { return p.cause }

// explain turns an error of the driver into one line that says what to do. The cause stays inside.
func (c *Client) explain(err error) error {
	if err == nil {
		return nil
	}
	var known *problem
	if errors.Is(err, context.Canceled) || errors.As(err, &known) {
		return err
	}
	var exception *ch.Exception
	text := ""
	if errors.As(err, &exception) {
		text = c.explainException(exception)
	} else {
		text = c.explainTransport(err)
	}
	return &problem{c.scrub(text), err}
}

func (c *Client) explainException(e *ch.Exception) string {
	message := oneLine(e.Message)
	if strings.Contains(strings.ToLower(message), "no space left on device") {
		return fullDisk(message) // of any code: whatever the server was writing
	}
	switch e.Code {
	case 516, 192, 193, 194:
		return fmt.Sprintf("ClickHouse refuses user %q: wrong user name or password (check clickhouse.username and clickhouse.password)", c.opts.Username)
	case 195:
		return fmt.Sprintf("ClickHouse does not let user %q in from this address: allow it in the user's HOST clause", c.opts.Username)
	case 497:
		return fmt.Sprintf("ClickHouse user %q lacks a right: %s", c.opts.Username, message)
	case 164:
		return fmt.Sprintf("ClickHouse user %q is read-only: use one that may write (%s)", c.opts.Username, message)
	case 81:
		return fmt.Sprintf("ClickHouse database %q does not exist: run `zyklus migrate`", c.opts.Database)
	case 60, 218:
		return fmt.Sprintf("ClickHouse table is missing: run `zyklus migrate` (%s)", message)
	case 8, 10, 16, 20, 47:
		return fmt.Sprintf("ClickHouse column is missing: run `zyklus migrate` (%s)", message)
	case 252:
		return "ClickHouse cannot merge as fast as it is written to (too many parts); waiting"
	case 241:
		return fmt.Sprintf("ClickHouse is out of memory; waiting (%s)", message)
	case 243:
		return fullDisk(message)
	default:
		return fmt.Sprintf("ClickHouse error %d: %s", e.Code, message)
	}
}

func fullDisk(message string) string {
	return fmt.Sprintf("ClickHouse is out of disk space: free some; waiting (%s)", message)
}

// Parts of errors of connections whose two ends do not speak the same way or do not trust each other.
const (
	nativePort  = "is for clickhouse-client program" // what a server answers to HTTP on its native port
	otherPacket = "unexpected packet"                // of another protocol than the native one, or TLS
	otherHTTP   = "malformed HTTP"                   // another protocol than HTTP, or TLS
	noTLS       = "first record does not look like"
	noHTTPS     = "HTTP response to HTTPS"
	distrust    = "x509: "
	alert       = "remote error: tls: "
	anyTLS      = "tls: "
)

// mismatched reports whether an error is one of those.
func mismatched(err error) bool {
	text := bare(err).Error()
	return slices.ContainsFunc([]string{nativePort, otherPacket, otherHTTP, noTLS, noHTTPS, distrust, alert, anyTLS},
		func(part string) bool { return strings.Contains(text, part) })
}

// bare returns what an error of the driver says by itself: without our own words, and without the URL of HTTP, which is a
// page long.
func bare(err error) error {
	if known, ok := errors.AsType[*problem](err); ok {
		err = known.cause
	}
	if urlErr, ok := errors.AsType[*url.Error](err); ok {
		return urlErr.Err
	}
	return err
}

func (c *Client) explainTransport(err error) string {
	where := strings.Join(c.opts.Addrs, ", ")
	var dns *net.DNSError
	var status *ch.HTTPError
	var own *credentialsError
	var netErr net.Error
	err = bare(err)
	says := func(part string) bool { return strings.Contains(err.Error(), part) }
	switch {
	case errors.Is(err, errImpostor):
		return fmt.Sprintf("the server at %s is not ClickHouse: something in front of it answers in its place (a load balancer, a log-in page); waiting", where)
	case errors.As(err, &own):
		return "ClickHouse credentials cannot be read: " + oneLine(own.Error())
	case errors.As(err, &dns):
		return fmt.Sprintf("no ClickHouse at %s: host %q is not known (check clickhouse.addrs)", where, dns.Name)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("no ClickHouse at %s: connection refused (is it running, is the port right for protocol %s?)", where, c.opts.Protocol)
	case errors.Is(err, ch.ErrAcquireConnTimeout), errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("ClickHouse at %s does not answer in time", where)
	case errors.As(err, &netErr) && netErr.Timeout():
		return fmt.Sprintf("ClickHouse at %s does not answer in time (is the port right for protocol %s?)", where, c.opts.Protocol)
	case says(nativePort):
		return fmt.Sprintf("the server at %s does not speak protocol %s: native is port 9000, http is port 8123", where, c.opts.Protocol)
	case says(otherPacket), says(otherHTTP):
		return fmt.Sprintf("the server at %s does not speak protocol %s without TLS: native is port 9000, http is port 8123; else set clickhouse.tls.enabled to true", where, c.opts.Protocol)
	case says(noTLS), says(noHTTPS):
		return fmt.Sprintf("the server at %s does not speak TLS on this port: native is port 9440 and http 8443; else set clickhouse.tls.enabled to false", where)
	case says(distrust):
		return fmt.Sprintf("the certificate of ClickHouse at %s does not hold (check clickhouse.tls.ca and server_name): %s", where, oneLine(fromTLS(err.Error())))
	case says(alert):
		return fmt.Sprintf("ClickHouse at %s ends the TLS handshake (check clickhouse.tls.cert and key): %s", where, oneLine(fromTLS(err.Error())))
	case says(anyTLS):
		return fmt.Sprintf("no TLS connection to ClickHouse at %s: %s", where, oneLine(fromTLS(err.Error())))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return fmt.Sprintf("ClickHouse at %s closes the connection (if it does so at once: does the port fit clickhouse.protocol and clickhouse.tls?): %s", where, oneLine(err.Error()))
	case errors.As(err, &status):
		return fmt.Sprintf("ClickHouse at %s answers HTTP status %d: %s", where, status.StatusCode, oneLine(status.Err.Error()))
	default:
		return fmt.Sprintf("ClickHouse at %s: %s", where, oneLine(err.Error()))
	}
}

// fromTLS leaves out what the driver was doing when TLS failed.
func fromTLS(text string) string {
	for _, begin := range []string{alert, anyTLS, distrust} {
		if i := strings.Index(text, begin); i >= 0 {
			return text[i:]
		}
	}
	return text
}

// scrub removes the password, should a library have put it into a text.
func (c *Client) scrub(text string) string {
	if c.opts.Password == "" {
		return text
	}
	for _, secret := range []string{c.opts.Password, url.QueryEscape(c.opts.Password), url.PathEscape(c.opts.Password)} {
		text = strings.ReplaceAll(text, secret, "[password]")
	}
	return text
}

// oneLine folds white space and cuts what nobody reads.
func oneLine(s string) string {
	const limit = 300
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}
