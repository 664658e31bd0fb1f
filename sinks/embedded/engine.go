package embedded

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"time"
	"unsafe"
)

// engine is the ClickHouse inside this process: one data directory and a pool
// of connections to it. There can be only one per process.
type engine struct {
	lib  *chdb
	args []string
	// slots holds a token for every statement that may run at once.
	slots chan struct{}

	mu     sync.Mutex
	idle   []*session
	closed bool
	// anchor is a connection that is never used for statements: the engine
	// shuts down with its last connection, and this one keeps it up.
	anchor *session
	// nextTag numbers statements, so that each can be found and killed.
	nextTag uint64
}

// maxIdle bounds how many unused connections are kept. A new one costs 0.2 ms.
const maxIdle = 8

// openEngine loads the library and starts the engine on dir, which it creates.
// parallel is how many statements may run at once.
func openEngine(library, dir string, parallel int) (*engine, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	e := &engine{slots: make(chan struct{}, parallel), args: engineArgs(abs)}
	if err := sweepDropped(abs); err != nil {
		return nil, err
	}
	keepSignals(func() {
		if e.lib, err = loadChdb(library); err == nil {
			e.lib.setSignalHandlers(0)
		}
	})
	if err != nil {
		return nil, err
	}
	if e.anchor, err = e.connect(); err != nil {
		return nil, fmt.Errorf("open the engine on %s: %w", abs, err)
	}
	return e, nil
}

// engineArgs is the command line of the engine; server settings go there too.
func engineArgs(dir string) []string {
	return []string{
		"clickhouse", "--path=" + dir,
		fmt.Sprintf("--database_atomic_delay_before_drop_table_sec=%d", int(undropTime.Seconds())),
	}
}

// result is what a statement returned. data is memory of the engine, valid
// until free.
type result struct {
	data []byte
	// header is an empty Native block with the columns of a result without
	// rows, for which the engine itself writes nothing.
	header       []byte
	rowsRead     uint64
	bytesRead    uint64
	rowsWritten  uint64
	bytesWritten uint64
	elapsed      time.Duration
	free         func()
}

// command is one statement with what it runs under.
type command struct {
	sql string
	// format is used where the statement names no output format.
	format string
	// database is the current database; "" means default.
	database string
	settings []setting
	params   []param
	// spoils says that the statement changes its session (SET, USE, temporary
	// tables), so that the connection must not be used again.
	spoils bool
}

// run executes one statement. It waits for a free slot. When ctx ends, the
// statement is killed and the engine's own "cancelled" exception returned.
// Errors of the engine are *exception.
func (e *engine) run(ctx context.Context, cmd command) (*result, error) {
	select {
	case e.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a free connection: %w", ctx.Err())
	}
	defer func() { <-e.slots }()
	s, err := e.take()
	if err != nil {
		return nil, err
	}
	tag := e.tag()
	if err := s.prepare(cmd, tag); err != nil {
		e.discard(s)
		return nil, err
	}
	finished, calm := e.watch(ctx, tag), e.nudge()
	res, err := s.exec(cmd.sql, cmd.format, cmd.params)
	finished()
	calm()
	// A connection keeps a failed statement in the process list until its next
	// one, so it goes too.
	if err != nil || cmd.spoils || len(cmd.settings) > 0 {
		e.discard(s)
		return res, err
	}
	e.give(s)
	return res, nil
}

// tag returns a name no other statement of this engine has.
func (e *engine) tag() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.nextTag++
	return fmt.Sprintf("zyklus-statement-%d.", e.nextTag)
}

// watch kills the tagged statement once ctx ends. The caller calls the returned
// function when the statement is over; it waits for a kill under way.
func (e *engine) watch(ctx context.Context, tag string) func() {
	over, gone := make(chan struct{}), make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(gone)
		e.killUntil(over, tag)
	})
	return func() {
		close(over)
		if !stop() {
			<-gone
		}
	}
}

// nudgeInterval is how often a statement that runs long is nudged.
const nudgeInterval = 2 * time.Second

// nudge runs a trivial statement now and then until the returned function is
// called, which waits for one under way. glibc before 2.41 can lose a wakeup
// (its bug 25847): a task then lies in the engine's thread pool until another
// one is scheduled. On a quiet server there is no other one.
func (e *engine) nudge() func() {
	over, gone := make(chan struct{}), make(chan struct{})
	timer := time.AfterFunc(nudgeInterval, func() {
		defer close(gone)
		e.nudgeUntil(over)
	})
	return func() {
		close(over)
		if !timer.Stop() {
			<-gone
		}
	}
}

func (e *engine) nudgeUntil(over <-chan struct{}) {
	s, err := e.connect()
	if err != nil {
		return
	}
	defer e.discard(s)
	for {
		_ = s.do("SELECT 1") // only its running matters
		select {
		case <-over:
			return
		case <-time.After(nudgeInterval):
		}
	}
}

// killUntil kills the tagged statement again and again until over is closed: a
// statement that has not registered yet cannot be found by the first attempt.
func (e *engine) killUntil(over <-chan struct{}, tag string) {
	s, err := e.connect()
	if err != nil {
		<-over
		return
	}
	defer e.discard(s)
	sql := "KILL QUERY WHERE endsWith(Settings['log_comment'], " + quoteString(tag) + ") ASYNC"
	for wait := time.Millisecond; ; wait = min(2*wait, 200*time.Millisecond) {
		_ = s.do(sql) // a failure shows in the next round
		select {
		case <-over:
			return
		case <-time.After(wait):
		}
	}
}

// take returns an idle connection or a new one.
func (e *engine) take() (*session, error) {
	e.mu.Lock()
	if n := len(e.idle); n > 0 {
		s := e.idle[n-1]
		e.idle = e.idle[:n-1]
		e.mu.Unlock()
		return s, nil
	}
	e.mu.Unlock()
	return e.connect()
}

// give returns a connection to the pool.
func (e *engine) give(s *session) {
	e.mu.Lock()
	if len(e.idle) < maxIdle && !e.closed {
		e.idle = append(e.idle, s)
		e.mu.Unlock()
		return
	}
	e.mu.Unlock()
	e.discard(s)
}

// connect opens a connection. Connects are one at a time: each replaces the
// signal handlers of the process and must put them back before the next.
func (e *engine) connect() (*session, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, errEngineClosed
	}
	var cell, conn unsafe.Pointer
	var err error
	keepSignals(func() { cell, conn, err = e.lib.open(e.args...) })
	if err != nil {
		return nil, err
	}
	return &session{lib: e.lib, cell: cell, conn: conn, database: defaultDatabase}, nil
}

// discard closes a connection.
func (e *engine) discard(s *session) {
	e.mu.Lock()
	defer e.mu.Unlock()
	keepSignals(func() { e.lib.closeConn(s.cell) })
}

// close shuts the engine down. No statement may be running.
func (e *engine) close() {
	e.mu.Lock()
	e.closed = true
	idle := e.idle
	e.idle = nil
	e.mu.Unlock()
	for _, s := range idle {
		e.discard(s)
	}
	e.discard(e.anchor)
}
