package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// secret is the password of all processes of this file: no output may ever hold it.
const secret = "pa55-w0rd&+%"

// cli runs zyklus to its end. The secret must not be in its output.
func cli(t testing.TB, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	code, stdout, stderr = runZyklus(t, []string{"ZYKLUS_CLICKHOUSE_PASSWORD=" + secret}, args...)
	for _, hidden := range []string{secret, "pa55-w0rd"} {
		if strings.Contains(stdout+stderr, hidden) {
			t.Errorf("zyklus %s shows the password:\n%s%s", strings.Join(args, " "), stdout, stderr)
		}
	}
	return code, stdout, stderr
}

// fails runs zyklus, which must refuse with the code and say exactly these problems, one a line, on standard error; each
// is given by parts of its line. Lines of the log may come before, but no warnings and errors that say the same again.
func fails(t *testing.T, code int, problems [][]string, args ...string) {
	t.Helper()
	got, stdout, stderr := cli(t, args...)
	if got != code {
		t.Errorf("zyklus %s: exit %d, not %d\n%s", strings.Join(args, " "), got, code, stderr)
	}
	if stdout != "" && args[0] != "migrate" { // which tells its steps
		t.Errorf("zyklus %s printed %q", strings.Join(args, " "), stdout)
	}
	var lines []string
	for _, line := range strings.Split(strings.TrimSuffix(stderr, "\n"), "\n") {
		if strings.Contains(line, "level=INFO") || strings.Contains(line, `"level":"INFO"`) {
			continue
		}
		lines = append(lines, line)
	}
	if len(lines) != len(problems) || !strings.HasPrefix(lines[0], "zyklus: ") {
		t.Errorf("zyklus %s: %d problems, not %d\n%s", strings.Join(args, " "), len(lines), len(problems), stderr)
		return
	}
	for i, parts := range problems {
		for _, part := range parts {
			if !strings.Contains(lines[i], part) {
				t.Errorf("zyklus %s: %q is not in\n%s", strings.Join(args, " "), part, lines[i])
			}
		}
	}
}

// problem is the one problem of a failure.
func problem(parts ...string) [][]string { return [][]string{parts} }

// nobody returns an address at which nobody listens.
func nobody(t *testing.T) string {
	t.Helper()
	l := occupied(t)
	_ = l.Close()
	return l.Addr().String()
}

func occupied(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestCommandLine is about what is said before anything is connected to.
func TestCommandLine(t *testing.T) {
	t.Run("help", func(t *testing.T) {
		for command, words := range map[string][]string{
			"":                    {"zyklus demo", "zyklus migrate --config", "zyklus run --config", "load", "simulate", "version"},
			"demo":                {"--data", "--for", "--customers", "--rate", "--seed", "--clickhouse-addr", "--kafka-addr", "--http-addr", "--lead", "--speed", "zyklus demo --data"},
			"run":                 {"zyklus.yaml", "brokers:", "ZYKLUS_CLICKHOUSE_PASSWORD", "zyklus migrate", "SIGTERM", "--config"},
			"load":                {"cdnow", "complete-journey", "--preset", "--advance-to", "--after", "zyklus load cdnow_sample.csv.gz"},
			"simulate":            {"--customers", "--seed", "--rate", "--out", "--truth"},
			"migrate":             {"topics", "ClickHouse", "Nothing is dropped"},
			"version":             {"version"},
			"embedded":            {"broker", "clickhouse", "READY"},
			"embedded broker":     {"--listen", "--data-dir"},
			"embedded clickhouse": {"--listen", "--native-listen", "--data-dir", "--libchdb", "--user", "ZYKLUS_EMBEDDED_PASSWORD", "KILL QUERY"},
		} {
			code, stdout, stderr := cli(t, append(strings.Fields(command), "--help")...)
			if code != 0 || stderr != "" {
				t.Errorf("help of %q: exit %d\n%s", command, code, stderr)
			}
			for _, word := range words {
				if !strings.Contains(stdout, word) {
					t.Errorf("help of %q says nothing of %s", command, word)
				}
			}
		}
	})
	t.Run("version", func(t *testing.T) {
		code, stdout, stderr := cli(t, "version")
		if code != 0 || !strings.HasPrefix(stdout, "zyklus ") || !strings.Contains(stdout, " go1.") || strings.Count(stdout, "\n") != 1 || stderr != "" {
			t.Errorf("exit %d: %q %q", code, stdout, stderr)
		}
	})
	t.Run("usage", func(t *testing.T) {
		csv := file(t, "orders.csv", "customer_id,date,quantity,value\n1,1997-01-01,1,2.00\n")
		other := file(t, "other.csv", "a,b\n1,2\n")
		fails(t, 2, problem(`unknown command "rum"`, "run"), "rum")
		fails(t, 2, problem(`unknown command "brokr"`, "broker"), "embedded", "brokr")
		fails(t, 2, problem("unknown flag: --confg"), "run", "--confg", "x")
		fails(t, 2, problem("zyklus run", "takes no", `"x"`), "run", "x")
		fails(t, 2, problem("zyklus load", "FILE"), "load")
		fails(t, 2, problem("--preset", `"cdnaw"`, "cdnow, complete-journey"), "load", csv, "--preset", "cdnaw")
		fails(t, 2, problem(csv, "mapping"), "load", csv)
		fails(t, 2, problem("does not tell what it holds", "--file-format"), "load", file(t, "orders", "x"))
		fails(t, 2, problem("--file-format", `"xlsx"`, "csv, ndjson, json"), "load", csv, "--file-format", "xlsx")
		fails(t, 2, problem("--delimiter", `"::"`), "load", csv, "--delimiter", "::")
		fails(t, 2, problem("--resume", "--restart"), "load", csv, "--resume", "--restart")
		fails(t, 2, problem("--no-advance", "--advance-to"), "load", csv, "--no-advance", "--advance-to", "1998-01-01")
		fails(t, 2, problem("--advance-to", "future"), "load", csv, "--preset", "cdnow", "--advance-to", "2199-01-01")
		fails(t, 2, problem("--refused", "overwritten"), "load", csv, "--refused", csv)
		fails(t, 2, problem("--output", "text", "json"), "load", csv, "--output", "yaml")
		fails(t, 2, problem(csv, "--format segment"), "load", csv, "--preset", "cdnow", "--format", "cloudevents")
		fails(t, 2, problem("--advance-to", `"30.9.97"`, "1998-07-01"), "load", csv, "--preset", "cdnow", "--advance-to", "30.9.97")
		fails(t, 2, problem("--after", `"then"`, "1998-07-01"), "load", csv, "--preset", "cdnow", "--after", "then")
		fails(t, 2, problem("--after", "--advance-to"), "load", csv, "--preset", "cdnow", "--after", "1998-01-02", "--advance-to", "1998-01-01")
		fails(t, 2, problem(csv+".gz", "no such file"), "load", csv+".gz", "--preset", "cdnow")
		fails(t, 2, problem(other, "columns", "customer_id", "date"), "load", other, "--preset", "cdnow")
		fails(t, 2, problem("--start", `"may"`, "2024-01-01"), "simulate", "--start", "may", "--out", "-")
		fails(t, 2, problem("--customers"), "demo", "--customers", "0")
		fails(t, 2, problem("--kafka-addr", `"x"`, "host:port"), "demo", "--kafka-addr", "x")
		fails(t, 2, problem("--data-dir"), "embedded", "clickhouse", "--listen", "127.0.0.1:0")
		fails(t, 2, problem("--user", "ZYKLUS_EMBEDDED_PASSWORD"), "embedded", "clickhouse", "--listen", "127.0.0.1:0", "--data-dir", t.TempDir(), "--user", "ann")
	})
	t.Run("configuration", func(t *testing.T) {
		config := file(t, "zyklus.yaml", `group: "a b"
sorce: {topic: x}
source: {topic: "x y", clock: sometimes}
clickhouse:
  password: `+secret+`
  adrs: [x]
lifecycles: [role6]
`)
		fails(t, 2, [][]string{
			{config + ":2:1", `unknown key "sorce"`, "source"},
			{config + ":3:31", "source.clock", "wall, events"},
			{config + ":6:3", `unknown key "clickhouse.adrs"`, "clickhouse.addrs"},
			{config + ":3:17", "source.topic"},
			{config + ":7:13", "lifecycles", `"role6"`, "role5"},
			{config + ":1:8", "group"},
		}, "run", "--config", config)
		fails(t, 2, problem(config+".no", "no such file", "--config"), "migrate", "--config", config+".no")
		broken := file(t, "broken.yaml", "clickhouse: {password: "+secret+", [")
		fails(t, 2, problem(broken+":1:", "is not YAML"), "run", "--config", broken)
		fails(t, 2, problem("--set", "clickhouse.password", "secret", "ZYKLUS_CLICKHOUSE_PASSWORD"), "run", "--set", "clickhouse.password=x")
	})
}

// TestNothingListens: no broker, no ClickHouse, or something else instead.
func TestNothingListens(t *testing.T) {
	csv := file(t, "orders.csv", "customer_id,date,quantity,value\n1,1997-01-01,1,2.00\n")
	kafka, clickhouse := nobody(t), nobody(t)
	fails(t, 1, problem("no ClickHouse at "+clickhouse, "connection refused", "is it running"),
		"migrate", "--brokers", kafka, "--clickhouse-addr", clickhouse, "--set", "clickhouse.protocol=http")
	fails(t, 1, problem("no kafka broker answers at "+kafka, "check address"), "load", csv, "--preset", "cdnow", "--clock", "events", "--brokers", kafka)
	fails(t, 1, problem("no kafka broker answers at "+kafka, "check address"), "simulate", "--customers", "10", "--brokers", kafka)

	for name, c := range map[string]struct {
		status, exception int
		words             []string
	}{
		"wrong password": {http.StatusForbidden, 516, []string{"refuses user \"zoe\"", "clickhouse.password"}},
		"no right":       {http.StatusForbidden, 497, []string{"user \"zoe\" lacks a right", "Not enough privileges"}},
		"read-only":      {http.StatusInternalServerError, 164, []string{"user \"zoe\" is read-only"}},
		"a proxy":        {http.StatusForbidden, 0, []string{"answers HTTP status 403"}},
		"no ClickHouse":  {http.StatusNotFound, 0, []string{"answers HTTP status 404"}},
	} {
		t.Run(name, func(t *testing.T) {
			stub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if c.exception > 0 {
					w.Header().Set("X-ClickHouse-Exception-Code", fmt.Sprint(c.exception))
				}
				w.WriteHeader(c.status)
				_, password, _ := r.BasicAuth()
				if password == "" {
					password = r.Header.Get("X-ClickHouse-Key")
				}
				// A careless server that repeats what it was given.
				_, _ = fmt.Fprintf(w, "Code: %d. DB::Exception: Not enough privileges for %s. (SOME_ERROR)", c.exception, password)
			}))
			defer stub.Close()
			at := stub.Listener.Addr().String()
			fails(t, 1, problem(c.words...), "run", "--http-addr", "127.0.0.1:0", "--brokers", kafka, "--clickhouse-addr", at, "--set", "clickhouse.protocol=http", "--set", "clickhouse.username=zoe")
		})
	}
}

// TestNotPrepared: servers that run but lack what zyklus needs. Nothing is created on the way.
func TestNotPrepared(t *testing.T) {
	dir := t.TempDir()
	broker, _ := startBroker(t, filepath.Join(dir, "kafka"))
	engine, _ := startClickHouse(t, filepath.Join(dir, "clickhouse"))
	csv := file(t, "orders.csv", "customer_id,date,quantity,value\n1,1997-01-01,1,2.00\n")
	d := deploy(t, "shop", "events", broker, engine, "")
	state := func() string {
		databases, err := d.queryIn("default", "SHOW DATABASES LIKE 'shop'")
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(topics(t, broker), databases)
	}
	untouched := func(t *testing.T, want string) {
		t.Helper()
		equal(t, "topics and databases", state(), want)
	}

	t.Run("no input topic", func(t *testing.T) {
		fails(t, 1, problem("input topic events does not exist", "create it"), "migrate", "--config", d.config)
		fails(t, 1, problem("input topic events does not exist", "create it"), "load", csv, "--preset", "cdnow", "--config", d.config)
		fails(t, 1, problem("input topic events does not exist", "create it"), "simulate", "--customers", "5", "--config", d.config)
		fails(t, 1, problem(`database "shop" does not exist`, "zyklus migrate"), "run", "--config", d.config)
		untouched(t, "[] []")
	})
	topicOn(t, broker, "events", 2, nil)
	t.Run("not migrated", func(t *testing.T) {
		fails(t, 1, problem(`database "shop" does not exist`, "zyklus migrate"), "run", "--config", d.config)
		untouched(t, "[events] []")
	})
	if code, out, log := cli(t, "migrate", "--config", d.config); code != 0 || !strings.Contains(out, "customers") {
		t.Fatalf("migrate: exit %d\n%s%s", code, out, log)
	}
	migrated := "[events zyklus-shop-changelog zyklus-shop-dead-letters zyklus-shop-outputs] [shop]"
	untouched(t, migrated)
	t.Run("no internal topics", func(t *testing.T) {
		fails(t, 1, problem("changelog topic zyklus-other-changelog does not exist", "zyklus migrate"), "run", "--config", d.config, "--group", "other")
		untouched(t, migrated)
	})
	t.Run("an old database", func(t *testing.T) {
		d.mustQuery(t, "DROP VIEW v_orders")
		d.mustQuery(t, "DROP TABLE orders")
		fails(t, 1, problem(`"shop" is not up to date`, "zyklus migrate", "orders"), "run", "--config", d.config)
		if _, _, log := cli(t, "migrate", "--config", d.config); !strings.Contains(log, "changes=2") {
			t.Errorf("migrate has not created table and view again:\n%s", log)
		}
	})
	t.Run("port of metrics in use", func(t *testing.T) {
		taken := occupied(t).Addr().String()
		fails(t, 1, problem(taken, "is in use", "--http-addr"), "run", "--config", d.config, "--http-addr", taken)
		none(t, d, "checkpoints of a pipeline that never ran", "SELECT * FROM v_checkpoints")
	})
	t.Run("no broker", func(t *testing.T) {
		at := nobody(t)
		p := start(t, nil, "run", "--config", d.config, "--brokers", at)
		p.awaitNotReady(30*time.Second, "waiting for kafka: no kafka broker answers at "+at+": check address", "without brokers")
		p.stopsWhileWaiting("without brokers")
		none(t, d, "checkpoints of a pipeline that never ran", "SELECT * FROM v_checkpoints")
		fails(t, 1, problem("no kafka broker answers at "+at, "check address"), "migrate", "--config", d.config, "--brokers", at, "--set", "clickhouse.database=fresh")
		if lines, err := d.queryIn("default", "SHOW DATABASES LIKE 'fresh'"); err != nil || lines != nil {
			t.Errorf("a database was created: %v %v", lines, err)
		}
	})
	t.Run("it does run", func(t *testing.T) { // so that none of the above failed for another reason
		p := start(t, []string{"ZYKLUS_CLICKHOUSE_PASSWORD=" + secret}, "run", "--config", d.config, "--for", "1s")
		if code := p.wait(time.Minute); code != 0 || strings.Contains(p.log.String()+p.out.String(), secret) {
			t.Errorf("exit %d\n%s", code, p.log.String())
		}
	})
}

// TestPortsInUse: embedded parts whose address is taken leave neither children nor data.
func TestPortsInUse(t *testing.T) {
	taken := occupied(t).Addr().String()
	listeners := []string{"kafka.listen", "clickhouse.listen", "clickhouse.native_listen", "http.addr"}
	for _, flag := range listeners {
		t.Run(flag, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			args := []string{"run", "--set", "kafka.embedded=true", "--set", "clickhouse.embedded=true",
				"--set", "kafka.data=" + filepath.Join(dir, "kafka"), "--set", "clickhouse.data=" + filepath.Join(dir, "clickhouse")}
			for _, other := range listeners {
				addr := "127.0.0.1:0"
				if other == flag {
					addr = taken
				}
				args = append(args, "--set", other+"="+addr)
			}
			fails(t, 1, problem(taken, "in use", flag, "port 0"), args...)
			noChildren(t, dir)
			if entries, err := os.ReadDir(dir); err == nil {
				t.Errorf("left behind: %v", entries)
			}
		})
	}
	t.Run("demo", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "data")
		fails(t, 1, problem(taken, "in use", "--http-addr"), "demo", "--data", dir, "--http-addr", taken)
		fails(t, 1, problem(taken, "in use", "port 0"), "demo", "--data", dir, "--kafka-addr", taken)
		noChildren(t, dir)
	})
	t.Run("alone", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "data")
		fails(t, 1, problem(taken, "in use", "--listen"), "embedded", "broker", "--listen", taken, "--data-dir", dir)
		fails(t, 1, problem(taken, "in use", "--listen"), "embedded", "clickhouse", "--listen", taken, "--data-dir", dir)
		fails(t, 1, problem(taken, "in use", "--native-listen"), "embedded", "clickhouse", "--listen", "127.0.0.1:0", "--native-listen", taken, "--data-dir", dir)
	})
}

// noChildren fails if a process is left whose command line names a directory.
func noChildren(t *testing.T, dir string) {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(paths) == 0 {
		t.Skip("there is no /proc here")
	}
	for _, path := range paths {
		if text, err := os.ReadFile(path); err == nil && strings.Contains(string(text), dir) {
			t.Errorf("%s is left: %s", path, strings.ReplaceAll(string(text), "\x00", " "))
		}
	}
}

// topics lists those of a broker.
func topics(t *testing.T, broker string) (names []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	details, err := kadm.NewClient(kafkaClient(t, broker)).ListTopics(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for name := range details {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// queryIn is query in another database.
func (d deployment) queryIn(database, sql string) ([]string, error) {
	d.database = database
	return d.query(sql)
}

// TestEmbeddedUser: the password of the one user comes from the environment.
func TestEmbeddedUser(t *testing.T) {
	if testing.Short() {
		t.Skip("starts the embedded ClickHouse")
	}
	p := start(t, []string{"ZYKLUS_EMBEDDED_PASSWORD=s3cret"}, "embedded", "clickhouse", "--listen", "127.0.0.1:0", "--data-dir", t.TempDir(), "--user", "ann")
	addr := p.ready()
	for password, want := range map[string]int{"s3cret": http.StatusOK, "": http.StatusForbidden} {
		req, err := http.NewRequest(http.MethodGet, "http://"+addr+"/?query=SELECT+1", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("ann", password)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if res.Body.Close(); res.StatusCode != want {
			t.Errorf("password %q: status %d", password, res.StatusCode)
		}
	}
}

// TestEmbeddedNative: the embedded ClickHouse is written to over its native protocol.
func TestEmbeddedNative(t *testing.T) {
	if testing.Short() {
		t.Skip("starts the embedded ClickHouse")
	}
	dir := t.TempDir()
	p := start(t, nil, "run", "--set", "kafka.embedded=true", "--set", "kafka.listen=127.0.0.1:0", "--set", "kafka.data="+filepath.Join(dir, "kafka"),
		"--set", "clickhouse.embedded=true", "--set", "clickhouse.protocol=native", "--set", "clickhouse.listen=127.0.0.1:0",
		"--set", "clickhouse.data="+filepath.Join(dir, "clickhouse"), "--http-addr", "127.0.0.1:0")
	eventually(t, time.Minute, "it runs", func() error {
		if !regexp.MustCompile(`msg\W+running`).MatchString(p.log.String()) {
			return p.alive()
		}
		return nil
	})
	code := p.stop(20 * time.Second)
	native := regexp.MustCompile(`embedded clickhouse started.*native\W+([0-9.:]+)`).FindStringSubmatch(p.log.String())
	if code != 0 || native == nil || !regexp.MustCompile(`msg\W+running.*clickhouse\W+`+regexp.QuoteMeta(native[1])).MatchString(p.log.String()) {
		t.Errorf("exit %d\n%s", code, p.log.String())
	}
}
