package clickhouse

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"testing"
	"time"
)

// authority issues certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

// issue makes a certificate for 127.0.0.1 that ends at the time.
func (a *authority) issue(until time.Time) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "part"}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// behindTLS puts an end of TLS in front of the server.
func behindTLS(t *testing.T, server string, cfg *tls.Config) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	return proxyOn(t, l, server, nil).addr()
}

func TestEngineTLS(t *testing.T) {
	ours, other := newAuthority(t, "ours"), newAuthority(t, "other")
	good, expired := ours.issue(time.Now().Add(time.Hour)), ours.issue(time.Now().Add(-time.Hour))
	overBoth(t, func(t *testing.T, o Options) {
		plain := o.Addrs[0]
		with := func(cfg *tls.Config) Options {
			o := o
			o.TLSConfig = cfg
			return o
		}
		o.Addrs = []string{behindTLS(t, plain, &tls.Config{Certificates: []tls.Certificate{good}})}
		c := migrated(t, with(&tls.Config{RootCAs: ours.pool()}), testSchema())
		write(t, running(t, c), customers(0, 10, 1, false))
		expect(t, c, "SELECT toString(count()) FROM {db}.v_customers", "10")
		openError(t, with(&tls.Config{RootCAs: other.pool()}), "no TLS connection to ClickHouse at "+o.Addrs[0], "signed by unknown authority")
		system := o
		system.TLS = true
		openError(t, system, "no TLS connection to ClickHouse at "+o.Addrs[0], "signed by unknown authority")
		openError(t, with(&tls.Config{RootCAs: ours.pool(), ServerName: "db.example"}), "no TLS connection to ClickHouse at "+o.Addrs[0], "db.example")
		openError(t, o, "ClickHouse at "+o.Addrs[0]+" has closed the connection (if it always does: does it want TLS")

		o.Addrs = []string{behindTLS(t, plain, &tls.Config{Certificates: []tls.Certificate{expired}})}
		openError(t, with(&tls.Config{RootCAs: ours.pool()}), "no TLS connection to ClickHouse at "+o.Addrs[0], "certificate has expired")

		o.Addrs = []string{plain}
		openError(t, with(&tls.Config{RootCAs: ours.pool()}), "no TLS connection to ClickHouse at "+plain)

		o.Addrs = []string{behindTLS(t, plain, &tls.Config{Certificates: []tls.Certificate{good}, ClientCAs: ours.pool(), ClientAuth: tls.RequireAndVerifyClientCert})}
		openError(t, with(&tls.Config{RootCAs: ours.pool()}), "no TLS connection to ClickHouse at "+o.Addrs[0], "certificate required")
		openError(t, with(&tls.Config{RootCAs: ours.pool(), Certificates: []tls.Certificate{other.issue(time.Now().Add(time.Hour))}}),
			"no TLS connection to ClickHouse at "+o.Addrs[0], "certificate")
		client := open(t, with(&tls.Config{RootCAs: ours.pool(), Certificates: []tls.Certificate{good}}))
		if err := client.Ping(context.Background()); err != nil {
			t.Error(err)
		}
	})
}
