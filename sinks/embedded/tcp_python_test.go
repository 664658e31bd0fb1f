package embedded_test

import (
	"net"
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
	venv := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "python3", "-m", "venv", venv).CombinedOutput(); err != nil {
		t.Skipf("NOT TESTED with clickhouse-driver: python3 with venv is needed: %v: %s", err, out)
	}
	python := filepath.Join(venv, "bin", "python")
	pip := exec.CommandContext(t.Context(), python, "-m", "pip", "install", "-q", "--disable-pip-version-check",
		"clickhouse-driver==0.2.11", "lz4==4.4.5", "clickhouse-cityhash==1.0.2.6")
	if out, err := pip.CombinedOutput(); err != nil {
		t.Skipf("NOT TESTED with clickhouse-driver: pip cannot install it: %v: %s", err, out)
	}
	run(t, connectNative(t, addr, nil), "CREATE DATABASE IF NOT EXISTS test_TestNativePython")
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), python, filepath.Join("testdata", "native.py"), host, port, "test_TestNativePython").CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "OK" {
		t.Fatalf("%v: %s", err, out)
	}
}
