package embedded

import (
	"context"
	"fmt"
	"os"
)

// Options configures StartClickHouse.
type Options struct {
	// Executable is the program that calls ServeClickHouse; the default is the
	// running one. It must not be built with -race.
	Executable string
	// Args are the program's arguments; the default is "embedded",
	// "clickhouse". The flags --listen, --native-listen, --data-dir and --libchdb
	// with their values follow.
	Args []string
	// DataDir holds the databases. Needed.
	DataDir string
	// Addr is the address "host:port" of the endpoint; the default is 127.0.0.1
	// and a port the system chooses, which then stays the same.
	Addr string
	// NativeAddr is the same for the native protocol; NativeOff is none.
	NativeAddr string
	// Users maps the names of users to their passwords; the default is the user
	// default without a password. They reach the child by its environment.
	Users map[string]string
	// Library says where libchdb is, or how to get it. It is found before the
	// child starts, so that Progress is called in this process.
	Library LibraryOptions
	// Log, if set, gets one line when the child ends, is started again or
	// writes to its standard error. It is called from several goroutines.
	Log func(line string)
}

// ClickHouse is a running embedded ClickHouse in a process of its own. The
// process is started again on the same address whenever it ends, and stops when
// this process dies.
type ClickHouse struct{ sup *supervisor }

// StartClickHouse starts the process and returns when it answers requests. ctx
// bounds the start only.
func StartClickHouse(ctx context.Context, opts Options) (*ClickHouse, error) {
	library, err := Library(ctx, opts.Library)
	if err != nil {
		return nil, err
	}
	sup := &supervisor{name: "embedded clickhouse", executable: opts.Executable, native: opts.NativeAddr != NativeOff, log: opts.Log}
	if sup.executable == "" {
		if sup.executable, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("find the own executable: %w", err)
		}
	}
	if sup.log == nil {
		sup.log = func(string) {}
	}
	if sup.env, err = users(opts.Users).environment(); err != nil {
		return nil, err
	}
	args := opts.Args
	if args == nil {
		args = []string{"embedded", "clickhouse"}
	}
	sup.args = func(addr addresses) []string {
		return append(args[:len(args):len(args)], "--listen", firstOf(addr.http, opts.Addr, "127.0.0.1:0"),
			"--native-listen", firstOf(addr.native, opts.NativeAddr, "127.0.0.1:0"), "--data-dir", opts.DataDir, "--libchdb", library)
	}
	if err := sup.start(ctx); err != nil {
		return nil, err
	}
	return &ClickHouse{sup: sup}, nil
}

// Addr is the address "host:port" of the HTTP endpoint. It does not change.
func (c *ClickHouse) Addr() string { return c.sup.address().http }

// NativeAddr is the address "host:port" of the native protocol, "" if it is
// off. It does not change.
func (c *ClickHouse) NativeAddr() string { return c.sup.address().native }

// Pid is the process id of the child, 0 between two children.
func (c *ClickHouse) Pid() int { return c.sup.pid() }

// Stop ends the process: running statements may finish for 5 s. When ctx ends
// first the process is killed and the error wraps ctx's. Every acknowledged
// insert stays on disk either way. A second Stop waits like the first.
func (c *ClickHouse) Stop(ctx context.Context) error { return c.sup.shutdown(ctx) }
