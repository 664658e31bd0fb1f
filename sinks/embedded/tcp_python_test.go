package embedded_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"zyklus/sinks/embedded/embeddedtest"
)

// TestNativePython uses the server with clickhouse-driver, the native client of
// Python programs.
func TestNativePython(t *testing.T) {
	addr := embeddedtest.StartNative(t)
	packages := t.TempDir()
	pip := exec.CommandContext(t.Context(), "python3", "-m", "pip", "install", "-q", "--disable-pip-version-check",
		"--target", packages, "clickhouse-driver==0.2.11", "lz4==4.4.5", "clickhouse-cityhash==1.0.2.6")
	if out, err := pip.CombinedOutput(); err != nil {
		t.Skipf("NOT TESTED with clickhouse-driver: python3 and pip must be able to install it: %v: %s", err, out)
	}
	run(t, connectNative(t, addr, nil), "CREATE DATABASE IF NOT EXISTS test_TestNativePython")
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	script := exec.CommandContext(t.Context(), "python3", filepath.Join("testdata", "native.py"), host, port, "test_TestNativePython")
	script.Env = append(os.Environ(), "PYTHONPATH="+packages)
	out, err := script.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "OK" {
		t.Fatalf("%v: %s", err, out)
	}
}
