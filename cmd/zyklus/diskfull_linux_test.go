package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestDiskFull fills the disk of the engine, and makes room again. Where nobody may have a small disk, the engine is told
// to keep more room free than there is.
func TestDiskFull(t *testing.T) {
	r := newRig(t)
	fill, free := r.keepNoRoom, r.keepRoom
	if disk, err := r.onSmallDisk(); err != nil {
		t.Logf("a small file system cannot be mounted (%v): the engine refuses rows before its disk is full", err)
	} else {
		ballast := filepath.Join(disk, "ballast")
		fill, free = func(deployment) { fillDisk(t, ballast) }, func(deployment) { _ = os.Remove(ballast) }
	}
	d := r.deploy("full")
	checkpoints := r.checkpointsOf(d)
	p := r.run(d)
	r.await(p, d, r.feed.reached(), "before the disk is full")

	fill(d)
	checkpoints.goesOn(p, "disk space", "while the disk is full")
	free(d)
	p.awaitReady(time.Minute, "after the disk has room again")
	p.steady("while the disk was full")
	r.finishAndCompare(p, d, nil)
}

// onSmallDisk starts the engine anew, on a disk that it alone sees and that ends with it. That needs no rights but to make
// user namespaces. The path leads others to the disk.
func (r *rig) onSmallDisk() (path string, err error) {
	dir := r.t.TempDir()
	mounted := func(args ...string) *exec.Cmd {
		cmd := exec.Command("sh", append([]string{"-c", `mount -t tmpfs -o size=192m tmpfs "$0" && exec "$@"`, dir}, args...)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		}
		return cmd
	}
	if out, err := mounted("true").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
	}
	r.engine.p.kill()
	p := startCommand(r.t, nil, mounted(binary(r.t), "embedded", "clickhouse", "--listen", "127.0.0.1:0", "--data-dir", filepath.Join(dir, "engine")))
	r.engine = &part{t: r.t, kind: "clickhouse", addr: p.ready(), dir: dir, p: p}
	return fmt.Sprintf("/proc/%d/root%s", p.cmd.Process.Pid, dir), nil
}

// keepNoRoom has the engine refuse rows as if its disk were full.
func (r *rig) keepNoRoom(d deployment) {
	r.alterAll(d, "MODIFY SETTING min_free_disk_bytes_to_perform_insert = 1000000000000000000")
}

// keepRoom takes it back.
func (r *rig) keepRoom(d deployment) {
	r.alterAll(d, "RESET SETTING min_free_disk_bytes_to_perform_insert")
}

// alterAll changes all tables with rows of a pipeline.
func (r *rig) alterAll(d deployment, change string) {
	r.t.Helper()
	for _, table := range []string{"customers", "customer_days", "orders", "phase_transitions", "dead_letters", "checkpoints"} {
		d.mustQuery(r.t, "ALTER TABLE "+table+" "+change)
	}
}

// fillDisk writes a file until its disk is full.
func fillDisk(t *testing.T, path string) {
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
