package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// parentEnv is set by a supervisor for its child: the child then stops when its
// standard input ends, which the kernel sees to if the parent dies.
const parentEnv = "ZYKLUS_STOP_WITH_STDIN"

// stopTime is how long a child may take to stop before it ends itself the hard
// way. It covers two drain times and the engine's own shutdown.
const stopTime = 2*drainTime + 5*time.Second

// ServeOptions configures ServeClickHouse.
type ServeOptions struct {
	// Listen is the address "host:port". The default is 127.0.0.1 and a port
	// the system chooses.
	Listen string
	// NativeListen is the address "host:port" of the native protocol. The
	// default is 127.0.0.1 and a port the system chooses; NativeOff is none.
	NativeListen string
	// Users maps names to passwords; the default is the user default without a
	// password. There are no access rights: every user may do everything,
	// reading files of this machine included.
	Users map[string]string
	// DataDir holds databases and inserts under way. It is created; one process
	// may use it at a time.
	DataDir string
	// Library says where libchdb is, or how to get it.
	Library LibraryOptions
	// SendTimeout is how long a client may take to accept a piece of a result,
	// after which its statement is killed; the default is a ClickHouse server's:
	// 30 s over HTTP, 5 minutes over the native protocol.
	SendTimeout time.Duration
	// Temporary removes DataDir at the end.
	Temporary bool
	// Stdout is where the READY line goes; the default is os.Stdout.
	Stdout io.Writer
}

// ServeClickHouse runs the embedded ClickHouse in this process, which should do
// nothing else and must not be built with -race. Once it answers requests it
// prints one line "READY http://host:port" and, unless the native protocol is
// off, a second one "NATIVE host:port".
//
// It returns nil after ctx ends, after SIGTERM or SIGINT, or, under a
// supervisor, after the end of standard input. It then lets running statements
// finish for 5 s and kills those that take longer. If the engine does not stop
// at all the process exits with status 1.
func ServeClickHouse(ctx context.Context, opts ServeOptions) error {
	if opts.DataDir == "" {
		return errors.New("embedded clickhouse: no data directory given")
	}
	var err error
	if opts.Users, err = newUsers(opts.Users); err != nil {
		return fmt.Errorf("embedded clickhouse: %w", err)
	}
	ctx, stop := untilStopped(ctx)
	defer stop()
	library, err := Library(ctx, opts.Library)
	if err != nil {
		return err
	}
	if opts.Temporary {
		defer func() { _ = os.RemoveAll(opts.DataDir) }()
	}
	if err := serveOn(ctx, library, opts); err != nil {
		return fmt.Errorf("embedded clickhouse: %w", err)
	}
	return nil
}

// serveOn serves with the library at the path.
func serveOn(ctx context.Context, library string, opts ServeOptions) error {
	// The addresses are taken first: a second process on them fails at once.
	ln, err := net.Listen("tcp", firstOf(opts.Listen, "127.0.0.1:0"))
	if err != nil {
		return err
	}
	defer func() { _ = ln.Close() }()
	ready := "http://" + ln.Addr().String()
	var native net.Listener
	if opts.NativeListen != NativeOff {
		if native, err = net.Listen("tcp", firstOf(opts.NativeListen, "127.0.0.1:0")); err != nil {
			return fmt.Errorf("native protocol: %w", err)
		}
		defer func() { _ = native.Close() }()
		ready += "\nNATIVE " + native.Addr().String()
	}
	unlock, err := lockDir(ctx, opts.DataDir)
	if err != nil {
		return err
	}
	defer unlock()
	srv, err := newServer(library, opts)
	if err != nil {
		return err
	}
	if err := announce(opts.Stdout, ready); err != nil {
		return err
	}
	return srv.serve(ctx, ln, native)
}

// lockTime is how long a predecessor on the same directory may take to end.
const lockTime = 5 * time.Second

// lockDir creates a data directory and makes sure that no other process uses it.
func lockDir(ctx context.Context, dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("create data directory: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, lockTime)
	defer cancel()
	unlock, err = lockFile(ctx, filepath.Join(dir, "lock"))
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, fmt.Errorf("data directory %s is used by another process", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	return unlock, nil
}

// announce prints the READY line.
func announce(w io.Writer, address string) error {
	if w == nil {
		w = os.Stdout
	}
	if _, err := fmt.Fprintf(w, "READY %s\n", address); err != nil {
		return fmt.Errorf("announce the address: %w", err)
	}
	return nil
}

// untilStopped returns a context that ends with SIGTERM, SIGINT or, under a
// supervisor, with the end of standard input. From then on the process has
// stopTime left.
func untilStopped(parent context.Context) (context.Context, func()) {
	ctx, cancel := signal.NotifyContext(parent, syscall.SIGTERM, os.Interrupt)
	if os.Getenv(parentEnv) != "" {
		// A parent that died reads no log any more; that must not end the stop.
		signal.Ignore(syscall.SIGPIPE)
		// This goroutine ends with the process: a read of standard input cannot
		// be interrupted.
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			cancel()
		}()
	}
	var deadline *time.Timer
	armed := make(chan struct{})
	unhook := context.AfterFunc(ctx, func() {
		defer close(armed)
		deadline = time.AfterFunc(stopTime, func() { os.Exit(1) })
	})
	return ctx, func() {
		if !unhook() {
			<-armed
			deadline.Stop()
		}
		cancel()
	}
}
