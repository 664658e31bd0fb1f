package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The tests of this file run the real binary in real processes: a broker, a ClickHouse engine, and the pipeline, which
// speak to each other over the network only.

// binaryDir is where binaryOnce builds, empty if it was not asked to.
var binaryDir string

// binaryOnce builds the command once per test run, with crash points and without the race detector.
var binaryOnce = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "zyklus-test-")
	if err != nil {
		return "", err
	}
	binaryDir = dir
	if err := watchSources(); err != nil {
		return "", err
	}
	path := filepath.Join(dir, "zyklus")
	cmd := exec.Command("go", "build", "-tags", "crashpoints", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build zyklus: %w\n%s", err, out)
	}
	return path, nil
})

// watchSources looks at every source of the module. go test remembers what a test has looked at, and so runs it again
// after a change of what is built here but not linked into the test itself; else an old result would be shown as cached.
func watchSources() error {
	return filepath.WalkDir(filepath.Join("..", ".."), func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && entry.Name() != ".." && strings.HasPrefix(entry.Name(), "."):
			return fs.SkipDir
		case entry.IsDir() || strings.HasSuffix(path, "_test.go"):
			return nil
		case slices.Contains([]string{".go", ".yaml", ".mod"}, filepath.Ext(path)):
			_, err = os.Stat(path)
		}
		return err
	})
}

func binary(t testing.TB) string {
	t.Helper()
	path, err := binaryOnce()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestMain(m *testing.M) {
	code := m.Run()
	stopRealBrokers()
	if binaryDir != "" {
		_ = os.RemoveAll(binaryDir)
	}
	os.Exit(code)
}

// process is a running zyklus.
type process struct {
	t      testing.TB
	cmd    *exec.Cmd
	out    lockedBuffer // stdout
	log    lockedBuffer // stderr
	exited chan struct{}
	err    error
}

// start starts zyklus; it is killed at the end of the test.
func start(t testing.TB, env []string, args ...string) *process {
	t.Helper()
	return startCommand(t, env, exec.Command(binary(t), args...))
}

// startCommand is start with a command that leads to zyklus.
func startCommand(t testing.TB, env []string, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, exited: make(chan struct{})}
	p.cmd.Env = append(cleanEnv(), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.log
	if p.cmd.SysProcAttr == nil {
		p.cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	p.cmd.SysProcAttr.Setpgid = true
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s\n%s", strings.Join(cmd.Args, " "), tail(p.log.String(), 40))
		}
	})
	return p
}

// cleanEnv is the environment without settings of zyklus, but for the engine's library.
func cleanEnv() (env []string) {
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "ZYKLUS_") || strings.HasPrefix(v, "ZYKLUS_LIBCHDB=") {
			env = append(env, v)
		}
	}
	return env
}

func tail(s string, lines int) string {
	all := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// kill ends the process with SIGKILL and waits.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// stop ends the process with SIGTERM and returns its exit code.
func (p *process) stop(within time.Duration) int {
	p.t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	return p.wait(within)
}

// wait waits for the process to end by itself and returns its exit code, -1 if it was killed by a signal.
func (p *process) wait(within time.Duration) int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(within):
		p.t.Fatalf("zyklus has not ended within %v\n%s", within, tail(p.log.String(), 30))
	}
	var exit *exec.ExitError
	if errors.As(p.err, &exit) {
		return exit.ExitCode()
	}
	return 0
}

// ready waits for the line READY and returns the address after it, without a scheme.
func (p *process) ready() string {
	p.t.Helper()
	addr := ""
	eventually(p.t, time.Minute, "READY of an embedded part", func() error {
		lines := bufio.NewScanner(strings.NewReader(p.out.String()))
		for lines.Scan() {
			if rest, ok := strings.CutPrefix(lines.Text(), "READY "); ok {
				addr = strings.TrimPrefix(rest, "http://")
				return nil
			}
		}
		select {
		case <-p.exited:
			p.t.Fatalf("it has ended\n%s", p.log.String())
		default:
		}
		return errors.New("not ready")
	})
	return addr
}

// run runs zyklus to its end and returns exit code, standard output and standard error.
func runZyklus(t testing.TB, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	p := start(t, env, args...)
	code = p.wait(3 * time.Minute)
	return code, p.out.String(), p.log.String()
}

// lockedBuffer takes the output of a process while it is read.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// eventually waits until check returns nil.
func eventually(t testing.TB, within time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, within, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// startBroker and startClickHouse start embedded parts in processes of their own and return their addresses.
func startBroker(t testing.TB, dir string) (addr string, p *process) {
	t.Helper()
	p = start(t, nil, "embedded", "broker", "--listen", "127.0.0.1:0", "--data-dir", dir)
	return p.ready(), p
}

func startClickHouse(t testing.TB, dir string) (addr string, p *process) {
	t.Helper()
	p = start(t, nil, "embedded", "clickhouse", "--listen", "127.0.0.1:0", "--data-dir", dir)
	return p.ready(), p
}

// deployment is one group with its own database.
type deployment struct {
	config   string
	database string
	engine   string
}

// deploy writes a configuration. Addresses of several brokers are separated by commas. extra is more YAML, of top-level keys that are not given here.
func deploy(t testing.TB, name, topic, broker, engine, extra string) deployment {
	t.Helper()
	d := deployment{config: filepath.Join(t.TempDir(), name+".yaml"), database: name, engine: engine}
	text := fmt.Sprintf(`group: %[1]s
source: {topic: %[2]s, clock: events}
kafka: {brokers: ["%[3]s"]}
clickhouse: {addrs: ["%[4]s"], protocol: http, database: %[1]s}
http: {addr: "127.0.0.1:0"}
log: {format: text}
%[5]s
`, name, topic, strings.ReplaceAll(broker, ",", `", "`), engine, extra)
	if err := os.WriteFile(d.config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return d
}

// query asks the deployment's database over plain HTTP and returns the lines of the answer, tab-separated.
func (d deployment) query(sql string) ([]string, error) {
	resp, err := http.Post("http://"+d.engine+"/?default_format=TSV&database="+d.database, "text/plain", strings.NewReader(sql))
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", resp.Status, body)
	}
	text := strings.TrimSuffix(string(body), "\n")
	if text == "" {
		return nil, nil
	}
	return strings.Split(text, "\n"), nil
}

// mustQuery is query for tests.
func (d deployment) mustQuery(t testing.TB, sql string) []string {
	t.Helper()
	lines, err := d.query(sql)
	if err != nil {
		t.Fatalf("%s\n%v", sql, err)
	}
	return lines
}

// awaitClock waits until every partition has written everything up to an instant.
func (d deployment) awaitClock(t testing.TB, partitions int, at time.Time) {
	t.Helper()
	sql := fmt.Sprintf("SELECT count() FROM checkpoints FINAL WHERE clock >= fromUnixTimestamp64Milli(%d)", at.UnixMilli())
	eventually(t, 3*time.Minute, "all rows up to "+at.Format(time.RFC3339), func() error {
		lines, err := d.query(sql)
		if err != nil {
			return err
		}
		if len(lines) != 1 || lines[0] != fmt.Sprint(partitions) {
			return fmt.Errorf("%v of %d partitions", lines, partitions)
		}
		return nil
	})
}
