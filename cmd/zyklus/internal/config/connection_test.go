package config_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sourcegraph/conc"

	"zyklus/cmd/zyklus/internal/config"
)

// writePair writes a self-signed certificate for 127.0.0.1 with its key as name.crt and name.key and returns it.
func writePair(t *testing.T, name string, until time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: until, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, name+".crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// shake makes a connection between a server and a client and returns the name in the certificate that the client showed.
func shake(t *testing.T, server *tls.Config, client config.TLS) (shown string, err error) {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	var wg conc.WaitGroup
	defer wg.Wait()
	defer func() { _ = listener.Close() }()
	wg.Go(func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		if c := conn.(*tls.Conn); c.HandshakeContext(t.Context()) == nil {
			if certs := c.ConnectionState().PeerCertificates; len(certs) > 0 {
				shown = certs[0].Subject.CommonName
			}
		}
	})
	settings, err := client.Client()
	if err != nil {
		return "", err
	}
	conn, err := tls.Dial("tcp", listener.Addr().String(), settings)
	if err == nil {
		_ = conn.Close()
	}
	wg.Wait()
	return shown, err
}

// Certificates are exchanged as files while the process runs: the next connection uses the new ones.
func TestCertificatesAreReadAgain(t *testing.T) {
	t.Chdir(t.TempDir())
	later := time.Now().Add(time.Hour)
	server := &tls.Config{Certificates: []tls.Certificate{writePair(t, "server", later)}, ClientAuth: tls.RequireAnyClientCert}
	writePair(t, "first", later)
	writePair(t, "second", later)
	for _, name := range []string{"first", "second"} {
		for _, end := range []string{".crt", ".key"} {
			text, err := os.ReadFile(name + end)
			if err != nil {
				t.Fatal(err)
			}
			write(t, "client"+end, string(text))
		}
		c := config.TLS{Enabled: true, CA: "server.crt", Cert: "client.crt", Key: "client.key"}
		if shown, err := shake(t, server, c); err != nil || shown != name {
			t.Fatalf("showed %q, want %q, %v", shown, name, err)
		}
	}
	c := config.TLS{Enabled: true, CA: "first.crt"}
	if _, err := shake(t, server, c); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("another authority: %v", err)
	}
	c = config.TLS{Enabled: true, CA: "server.crt", ServerName: "kafka", Cert: "client.crt", Key: "client.key"}
	if _, err := shake(t, server, c); err == nil || !strings.Contains(err.Error(), "kafka") {
		t.Errorf("another name: %v", err)
	}
	c = config.TLS{Enabled: true, InsecureSkipVerify: true, Cert: "client.crt", Key: "client.key"}
	if _, err := shake(t, server, c); err != nil {
		t.Errorf("any certificate: %v", err)
	}
	writePair(t, "client", time.Now().Add(-time.Minute))
	if _, err := c.Client(); err == nil || !strings.Contains(err.Error(), `cert "client.crt" expired at 2`) {
		t.Errorf("expired: %v", err)
	}
	if settings, err := (config.TLS{}).Client(); settings != nil || err != nil {
		t.Errorf("no TLS: %v, %v", settings, err)
	}
}

func TestConnectionProblems(t *testing.T) {
	f := func(yaml string, want ...string) {
		t.Helper()
		path := inFile(t, yaml)
		writePair(t, "a", time.Now().Add(time.Hour))
		writePair(t, "b", time.Now().Add(time.Hour))
		write(t, "locked.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nYQ==\n-----END ENCRYPTED PRIVATE KEY-----\n")
		_, err := config.Load(path, nil, nil)
		switch {
		case err == nil && len(want) > 0:
			t.Errorf("%q: no error, want\n%s", yaml, strings.Join(want, "\n"))
		case err != nil && err.Error() != strings.Join(want, "\n"):
			t.Errorf("%q: got\n%v\nwant\n%s", yaml, err, strings.Join(want, "\n"))
		}
	}
	f("kafka: {tls: {enabled: true, ca: a.crt, cert: b.crt, key: b.key, server_name: kafka}}")
	f("kafka: {tls: {ca: a.crt}}", "zyklus.yaml:1:19: kafka.tls.ca is given, but kafka.tls.enabled is false: set it to true, or remove this")
	f("clickhouse: {tls: {insecure_skip_verify: true}}",
		"zyklus.yaml:1:42: clickhouse.tls.insecure_skip_verify is true, but clickhouse.tls.enabled is false: set it to true, or remove this")
	f("kafka: {tls: {enabled: true, insecure_skip_verify: true, ca: a.crt}}",
		"zyklus.yaml:1:52: kafka.tls.insecure_skip_verify is true, so kafka.tls.ca is of no use: remove one of them")
	f("kafka: {tls: {enabled: true, cert: a.crt}}", "zyklus.yaml:1:36: kafka.tls.cert is given without kafka.tls.key")
	f("kafka: {tls: {enabled: true, key: a.key}}", "zyklus.yaml:1:35: kafka.tls.key is given without kafka.tls.cert")
	f("kafka: {tls: {enabled: true, ca: c.crt, cert: c.crt, key: a.key}}",
		`zyklus.yaml:1:34: kafka.tls.ca "c.crt" does not exist (paths are relative to the working directory)`,
		`zyklus.yaml:1:47: kafka.tls.cert "c.crt" does not exist (paths are relative to the working directory)`)
	f("kafka: {tls: {enabled: true, ca: a.key, cert: b.key, key: b.key}}",
		`zyklus.yaml:1:34: kafka.tls.ca "a.key" holds no certificate in PEM`,
		`zyklus.yaml:1:47: kafka.tls.cert "b.key" holds no certificate in PEM`)
	f("kafka: {tls: {enabled: true, cert: a.crt, key: b.key}}",
		`zyklus.yaml:1:36: kafka.tls.cert "a.crt" and key "b.key" do not belong together or are damaged: tls: private key does not match public key`)
	f("kafka: {tls: {enabled: true, cert: a.crt, key: locked.key}}",
		`zyklus.yaml:1:36: kafka.tls.cert has the key "locked.key", which is encrypted: decrypt it, and let the file's rights protect it`)

	f("kafka: {sasl: {mechanism: scram-sha-512, username: u, password: p}}")
	f("kafka: {sasl: {mechanism: plain}}",
		"default: kafka.sasl.username is empty: mechanism plain needs it", "default: kafka.sasl.password is empty: mechanism plain needs it")
	f("kafka: {sasl: {username: u}}", "zyklus.yaml:1:26: kafka.sasl.username is given, but mechanism none does not use it: remove it, or correct the other")
	f("kafka: {sasl: {mechanism: oauthbearer}}",
		"zyklus.yaml:1:27: kafka.sasl.mechanism is oauthbearer: give either kafka.sasl.token_file or kafka.sasl.token_url")
	f("kafka: {sasl: {mechanism: oauthbearer, token_file: a.crt, scope: s}}",
		"zyklus.yaml:1:66: kafka.sasl.scope is given, but kafka.sasl.token_url is empty: remove it, or correct the other")
	f("kafka: {sasl: {mechanism: oauthbearer, token_url: 'https://id/token', client_id: i}}",
		"default: kafka.sasl.client_secret is empty: mechanism oauthbearer needs it")
	f("kafka: {sasl: {mechanism: oauthbearer, token_url: id, client_id: i, client_secret: s}}",
		"zyklus.yaml:1:51: kafka.sasl.token_url is no address such as https://host/path")
	f("kafka: {sasl: {mechanism: oauthbearer, token_url: 'https://u:s3cret@id', client_id: i, client_secret: s}}",
		"zyklus.yaml:1:51: kafka.sasl.token_url must hold no user, query or fragment: other settings are for these")
	f("kafka: {sasl: {mechanism: scram}}",
		`zyklus.yaml:1:27: kafka.sasl.mechanism "scram" is not one of none, plain, scram-sha-256, scram-sha-512, oauthbearer`)
	f("kafka: {embedded: true, sasl: {mechanism: plain, username: u, password: p}, tls: {enabled: true}}",
		"zyklus.yaml:1:92: kafka.tls.enabled is true, but the embedded broker has none: remove it",
		"zyklus.yaml:1:43: kafka.sasl.mechanism is plain, but nobody signs in to the embedded broker: remove it")
	f("kafka: {replication: 2, min_insync_replicas: 3}",
		"zyklus.yaml:1:46: kafka.min_insync_replicas 3 is not from 0 (the brokers' default) to kafka.replication")
}

// Every secret may come from a file, as Kubernetes mounts them.
func TestSecretsFromFiles(t *testing.T) {
	path := inFile(t, "clickhouse: {password_file: password}\nkafka: {sasl: {mechanism: scram-sha-256, username: u}}")
	write(t, "password", "s3cret\n")
	write(t, "other", "oth3r")
	c, err := config.Load(path, []string{"ZYKLUS_KAFKA_SASL_PASSWORD_FILE=other"}, flags(t, "--set", "clickhouse.username=u"))
	if err != nil {
		t.Fatal(err)
	}
	if a, b := c.ClickHouse.Password.Reveal(), c.Kafka.SASL.Password.Reveal(); a != "s3cret" || b != "oth3r" {
		t.Errorf("got %q and %q", a, b)
	}
	write(t, "other", "n3w\r\n")
	if text, err := c.Kafka.SASL.Password.Read(); err != nil || text != "n3w" {
		t.Errorf("read again: %q, %v", text, err)
	}
	var printed bytes.Buffer
	if err := c.Print(&printed); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"  password_file: password", "\n  sasl:\n    mechanism: scram-sha-256", "    password_file: other"} {
		if !strings.Contains(printed.String(), want) {
			t.Errorf("%q is missing in\n%s", want, &printed)
		}
	}
	write(t, "printed.yaml", printed.String())
	again, err := config.Load("printed.yaml", nil, nil)
	if err != nil || again.ClickHouse.Password.Reveal() != "s3cret" || again.Kafka.SASL.Username != "u" {
		t.Errorf("%v in\n%s", err, &printed)
	}
}

func TestSecretsFromFilesThatCannotBeRead(t *testing.T) {
	f := func(file, text, want string) {
		t.Helper()
		path := inFile(t, "clickhouse: {password_file: "+file+"}")
		write(t, "password", text)
		_, err := config.Load(path, nil, nil)
		if err == nil || err.Error() != "zyklus.yaml:1:29: clickhouse.password_file "+want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
	f("absent", "", `"absent" does not exist (paths are relative to the working directory)`)
	f(".", "", `"." cannot be read: is a directory`)
	f("password", "\n", `"password" is empty`)
	f("password", "a\nb", `"password" holds a line break or another control character`)
	f("password", strings.Repeat("s", 100_000), `"password" is greater than 64KiB: is it a secret?`)

	_, err := config.Load(inFile(t, "clickhouse: {password_file: password}"), []string{"ZYKLUS_CLICKHOUSE_PASSWORD=s3cret"}, nil)
	if err == nil || err.Error() != "zyklus.yaml:1:29: clickhouse.password_file is given, and clickhouse.password as well (ZYKLUS_CLICKHOUSE_PASSWORD): keep one of them" {
		t.Errorf("got %v", err)
	}
	path, err := filepath.Abs("gone")
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, "s3cret")
	c, err := config.Load("", []string{"ZYKLUS_CLICKHOUSE_PASSWORD_FILE=" + path}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ClickHouse.Password.Read(); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("got %v", err)
	}
}
