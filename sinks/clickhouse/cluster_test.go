package clickhouse

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"zyklus/pipeline"
)

// openError opens a client that must fail with one line holding all of want.
func openError(t *testing.T, o Options, want ...string) {
	t.Helper()
	o.DialTimeout = or(o.DialTimeout, 10*time.Second)
	c, err := Open(context.Background(), o, slog.New(slog.DiscardHandler), nil)
	if err == nil {
		_ = c.Close()
		t.Fatalf("no error, want %q", want)
	}
	for _, part := range want {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q lacks %q", err, part)
		}
	}
	away := strings.Contains(err.Error(), "does not answer in time") || strings.Contains(err.Error(), "closes the connection")
	if Away(err) != away {
		t.Errorf("%q: that the server is away is %t, want %t", err, !away, away)
	}
	if strings.Contains(err.Error(), "\n") || len(err.Error()) > 400 || o.Password != "" && strings.Contains(err.Error(), o.Password) {
		t.Errorf("no clear line: %q", err)
	}
}

// deadAddr is an address on which nothing listens.
func deadAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// TestEngineFailover: of several addresses it takes the next one that answers, at the start and later.
func TestEngineFailover(t *testing.T) {
	overBoth(t, func(t *testing.T, o Options) {
		first := newProxy(t, o.Addrs[0])
		o.Addrs = []string{deadAddr(t), first.addr(), o.Addrs[0]}
		c := migrated(t, o, testSchema())
		w := running(t, c)
		write(t, w, customers(0, 10, 1, false))
		first.cut()
		write(t, w, customers(10, 20, 1, false))
		expect(t, c, "SELECT toString(count()) FROM {db}.v_customers", "20")
		if v, err := w.Version(context.Background(), "events", 0); v != 0 || err != nil {
			t.Error(v, err)
		}
	})
}

// TestEngineVersionTooOld makes the server tell an older version.
func TestEngineVersionTooOld(t *testing.T) {
	overBoth(t, func(t *testing.T, o Options) {
		o.Compression = "none" // frames have checksums
		v, err := open(t, o).conn.ServerVersion()
		if err != nil {
			t.Fatal(err)
		}
		version := []byte(fmt.Sprintf("%d.%d.", v.Version.Major, v.Version.Minor))
		hello := []byte{'H', 'o', 'u', 's', 'e', byte(v.Version.Major), byte(v.Version.Minor)}
		older := func(b []byte) []byte {
			b = bytes.ReplaceAll(b, version, []byte("24.3."))
			return bytes.ReplaceAll(b, hello, []byte("House\x18\x03"))
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		o.Addrs = []string{proxyOn(t, l, o.Addrs[0], older).addr()}
		openError(t, o, "has version 24.3, Zyklus needs 24.8 or later: upgrade ClickHouse")
	})
}

// TestEngineWrongPassword: both protocols tell it alike.
func TestEngineWrongPassword(t *testing.T) {
	want := `ClickHouse refuses user "writer": wrong user name or password (check clickhouse.username and clickhouse.password)`
	o := serverOver(t, Native)
	o.Username, o.Password = "writer", "s3cret"
	t.Run(Native, func(t *testing.T) { openError(t, o, want) })
	t.Run(HTTP, func(t *testing.T) {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-ClickHouse-Exception-Code", "516")
			w.WriteHeader(http.StatusForbidden)
			_, _ = fmt.Fprintln(w, "Code: 516. DB::Exception: writer: Authentication failed: password is incorrect, or there is no user with such name. (AUTHENTICATION_FAILED)")
		}))
		defer server.Close()
		o.Protocol, o.Addrs = HTTP, []string{server.Listener.Addr().String()}
		openError(t, o, want)
	})
}

// TestEngineWrongProtocol: HTTP on the native port and the other way round.
func TestEngineWrongProtocol(t *testing.T) {
	native, http := serverOver(t, Native), serverOver(t, HTTP)
	native.Protocol, http.Protocol = HTTP, Native
	openError(t, native, "does not speak protocol http: native is port 9000, http is port 8123")
	http.DialTimeout = 500 * time.Millisecond // this server waits for the rest of a request
	openError(t, http, "does not answer in time (is the port right for protocol native?)")
}

// TestEngineChangedByHand: what a person did to a table is told in one line.
func TestEngineChangedByHand(t *testing.T) {
	for _, tc := range []struct{ name, sql, want string }{
		{"type", "ALTER TABLE {db}.customers MODIFY COLUMN orders Int64", "column customers.orders has type Int64, declared is UInt32: rename the column away"},
		{"column", "ALTER TABLE {db}.customers DROP COLUMN orders", "is not up to date: run `zyklus migrate` (to do: add column customers.orders)"},
		{"engine", "CREATE OR REPLACE TABLE {db}.customers ENGINE = MergeTree ORDER BY customer_id AS SELECT * FROM {db}.customers",
			"table customers has engine MergeTree, not ReplacingMergeTree: rename it away"},
		{"version", "CREATE OR REPLACE TABLE {db}.customers ENGINE = ReplacingMergeTree(version) ORDER BY customer_id AS SELECT * FROM {db}.customers",
			"table customers replaces rows without a version, its engine is ReplacingMergeTree(version) ORDER BY"},
		{"key", "CREATE OR REPLACE TABLE {db}.customers ENGINE = ReplacingMergeTree(version, is_deleted) ORDER BY (customer_id, phase) AS SELECT * FROM {db}.customers",
			"table customers is sorted by (customer_id, phase), declared is (customer_id): rename it away"},
		{"table", "DROP TABLE {db}.customers", "is not up to date: run `zyklus migrate` (to do: create table customers)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := serverOver(t, Native)
			s := Schema{Tables: []*pipeline.Table{customersTable(), checkpointTable()}, MoneyExponent: 2}
			c := migrated(t, o, s)
			if err := c.Exec(context.Background(), strings.ReplaceAll(tc.sql, "{db}", quote(o.Database))); err != nil {
				t.Fatal(err)
			}
			err := c.Check(context.Background(), s)
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}
