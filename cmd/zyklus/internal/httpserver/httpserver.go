package httpserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/sourcegraph/conc"
)

const (
	stopGrace   = 5 * time.Second  // for requests that are under way when the process stops
	readTimeout = 10 * time.Second // for a request
	sendTimeout = time.Minute      // for a request and its answer
	idleTimeout = 2 * time.Minute  // for a connection without requests
)

// Options say what is served.
type Options struct {
	// Ready tells why the process cannot do its work: nil if it can, else one reason a line, as errors.Join makes of
	// several. It is called at each request, from several goroutines, and must not block. If it is not set the process
	// is always ready.
	Ready func() error
	// Metrics are served at /metrics. Needed.
	Metrics prometheus.Gatherer
	// Log gets errors of serving. Needed.
	Log *slog.Logger
}

// Listen takes an address host:port, so that Serve cannot fail for it; port 0 takes a free one, which the listener's Addr
// tells. The error is one line that says what to do.
func Listen(addr string) (net.Listener, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("http: %s %w", addr, explain(err))
	}
	return listener, nil
}

// explain says what to do about an address that cannot be taken.
func explain(err error) error {
	const other = "another address (--http-addr or http.addr)"
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("is in use: stop the process that has it, or choose %s; port 0 takes a free one: %w", other, syscall.EADDRINUSE)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("is not allowed for this user: choose %s with a port from 1024: %w", other, syscall.EACCES)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("is no address of this machine: choose %s: %w", other, syscall.EADDRNOTAVAIL)
	case errors.As(err, &dns):
		return fmt.Errorf("has a host that is not known: choose %s: %w", other, err)
	default:
		return fmt.Errorf("cannot be listened on: choose %s: %w", other, err)
	}
}

// Serve answers requests until ctx ends, then finishes those under way, for at most 5 s, and closes the listener. Its
// error is nil when it was stopped.
func Serve(ctx context.Context, listener net.Listener, o Options) error {
	server := &http.Server{
		Handler:           handler(o),
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      sendTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          slog.NewLogLogger(o.Log.Handler(), slog.LevelWarn),
	}
	var wg conc.WaitGroup
	defer wg.Wait()
	served := make(chan error, 1)
	wg.Go(func() { served <- server.Serve(listener) })
	select {
	case err := <-served:
		return fmt.Errorf("http: serve: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		_ = server.Close() // the clients' requests were given their time
	}
	return nil
}

func handler(o Options) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, "zyklus\n\n/healthz  the process runs\n/readyz   it does its work, or why not\n/metrics  for Prometheus\n")
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if o.Ready != nil {
			if err := o.Ready(); err != nil {
				answer(w, http.StatusServiceUnavailable, strings.TrimRight(err.Error(), "\n")+"\n")
				return
			}
		}
		answer(w, http.StatusOK, "ready\n")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.Metrics, promhttp.HandlerOpts{
		ErrorLog:      slog.NewLogLogger(o.Log.Handler(), slog.LevelWarn),
		ErrorHandling: promhttp.ContinueOnError, // one broken metric does not hide the others
	}))
	return mux
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text) // an error is the client's having gone away
}
