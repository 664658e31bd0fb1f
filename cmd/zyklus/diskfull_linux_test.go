package main

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestDiskFull fills the disk of the engine, and makes room again.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=192m"); err != nil {
		t.Skipf("SKIPPED, a full disk was not tried: a small file system cannot be mounted: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	r := newRig(t)
	r.engine.p.kill()
	r.engine = &part{t: t, kind: "clickhouse", addr: "127.0.0.1:0", dir: filepath.Join(dir, "engine")}
	r.engine.start()
	d := r.deploy("full")
	checkpoints := r.checkpointsOf(d)
	p := r.run(d)
	r.await(p, d, r.feed.reached(), "before the disk is full")

	ballast := filepath.Join(dir, "ballast")
	fill(t, ballast)
	checkpoints.goesOn(p, "disk space", "while the disk is full")
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	p.awaitReady(time.Minute, "after the disk has room again")
	p.steady("while the disk was full")
	r.finishAndCompare(p, d, nil)
}

// fill writes a file until its disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for zeros := make([]byte, 1<<16); err == nil; {
		_, err = f.Write(zeros)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}
