package clickhouse

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
)

func TestClassify(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want class
	}{
		{&ch.Exception{Code: 252}, classOverload},
		{fmt.Errorf("batch: %w", &ch.HTTPError{StatusCode: 500, Err: &ch.Exception{Code: 241}}), classOverload},
		{&ch.Exception{Code: 209}, classNetwork},
		{&ch.Exception{Code: 60}, classStop},
		{&ch.Exception{Code: 497}, classStop},
		{&ch.Exception{Code: 12345}, classUnknown},
		{&ch.HTTPError{StatusCode: 503, Err: errors.New("no upstream")}, classOverload},
		{&ch.HTTPError{StatusCode: 413, Err: errors.New("too large")}, classStop},
		{&ch.OpError{Op: "Append", Err: errors.New("converting")}, classStop},
		{io.ErrUnexpectedEOF, classNetwork},
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, classNetwork},
		{context.DeadlineExceeded, classNetwork},
		{fmt.Errorf("insert: %w", errImpostor), classOverload},
		{&net.DNSError{Name: "db", IsNotFound: true}, classNetwork},
		{&url.Error{Op: "Post", URL: "https://db", Err: syscall.ECONNREFUSED}, classNetwork},
		{&url.Error{Op: "Post", URL: "https://db", Err: &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}}, classStop},
		{fmt.Errorf("handshake: %w", errors.New("[handshake] unexpected packet [21] from server")), classStop},
		{fmt.Errorf("dial: %w", &credentialsError{errors.New("ca is gone")}), classStop},
		{errors.New("?"), classUnknown},
	} {
		if got := classify(tc.err); got != tc.want {
			t.Errorf("%v: got %s, want %s", tc.err, got, tc.want)
		}
		away := tc.want == classNetwork || tc.want == classOverload
		if explained := (&Client{}).explain(tc.err); Away(explained) != away {
			t.Errorf("%v: away is not %t", explained, away)
		}
	}
}

func TestExplain(t *testing.T) {
	c := &Client{opts: Options{Username: "writer", Password: "s3cr/et", Addrs: []string{"db:8123"}, Protocol: HTTP}.withDefaults()}
	for _, tc := range []struct {
		err  error
		want string
	}{
		{&ch.Exception{Code: 516, Message: "x"}, `refuses user "writer": wrong user name or password`},
		{&ch.Exception{Code: 497, Message: "writer: Not enough privileges.\n To execute INSERT"}, `lacks a right: writer: Not enough privileges. To execute INSERT`},
		{&ch.Exception{Code: 81}, "run `zyklus migrate`"},
		{&ch.Exception{Code: 75, Message: "Cannot write to file: No space left on device"}, "ClickHouse is out of disk space: free some"},
		{&net.DNSError{Name: "db"}, `host "db" is not known`},
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, "no ClickHouse at db:8123: connection refused"},
		{errors.New("at http://writer:s3cr%2Fet@db/ and s3cr/et"), "at http://writer:[password]@db/ and [password]"},
	} {
		err := c.explain(tc.err)
		if !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %q, want %q", err, tc.want)
		}
		if !errors.Is(err, tc.err) {
			t.Errorf("%q lost its cause", err)
		}
	}
}

func TestOpenWithoutServer(t *testing.T) {
	quiet := slog.New(slog.DiscardHandler)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, protocol := range []string{Native, HTTP} {
		_, err := Open(context.Background(), Options{Addrs: []string{addr}, Protocol: protocol, DialTimeout: time.Second}, quiet, nil)
		if want := "no ClickHouse at " + addr + ": connection refused"; err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", protocol, err, want)
		}
	}
	_, err = Open(context.Background(), Options{Addrs: []string{"db"}, Protocol: "grpc", Database: "a b", Compression: "rar", Password: "hush"}, quiet, nil)
	if err == nil || strings.Count(err.Error(), "\n") != 3 || strings.Contains(err.Error(), "hush") {
		t.Errorf("got %v, want four problems", err)
	}
}

func TestOptionsHidePassword(t *testing.T) {
	o := Options{Password: "hush"}.withDefaults()
	var b strings.Builder
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "options", o)
	if text := b.String() + fmt.Sprint(o) + fmt.Sprintf("%+v", o); strings.Contains(text, "hush") {
		t.Error(text)
	}
}
