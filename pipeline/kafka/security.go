package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// The ways of signing in, as SASL.Mechanism names them.
const (
	Plain       = "plain"         // sends the password to the broker: use it with TLS only
	SCRAM256    = "scram-sha-256" // proves the password without sending it
	SCRAM512    = "scram-sha-512"
	OAuthBearer = "oauthbearer" // sends a token
)

// Security says how connections are protected and who signs in. The zero value is neither.
type Security struct {
	// TLS returns the settings for one new connection, whose ServerName may be empty for the broker's own name. It is
	// asked for each connection, so that certificates can be exchanged without a restart. nil: connections are plain.
	TLS  func() (*tls.Config, error)
	SASL SASL
}

// SASL says who signs in and how. Password and Token are asked whenever a connection signs in, and must then answer
// within seconds.
type SASL struct {
	Mechanism string                                // one of the constants above; empty or none: nobody signs in
	Username  string                                // for all but OAuthBearer
	Password  func() (string, error)                // for all but OAuthBearer
	Token     func(context.Context) (string, error) // for OAuthBearer: TokenFile, ClientCredentials
}

// credentialsError says that a secret or a certificate of our own could not be read: no broker is to blame.
type credentialsError struct{ err error }

func (e *credentialsError) Error() string { return e.err.Error() }
func (e *credentialsError) Unwrap() error { return e.err }

// handshakeError says that a broker could be reached and TLS with it failed.
type handshakeError struct{ err error }

func (e *handshakeError) Error() string { return "TLS handshake: " + e.err.Error() }
func (e *handshakeError) Unwrap() error { return e.err }

func (s *SASL) none() bool { return s.Mechanism == "" || s.Mechanism == "none" }

// validate returns what is wrong, nil if nothing is.
func (s *SASL) validate() error {
	switch s.Mechanism {
	case "", "none":
	case Plain, SCRAM256, SCRAM512:
		if s.Username == "" || s.Password == nil {
			return fmt.Errorf("kafka: SASL mechanism %s needs a user name and a password", s.Mechanism)
		}
	case OAuthBearer:
		if s.Token == nil {
			return errors.New("kafka: SASL mechanism oauthbearer needs a source of tokens")
		}
	default:
		return fmt.Errorf("kafka: SASL mechanism %q is unknown: use %s, %s, %s or %s", s.Mechanism, Plain, SCRAM256, SCRAM512, OAuthBearer)
	}
	return nil
}

// clientOpts returns the options that every client needs to get in.
func (s *Security) clientOpts() []kgo.Opt {
	var opts []kgo.Opt
	if s.TLS != nil {
		opts = append(opts, kgo.Dialer(s.dial))
	}
	if !s.SASL.none() {
		opts = append(opts, kgo.SASL(s.SASL.mechanism()))
	}
	return opts
}

// dial opens one connection, handshake included.
func (s *Security) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	config, err := s.TLS()
	if err != nil {
		return nil, &credentialsError{err}
	}
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: dialTimeout}, Config: config}
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil && !isDial(err) {
		err = &handshakeError{err}
	}
	return conn, err
}

func isDial(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// mechanism is for validated settings.
func (s *SASL) mechanism() sasl.Mechanism {
	name, password := s.Username, s.Password
	read := func() (string, error) {
		text, err := password()
		if err != nil {
			return "", &credentialsError{err}
		}
		return text, nil
	}
	account := func(context.Context) (scram.Auth, error) {
		text, err := read()
		return scram.Auth{User: name, Pass: text}, err
	}
	switch s.Mechanism {
	case Plain:
		return plain.Plain(func(context.Context) (plain.Auth, error) {
			text, err := read()
			return plain.Auth{User: name, Pass: text}, err
		})
	case SCRAM256:
		return scram.Sha256(account)
	case SCRAM512:
		return scram.Sha512(account)
	default:
		return bearer{s.Token}
	}
}

// bearer signs in with a token. The library's mechanism does not tell a token that the broker refuses from a broken
// connection.
type bearer struct {
	token func(context.Context) (string, error)
}

// Name implements sasl.Mechanism.
func (bearer) Name() string { return "OAUTHBEARER" }

// Authenticate implements sasl.Mechanism.
func (b bearer) Authenticate(ctx context.Context, host string) (sasl.Session, []byte, error) {
	token, err := b.token(ctx)
	if err != nil {
		return nil, nil, &credentialsError{err}
	}
	_, first, err := oauth.Auth{Token: token}.AsMechanism().Authenticate(ctx, host)
	return bearerSession{}, first, err
}

type bearerSession struct{}

// Challenge implements sasl.Session. What a broker answers at length is why it refuses (RFC 7628, 3.2.2).
func (bearerSession) Challenge(answer []byte) (done bool, reply []byte, err error) {
	if len(answer) > 0 {
		return false, nil, fmt.Errorf("%w: the token is refused: %s", kerr.SaslAuthenticationFailed, printable(answer))
	}
	return true, nil, nil
}

// printable is the beginning of what another machine sent, on one line.
func printable(text []byte) string {
	const limit = 200
	s := strings.Join(strings.Fields(strings.ToValidUTF8(string(text[:min(len(text), limit)]), "")), " ")
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s)
}

// String says who signs in, without secrets.
func (s SASL) String() string {
	if s.none() {
		return "no SASL"
	}
	if s.Username == "" {
		return s.Mechanism
	}
	return fmt.Sprintf("user %s (%s)", s.Username, s.Mechanism)
}

// LogValue is String for slog.
func (s SASL) LogValue() slog.Value { return slog.StringValue(s.String()) }

var (
	_ sasl.Mechanism = bearer{}
	_ sasl.Session   = bearerSession{}
)
