package embedded

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Waits of the supervision.
const (
	readyTime  = 2 * time.Minute
	firstPause = 100 * time.Millisecond
	longPause  = 10 * time.Second
	// A child that lived this long has recovered: the pauses begin anew.
	healthyTime = 30 * time.Second
)

// supervisor keeps one child process alive:
//
//	start -> waiting for READY -> up -> gone -> pause -> start ...
//	                |              |
//	                | first child  | stop
//	                v              v
//	              error          ended
//
// The addresses are fixed from the first READY on, so that a child started again
// is found where its predecessor was.
type supervisor struct {
	// name is for messages.
	name       string
	executable string
	// args makes the child's arguments for the addresses of its predecessor.
	args func(addr addresses) []string
	log  func(string)
	// env is added to the child's environment.
	env []string
	// native says that the child announces a native address too.
	native bool

	mu       sync.Mutex
	addr     addresses
	child    *child
	stopping bool
	// stop is closed when the child is to stay down.
	stop chan struct{}
	// ended is closed when the last child is gone.
	ended chan struct{}
}

// addresses are where a child listens, each "host:port"; native is "" if that
// protocol is off.
type addresses struct{ http, native string }

// child is one run of the process.
type child struct {
	cmd   *exec.Cmd
	stdin io.Closer
	// ready gets the addresses once all are announced.
	ready chan addresses
	// announced is owned by the goroutine that reads the child's output.
	announced addresses
	native    bool
	// tail is the end of what the child wrote to standard error.
	tail tail
}

// start runs the first child and returns when it is ready. If it does not
// become ready, the error tells what it wrote last.
func (s *supervisor) start(ctx context.Context) error {
	s.stop, s.ended = make(chan struct{}), make(chan struct{})
	up := make(chan error, 1)
	go s.loop(up)
	select {
	case err := <-up:
		if err != nil {
			<-s.ended
			return fmt.Errorf("start %s: %w", s.name, err)
		}
		return nil
	case <-ctx.Done():
		gone, cancel := context.WithCancel(ctx)
		cancel()
		_ = s.shutdown(gone)
		return fmt.Errorf("start %s: %w", s.name, ctx.Err())
	}
}

// loop owns the child. It keeps to one thread, because the kernel takes the end
// of the thread that started a child for the death of its parent.
func (s *supervisor) loop(up chan<- error) {
	runtime.LockOSThread()
	defer close(s.ended)
	pause := firstPause
	for first := true; ; first = false {
		began := time.Now()
		err := s.runChild(up, first)
		if s.isStopping() {
			return
		}
		if first && s.address().http == "" {
			up <- err
			return
		}
		if time.Since(began) > healthyTime {
			pause = firstPause
		}
		s.log(fmt.Sprintf("%s ended (%v), starting it again in %v", s.name, err, pause))
		select {
		case <-s.stop:
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, longPause)
	}
}

// runChild runs one child to its end, which is always an error.
func (s *supervisor) runChild(up chan<- error, first bool) error {
	c, err := s.spawn()
	if err != nil {
		return err
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		s.awaitReady(c, up, first)
	}()
	err = c.cmd.Wait()
	close(c.ready)
	<-over
	s.setChild(nil)
	if err == nil {
		err = errors.New("exit status 0")
	}
	if text := c.tail.String(); text != "" {
		err = fmt.Errorf("%w: %s", err, text)
	}
	return err
}

// awaitReady takes the address of a child, or kills a child that stays silent.
func (s *supervisor) awaitReady(c *child, up chan<- error, first bool) {
	select {
	case addr, ok := <-c.ready:
		if !ok {
			return
		}
		s.mu.Lock()
		s.addr = addr
		s.mu.Unlock()
		if first {
			up <- nil
		} else {
			s.log(fmt.Sprintf("%s is back on %s with pid %d", s.name, addr.http, c.cmd.Process.Pid))
		}
	case <-time.After(readyTime):
		s.log(fmt.Sprintf("%s is not ready after %v, killing it", s.name, readyTime))
		_ = c.cmd.Process.Kill()
	}
}

// spawn starts a child. It does not start one after a stop.
func (s *supervisor) spawn() (*child, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return nil, context.Canceled
	}
	c := &child{cmd: exec.Command(s.executable, s.args(s.addr)...), ready: make(chan addresses, 1), native: s.native}
	c.cmd.Env = append(childEnvironment(), s.env...)
	c.cmd.SysProcAttr = childAttributes()
	c.cmd.Stdout = &lineWriter{line: c.stdoutLine}
	c.cmd.Stderr = &lineWriter{line: func(line string) {
		c.tail.add(line)
		s.log(s.name + ": " + line)
	}}
	stdin, err := c.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	c.stdin = stdin
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	s.child = c
	return c, nil
}

// childEnvironment is the own environment, as a child of ours is to have it.
func childEnvironment() []string {
	env := slices.DeleteFunc(os.Environ(), func(entry string) bool { return strings.HasPrefix(entry, PasswordEnv+"=") })
	return append(env, parentEnv+"=1")
}

// stdoutLine finds the READY line and, if there is one to come, the NATIVE line
// after it. It runs only while Wait has not returned, so ready is open.
func (c *child) stdoutLine(line string) {
	if addr, ok := strings.CutPrefix(line, "READY "); ok {
		c.announced.http = strings.TrimPrefix(addr, "http://")
	}
	if addr, ok := strings.CutPrefix(line, "NATIVE "); ok {
		c.announced.native = addr
	}
	if c.announced.http == "" || c.native && c.announced.native == "" {
		return
	}
	select {
	case c.ready <- c.announced:
	default:
	}
}

// shutdown asks the child to stop, waits, and kills it when ctx ends. It
// returns ctx's error in that case.
func (s *supervisor) shutdown(ctx context.Context) error {
	s.mu.Lock()
	c := s.child
	if !s.stopping {
		s.stopping = true
		close(s.stop)
		if c != nil {
			_ = c.stdin.Close()
			_ = c.cmd.Process.Signal(syscall.SIGTERM)
		}
	}
	s.mu.Unlock()
	select {
	case <-s.ended:
		return nil
	case <-ctx.Done():
	}
	if c != nil {
		_ = c.cmd.Process.Kill()
	}
	<-s.ended
	return fmt.Errorf("stop %s: killed: %w", s.name, ctx.Err())
}

func (s *supervisor) setChild(c *child) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.child = c
}

func (s *supervisor) isStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}

// address tells where the child listens; it is empty before the first READY.
func (s *supervisor) address() addresses {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// pid is the child's process id, 0 while there is none.
func (s *supervisor) pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.child == nil {
		return 0
	}
	return s.child.cmd.Process.Pid
}

// lineWriter hands out what is written line by line. Lines are cut at 64 KiB.
type lineWriter struct {
	line func(string)
	buf  []byte
}

// Write implements io.Writer.
func (w *lineWriter) Write(p []byte) (int, error) {
	w.buf = append(w.buf, p...)
	for {
		advance, line, _ := bufio.ScanLines(w.buf, len(w.buf) > 64<<10)
		if advance == 0 {
			return len(p), nil
		}
		w.line(string(line))
		w.buf = w.buf[advance:]
	}
}

// tail keeps the last lines of a child's standard error.
type tail struct {
	mu    sync.Mutex
	lines []string
}

func (t *tail) add(line string) {
	const keep = 5
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, line)
	t.lines = t.lines[max(0, len(t.lines)-keep):]
}

// String joins the lines kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "; ")
}
