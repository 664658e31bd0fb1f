package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// DefaultMaxBody is the largest request body accepted, after decompression, in
// bytes.
const DefaultMaxBody = 2 << 30

// drainTime is how long running requests may take to finish at a stop before
// they are killed.
const drainTime = 5 * time.Second

// server is ClickHouse's HTTP protocol in front of the engine.
type server struct {
	engine *engine
	spool  *spool
	// dir is the engine's data directory.
	dir string
	// maxBody bounds a request body after decompression, in bytes.
	maxBody int64
	// name, version and timezone are what the engine says of itself.
	name, version, timezone string
	http                    http.Server
	native                  *tcpServer
	// life is the context of every request; kill ends it.
	life context.Context
	kill context.CancelFunc
}

// newServer opens the engine on dir. It owns the engine from then on.
func newServer(library, dir string) (*server, error) {
	parallel := max(16, 4*runtime.GOMAXPROCS(0))
	eng, err := openEngine(library, filepath.Join(dir, "engine"), parallel)
	if err != nil {
		return nil, err
	}
	s := &server{engine: eng, dir: filepath.Join(dir, "engine"), maxBody: DefaultMaxBody}
	if s.spool, err = newSpool(filepath.Join(dir, "spool")); err != nil {
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
	done, swept := make(chan error, 1), make(chan struct{})
	go func() { done <- s.http.Serve(ln) }()
	defer s.native.listen(native)()
	go func() {
		defer close(swept)
		s.sweep(s.life)
	}()
	select {
	case err := <-done:
		s.stop(swept)
		return fmt.Errorf("serve http: %w", err)
	case <-ctx.Done():
	}
	s.stop(swept)
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve http: %w", err)
	}
	return nil
}

// stop waits for requests and native connections, then kills them, waits for
// the sweeper, then closes the engine.
func (s *server) stop(swept <-chan struct{}) {
	soft, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	if err := s.drain(soft); err != nil {
		s.kill()
		hard, cancel := context.WithTimeout(context.Background(), drainTime)
		defer cancel()
		_ = s.drain(hard)
	}
	s.kill()
	s.native.abort()
	<-swept
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
	switch r.URL.Path {
	case "/ping", "/replicas_status":
		_, _ = w.Write([]byte("Ok.\n"))
		return
	case "/", "":
	default:
		http.Error(w, "There is no handle "+r.URL.Path, http.StatusNotFound)
		return
	}
	if (r.Method == http.MethodGet || r.Method == http.MethodHead) && r.URL.RawQuery == "" {
		_, _ = w.Write([]byte("Ok.\n"))
		return
	}
	s.serveQuery(w, r)
}

// serveQuery runs the statement of a request and writes its result.
func (s *server) serveQuery(w http.ResponseWriter, r *http.Request) {
	req, err := parseRequest(r, s.maxBody)
	if err != nil {
		s.writeError(w, "", bodyException(err))
		return
	}
	if req.queryID == "" {
		req.queryID = newQueryID()
	}
	if r.Method == http.MethodGet && req.writes() {
		s.writeError(w, req.queryID, raise(codeReadonly, "READONLY", "Cannot execute query in readonly mode. "+
			"For queries over HTTP, method GET implies readonly. You should use method POST for modifying queries"))
		return
	}
	res, err := s.runRequest(r.Context(), req)
	if err != nil {
		s.writeError(w, req.queryID, err)
		return
	}
	defer res.free()
	s.writeResult(w, req, res)
}

// runRequest runs the statement. A statement that changes something runs on
// when its client goes away, as on a ClickHouse server; a stop kills it.
func (s *server) runRequest(ctx context.Context, req *request) (*result, error) {
	if !req.reads() {
		ctx = s.life
	}
	if req.insert != nil {
		return s.runInsert(ctx, req)
	}
	res, err := s.engine.run(ctx, req.command())
	if err == nil && len(res.data) == 0 && req.wantsHeader() {
		res.header, err = s.emptyBlock(ctx, req)
	}
	if err != nil {
		return nil, err
	}
	return res, nil
}

// command returns what the engine is to run for a request without data.
func (req *request) command() command {
	return command{
		sql: req.sql, format: req.format, database: req.database,
		settings: req.settings, params: req.params, spoils: req.spoils(),
	}
}
