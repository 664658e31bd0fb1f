package clickhouse

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// certificate returns a self-signed one for 127.0.0.1 and the pool that believes it.
func certificate(t *testing.T, name string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// tlsProxy encrypts the way to the server; see notes the name in each client's certificate.
func tlsProxy(t *testing.T, server string, cert tls.Certificate, see func(name string)) *proxy {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAnyClientCert,
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
			leaf, err := x509.ParseCertificate(raw[0])
			if err == nil {
				see(leaf.Subject.CommonName)
			}
			return err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return startProxy(t, l, server)
}

// Rows go through a connection that both sides prove themselves on, and the next connection shows a certificate that
// was exchanged meanwhile.
func TestTLS(t *testing.T) {
	o := server(t)
	front, pool := certificate(t, "front")
	first, _ := certificate(t, "first")
	second, _ := certificate(t, "second")
	var mu sync.Mutex
	shown, seen := first, map[string]bool{}
	p := tlsProxy(t, o.Addrs[0], front, func(name string) {
		mu.Lock()
		defer mu.Unlock()
		seen[name] = true
	})
	o.Addrs = []string{p.addr()}
	o.TLS = func() (*tls.Config, error) {
		mu.Lock()
		defer mu.Unlock()
		return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{shown}}, nil
	}
	c := migrated(t, o, testSchema())
	w := running(t, c)
	write(t, w, customers(0, 10, 1, false))
	expect(t, c, "SELECT toString(count()) FROM {db}.customers", "10")

	mu.Lock()
	shown = second
	mu.Unlock()
	p.cut()
	p.restore()
	write(t, w, customers(10, 20, 1, false))
	expect(t, c, "SELECT toString(count()) FROM {db}.customers", "20")
	mu.Lock()
	defer mu.Unlock()
	if !seen["first"] || !seen["second"] {
		t.Errorf("certificates shown: %v", seen)
	}
}

func TestTLSErrors(t *testing.T) {
	front, pool := certificate(t, "front")
	_, other := certificate(t, "other")
	trust := func(pool *x509.CertPool) func() (*tls.Config, error) {
		return func() (*tls.Config, error) { return &tls.Config{RootCAs: pool}, nil }
	}
	plain := server(t).Addrs[0]
	secure := tlsProxy(t, plain, front, func(string) {}).addr()
	for _, protocol := range []string{Native, HTTP} {
		for name, c := range map[string]struct {
			addr string
			tls  func() (*tls.Config, error)
			want string
		}{
			"unknown authority": {secure, trust(other), "does not hold (check clickhouse.tls.ca and server_name)"},
			"no certificate":    {secure, trust(pool), "ends the TLS handshake (check clickhouse.tls.cert and key)"},
			"files are gone": {secure, func() (*tls.Config, error) { return nil, errors.New("ca is gone") },
				"ClickHouse credentials cannot be read: ca is gone"},
			"TLS to plaintext": {plain, trust(pool), "does not speak TLS on this port"},
		} {
			o := Options{Addrs: []string{c.addr}, Protocol: protocol, TLS: c.tls, DialTimeout: 5 * time.Second}
			_, err := Open(context.Background(), o, slog.New(slog.DiscardHandler), nil)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s, %s: got %v, want %q", protocol, name, err, c.want)
			}
		}
		_, err := Open(context.Background(), Options{Addrs: []string{secure}, Protocol: protocol}, slog.New(slog.DiscardHandler), nil)
		if err == nil || !strings.Contains(err.Error(), "clickhouse.tls") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s, plaintext to TLS: %v", protocol, err)
		}
	}
}
