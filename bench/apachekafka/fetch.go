//go:build unix

package apachekafka

import (
	"context"
	"crypto/sha256"
	_ "embed" // for the pom
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

//go:embed pom.xml
var pom []byte

// fetchTime bounds what Maven may take.
const fetchTime = 10 * time.Minute

// Available returns an error that says what is missing to run Apache Kafka, nil if nothing is.
func Available() error {
	var missing []string
	if _, err := exec.LookPath("java"); err != nil {
		missing = append(missing, "java (17 or later)")
	}
	if _, err := exec.LookPath("mvn"); err != nil {
		missing = append(missing, "mvn (Maven 3)")
	}
	if len(missing) > 0 {
		return fmt.Errorf("apache kafka needs programs that are not on the path: %s", strings.Join(missing, ", "))
	}
	return nil
}

// library returns the directory of Kafka's jars in the user's cache. The first call on a machine fetches them; other
// processes that come meanwhile wait.
func library(ctx context.Context) (string, error) {
	if err := Available(); err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache for apache kafka: %w", err)
	}
	return cached(ctx, filepath.Join(cache, "zyklus", "apachekafka"), maven)
}

// cached returns the directory in the cache that belongs to the pom, which fetch fills if it is not there.
func cached(ctx context.Context, cache string, fetch func(ctx context.Context, dir string) error) (string, error) {
	dir := filepath.Join(cache, fmt.Sprintf("%x", sha256.Sum256(pom))[:16])
	if exists(dir) {
		return dir, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("create the cache for apache kafka: %w", err)
	}
	unlock, err := lock(ctx, filepath.Join(cache, "lock"))
	if err != nil {
		return "", fmt.Errorf("lock the cache for apache kafka: %w", err)
	}
	defer unlock()
	if exists(dir) {
		return dir, nil // another process was first
	}
	// Nobody else writes here now: what there is was left by a process that was killed.
	partial := filepath.Join(cache, "partial")
	if err := os.RemoveAll(partial); err != nil {
		return "", fmt.Errorf("clear the cache for apache kafka: %w", err)
	}
	defer func() { _ = os.RemoveAll(partial) }()
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	if err := fetch(ctx, partial); err != nil {
		return "", fmt.Errorf("fetch apache kafka: %w", err)
	}
	// Only a complete directory ever has the name that others look for.
	if err := os.Rename(partial, dir); err != nil {
		return "", fmt.Errorf("fetch apache kafka: %w", err)
	}
	return dir, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// maven copies the jars that the pom names, and all that they need, into dir.
func maven(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	project := filepath.Join(dir, "pom.xml")
	if err := os.WriteFile(project, pom, 0o644); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "mvn", "-q", "-B", "-f", project,
		"org.apache.maven.plugins:maven-dependency-plugin:2.8:copy-dependencies", "-DoutputDirectory="+dir, "-DincludeScope=runtime")
	cmd.WaitDelay = time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mvn: %w: check that Maven reaches a repository\n%s", err, tail(string(out), 20))
	}
	return nil
}

// lock takes a lock that ends with the process at the latest. It waits until the lock is free or ctx ends.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			_ = f.Close()
			return nil, err
		}
		if err := pause(ctx); err != nil {
			_ = f.Close()
			return nil, err
		}
	}
}

// pause waits a moment before something is looked at again, or until ctx ends.
func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(50 * time.Millisecond):
		return nil
	}
}

// tail returns the last lines of a text.
func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
