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
	// running holds the statements whose clients gave them an id.
	running map[string]*runningQuery
}

// maxIdle bounds how many unused connections are kept. A new one costs 0.2 ms.
const maxIdle = 8

// openEngine loads the library and starts the engine on dir, which it creates.
// It refuses databases of a newer engine. parallel is how many statements may run at once.
func openEngine(library, dir string, parallel int) (*engine, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	e := &engine{slots: make(chan struct{}, parallel), args: engineArgs(abs), running: make(map[string]*runningQuery)}
	keepSignals(func() {
		if e.lib, err = loadChdb(library); err == nil {
			e.lib.setSignalHandlers(0)
		}
	})
	if err != nil {
		return nil, err
	}
	if err := e.start(abs); err != nil {
		return nil, err
	}
	return e, nil
}

// start opens the databases in dir, unless a newer engine has written them.
func (e *engine) start(dir string) error {
	version, err := e.lib.engineVersion()
	if err != nil {
		return fmt.Errorf("ask the engine for its version: %w", err)
	}
	if err := checkVersion(dir, version); err != nil {
		return err
	}
	if err := sweepDropped(dir); err != nil {
		return err
	}
	if e.anchor, err = e.connect(); err != nil {
		return fmt.Errorf("open the engine on %s: %w", dir, err)
	}
	if err := markVersion(dir, version); err != nil {
		e.discard(e.anchor)
		return err
	}
	return nil
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
	header []byte
	// rowsRead and bytesRead count the result, rowsScanned and bytesScanned what
	// was read from tables for it.
	rowsRead     uint64
	bytesRead    uint64
	rowsScanned  uint64
	bytesScanned uint64
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
	// tables are filled before the statement runs and only it sees them.
	tables []externalTable
	// queryID is the id the client gave the statement, "" for none.
	queryID string
	// tag names the statement within the engine; "" lets run choose one.
	tag string
	// held is the session the statement runs in; nil takes a connection of the
	// pool. The caller has the session for itself.
	held *session
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
	if cmd.tag == "" {
		cmd.tag = e.tag(cmd.queryID)
	}
	if cmd.held != nil {
		return e.runHeld(ctx, cmd)
	}
	s, err := e.take()
	if err != nil {
		return nil, err
	}
	if err := s.prepare(cmd, cmd.tag); err != nil {
		e.discard(s)
		return nil, err
	}
	res, err := e.execute(ctx, s, cmd)
	// A connection keeps a failed statement in the process list until its next
	// one, so it goes too.
	if err != nil || cmd.spoils || len(cmd.settings) > 0 || len(cmd.tables) > 0 {
		e.discard(s)
		return res, err
	}
	e.give(s)
	return res, nil
}

// execute runs the statement on a prepared connection, kills it when ctx ends
// and nudges it while it takes long.
func (e *engine) execute(ctx context.Context, s *session, cmd command) (*result, error) {
	finished, calm := e.watch(ctx, cmd.tag), e.nudge()
	defer calm()
	defer finished()
	for _, table := range cmd.tables {
		if err := table.create(s); err != nil {
			return nil, err
		}
	}
	return s.exec(cmd.sql, cmd.format, cmd.params)
}

// tag returns a name no other statement of this engine has. It carries the
// client's id of the statement, if there is one.
func (e *engine) tag(queryID string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.nextTag++
	tag := fmt.Sprintf("zyklus-statement-%d.", e.nextTag)
	if queryID != "" {
		tag = queryIDMark + queryID + ")" + tag
	}
	return tag
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
