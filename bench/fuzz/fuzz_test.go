package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestRun runs the targets of a module with one that holds and one that fails.
func TestRun(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and fuzzes a module")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":            "module example\n\ngo 1.26\n",
		"plain/plain.go":    "package plain\n",
		"good/good_test.go": "package good\n\nimport \"testing\"\n\nfunc FuzzGood(f *testing.F) {\n\tf.Fuzz(func(t *testing.T, b []byte) {})\n}\n",
		"bad/bad_test.go": "package bad\n\nimport \"testing\"\n\nfunc FuzzBad(f *testing.F) {\n\tf.Fuzz(func(t *testing.T, b []byte) {\n" +
			"\t\tif len(b) > 2 {\n\t\t\tt.Fatal(\"too long\")\n\t\t}\n\t})\n}\n\nfunc FuzzGoodToo(f *testing.F) {\n\tf.Fuzz(func(t *testing.T, n int) {})\n}\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	var out bytes.Buffer
	err := run(t.Context(), []string{"-time", "2s", "-jobs", "2", "-corpus", t.TempDir()}, &out)
	if err == nil || err.Error() != "1 of 3 fuzz targets failed" {
		t.Fatalf("ended with %v\n%s", err, &out)
	}
	var again string
	for line := range strings.Lines(out.String()) {
		fields := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "ok") && (fields[1] != "./good" && fields[1] != "./bad" || fields[3] == "0" || fields[4] != "executions"),
			strings.HasPrefix(line, "FAIL") && (fields[1] != "./bad" || fields[2] != "FuzzBad"):
			t.Errorf("a line is wrong: %s", line)
		case strings.Contains(line, "again: "):
			_, again, _ = strings.Cut(strings.TrimSpace(line), "again: ")
		}
	}
	if !strings.Contains(out.String(), "targets=3 failed=1 ") || !strings.Contains(out.String(), "too long") || !strings.Contains(out.String(), "go test fuzz v1") {
		t.Errorf("the output lacks a part:\n%s", &out)
	}
	if text, err := exec.CommandContext(t.Context(), "sh", "-c", again).CombinedOutput(); err == nil || !bytes.Contains(text, []byte("too long")) {
		t.Errorf("%q does not fail again: %v\n%s", again, err, text)
	}
	out.Reset()
	if err := run(t.Context(), []string{"-time", "1s", "-target", "FuzzGood", "-corpus", t.TempDir()}, &out); err != nil {
		t.Errorf("%v\n%s", err, &out)
	}
	if err := run(t.Context(), []string{"-target", "FuzzNone", "-corpus", t.TempDir()}, &out); err == nil {
		t.Error("nothing to run is no failure")
	}
}

// TestParse reads what the fuzzing engine prints.
func TestParse(t *testing.T) {
	const running = "fuzz: elapsed: 0s, gathering baseline coverage: 0/2 completed\n" +
		"fuzz: elapsed: 3s, execs: 100 (33/sec), new interesting: 4 (total: 6)\n"
	if r := parse([]byte(running)); r.executions != 100 || r.reached != 4 || r.failure != "" {
		t.Errorf("got %+v", r)
	}
	hangs := running + "fuzz: elapsed: 6s, execs: 100 (0/sec), new interesting: 4 (total: 6)\n" +
		"fuzz: elapsed: 1m18s, execs: 100 (0/sec), new interesting: 4 (total: 6)\nPASS\n"
	if r := parse([]byte(hangs)); !strings.Contains(r.failure, "hangs") {
		t.Errorf("got %+v", r)
	}
	const ended = "--- FAIL: FuzzX (30.05s)\n    context deadline exceeded\nFAIL\n"
	for text, want := range map[string]bool{
		running + ended: true,
		running + strings.Replace(ended, "    context", "    x_test.go:5: bad\n    context", 1): false,
		running + "PASS\n": false,
	} {
		if onlyDeadline([]byte(text)) != want {
			t.Errorf("%q is only the end of the time: %v", text, !want)
		}
	}
}
