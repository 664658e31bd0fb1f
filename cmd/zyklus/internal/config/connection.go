package config

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"
)

// TLS says how connections are encrypted.
type TLS struct {
	Enabled            bool   `yaml:"enabled" doc:"encrypt connections and verify the servers' certificates"`
	CA                 string `yaml:"ca" doc:"PEM file of the authorities that servers' certificates must come from; empty: those of the system. It is read again for each connection, as are cert and key"`
	Cert               string `yaml:"cert" doc:"PEM file of the client's certificate, with intermediate ones behind it, for servers that want one"`
	Key                string `yaml:"key" doc:"PEM file of the key of cert, not encrypted"`
	ServerName         string `yaml:"server_name" doc:"name that servers' certificates must hold; empty: the host connected to"`
	InsecureSkipVerify bool   `yaml:"insecure_skip_verify" doc:"DANGEROUS: believe any certificate, so that anybody on the way can read and change everything; for trials only"`
}

// SASL says who signs in to Kafka.
type SASL struct {
	Mechanism    string `yaml:"mechanism" default:"none" oneof:"none,plain,scram-sha-256,scram-sha-512,oauthbearer" doc:"how to sign in to the brokers; plain and oauthbearer send the secret itself, so use them with kafka.tls"`
	Username     string `yaml:"username" doc:"user to sign in as"`
	Password     Secret `yaml:"password" doc:"password of the user"`
	TokenFile    string `yaml:"token_file" doc:"file with the token of oauthbearer; read again whenever a connection signs in, so it may be exchanged"`
	TokenURL     string `yaml:"token_url" doc:"endpoint that gives out tokens for client_id and client_secret (OAuth 2 client credentials); SSL_CERT_FILE in the environment names its authority, if it is not one of the system's"`
	ClientID     string `yaml:"client_id" doc:"client that asks for tokens"`
	ClientSecret Secret `yaml:"client_secret" doc:"secret of client_id"`
	Scope        string `yaml:"scope" doc:"scopes of the tokens, separated by spaces"`
}

// Client returns the settings of one new connection, nil if it is not encrypted. Files are read each time.
func (t TLS) Client() (*tls.Config, error) {
	if !t.Enabled {
		return nil, nil
	}
	config := &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: t.ServerName,
		InsecureSkipVerify: t.InsecureSkipVerify, //nolint:gosec // asked for by name, refused beside an authority
	}
	if t.CA != "" {
		pool, err := readAuthorities(t.CA)
		if err != nil {
			return nil, fmt.Errorf("ca %w", err)
		}
		config.RootCAs = pool
	}
	if t.Cert == "" {
		return config, nil
	}
	pair, err := readPair(t.Cert, t.Key)
	if err != nil {
		return nil, fmt.Errorf("cert %w", err)
	}
	if time.Now().After(pair.Leaf.NotAfter) {
		return nil, fmt.Errorf("cert %q expired at %s: renew it", t.Cert, pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair, nil }
	return config, nil
}

func readAuthorities(path string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fileError(path, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%q holds no certificate in PEM", path)
	}
	return pool, nil
}

// readPair reads a certificate and its key. Errors say which of the files is wrong and never show a part of it.
func readPair(cert, key string) (*tls.Certificate, error) {
	certText, err := os.ReadFile(cert)
	if err != nil {
		return nil, fileError(cert, err)
	}
	keyText, err := os.ReadFile(key)
	if err != nil {
		return nil, fmt.Errorf("has the key %w", fileError(key, err))
	}
	if block, _ := pem.Decode(certText); block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("%q holds no certificate in PEM", cert)
	}
	if block, _ := pem.Decode(keyText); block != nil && (block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "") {
		return nil, fmt.Errorf("has the key %q, which is encrypted: decrypt it, and let the file's rights protect it", key)
	}
	pair, err := tls.X509KeyPair(certText, keyText)
	if err != nil {
		return nil, fmt.Errorf("%q and key %q do not belong together or are damaged: %w", cert, key, err)
	}
	return &pair, nil
}

// fileError is one with the path in quotes and without the name of the system call.
func fileError(path string, err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%q does not exist (paths are relative to the working directory)", path)
	}
	if e, ok := errors.AsType[*os.PathError](err); ok {
		err = e.Err
	}
	return fmt.Errorf("%q cannot be read: %w", path, err)
}

// check reports what is wrong with the TLS settings of a section.
func (t TLS) check(k *checker, section string) {
	key := func(name string) string { return section + ".tls." + name }
	for _, s := range []struct{ name, value string }{{"ca", t.CA}, {"cert", t.Cert}, {"key", t.Key}, {"server_name", t.ServerName}} {
		k.that(t.Enabled || s.value == "", key(s.name), "is given, but %s is false: set it to true, or remove this", key("enabled"))
	}
	k.that(t.Enabled || !t.InsecureSkipVerify, key("insecure_skip_verify"), "is true, but %s is false: set it to true, or remove this", key("enabled"))
	if !t.Enabled {
		return
	}
	k.that(!t.InsecureSkipVerify || t.CA == "", key("insecure_skip_verify"), "is true, so %s is of no use: remove one of them", key("ca"))
	k.that(t.Cert == "" || t.Key != "", key("cert"), "is given without %s", key("key"))
	k.that(t.Key == "" || t.Cert != "", key("key"), "is given without %s", key("cert"))
	if t.CA != "" {
		if _, err := readAuthorities(t.CA); err != nil {
			k.that(false, key("ca"), "%v", err)
		}
	}
	if t.Cert != "" && t.Key != "" {
		if _, err := readPair(t.Cert, t.Key); err != nil {
			k.that(false, key("cert"), "%v", err)
		}
	}
}

// check reports what is wrong with what each mechanism needs, and what it does not know.
func (s SASL) check(k *checker) {
	const key = "kafka.sasl."
	account := s.Mechanism == "plain" || s.Mechanism == "scram-sha-256" || s.Mechanism == "scram-sha-512"
	bearer := s.Mechanism == "oauthbearer"
	asks := s.TokenURL != ""
	for _, f := range []struct {
		name   string
		given  bool
		needed bool // by the mechanism
		known  bool // to the mechanism
	}{
		{"username", s.Username != "", account, account},
		{"password", s.Password.given(), account, account},
		{"token_file", s.TokenFile != "", false, bearer},
		{"token_url", asks, false, bearer},
		{"client_id", s.ClientID != "", bearer && asks, bearer && asks},
		{"client_secret", s.ClientSecret.given(), bearer && asks, bearer && asks},
		{"scope", s.Scope != "", false, bearer && asks},
	} {
		k.that(f.given || !f.needed, key+f.name, "is empty: mechanism %s needs it", s.Mechanism)
		if f.given && !f.known {
			why := "mechanism " + s.Mechanism + " does not use it"
			if bearer {
				why = key + "token_url is empty"
			}
			k.that(false, key+f.name, "is given, but %s: remove it, or correct the other", why)
		}
	}
	k.that(!bearer || asks != (s.TokenFile != ""), key+"mechanism", "is oauthbearer: give either %stoken_file or %[1]stoken_url", key)
	if asks {
		k.endpoint(key+"token_url", s.TokenURL)
	}
	if bearer {
		k.file(key+"token_file", s.TokenFile)
	}
}

// endpoint checks the address of a service that is sent secrets.
func (k *checker) endpoint(key, text string) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		k.that(false, key, "is no address such as https://host/path")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		k.that(false, key, "must hold no user, query or fragment: other settings are for these")
	}
}
