// Package embeddedtest gives tests an embedded ClickHouse.
package embeddedtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"zyklus/sinks/embedded"
)

// startTime bounds fetching the library, building the server and its start.
const startTime = 15 * time.Minute

// shared is the one ClickHouse of this test binary.
type shared struct {
	once   sync.Once
	server *embedded.ClickHouse
	err    error
}

// process is a global because a test binary has no other place that lives as
// long as itself.
var process shared

// StartClickHouse returns the address "host:port" of a ClickHouse's HTTP
// endpoint. All tests of a test binary share it, so each should create its own
// database. The first call fetches libchdb unless it is cached or the
// environment names one, and builds the server. The server ends with the test
// binary and removes its data. Short tests are skipped.
func StartClickHouse(t testing.TB) (addr string) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs the embedded ClickHouse")
	}
	process.once.Do(func() { process.server, process.err = start(t) })
	if process.err != nil {
		t.Fatalf("start the embedded ClickHouse: %v", process.err)
	}
	return process.server.Addr()
}

// StartNative is like StartClickHouse, but returns the address of the native
// protocol of the same server.
func StartNative(t testing.TB) (addr string) {
	t.Helper()
	StartClickHouse(t)
	return process.server.NativeAddr()
}

// start builds and starts the server in a directory that it removes itself.
func start(t testing.TB) (*embedded.ClickHouse, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	removeOld()
	dir, err := os.MkdirTemp("", "zyklus-clickhouse-*") //nolint:usetesting // it lives as long as the test binary
	if err != nil {
		return nil, fmt.Errorf("temporary directory: %w", err)
	}
	server, err := BuildServer(ctx, dir)
	if err != nil {
		return nil, err
	}
	return embedded.StartClickHouse(ctx, embedded.Options{
		Executable: server,
		Args:       []string{"clickhouse", "--temporary"},
		DataDir:    dir,
		Library:    Library(t),
		Log:        func(line string) { _, _ = fmt.Fprintln(os.Stderr, line) },
	})
}

// removeOld removes directories of servers that were killed, a day later.
func removeOld() {
	old, _ := filepath.Glob(filepath.Join(os.TempDir(), "zyklus-clickhouse-*"))
	for _, dir := range old {
		if info, err := os.Stat(dir); err == nil && time.Since(info.ModTime()) > 24*time.Hour {
			_ = os.RemoveAll(dir)
		}
	}
}

// Library says where tests find libchdb, and reports a download's progress.
func Library(t testing.TB) embedded.LibraryOptions {
	var last embedded.Phase
	return embedded.LibraryOptions{
		Path: os.Getenv(embedded.LibraryEnv),
		Progress: func(p embedded.Progress) {
			if p.Phase != last {
				t.Logf("libchdb: %s of %d MB", p.Phase, p.Total>>20)
			}
			last = p.Phase
		},
	}
}

// BuildServer builds the server's program into dir and returns its path. It is
// never built with -race: the engine does not end cleanly under it.
func BuildServer(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "chserver")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, "zyklus/sinks/embedded/internal/chserver")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the server: %w: %s", err, out)
	}
	return path, nil
}
