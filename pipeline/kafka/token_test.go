package kafka

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sourcegraph/conc"
)

// tokenEndpoint is an OAuth 2 endpoint that gives out numbered tokens with a life in seconds, none if it is 0.
type tokenEndpoint struct {
	*httptest.Server
	life  atomic.Int64
	asked atomic.Int64
}

func newTokenEndpoint(t *testing.T, basic bool) *tokenEndpoint {
	t.Helper()
	e := &tokenEndpoint{}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, secret, _ := r.BasicAuth()
		if !basic {
			id, secret = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
		}
		w.Header().Set("Content-Type", "application/json")
		if id != "zyklus" || secret != "s3cret" || r.PostFormValue("grant_type") != "client_credentials" || r.PostFormValue("scope") != "kafka events" {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, "{\"error\":\"invalid_client\",\"error_description\":\"no\\nsuch client\"}")
			return
		}
		n := e.asked.Add(1)
		if life := e.life.Load(); life > 0 {
			fmt.Fprintf(w, "{\"access_token\":\"token-%d\",\"token_type\":\"bearer\",\"expires_in\":%d}", n, life)
			return
		}
		fmt.Fprintf(w, "{\"access_token\":\"token-%d\",\"token_type\":\"bearer\"}", n)
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *tokenEndpoint) options() ClientCredentialsOptions {
	return ClientCredentialsOptions{URL: e.URL, ID: "zyklus", Secret: password("s3cret"), Scope: " kafka  events"}
}

func TestClientCredentials(t *testing.T) {
	for _, basic := range []bool{true, false} {
		e := newTokenEndpoint(t, basic)
		source := ClientCredentials(e.options())
		want := func(token string) {
			t.Helper()
			if got, err := source(t.Context()); err != nil || got != token {
				t.Fatalf("got %q, %v, want %q", got, err, token)
			}
		}
		want("token-1") // does not tell its life
		e.life.Store(3600)
		var wg conc.WaitGroup
		for range 8 {
			wg.Go(func() { want("token-2") })
		}
		wg.Wait()
	}
}

// The pipeline signs in with tokens of an endpoint: each connection, one token.
func TestClientCredentialsOfClients(t *testing.T) {
	e := newTokenEndpoint(t, true)
	e.life.Store(3600)
	l := newSecureLab(t, Security{SASL: SASL{Mechanism: OAuthBearer, Token: ClientCredentials(e.options())}})
	var signedIn atomic.Int64
	fakeBearer(l, func(m string) bool {
		signedIn.Add(1)
		return strings.Contains(m, "auth=Bearer token-1\x01")
	})
	l.work()
	if asked := e.asked.Load(); asked != 1 || signedIn.Load() < 5 {
		t.Errorf("asked for %d tokens, signed in %d times", asked, signedIn.Load())
	}
}

func TestTokenEndpointErrors(t *testing.T) {
	e := newTokenEndpoint(t, true)
	check := func(o ClientCredentialsOptions, want string) {
		t.Helper()
		l := newSecureLab(t, Security{SASL: SASL{Mechanism: OAuthBearer, Token: ClientCredentials(o)}})
		fakeBearer(l, func(string) bool { return true })
		err := CheckTopics(t.Context(), l.o)
		wantLine(t, err, "kafka credentials cannot be read: ", want)
		if strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "wr0ng") {
			t.Error("the error shows a secret")
		}
	}
	o := e.options()
	o.Secret = password("wr0ng")
	check(o, `refuses client "zyklus": 401 Unauthorized invalid_client no such client: check client id, secret and scope`)

	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>\n\n") }))
	defer page.Close()
	o = e.options()
	o.URL = page.URL
	check(o, "token endpoint "+page.URL+": oauth2: ")

	elsewhere := httptest.NewServer(http.RedirectHandler(e.URL, http.StatusTemporaryRedirect))
	defer elsewhere.Close()
	o.URL = elsewhere.URL
	check(o, "307 Temporary Redirect")

	elsewhere.Close()
	check(o, "connection refused")
}

// Who waits for another's question to a silent endpoint goes when its context ends.
func TestSilentTokenEndpoint(t *testing.T) {
	g := newGate(t)
	asked := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(asked); g.wait() }))
	defer silent.Close()
	source := ClientCredentials(ClientCredentialsOptions{URL: silent.URL, ID: "zyklus", Secret: password("s3cret")})
	var wg conc.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	wg.Go(func() {
		if _, err := source(ctx); err == nil {
			t.Error("a token came from nowhere")
		}
	})
	<-asked
	second, give := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer give()
	if _, err := source(second); err == nil {
		t.Error("a token came from nowhere")
	}
	cancel()
	wg.Wait()
	g.open()
}

func FuzzParseToken(f *testing.F) {
	for _, text := range []string{"", " \n", "token\n", "a b", "a\x01auth=x", "ä", strings.Repeat("x", maxToken+1)} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		token, err := parseToken("file", text)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%q", err)
			}
			return
		}
		if token == "" || strings.ContainsAny(token, " \x00\x01\r\n\t") || !strings.Contains(string(text), token) {
			t.Errorf("got %q of %q", token, text)
		}
	})
}
