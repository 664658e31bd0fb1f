package embedded_test

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"zyklus/sinks/embedded"
	"zyklus/sinks/embedded/embeddedtest"
)

// program is the server's program, built once for all tests that start their own.
var program struct {
	once      sync.Once
	dir, path string
	err       error
}

// TestMain removes the program at the end.
func TestMain(m *testing.M) {
	code := m.Run()
	if program.dir != "" {
		_ = os.RemoveAll(program.dir)
	}
	os.Exit(code)
}

// server returns the path of the server's program.
func server(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("needs the embedded ClickHouse")
	}
	program.once.Do(func() {
		//nolint:usetesting // it outlives the test
		if program.dir, program.err = os.MkdirTemp("", "zyklus-server-*"); program.err == nil {
			program.path, program.err = embeddedtest.BuildServer(context.Background(), program.dir)
		}
	})
	if program.err != nil {
		t.Fatal(program.err)
	}
	return program.path
}

// startOwn starts a ClickHouse that is not shared.
func startOwn(t *testing.T) *embedded.ClickHouse {
	t.Helper()
	return startIn(t, t.TempDir())
}

func startIn(t *testing.T, dir string) *embedded.ClickHouse {
	t.Helper()
	return startWith(t, embedded.Options{DataDir: dir})
}

// startWith starts a ClickHouse with some options, the others as in all tests,
// and stops it at the end.
func startWith(t *testing.T, o embedded.Options) *embedded.ClickHouse {
	t.Helper()
	o.Executable, o.Library, o.Log = server(t), embeddedtest.Library(t), func(line string) { t.Log(line) }
	if o.Args == nil {
		o.Args = []string{"clickhouse"}
	}
	if o.DataDir == "" {
		o.DataDir = t.TempDir()
	}
	ch, err := embedded.StartClickHouse(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopServer(t, ch) })
	return ch
}

// TestKill kills the engine under inserts, again and again: it comes back on
// its address, and every insert that was acknowledged is there.
func TestKill(t *testing.T) {
	ch := startOwn(t)
	addr := ch.Addr()
	post(t, addr, nil, "CREATE TABLE kept (a UInt64) ENGINE = MergeTree ORDER BY a").want(t, 200, "")
	var acknowledged, next atomic.Uint64
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if tryInsertNow(addr, next.Add(1)) == nil {
				acknowledged.Add(1)
				continue
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	for range 3 {
		killAndWait(t, ch)
	}
	close(stop)
	<-done
	checkKept(t, ch.Addr(), acknowledged.Load(), next.Load())
}

// tryInsertNow inserts 1000 rows of one number over a new connection.
func tryInsertNow(addr string, number uint64) error {
	conn, err := clickhouse.Open(&clickhouse.Options{
		Protocol: clickhouse.HTTP, Addr: []string{addr}, ReadTimeout: 10 * time.Second,
		Compression: &clickhouse.Compression{Method: clickhouse.CompressionLZ4},
	})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	batch, err := conn.PrepareBatch(context.Background(), "INSERT INTO kept (a)")
	if err != nil {
		return err
	}
	numbers := make([]uint64, 1000)
	for i := range numbers {
		numbers[i] = number
	}
	if err := batch.Column(0).Append(numbers); err != nil {
		return err
	}
	return batch.Send()
}

// killAndWait kills the child in mid-work and waits for its successor.
func killAndWait(t *testing.T, ch *embedded.ClickHouse) {
	t.Helper()
	time.Sleep(500 * time.Millisecond)
	old, addr := ch.Pid(), ch.Addr()
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not come back")
		}
		if pid := ch.Pid(); pid == 0 || pid == old {
			continue
		}
		if res, err := clickhousePing(addr); err == nil && res {
			break
		}
	}
	if ch.Addr() != addr {
		t.Fatalf("address %s became %s", addr, ch.Addr())
	}
}

func clickhousePing(addr string) (bool, error) {
	conn, err := clickhouse.Open(&clickhouse.Options{Protocol: clickhouse.HTTP, Addr: []string{addr}})
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close() }()
	return true, conn.Ping(context.Background())
}

// checkKept compares what is there with what was acknowledged. An insert that
// was not acknowledged is there whole or not at all.
func checkKept(t *testing.T, addr string, acknowledged, tried uint64) {
	t.Helper()
	answer := post(t, addr, nil, "SELECT uniqExact(a), countIf(c != 1000) FROM (SELECT a, count() AS c FROM kept GROUP BY a)")
	fields := strings.Fields(answer.body)
	if len(fields) != 2 || fields[1] != "0" {
		t.Fatalf("answer %q", answer.body)
	}
	there, err := strconv.ParseUint(fields[0], 10, 64)
	if err != nil || there < acknowledged || there > tried || acknowledged == 0 {
		t.Fatalf("%d inserts there, %d acknowledged, %d tried, error %v", there, acknowledged, tried, err)
	}
	t.Logf("%d inserts there, %d acknowledged, %d tried", there, acknowledged, tried)
}

// TestDropFreesDisk drops tables in every manner: none waits for ever, and
// after the next start at the latest their data is gone.
func TestDropFreesDisk(t *testing.T) {
	dir := t.TempDir()
	ch := startIn(t, dir)
	addr := ch.Addr()
	post(t, addr, nil, "CREATE DATABASE gone").want(t, 200, "")
	for _, table := range []string{"kept", "gone.a", "b", "sync"} {
		post(t, addr, nil, "CREATE TABLE "+table+" (a UInt64) ENGINE = MergeTree ORDER BY a").want(t, 200, "")
		post(t, addr, nil, "INSERT INTO "+table+" SELECT rand64() FROM numbers(500000)").want(t, 200, "")
	}
	post(t, addr, nil, "DROP DATABASE gone SYNC").want(t, 200, "")
	post(t, addr, nil, "DROP TABLE IF EXISTS b NO DELAY").want(t, 200, "")
	post(t, addr, url.Values{"database_atomic_wait_for_drop_and_detach_synchronously": {"1"}}, "DROP TABLE sync").want(t, 200, "")
	killAndWait(t, ch)
	post(t, addr, nil, "SELECT count() FROM kept").want(t, 200, "500000\n")
	post(t, addr, nil, "SELECT count() FROM system.dropped_tables").want(t, 200, "0\n")
	var size int64
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, _ error) error {
		if info, err := entry.Info(); err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
		return nil
	})
	if size < 3<<20 || size > 8<<20 {
		t.Fatalf("%d bytes are left for one table of 4 MB", size)
	}
}

// TestStop stops a server while a long statement runs.
func TestStop(t *testing.T) {
	t.Parallel() // it only waits
	ch := startOwn(t)
	addr, pid := ch.Addr(), ch.Pid()
	running := make(chan answer, 1)
	go func() {
		running <- post(t, addr, url.Values{"query": {"SELECT count(sipHash64(number)) FROM numbers(100000000000)"}}, "")
	}()
	time.Sleep(200 * time.Millisecond)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	start := time.Now()
	if err := ch.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("stopped after %v", time.Since(start))
	(<-running).wantException(t, 500, "394")
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Fatalf("process %d is still there: %v", pid, err)
	}
	if ch.Pid() != 0 {
		t.Fatal("a child was started after the stop")
	}
}

// TestOneProcessPerDirectory starts a second server on the directory of a first.
func TestOneProcessPerDirectory(t *testing.T) {
	t.Parallel() // it only waits
	dir := t.TempDir()
	startIn(t, dir)
	_, err := embedded.StartClickHouse(t.Context(), embedded.Options{
		Executable: server(t), Args: []string{"clickhouse"}, DataDir: dir, Library: embeddedtest.Library(t),
	})
	if err == nil || !strings.Contains(err.Error(), "is used by another process") {
		t.Fatal(err)
	}
}

// TestStartFails gives a data directory that cannot be made.
func TestStartFails(t *testing.T) {
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := embedded.StartClickHouse(t.Context(), embedded.Options{
		Executable: server(t), Args: []string{"clickhouse"}, DataDir: file + "/below", Library: embeddedtest.Library(t),
	})
	if err == nil || !strings.Contains(err.Error(), "embedded clickhouse") {
		t.Fatal(err)
	}
	_, err = embedded.StartClickHouse(t.Context(), embedded.Options{
		Executable: "/no/such/program", DataDir: t.TempDir(), Library: embedded.LibraryOptions{Path: file},
	})
	if err == nil {
		t.Fatal("an empty library was accepted")
	}
}

// parentEnv turns this test binary into a parent that starts a server and waits.
const parentEnv = "EMBEDDED_TEST_PARENT"

// TestParentHelper is the other process of TestChildDiesWithParent.
func TestParentHelper(t *testing.T) {
	executable := os.Getenv(parentEnv)
	if executable == "" {
		t.Skip("is run by TestChildDiesWithParent")
	}
	ch, err := embedded.StartClickHouse(t.Context(), embedded.Options{
		Executable: executable, Args: []string{"clickhouse"}, DataDir: t.TempDir(), Library: embeddedtest.Library(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = os.Stdout.WriteString("PID " + strconv.Itoa(ch.Pid()) + "\n")
	time.Sleep(time.Hour)
}

func TestChildDiesWithParent(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run", "^TestParentHelper$")
	cmd.Env = append(os.Environ(), parentEnv+"="+server(t))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := 0
	for lines := bufio.NewScanner(out); pid == 0 && lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), "PID "); ok {
			pid, _ = strconv.Atoi(text)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if pid == 0 {
		t.Fatal("the parent started no server")
	}
	for deadline := time.Now().Add(30 * time.Second); syscall.Kill(pid, 0) == nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d outlived its parent", pid)
		}
	}
}
