package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"
)

// DefaultMaxBody is the largest request body accepted, after decompression, in
// bytes.
const DefaultMaxBody = 2 << 30

// drainTime is how long running requests may take to finish at a stop before
// they are killed.
const drainTime = 5 * time.Second

// server is ClickHouse's protocols in front of the engine.
type server struct {
	engine   *engine
	spool    *spool
	users    users
	sessions *sessions
	// dir is the engine's data directory.
	dir string
	// maxBody bounds a request body after decompression, in bytes.
	maxBody int64
	// sendTimeout bounds each write to a client; 0 is the protocol's own bound.
	sendTimeout time.Duration
	// name, version and timezone are what the engine says of itself.
	name, version, timezone string
	http                    http.Server
	native                  *tcpServer
	// life is the context of every request; kill ends it.
	life context.Context
	kill context.CancelFunc
	// requests are those under way, also on connections that were taken over.
	requests sync.WaitGroup
}

// newServer opens the engine on the data directory. It owns the engine from then
// on.
func newServer(library string, opts ServeOptions) (*server, error) {
	parallel, dir := max(16, 4*runtime.GOMAXPROCS(0)), filepath.Join(opts.DataDir, "engine")
	eng, err := openEngine(library, dir, parallel)
	if err != nil {
		return nil, err
	}
	s := &server{engine: eng, dir: dir, maxBody: DefaultMaxBody, users: opts.Users, sendTimeout: opts.SendTimeout}
	s.sessions = &sessions{engine: eng, byKey: make(map[sessionKey]*clientSession)}
	if s.spool, err = newSpool(filepath.Join(opts.DataDir, "spool")); err != nil {
		eng.close()
		return nil, err
	}
	if err := s.introduce(); err != nil {
		eng.close()
		return nil, fmt.Errorf("ask the engine for its version: %w", err)
	}
	s.life, s.kill = context.WithCancel(context.Background())
	s.http = http.Server{
		Handler:           s,
		ReadHeaderTimeout: 30 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return s.life },
	}
	s.native = newTCPServer(s)
	return s, nil
}

// introduce asks the engine what goes into response headers.
func (s *server) introduce() error {
	res, err := s.engine.run(context.Background(), command{sql: "SELECT displayName(), version(), timezone()", format: "TSVRaw"})
	if err != nil {
		return err
	}
	defer res.free()
	fields := strings.Split(strings.TrimSpace(string(res.data)), "\t")
	if len(fields) != 3 {
		return fmt.Errorf("unexpected answer %q", res.data)
	}
	s.name, s.version, s.timezone = fields[0], fields[1], fields[2]
	return nil
}

// serve answers requests until ctx ends, then lets running ones finish, kills
// those that take too long and shuts the engine down. native is the listener of
// the native protocol; nil switches it off.
func (s *server) serve(ctx context.Context, ln, native net.Listener) error {
	done := make(chan error, 1)
	go func() { done <- s.http.Serve(ln) }()
	defer s.native.listen(native)()
	var chores sync.WaitGroup
	chores.Go(func() { s.sweep(s.life) })
	chores.Go(func() { s.sessions.expire(s.life) })
	select {
	case err := <-done:
		s.stop(&chores)
		return fmt.Errorf("serve http: %w", err)
	case <-ctx.Done():
	}
	s.stop(&chores)
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve http: %w", err)
	}
	return nil
}

// stop waits for requests and native connections, then kills them, waits for
// the chores, then closes the engine.
func (s *server) stop(chores *sync.WaitGroup) {
	soft, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	if err := s.drain(soft); err != nil {
		s.kill()
		hard, cancel := context.WithTimeout(context.Background(), drainTime)
		defer cancel()
		_ = s.drain(hard)
	}
	// Shutdown does not wait for connections that were taken over.
	after := context.AfterFunc(soft, s.kill)
	s.requests.Wait()
	after()
	s.kill()
	s.native.abort()
	chores.Wait()
	s.sessions.endAll()
	s.engine.close()
}

// drain waits for requests and native connections until ctx ends.
func (s *server) drain(ctx context.Context) error {
	native := make(chan error, 1)
	go func() { native <- s.native.shutdown(ctx) }()
	err := s.http.Shutdown(ctx)
	return errors.Join(err, <-native)
}

// ServeHTTP implements http.Handler.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost:
	default:
		http.Error(w, "Only GET, HEAD and POST are implemented", http.StatusNotImplemented)
		return
	}
	switch r.URL.Path {
	case "/ping", "/replicas_status":
		_, _ = w.Write([]byte("Ok.\n"))
		return
	case "/", "":
	default:
		http.Error(w, "There is no handle "+r.URL.Path, http.StatusNotFound)
		return
	}
	if r.Method != http.MethodPost && r.URL.RawQuery == "" {
		_, _ = w.Write([]byte("Ok.\n"))
		return
	}
	s.serveQuery(w, r)
}

// serveQuery runs the statement of a request and writes its result.
func (s *server) serveQuery(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	defer s.requests.Done()
	req := &request{}
	defer req.close()
	if err := s.parseRequest(r, req); err != nil {
		s.writeError(w, req.queryID, bodyException(err))
		return
	}
	ctx := r.Context()
	// A statement that changes something runs on when its client goes away, as on
	// a ClickHouse server; a stop kills it.
	if !req.reads() {
		ctx = s.life
	}
	ctx, release, err := s.claim(ctx, req)
	if err != nil {
		s.writeError(w, req.queryID, err)
		return
	}
	defer release()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if req.tellEvery == 0 || r.Method == http.MethodHead || !r.ProtoAtLeast(1, 1) {
		s.respond(ctx, s.newResponder(w, req))
		return
	}
	early, whole := &earlyWriter{ResponseWriter: w, gone: func() {}}, false
	if req.reads() {
		early.gone = cancel
	}
	defer func() { early.Close(!whole) }()
	out := s.newResponder(early, req)
	out.early = early
	s.respond(ctx, out)
	whole = true
}

// claim takes what a request needs for itself: its query id and its session.
func (s *server) claim(ctx context.Context, req *request) (context.Context, func(), error) {
	if req.queryID == "" {
		req.queryID = newQueryID()
	}
	ctx, unregister, err := s.engine.register(ctx, req.queryID, req.replace)
	if err != nil || req.session.key.id == "" {
		return ctx, unregister, err
	}
	conn, release, err := s.sessions.take(req.session)
	if err != nil {
		unregister()
		return nil, nil, err
	}
	req.held = conn
	return ctx, func() { release(); unregister() }, nil
}

// respond runs the statement and sends its result.
func (s *server) respond(ctx context.Context, out *responder) {
	cmd := out.req.command()
	cmd.tag = s.engine.tag(cmd.queryID)
	out.begin(cmd.tag)
	res, err := s.runRequest(ctx, out.req, cmd, out)
	out.quiet()
	if res != nil {
		defer res.free()
	}
	out.finish(res, err)
}

// receiver takes a result in pieces.
type receiver interface {
	io.Writer
	// empty reports whether no piece has come.
	empty() bool
}

// runRequest runs the statement; a result that can come in pieces goes to out.
func (s *server) runRequest(ctx context.Context, req *request, cmd command, out receiver) (*result, error) {
	if req.insert != nil {
		return s.runInsert(ctx, req, cmd)
	}
	if !req.reads() {
		cmd.sql = withQueryIDs(cmd.sql, req.verb)
		return s.engine.run(ctx, cmd)
	}
	cmd.sql = withQueryIDs(cmd.sql[:req.tail], req.verb)
	piecewise := streamable{command: cmd, tail: len(cmd.sql)}
	piecewise.sql += req.sql[req.tail:]
	res, err := s.engine.stream(ctx, piecewise, out)
	if err == nil && out.empty() && req.wantsHeader() {
		res.header, err = s.emptyBlock(ctx, req)
	}
	return res, err
}

// command returns what the engine is to run for a request without data.
func (req *request) command() command {
	return command{
		sql: req.sql, format: req.format, database: req.database, settings: req.settings, params: req.params,
		tables: req.tables, queryID: req.queryID, held: req.held, spoils: req.spoils(),
	}
}
