package kafka

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sourcegraph/conc"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// authority issues certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	a.key = newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	must(t, err)
	a.cert, err = x509.ParseCertificate(der)
	must(t, err)
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key
}

// issue returns a certificate for 127.0.0.1; change may spoil it.
func (a *authority) issue(change ...func(*x509.Certificate)) tls.Certificate {
	a.t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "zyklus"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, c := range change {
		c(template)
	}
	key := newKey(a.t)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	must(a.t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func expired(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }

// trust is the TLS of a client that trusts the authority and shows certificates.
func (a *authority) trust(shown ...tls.Certificate) func() (*tls.Config, error) {
	pool := a.pool()
	return func() (*tls.Config, error) { return &tls.Config{RootCAs: pool, Certificates: shown}, nil }
}

// listen is the TLS of a broker; it wants a client's certificate if clients is not nil.
func (a *authority) listen(clients *authority, change ...func(*x509.Certificate)) kfake.Opt {
	config := &tls.Config{Certificates: []tls.Certificate{a.issue(change...)}}
	if clients != nil {
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, clients.pool()
	}
	return kfake.TLS(config)
}

func password(text string) func() (string, error) {
	return func() (string, error) { return text, nil }
}

func account(mechanism, name, text string) SASL {
	return SASL{Mechanism: mechanism, Username: name, Password: password(text)}
}

// newSecureLab is a broker with the options and a client with the settings. No topic exists yet.
func newSecureLab(t *testing.T, s Security, opts ...kfake.Opt) *lab {
	t.Helper()
	cluster, err := kfake.NewCluster(append([]kfake.Opt{
		kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100 * time.Millisecond),
	}, opts...)...)
	must(t, err)
	t.Cleanup(cluster.Close)
	l := &lab{t: t, cluster: cluster, sink: newMemorySink(), produced: map[string]int64{}}
	l.o = Options{
		Brokers: cluster.ListenAddrs(), Group: "g", Topic: "events", CheckpointInterval: 50 * time.Millisecond,
		SinkGrace: time.Second, Replication: 1, Security: s,
		Client: []kgo.Opt{kgo.MetadataMinAge(20 * time.Millisecond), kgo.HeartbeatInterval(50 * time.Millisecond), kgo.SessionTimeout(2 * time.Second)},
	}
	return l
}

// work makes the topics, produces, runs and waits for what comes out: all kinds of clients.
func (l *lab) work() {
	l.t.Helper()
	must(l.t, EnsureTopics(l.t.Context(), l.o, 2))
	producer, err := NewProducer(l.t.Context(), l.o, nil)
	must(l.t, err)
	defer producer.Close()
	l.producer = producer
	l.produce(100)
	r := l.run()
	l.awaitTotals()
	must(l.t, r.stop())
}

func TestSecureConnections(t *testing.T) {
	a := newAuthority(t)
	withSASL := func(name string) kfake.Opt { return kfake.Superuser(name, "zyklus", "s3cret") }
	for name, c := range map[string]struct {
		security Security
		broker   []kfake.Opt
	}{
		"TLS":        {Security{TLS: a.trust()}, []kfake.Opt{a.listen(nil)}},
		"mutual TLS": {Security{TLS: a.trust(a.issue())}, []kfake.Opt{a.listen(a)}},
		"PLAIN in TLS": {Security{TLS: a.trust(), SASL: account(Plain, "zyklus", "s3cret")},
			[]kfake.Opt{a.listen(nil), kfake.EnableSASL(), withSASL("PLAIN")}},
		"SCRAM-SHA-256": {Security{SASL: account(SCRAM256, "zyklus", "s3cret")}, []kfake.Opt{kfake.EnableSASL(), withSASL("SCRAM-SHA-256")}},
		"SCRAM-SHA-512 in mutual TLS": {Security{TLS: a.trust(a.issue()), SASL: account(SCRAM512, "zyklus", "s3cret")},
			[]kfake.Opt{a.listen(a), kfake.EnableSASL(), withSASL("SCRAM-SHA-512")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			newSecureLab(t, c.security, c.broker...).work()
		})
	}
}

// fakeBearer makes a broker that needs no SASL take tokens, which kfake cannot.
func fakeBearer(l *lab, valid func(message string) bool) {
	l.cluster.ControlKey(int16(kmsg.SASLHandshake), func(req kmsg.Request) (kmsg.Response, error, bool) {
		l.cluster.KeepControl()
		resp := req.ResponseKind().(*kmsg.SASLHandshakeResponse)
		if req.(*kmsg.SASLHandshakeRequest).Mechanism != "OAUTHBEARER" {
			resp.ErrorCode = kerr.UnsupportedSaslMechanism.Code
		}
		return resp, nil, true
	})
	l.cluster.ControlKey(int16(kmsg.SASLAuthenticate), func(req kmsg.Request) (kmsg.Response, error, bool) {
		l.cluster.KeepControl()
		resp := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		if !valid(string(req.(*kmsg.SASLAuthenticateRequest).SASLAuthBytes)) {
			resp.SASLAuthBytes = []byte("{\"status\":\"invalid_token\"}") // RFC 7628, 3.2.2
		}
		return resp, nil, true
	})
}

func TestBearerTokens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	must(t, os.WriteFile(path, []byte("t0ken\n"), 0o600))
	l := newSecureLab(t, Security{SASL: SASL{Mechanism: OAuthBearer, Token: TokenFile(path)}})
	var want atomic.Value
	want.Store("t0ken")
	fakeBearer(l, func(m string) bool { return m == "n,,\x01auth=Bearer "+want.Load().(string)+"\x01\x01" })
	l.work()

	// The file is exchanged; the next connection shows the new token.
	want.Store("n3wer")
	wantLine(t, CheckTopics(t.Context(), l.o), "refuses the token: check its issuer, audience and expiry", "invalid_token")
	must(t, os.WriteFile(path, []byte("n3wer"), 0o600))
	must(t, CheckTopics(t.Context(), l.o))

	must(t, os.Remove(path))
	wantLine(t, CheckTopics(t.Context(), l.o), "kafka credentials cannot be read: token file: open")
}

// wantLine wants an error of one line that holds all parts.
func wantLine(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) || strings.ContainsAny(err.Error(), "\n\r") {
			t.Fatalf("got  %v\nwant %q", err, part)
		}
	}
	t.Log(err)
}

// What is wrong is said on one line at once, by every way in; nothing is tried for ever.
func TestRefusedConnections(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	scram := []kfake.Opt{kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", "zyklus", "s3cret")}
	right := account(SCRAM256, "zyklus", "s3cret")
	for name, c := range map[string]struct {
		security Security
		broker   []kfake.Opt
		want     string
	}{
		"unknown authority":    {Security{TLS: other.trust()}, []kfake.Opt{a.listen(nil)}, "certificate of an unknown authority: check kafka.tls.ca"},
		"expired":              {Security{TLS: a.trust()}, []kfake.Opt{a.listen(nil, expired)}, "certificate that has expired"},
		"other name":           {Security{TLS: a.trust()}, []kfake.Opt{a.listen(nil, func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"kafka"} })}, "kafka.tls.server_name"},
		"no certificate":       {Security{TLS: a.trust()}, []kfake.Opt{a.listen(a)}, "ends the TLS handshake: check the client certificate"},
		"foreign certificate":  {Security{TLS: a.trust(other.issue())}, []kfake.Opt{a.listen(a)}, "ends the TLS handshake: check the client certificate"},
		"expired certificate":  {Security{TLS: a.trust(a.issue(expired))}, []kfake.Opt{a.listen(a)}, "ends the TLS handshake: check the client certificate"},
		"plaintext to TLS":     {Security{}, []kfake.Opt{a.listen(nil)}, "it may want TLS (kafka.tls.enabled)"},
		"SASL missing":         {Security{}, scram, "closes the connection: it may want SASL (kafka.sasl.mechanism)"},
		"SASL missing in TLS":  {Security{TLS: a.trust()}, append([]kfake.Opt{a.listen(nil)}, scram...), "it may want SASL (kafka.sasl.mechanism)"},
		"SASL to a TLS port":   {Security{SASL: right}, append([]kfake.Opt{a.listen(nil)}, scram...), "it may want TLS (kafka.tls.enabled)"},
		"wrong password":       {Security{SASL: account(SCRAM256, "zyklus", "wrong")}, scram, "closes the connection while user zyklus (scram-sha-256) signs in"},
		"unknown user":         {Security{SASL: account(SCRAM256, "nobody", "s3cret")}, scram, "closes the connection while user nobody (scram-sha-256) signs in"},
		"mechanism of no one":  {Security{SASL: SASL{Mechanism: OAuthBearer, Token: func(context.Context) (string, error) { return "t", nil }}}, scram, "does not offer oauthbearer"},
		"password unreadable":  {Security{SASL: SASL{Mechanism: Plain, Username: "u", Password: func() (string, error) { return "", errors.New("file is gone") }}}, scram, "kafka credentials cannot be read: file is gone"},
		"certificate is gone":  {Security{TLS: func() (*tls.Config, error) { return nil, errors.New("file is gone") }}, []kfake.Opt{a.listen(nil)}, "kafka credentials cannot be read: file is gone"},
		"SASL where none is":   {Security{SASL: right}, nil, "signs in"},
		"nothing may be asked": {Security{SASL: right}, append([]kfake.Opt{kfake.EnableACLs(), kfake.User("SCRAM-SHA-256", "zyklus", "s3cret")}, kfake.EnableSASL(), kfake.SeedTopics(1, "events")), "denies user zyklus (scram-sha-256) a right"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newSecureLab(t, c.security, c.broker...)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			wantLine(t, EnsureTopics(ctx, l.o, 1), c.want)
			_, err := NewProducer(ctx, l.o, nil)
			wantLine(t, err, c.want)
			r := l.run()
			r.wg.Wait()
			wantLine(t, r.err, c.want)
			if strings.Contains(r.err.Error(), "s3cret") {
				t.Error("the error shows a secret")
			}
		})
	}
}

// Kafka closes a connection that begins with a request of 350 MB, which is what it takes a TLS handshake for.
func TestTLSToPlaintext(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var wg conc.WaitGroup
	wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.ReadFull(conn, make([]byte, 4))
			_ = conn.Close()
		}
	})
	t.Cleanup(func() { _ = listener.Close(); wg.Wait() })
	o := Options{Brokers: []string{listener.Addr().String()}, Group: "g", Topic: "events", Security: Security{TLS: newAuthority(t).trust()}}
	wantLine(t, CheckTopics(t.Context(), o), "does not complete the TLS handshake: take the port of a TLS listener")
}

// A real broker answers a wrong password with a code.
func TestRefusedPassword(t *testing.T) {
	l := newSecureLab(t, Security{SASL: account(SCRAM256, "zyklus", "wrong")}, kfake.EnableSASL())
	l.cluster.ControlKey(int16(kmsg.SASLAuthenticate), func(req kmsg.Request) (kmsg.Response, error, bool) {
		l.cluster.KeepControl()
		resp := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		resp.ErrorCode, resp.ErrorMessage = kerr.SaslAuthenticationFailed.Code, kmsg.StringPtr("no\nsuch user")
		return resp, nil, true
	})
	r := l.run()
	r.wg.Wait()
	wantLine(t, r.err, "refuses user zyklus (scram-sha-256): check kafka.sasl.username, password and mechanism", "no such user")
}

// rights are those that Zyklus needs to run.
func rights() map[string]kfake.ACL {
	topic := func(name string, op kmsg.ACLOperation) kfake.ACL {
		return kfake.ACL{Resource: kmsg.ACLResourceTypeTopic, Name: name, Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: op, Allow: true}
	}
	return map[string]kfake.ACL{
		"read input":         topic("events", kmsg.ACLOperationRead),
		"read changelog":     topic("zyklus-g-changelog", kmsg.ACLOperationRead),
		"write changelog":    topic("zyklus-g-changelog", kmsg.ACLOperationWrite),
		"read dead letters":  topic("zyklus-g-dead-letters", kmsg.ACLOperationRead),
		"write dead letters": topic("zyklus-g-dead-letters", kmsg.ACLOperationWrite),
		"write outputs":      topic("zyklus-g-outputs", kmsg.ACLOperationWrite),
		"group": {Resource: kmsg.ACLResourceTypeGroup, Name: "g", Pattern: kmsg.ACLResourcePatternTypePrefixed,
			Operation: kmsg.ACLOperationRead, Allow: true},
		"transactions": {Resource: kmsg.ACLResourceTypeTransactionalId, Name: "g/", Pattern: kmsg.ACLResourcePatternTypePrefixed,
			Operation: kmsg.ACLOperationWrite, Allow: true},
	}
}

// The rights that the documentation names are enough, and without any of them the Runner stops and says so.
func TestRights(t *testing.T) {
	for _, missing := range []string{"", "read input", "read changelog", "write changelog", "write dead letters", "group", "transactions"} {
		t.Run(fmt.Sprintf("without %q", missing), func(t *testing.T) {
			t.Parallel()
			var acls []kfake.ACL
			for name, acl := range rights() {
				if name != missing {
					acls = append(acls, acl)
				}
			}
			l := newSecureLab(t, Security{SASL: account(SCRAM256, "admin", "admin")}, kfake.EnableSASL(), kfake.EnableACLs(),
				kfake.Superuser("SCRAM-SHA-256", "admin", "admin"), kfake.User("SCRAM-SHA-256", "zyklus", "s3cret", acls...))
			l.work() // as one who may do everything; there is state to restore
			producer, err := NewProducer(t.Context(), l.o, nil)
			must(t, err)
			defer producer.Close()
			l.producer = producer
			l.send("bad news")
			l.produce(10)
			l.o.Security.SASL = account(SCRAM256, "zyklus", "s3cret")
			r := l.run()
			if missing == "" {
				l.awaitTotals()
				must(t, r.stop())
				topics, err := DescribeTopics(t.Context(), l.o)
				must(t, err)
				if advice := Advice(topics); len(advice) != 4 || !strings.Contains(advice[1], "changelog topic zyklus-g-changelog: settings are not checked") {
					t.Errorf("advice %q", advice)
				}
				return
			}
			r.wg.Wait()
			wantLine(t, r.err, "denies user zyklus (scram-sha-256) a right; needed are topics")
		})
	}
}

func TestSASLIsChecked(t *testing.T) {
	for _, c := range []struct {
		sasl SASL
		want string
	}{
		{SASL{Mechanism: Plain, Username: "u"}, "needs a user name and a password"},
		{SASL{Mechanism: SCRAM256, Password: password("p")}, "needs a user name and a password"},
		{SASL{Mechanism: OAuthBearer}, "needs a source of tokens"},
		{SASL{Mechanism: "gssapi"}, `"gssapi" is unknown`},
	} {
		o := Options{Brokers: []string{"b:1"}, Group: "g", Topic: "t", Security: Security{SASL: c.sasl}}
		wantLine(t, o.Validate(), c.want)
	}
}
