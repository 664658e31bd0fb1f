package embedded_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"zyklus/sinks/embedded"
	"zyklus/sinks/embedded/embeddedtest"
)

func TestUsers(t *testing.T) {
	ch := startWith(t, embedded.Options{Users: map[string]string{"ann": "s3cret ü", "bob": ""}})
	addr := ch.Addr()
	for _, c := range []struct {
		name, password string
		code           int32
	}{{"ann", "s3cret ü", 0}, {"bob", "", 0}, {"bob", "any", 0}, {"ann", "wrong", 516}, {"ann", "", 516}, {"", "", 516}, {"eve", "", 516}} {
		err := connectNative(t, ch.NativeAddr(), func(o *clickhouse.Options) { o.Auth = clickhouse.Auth{Username: c.name, Password: c.password} }).Ping(t.Context())
		switch {
		case c.code == 0 && err != nil:
			t.Fatal(c, err)
		case c.code != 0:
			wantCode(t, err, c.code)
		}
		if err != nil && strings.Contains(err.Error(), "wrong") {
			t.Fatalf("the password is in %v", err)
		}
	}
	get(t, addr, "/ping").want(t, 200, "Ok.\n")
	ann := params("user", "ann", "password", "s3cret ü")
	post(t, addr, ann, "SELECT 1").want(t, 200, "1\n")
	post(t, addr, params("user", "bob"), "SELECT 1").want(t, 200, "1\n")
	post(t, addr, params("user", "bob", "password", "any"), "SELECT 1").want(t, 200, "1\n")
	post(t, addr, nil, "SELECT 1", "X-ClickHouse-User", "ann", "X-ClickHouse-Key", "s3cret ü").want(t, 200, "1\n")
	for _, wrong := range [][]string{{}, {"user", "default"}, {"user", "ann"}, {"user", "ann", "password", "S3cret ü"}, {"user", "eve", "password", ""}} {
		post(t, addr, params(wrong...), "SELECT 1").wantException(t, 403, "516")
	}
	post(t, addr, nil, "SELECT 1", "Authorization", "Bearer abc").wantException(t, 403, "516")
	post(t, addr, ann, "SELECT 1", "X-ClickHouse-User", "ann", "X-ClickHouse-Key", "s3cret ü").wantException(t, 403, "516")
	for password, want := range map[string]int{"s3cret ü": 200, "": 403} {
		req, err := http.NewRequest(http.MethodGet, "http://"+addr+"/?query=SELECT+1", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("ann", password)
		if a := do(t, req); a.status != want {
			t.Fatal(a)
		}
	}
	// Two users with the same id of a session have two sessions.
	post(t, addr, params("user", "bob", "session_id", "s"), "CREATE TEMPORARY TABLE own (a UInt8)").want(t, 200, "")
	post(t, addr, params("user", "ann", "password", "s3cret ü", "session_id", "s"), "SELECT * FROM own").wantException(t, 404, "60")
	conn, err := clickhouse.Open(&clickhouse.Options{Protocol: clickhouse.HTTP, Addr: []string{addr}, Auth: clickhouse.Auth{Username: "ann", Password: "s3cret ü"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkNotOnCommandLine(t, ch.Pid())
}

// checkNotOnCommandLine looks for the password where other users could see it,
// and where statements could.
func checkNotOnCommandLine(t *testing.T, pid int) {
	t.Helper()
	line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	if err != nil || strings.Contains(string(line), "s3cret") {
		t.Fatalf("command line %q, error %v", line, err)
	}
}

func stopServer(t *testing.T, ch *embedded.ClickHouse) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := ch.Stop(ctx); err != nil {
		t.Error(err)
	}
}

// TestNewerData gives databases that a newer engine has opened, and older ones.
func TestNewerData(t *testing.T) {
	dir := t.TempDir()
	ch := startIn(t, dir)
	post(t, ch.Addr(), nil, "CREATE TABLE kept (a UInt8) ENGINE = MergeTree ORDER BY a").want(t, 200, "")
	stopServer(t, ch)
	marker := filepath.Join(dir, "engine.version")
	version, err := os.ReadFile(marker)
	if err != nil || !strings.HasPrefix(string(version), "26.") {
		t.Fatalf("marker %q, error %v", version, err)
	}
	for text, want := range map[string]string{"999.1\n": "were written by ClickHouse 999.1, which is newer than this 26.", "rubbish": "is no version"} {
		if err := os.WriteFile(marker, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = embedded.StartClickHouse(t.Context(), embedded.Options{
			Executable: server(t), Args: []string{"clickhouse"}, DataDir: dir, Library: embeddedtest.Library(t),
		})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Fatalf("error %v", err)
		}
	}
	if err := os.WriteFile(marker, []byte("25.12.9.9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	post(t, startIn(t, dir).Addr(), nil, "SELECT count() FROM kept").want(t, 200, "0\n")
	if now, err := os.ReadFile(marker); err != nil || string(now) != string(version) {
		t.Fatalf("marker %q, error %v", now, err)
	}
}
