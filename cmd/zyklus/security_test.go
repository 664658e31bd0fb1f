package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"zyklus/cmd/zyklus/internal/config"
	"zyklus/pipeline/kafka"
)

// selfSigned writes a certificate for 127.0.0.1, which is its own authority, with its key as name.crt and name.key.
func selfSigned(t *testing.T, name string) (tls.Certificate, *x509.CertPool) {
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
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	writeFile(t, name+".crt", string(cert))
	writeFile(t, name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// What the configuration says about TLS and SASL gets in, and a wrong password does not.
func TestSecuredBroker(t *testing.T) {
	t.Chdir(t.TempDir())
	server, _ := selfSigned(t, "server")
	_, clients := selfSigned(t, "client")
	for kind, text := range map[string]string{"PLAIN": "plain", "SCRAM-SHA-256": "scram-sha-256", "SCRAM-SHA-512": "scram-sha-512"} {
		cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser(kind, "zyklus", "s3cret"),
			kfake.TLS(&tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cluster.Close)
		writeFile(t, "password", "s3cret\n")
		writeFile(t, "zyklus.yaml", fmt.Sprintf(`
kafka:
  brokers: [%q]
  tls: {enabled: true, ca: server.crt, cert: client.crt, key: client.key}
  sasl: {mechanism: %s, username: zyklus, password_file: password}
`, cluster.ListenAddrs()[0], text))
		cfg, err := config.Load("zyklus.yaml", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := kafka.EnsureTopics(t.Context(), kafkaOptions(&cfg), 1); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if kind != "PLAIN" {
			continue // kfake only hangs up, which is tried again for seconds
		}
		writeFile(t, "password", "wrong")
		if err := kafka.CheckTopics(t.Context(), kafkaOptions(&cfg)); err == nil || !strings.Contains(err.Error(), "user zyklus ("+text+") signs in") {
			t.Errorf("%s with a wrong password: %v", kind, err)
		}
	}
}

// Tokens come from where the configuration says.
func TestTokenSettings(t *testing.T) {
	t.Chdir(t.TempDir())
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, secret, _ := r.BasicAuth()
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token":"%s-%s-%s","token_type":"bearer"}`, id, secret, r.PostFormValue("scope"))
	}))
	defer endpoint.Close()
	writeFile(t, "secret", "hush")
	writeFile(t, "token", "from-file\n")
	for settings, want := range map[string]string{
		fmt.Sprintf("token_url: %q, client_id: z, client_secret_file: secret, scope: s", endpoint.URL): "z-hush-s",
		"token_file: token": "from-file",
	} {
		writeFile(t, "zyklus.yaml", "kafka: {sasl: {mechanism: oauthbearer, "+settings+"}}")
		cfg, err := config.Load("zyklus.yaml", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		token, err := kafkaOptions(&cfg).Security.SASL.Token(context.Background())
		if err != nil || token != want {
			t.Errorf("%s: got %q, %v, want %q", settings, token, err, want)
		}
	}
}

func TestExposures(t *testing.T) {
	safe := config.Default()
	if lines := exposures(&safe); len(lines) != 0 {
		t.Errorf("defaults: %q", lines)
	}
	open := config.Default()
	open.Kafka.SASL.Mechanism, open.Kafka.SASL.TokenURL = "plain", "http://id/token"
	open.ClickHouse.TLS = config.TLS{Enabled: true, InsecureSkipVerify: true}
	lines := strings.Join(exposures(&open), "\n")
	if !strings.Contains(lines, "plain sends its secret readably") || !strings.Contains(lines, "take an https address") || !strings.Contains(lines, "clickhouse.tls.insecure_skip_verify is true") {
		t.Errorf("got %q", lines)
	}
}
