package embedded_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"zyklus/sinks/embedded/embeddedtest"
)

// Versions of the clients, which are kept in the user's cache directory.
const (
	pythonClient = "clickhouse-connect==1.12.0"
	nodeClient   = "@clickhouse/client@1.23.1"
	jdbcClient   = "clickhouse-jdbc-0.9.8" // as in testdata/clients/pom.xml
)

// clientTime bounds the installation and the run of a client.
const clientTime = 5 * time.Minute

// need skips the test if one of the tools is not installed.
func need(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("SKIPPED, NOT TESTED: %s is not installed", tool)
		}
	}
}

// tool runs a program and returns what it printed. A failure ends the test.
func tool(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), clientTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return string(out)
}

// installed returns the directory of an installed client. install fills a
// directory, which takes its place once it is complete.
func installed(t *testing.T, client string, install func(dir string)) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "zyklus", "clients", strings.NewReplacer("/", "-", "=", "", "@", "").Replace(client))
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	partial, err := os.MkdirTemp(filepath.Dir(dir), "partial-*") //nolint:usetesting // it becomes the cache
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(partial) }()
	install(partial)
	// Another process may have been first; then its directory serves.
	if err := os.Rename(partial, dir); err != nil {
		if _, serr := os.Stat(dir); serr != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// clientFile is the path of a client's program.
func clientFile(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", "clients", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// ownDatabase returns the server's address and a database of the test's own.
func ownDatabase(t *testing.T) (addr, database string) {
	t.Helper()
	_, addr = open(t, 0)
	return addr, "test_" + strings.NewReplacer("/", "_", "=", "_").Replace(t.Name())
}

// wantOK checks that a client's program came to its end.
func wantOK(t *testing.T, out string) {
	t.Helper()
	if !strings.HasSuffix(strings.TrimSpace(out), "OK") {
		t.Fatal(out)
	}
}

func TestClientPython(t *testing.T) {
	t.Parallel()
	need(t, "python3")
	if err := exec.Command("python3", "-m", "pip", "--version").Run(); err != nil {
		t.Skip("SKIPPED, NOT TESTED: pip is not installed")
	}
	addr, database := ownDatabase(t)
	dir := installed(t, pythonClient, func(dir string) {
		tool(t, nil, "python3", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", dir, pythonClient)
	})
	host, port, _ := strings.Cut(addr, ":")
	wantOK(t, tool(t, []string{"PYTHONPATH=" + dir, "PYTHONDONTWRITEBYTECODE=1"}, "python3", clientFile(t, "connect.py"), host, port, database, clientFile(t, "columns.sql")))
}

func TestClientNode(t *testing.T) {
	t.Parallel()
	need(t, "node", "npm")
	addr, database := ownDatabase(t)
	dir := installed(t, nodeClient, func(dir string) {
		tool(t, nil, "npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", dir, nodeClient)
	})
	wantOK(t, tool(t, nil, "node", clientFile(t, "connect.mjs"), dir, addr, database, clientFile(t, "columns.sql")))
}

// TestClientJDBC runs both drivers that the package holds.
func TestClientJDBC(t *testing.T) {
	t.Parallel()
	need(t, "mvn", "javac", "java")
	dir := installed(t, jdbcClient, func(dir string) {
		tool(t, nil, "mvn", "-q", "-B", "-f", clientFile(t, "pom.xml"), "org.apache.maven.plugins:maven-dependency-plugin:2.8:copy-dependencies",
			"-DoutputDirectory="+dir, "-DincludeScope=runtime")
	})
	jars, classes := filepath.Join(dir, "*"), t.TempDir()
	tool(t, nil, "javac", "-cp", jars, "-d", classes, clientFile(t, "Connect.java"))
	for _, classic := range []string{"false", "true"} {
		t.Run("v1="+classic, func(t *testing.T) {
			addr, database := ownDatabase(t)
			wantOK(t, tool(t, nil, "java", "-Dclickhouse.jdbc.v1="+classic, "-cp", classes+string(os.PathListSeparator)+jars, "Connect",
				addr, database, clientFile(t, "columns.sql")))
		})
	}
}

// TestClientCurl does what is done by hand with curl.
func TestClientCurl(t *testing.T) {
	need(t, "curl")
	addr := embeddedtest.StartClickHouse(t)
	url := "http://" + addr
	curl := func(args ...string) string {
		return tool(t, nil, "curl", append([]string{"--silent", "--show-error"}, args...)...)
	}
	for _, c := range []struct {
		want string
		args []string
	}{
		{"Ok.\n", []string{url + "/ping"}},
		{"1\n", []string{url, "-d", "SELECT 1"}},
		{"1\n", []string{"-G", url, "--data-urlencode", "query=SELECT 1"}},
		{"{\"x\":7}\n", []string{url + "/?param_x=7", "-H", "X-ClickHouse-Format: JSONEachRow", "-d", "SELECT {x:UInt8} AS x"}},
		{"zipped\n", []string{"--compressed", "-u", "default:", url, "-d", "SELECT 'zipped'"}},
		{"", []string{url + "/?session_id=curl", "-d", "CREATE TEMPORARY TABLE c (a UInt8)"}},
		{"", []string{url + "/?session_id=curl&query=INSERT+INTO+c+FORMAT+CSV", "--data-binary", "1\n2\n"}},
		{"3\n", []string{url + "/?session_id=curl&close_session=1", "-d", "SELECT sum(a) FROM c"}},
		{"5\n", []string{url + "/?query=SELECT+sum(a)+FROM+t&t_structure=a+UInt8", "-F", "t=@-;filename=t"}},
		{"403", []string{"-o", os.DevNull, "-w", "%{http_code}", "-u", "nobody:x", url, "-d", "SELECT 1"}},
		{"404 60", []string{"-o", os.DevNull, "-w", "%{http_code} %header{x-clickhouse-exception-code}", url, "-d", "SELECT * FROM nope"}},
	} {
		if c.want == "5\n" {
			path := filepath.Join(t.TempDir(), "t.tsv")
			if err := os.WriteFile(path, []byte("2\n3\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			c.args[len(c.args)-1] = "t=@" + path
		}
		if got := curl(c.args...); got != c.want {
			t.Errorf("curl %q: %q instead of %q", c.args, got, c.want)
		}
	}
	// A client that is killed takes its statement along.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := exec.CommandContext(ctx, "curl", "--silent", url+"/?query_id=curl-cancel", "-d", "SELECT count(sipHash64(number)) FROM numbers(100000000000)")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, addr, "SELECT count() FROM system.processes WHERE query_id = 'curl-cancel'", "1\n")
	cancel()
	if err := cmd.Wait(); err == nil {
		t.Fatal("curl ended by itself")
	}
	eventually(t, addr, "SELECT count() FROM system.processes WHERE query_id = 'curl-cancel'", "0\n")
}
