//go:build unix

package apachekafka

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// RequireEnv is the environment variable that, set to 1, has tests fail where they would be skipped.
const RequireEnv = "ZYKLUS_REQUIRE_KAFKA"

// Need skips the test if Apache Kafka cannot be run here, and says so past go test, once a package. Where it is required,
// the test fails instead.
func Need(t testing.TB) {
	t.Helper()
	err := Available()
	switch {
	case err == nil:
	case os.Getenv(RequireEnv) == "1":
		t.Fatalf("%v, and %s=1 requires it", err, RequireEnv)
	default:
		sayOnce.Do(func() {
			tests := strings.TrimSuffix(filepath.Base(os.Args[0]), ".test")
			sayPastGoTest(fmt.Sprintf("SKIPPED, NOT TESTED on Apache Kafka: tests of package %s: %v\n", tests, err))
		})
		t.Skipf("SKIPPED, NOT TESTED: %v", err)
	}
}

// sayOnce is a global because a test binary has no other place that lives as long as itself.
var sayOnce sync.Once

// sayPastGoTest writes a line for whoever runs the tests. go test keeps back what tests write if it runs several packages
// and they pass. So the line goes where go test itself writes errors, if that is a terminal or a pipe; a file would be
// written to at two places at once. Then, and where there is no /proc, it goes to the terminal, if there is one.
func sayPastGoTest(line string) {
	for _, path := range []string{fmt.Sprintf("/proc/%d/fd/2", os.Getppid()), "/dev/tty"} {
		if info, err := os.Stat(path); err != nil || info.Mode().IsRegular() {
			continue
		}
		out, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NOCTTY, 0)
		if err != nil {
			continue
		}
		_, err = io.WriteString(out, line)
		if _ = out.Close(); err == nil {
			return
		}
	}
}
