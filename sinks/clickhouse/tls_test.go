package clickhouse

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"sync"
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
func (a *authority) issue(name string, until time.Time) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until,
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
func behindTLS(t *testing.T, server string, cfg *tls.Config) *proxy {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	return proxyOn(t, l, server, nil)
}

// settings makes settings of TLS that never change.
func settings(cfg *tls.Config) func() (*tls.Config, error) {
	return func() (*tls.Config, error) { return cfg, nil }
}

// Rows go through a connection that both sides prove themselves on, and the next connection shows a certificate that
// was exchanged meanwhile.
func TestEngineTLS(t *testing.T) {
	ca, until := newAuthority(t, "ours"), time.Now().Add(time.Hour)
	overBoth(t, func(t *testing.T, o Options) {
		var mu sync.Mutex
		shown, seen := ca.issue("first", until), map[string]bool{}
		p := behindTLS(t, o.Addrs[0], &tls.Config{
			Certificates: []tls.Certificate{ca.issue("server", until)}, ClientCAs: ca.pool(), ClientAuth: tls.RequireAndVerifyClientCert,
			VerifyPeerCertificate: func(_ [][]byte, chains [][]*x509.Certificate) error {
				mu.Lock()
				defer mu.Unlock()
				seen[chains[0][0].Subject.CommonName] = true
				return nil
			},
		})
		o.Addrs = []string{p.addr()}
		o.TLS = func() (*tls.Config, error) {
			mu.Lock()
			defer mu.Unlock()
			return &tls.Config{RootCAs: ca.pool(), Certificates: []tls.Certificate{shown}}, nil
		}
		c := migrated(t, o, testSchema())
		w := running(t, c)
		write(t, w, customers(0, 10, 1, false))
		expect(t, c, "SELECT toString(count()) FROM {db}.v_customers", "10")

		mu.Lock()
		shown = ca.issue("second", until)
		mu.Unlock()
		p.cut()
		p.restore()
		write(t, w, customers(10, 20, 1, false))
		expect(t, c, "SELECT toString(count()) FROM {db}.v_customers", "20")
		mu.Lock()
		defer mu.Unlock()
		if !seen["first"] || !seen["second"] {
			t.Errorf("certificates shown: %v", seen)
		}
	})
}

func TestEngineTLSErrors(t *testing.T) {
	ours, other := newAuthority(t, "ours"), newAuthority(t, "other")
	hour := time.Now().Add(time.Hour)
	good, expired := ours.issue("server", hour), ours.issue("server", time.Now().Add(-time.Hour))
	const distrust, handshake = "does not hold (check clickhouse.tls.ca and server_name)", "ends the TLS handshake (check clickhouse.tls.cert and key)"
	overBoth(t, func(t *testing.T, o Options) {
		plain := o.Addrs[0]
		secure := behindTLS(t, plain, &tls.Config{Certificates: []tls.Certificate{good}}).addr()
		mutual := behindTLS(t, plain, &tls.Config{Certificates: []tls.Certificate{good}, ClientCAs: ours.pool(), ClientAuth: tls.RequireAndVerifyClientCert}).addr()
		trust := func(certs ...tls.Certificate) func() (*tls.Config, error) {
			return settings(&tls.Config{RootCAs: ours.pool(), Certificates: certs})
		}
		for name, c := range map[string]struct {
			addr string
			tls  func() (*tls.Config, error)
			want []string
		}{
			"unknown authority": {secure, settings(&tls.Config{RootCAs: other.pool()}), []string{distrust, "signed by unknown authority"}},
			"system's pool":     {secure, settings(&tls.Config{}), []string{distrust, "signed by unknown authority"}},
			"other name":        {secure, settings(&tls.Config{RootCAs: ours.pool(), ServerName: "db.example"}), []string{distrust, "db.example"}},
			"expired":           {behindTLS(t, plain, &tls.Config{Certificates: []tls.Certificate{expired}}).addr(), trust(), []string{distrust, "certificate has expired"}},
			"no certificate":    {mutual, trust(), []string{handshake, "certificate required"}},
			"bad certificate":   {mutual, trust(other.issue("client", hour)), []string{handshake}},
			"TLS to plaintext":  {plain, trust(), []string{"does not speak TLS on this port"}},
			"plaintext to TLS":  {secure, nil, []string{"clickhouse.tls"}},
			"files are gone": {secure, func() (*tls.Config, error) { return nil, errors.New("ca is gone") },
				[]string{"ClickHouse credentials cannot be read: ca is gone"}},
		} {
			t.Run(name, func(t *testing.T) {
				o := o
				o.Addrs, o.TLS, o.DialTimeout = []string{c.addr}, c.tls, 5*time.Second
				openError(t, o, c.want...)
			})
		}
	})
}
