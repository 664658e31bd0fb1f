package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// Limits of tokens.
const (
	maxToken     = 64 << 10        // bytes
	tokenTimeout = 5 * time.Second // for one question to an endpoint
)

// TokenFile returns a source of tokens for SASL.Token that reads the file whenever a connection signs in, as whatever
// writes the file exchanges it before the token expires.
func TokenFile(path string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		f, err := os.Open(path)
		if err != nil {
			return "", fmt.Errorf("token file: %w", err)
		}
		defer f.Close()
		text, err := io.ReadAll(io.LimitReader(f, maxToken+1))
		if err != nil {
			return "", fmt.Errorf("token file: %w", err)
		}
		return parseToken(path, text)
	}
}

// parseToken checks what a bearer token may consist of (RFC 6750, 2.1): else the broker would see another message.
func parseToken(path string, text []byte) (string, error) {
	text = bytes.TrimSpace(text)
	switch {
	case len(text) == 0:
		return "", fmt.Errorf("token file %s is empty", path)
	case len(text) > maxToken:
		return "", fmt.Errorf("token file %s is greater than %d KiB: is it a token?", path, maxToken>>10)
	case bytes.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", fmt.Errorf("token file %s holds more than one word: is it a token?", path)
	}
	return string(text), nil
}

// ClientCredentialsOptions say where tokens come from and who asks.
type ClientCredentialsOptions struct {
	URL    string                 // of the token endpoint
	ID     string                 // of the client
	Secret func() (string, error) // asked for each new token
	Scope  string                 // scopes, separated by spaces; may be empty
}

// ClientCredentials returns a source of tokens for SASL.Token that asks an OAuth 2 endpoint (RFC 6749, 4.4). All
// connections share a token until four fifths of its life are over. The source is safe for concurrent use.
func ClientCredentials(o ClientCredentialsOptions) func(context.Context) (string, error) {
	c := &tokenCache{
		o: o, turn: make(chan struct{}, 1),
		source: clientcredentials.Config{ClientID: o.ID, TokenURL: o.URL, Scopes: strings.Fields(o.Scope)},
		client: &http.Client{
			Timeout: tokenTimeout,
			// A secret goes where the configuration says and nowhere else.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	return c.get
}

// tokenCache holds the newest token. Brokers end a session with its token, and the client signs in again when at least
// 95 % of its life are over: by then the cache must have a newer one.
type tokenCache struct {
	o      ClientCredentialsOptions
	client *http.Client
	turn   chan struct{} // taken by who uses the fields below
	source clientcredentials.Config
	token  string
	until  time.Time
}

func (c *tokenCache) get(ctx context.Context) (string, error) {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	asked := time.Now()
	if asked.Before(c.until) {
		return c.token, nil
	}
	var err error
	if c.source.ClientSecret, err = c.o.Secret(); err != nil {
		return "", err
	}
	t, err := c.source.Token(context.WithValue(ctx, oauth2.HTTPClient, c.client))
	if err != nil {
		return "", c.explain(err)
	}
	c.token, c.until = t.AccessToken, time.Time{} // one that does not tell its life is used once
	if !t.Expiry.IsZero() {
		c.until = asked.Add(t.Expiry.Sub(asked) * 4 / 5)
	}
	return c.token, nil
}

// explain says what is wrong on one line. An endpoint's page is not shown.
func (c *tokenCache) explain(err error) error {
	var refused *oauth2.RetrieveError
	if !errors.As(err, &refused) {
		return fmt.Errorf("token endpoint %s: %s", c.o.URL, printable([]byte(err.Error())))
	}
	status := "no token"
	if refused.Response != nil {
		status = refused.Response.Status
	}
	return fmt.Errorf("token endpoint %s refuses client %q: %s %s: check client id, secret and scope", c.o.URL, c.o.ID,
		status, printable([]byte(strings.TrimSpace(refused.ErrorCode+" "+refused.ErrorDescription))))
}
