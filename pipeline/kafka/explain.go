package kafka

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/twmb/franz-go/pkg/kerr"
)

// explain says in one line what to check about an error that concerns the cluster as a whole. It is the one place that
// decides whether that may pass on its own, as an awayError.
func (o *Options) explain(err error) error {
	var own *credentialsError
	if errors.As(err, &own) {
		return fmt.Errorf("kafka credentials cannot be read: %w", own.err)
	}
	where := strings.Join(o.Brokers, ", ")
	if advice := o.advice(err); advice != "" {
		return fmt.Errorf("kafka at %s %s: %w", where, advice, lineError{err})
	}
	return &awayError{fmt.Errorf("no kafka broker answers at %s: check address, network and whether it is up: %w", where, lineError{err})}
}

// awayError says that no broker answers, which may pass on its own.
type awayError struct{ err error }

func (e *awayError) Error() string { return e.err.Error() }
func (e *awayError) Unwrap() error { return e.err }

// ofConnection reports whether an error is of a connection: explain says more than its text.
func (o *Options) ofConnection(err error) bool {
	var own *credentialsError
	return isDial(err) || errors.As(err, &own) || o.advice(err) != ""
}

// advice says what the brokers do that explains the error, and what to check. It is empty if nothing is known.
func (o *Options) advice(err error) string {
	return cmp.Or(o.signInAdvice(err), o.rightsAdvice(err), o.tlsAdvice(err), o.hangUpAdvice(err))
}

// lineError is an error whose text is one line: brokers and libraries add texts of their own.
type lineError struct{ err error }

func (e lineError) Error() string { return strings.Join(strings.Fields(e.err.Error()), " ") }
func (e lineError) Unwrap() error { return e.err }

func (o *Options) signInAdvice(err error) string {
	sasl := &o.Security.SASL
	switch {
	case errors.Is(err, kerr.SaslAuthenticationFailed) && sasl.Mechanism == OAuthBearer:
		return "refuses the token: check its issuer, audience and expiry"
	case errors.Is(err, kerr.SaslAuthenticationFailed):
		return fmt.Sprintf("refuses %s: check kafka.sasl.username, password and mechanism", sasl)
	case errors.Is(err, kerr.UnsupportedSaslMechanism):
		return fmt.Sprintf("does not offer %s: set kafka.sasl.mechanism to one that this listener offers", sasl.Mechanism)
	case errors.Is(err, kerr.IllegalSaslState):
		return "wants nobody to sign in on this port: set kafka.sasl.mechanism to none, or take the port of a SASL listener"
	}
	return ""
}

func (o *Options) rightsAdvice(err error) string {
	if !refused(err) {
		return ""
	}
	var internal []string
	for _, t := range o.topics()[1:] {
		internal = append(internal, t.Name)
	}
	return fmt.Sprintf("denies %s a right; needed are topics: describe and read %s, describe, read and write %s (create, for migrate); groups: read %s and %[4]s-dead-letters; transactional ids: describe and write %[4]s/*",
		o.principal(), o.Topic, strings.Join(internal, ", "), o.Group)
}

func (o *Options) principal() string {
	if !o.Security.SASL.none() {
		return o.Security.SASL.String()
	}
	return "this client"
}

// tlsAdvice is for handshakes that fail on either side.
func (o *Options) tlsAdvice(err error) string {
	var (
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
		alert     *net.OpError
		record    tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &authority):
		return "has a certificate of an unknown authority: check kafka.tls.ca"
	case errors.As(err, &host):
		return "has a certificate for other names: check kafka.brokers and the brokers' advertised names, or set kafka.tls.server_name"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "has a certificate that has expired or is not valid yet: renew it, or correct this machine's time"
	case errors.As(err, &invalid):
		return "has a certificate that does not hold"
	case errors.As(err, &record):
		return "does not speak TLS on this port: set kafka.tls.enabled to false, or take the port of a TLS listener"
	case errors.As(err, &alert) && alert.Op == "remote error": // how crypto/tls passes on the other side's alert
		return "ends the TLS handshake: check the client certificate (kafka.tls.cert, key), its expiry, and that the brokers trust its authority"
	}
	return ""
}

// hangUpAdvice is for connections that are closed without a word, which is how brokers answer what they cannot read.
func (o *Options) hangUpAdvice(err error) string {
	var handshake *handshakeError
	secure, sasl := o.Security.TLS != nil, &o.Security.SASL
	hungUp := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
	switch {
	case errors.As(err, &handshake):
		return "does not complete the TLS handshake: take the port of a TLS listener, or set kafka.tls.enabled to false"
	case strings.Contains(err.Error(), "tls alert record"): // the library guesses it from the first bytes
		return "speaks TLS on this port: set kafka.tls.enabled to true, or take the port of a plaintext listener"
	case !hungUp:
		return ""
	case !secure && strings.Contains(err.Error(), "api versions"): // the first question, before anybody signs in
		return "closes the connection before a word is spoken: it may want TLS (kafka.tls.enabled)"
	case !sasl.none() && secure:
		return fmt.Sprintf("closes the connection while %s signs in: check kafka.sasl, and that the port is of a listener with TLS and SASL", sasl)
	case !sasl.none():
		return fmt.Sprintf("closes the connection while %s signs in: check kafka.sasl, and that the port is of a listener with SASL and no TLS", sasl)
	case secure:
		return "closes the connection: it may want SASL (kafka.sasl.mechanism) or a client certificate (kafka.tls.cert, key)"
	default:
		return "closes the connection: it may want SASL (kafka.sasl.mechanism)"
	}
}
