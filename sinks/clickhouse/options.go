package clickhouse

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
)

// The protocols that a Client can speak.
const (
	Native = "native" // TCP, port 9000 (9440 with TLS): the cheapest for both sides
	HTTP   = "http"   // port 8123 (8443 with TLS): through load balancers
)

// Options say where ClickHouse is and how to write to it. The zero value of a field means its default.
type Options struct {
	// Addrs are host:port of the servers, tried in order. Default localhost with the protocol's port.
	Addrs []string
	// Protocol is Native (default) or HTTP.
	Protocol string
	// Database holds all tables and views. Default "zyklus". Migrate creates it.
	Database string
	// Username, default "default".
	Username string
	// Password is never logged nor part of an error.
	Password string
	// TLS returns the settings for one new connection, whose ServerName may be empty for the server's own name. It is
	// asked for each connection, so that certificates can be exchanged without a restart. nil: connections are plain.
	TLS func() (*tls.Config, error)
	// Compression of inserts: "lz4" (default), "zstd" (fewer bytes, more CPU) or "none".
	Compression string
	// DialTimeout is for one connection. Default 5 s.
	DialTimeout time.Duration
	// InsertTimeout is for one attempt of one insert; after it the insert is made again. Default 60 s. Less than
	// the slowest insert takes means that it never succeeds.
	InsertTimeout time.Duration
	// Linger is how long the first waiting batch waits for others to be inserted with it. Default 100 ms, which
	// makes at most ten parts a second and table. Negative means not at all.
	Linger time.Duration
	// MaxRows is how many rows are inserted together; more wait for the next insert. Default 100,000. A single
	// batch may be greater. Memory: up to four copies of so many rows.
	MaxRows int
}

// withDefaults fills in what is not set.
func (o Options) withDefaults() Options {
	o.Protocol = or(o.Protocol, Native)
	o.Database = or(o.Database, "zyklus")
	o.Username = or(o.Username, "default")
	o.Compression = or(o.Compression, "lz4")
	o.DialTimeout = or(o.DialTimeout, 5*time.Second)
	o.InsertTimeout = or(o.InsertTimeout, time.Minute)
	o.Linger = or(o.Linger, 100*time.Millisecond)
	o.MaxRows = or(o.MaxRows, 100_000)
	if len(o.Addrs) == 0 {
		o.Addrs = []string{net.JoinHostPort("localhost", o.defaultPort())}
	}
	return o
}

func (o Options) defaultPort() string {
	switch {
	case o.Protocol == HTTP && o.TLS != nil:
		return "8443"
	case o.Protocol == HTTP:
		return "8123"
	case o.TLS != nil:
		return "9440"
	default:
		return "9000"
	}
}

// Validate reports everything that is wrong with the options.
func (o Options) Validate() error {
	o = o.withDefaults()
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf("clickhouse: "+format, args...)) }
	if o.Protocol != Native && o.Protocol != HTTP {
		add("protocol %q is unknown: use %q or %q", o.Protocol, Native, HTTP)
	}
	for _, a := range o.Addrs {
		if _, port, err := net.SplitHostPort(a); err != nil || port == "" {
			add("address %q is not host:port, such as localhost:%s", a, o.defaultPort())
		}
	}
	if !isIdentifier(o.Database) {
		add("database %q is not a plain name: use letters, digits and underscores", o.Database)
	}
	if _, ok := compression(o.Compression); !ok {
		add("compression %q is unknown: use lz4, zstd or none", o.Compression)
	}
	if o.DialTimeout < 0 || o.InsertTimeout < 0 || o.MaxRows < 0 {
		add("timeouts and rows per insert cannot be negative")
	}
	return errors.Join(errs...)
}

// String describes the server without secrets.
func (o Options) String() string {
	return fmt.Sprintf("%s (%s, user %s, database %s)", strings.Join(o.Addrs, ", "), o.Protocol, o.Username, o.Database)
}

// LogValue keeps the password out of logs.
func (o Options) LogValue() slog.Value { return slog.StringValue(o.String()) }

// driver translates to the driver's options. The session's database stays the user's default one: ours need not
// exist yet, and all our statements name it.
func (o Options) driver() *ch.Options {
	method, _ := compression(o.Compression) // Validate has refused unknown ones
	d := &ch.Options{
		Addr:         o.Addrs,
		Auth:         ch.Auth{Username: o.Username, Password: o.Password},
		Compression:  &ch.Compression{Method: method, Level: 1},
		DialTimeout:  o.DialTimeout,
		ReadTimeout:  o.InsertTimeout + 10*time.Second,
		MaxOpenConns: 4,
		MaxIdleConns: 2,
		ClientInfo:   ch.ClientInfo{Products: []struct{ Name, Version string }{{Name: "zyklus"}}},
	}
	if o.Protocol == HTTP {
		d.Protocol, d.TransportFunc = ch.HTTP, o.newTransport
	} else { // without it the driver goes on dialling when its context has ended
		d.DialContext = func(ctx context.Context, addr string) (net.Conn, error) { return o.dial(ctx, "tcp", addr) }
	}
	if o.TLS != nil {
		d.TLS = &tls.Config{MinVersion: tls.VersionTLS12} // makes the driver say https; dial encrypts
	}
	return d
}

// dial opens one connection, with the handshake of TLS if it is to be encrypted.
func (o *Options) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	plain := &net.Dialer{Timeout: o.DialTimeout}
	if o.TLS == nil {
		return plain.DialContext(ctx, network, addr)
	}
	config, err := o.TLS()
	if err != nil {
		return nil, &credentialsError{err}
	}
	d := tls.Dialer{NetDialer: plain, Config: config}
	return d.DialContext(ctx, network, addr)
}

// credentialsError says that a certificate of our own could not be read: no server is to blame.
type credentialsError struct{ err error }

func (e *credentialsError) Error() string { return e.err.Error() }
func (e *credentialsError) Unwrap() error { return e.err }

// compression returns the driver's name of a compression method.
func compression(name string) (method ch.CompressionMethod, ok bool) {
	switch name {
	case "lz4":
		return ch.CompressionLZ4, true
	case "zstd":
		return ch.CompressionZSTD, true
	case "none":
		return ch.CompressionNone, true
	default:
		return ch.CompressionNone, false
	}
}

// isIdentifier reports whether a name needs no escaping: letters, digits and underscores, not beginning with a digit.
func isIdentifier(name string) bool {
	for i, c := range name {
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

// or returns v, or the default if v is not set.
func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}
