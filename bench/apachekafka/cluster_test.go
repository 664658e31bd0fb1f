//go:build unix

package apachekafka

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestBrokersComeAndGo: with one broker of three killed, stopped or frozen, records are still acknowledged by the two
// others; after all three were killed, every acknowledged record is there.
func TestBrokersComeAndGo(t *testing.T) {
	if testing.Short() {
		t.Skip("starts Apache Kafka")
	}
	Need(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	began := time.Now()
	c, err := Start(ctx, Config{Brokers: 3, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	t.Logf("the cluster was there after %v", time.Since(began).Round(time.Millisecond))
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs()...), kgo.DefaultProduceTopic("t"), kgo.MetadataMinAge(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if _, err := kadm.NewClient(cl).CreateTopic(ctx, 6, -1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	want := 0
	produce := func(when string) {
		t.Helper()
		began := time.Now()
		for i := range 60 {
			if err := cl.ProduceSync(ctx, &kgo.Record{Key: fmt.Append(nil, i), Value: fmt.Append(nil, want)}).FirstErr(); err != nil {
				t.Fatalf("%s: %v", when, err)
			}
			want++
		}
		t.Logf("%s: 60 records took %v", when, time.Since(began).Round(time.Millisecond))
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	produce("with three brokers")
	must(c.Kill(0))
	produce("with broker 0 killed")
	must(c.Start(ctx, 0))
	must(c.Freeze(1))
	produce("with broker 1 frozen")
	must(c.Start(ctx, 1))
	must(c.Stop(ctx, 2))
	produce("with broker 2 stopped")
	for i := range 2 {
		must(c.Kill(i))
	}
	must(c.StartAll(ctx))
	produce("after all were gone")

	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, "t")
	must(err)
	sum := int64(0)
	ends.Each(func(o kadm.ListedOffset) { sum += o.Offset })
	if sum != int64(want) {
		t.Errorf("the topic holds %d records, %d were acknowledged", sum, want)
	}
	pids := []int{}
	for _, b := range c.brokers {
		pids = append(pids, b.cmd.Process.Pid)
	}
	c.Close()
	for _, pid := range pids {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d is there after Close: %v", pid, err)
		}
	}
}

// TestCacheIsFilledOnce: of many that need the jars at once, one fetches them, and nobody sees a part of them.
func TestCacheIsFilledOnce(t *testing.T) {
	cache := t.TempDir()
	var fetches atomic.Int32
	fetch := func(_ context.Context, dir string) error {
		fetches.Add(1)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, "a.jar"), nil, 0o644)
	}
	if _, err := cached(t.Context(), cache, func(ctx context.Context, dir string) error {
		return errors.Join(fetch(ctx, dir), errors.New("no network"))
	}); err == nil {
		t.Error("a fetch that failed gives no error")
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			dir, err := cached(t.Context(), cache, fetch)
			if err == nil && !exists(filepath.Join(dir, "a.jar")) {
				err = errors.New("the directory is not complete")
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := fetches.Load(); n != 2 {
		t.Errorf("%d fetches, not the one that failed and one more", n)
	}
}

// TestUnavailable: what is missing is named, and is no reason to skip where Kafka is required.
func TestUnavailable(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := Available()
	if want := "apache kafka needs programs that are not on the path: java (17 or later), mvn (Maven 3)"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	sayOnce.Do(func() {}) // it would not be true
	for require, want := range map[string]string{"": "skipped", "1": "failed"} {
		t.Setenv(RequireEnv, require)
		probe := &outcome{TB: t}
		probe.run()
		if probe.what != want {
			t.Errorf("with %s=%q the test is %s, want %s", RequireEnv, require, probe.what, want)
		}
	}
}

// TestSkipIsSaid: go test says of packages that pass which tests were not run.
func TestSkipIsSaid(t *testing.T) {
	if testing.Short() {
		t.Skip("runs go test")
	}
	tool, err := exec.LookPath("go")
	if err != nil {
		t.Skip(err)
	}
	cmd := exec.CommandContext(t.Context(), tool, "test", "-count=1", "-run", "^TestBrokersComeAndGo$", ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", RequireEnv+"=", "PATH="+t.TempDir())
	out, err := cmd.CombinedOutput()
	const want = "SKIPPED, NOT TESTED on Apache Kafka: tests of package apachekafka: apache kafka needs programs that are not on the path: java"
	if err != nil || strings.Count(string(out), want) != 1 || !strings.Contains(string(out), "ok ") {
		t.Errorf("ended with %v\n%s", err, out)
	}
}

// outcome is a test that notes how Need ends it.
type outcome struct {
	testing.TB
	what string
}

func (o *outcome) run() {
	defer func() { _ = recover() }()
	Need(o)
}

func (o *outcome) Skipf(string, ...any)  { o.what = "skipped"; panic(o.what) }
func (o *outcome) Fatalf(string, ...any) { o.what = "failed"; panic(o.what) }
