package httpserver_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sourcegraph/conc"

	"zyklus/cmd/zyklus/internal/httpserver"
)

// start serves on a free port until the test ends.
func start(t *testing.T, ready func() error) (url string) {
	t.Helper()
	registry := prometheus.NewRegistry()
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "zyklus_events_total", Help: "Events."})
	counter.Add(7)
	registry.MustRegister(counter)
	listener, err := httpserver.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg conc.WaitGroup
	wg.Go(func() {
		err := httpserver.Serve(ctx, listener, httpserver.Options{Ready: ready, Metrics: registry, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return "http://" + listener.Addr().String()
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestAnswers(t *testing.T) {
	var reasons atomic.Pointer[error]
	url := start(t, func() error {
		if err := reasons.Load(); err != nil {
			return *err
		}
		return nil
	})
	f := func(path string, wantStatus int, want string) {
		t.Helper()
		if status, body := get(t, url+path); status != wantStatus || !strings.Contains(body, want) {
			t.Errorf("%s: %d %q, want %d %q", path, status, body, wantStatus, want)
		}
	}
	f("/", 200, "/readyz")
	f("/healthz", 200, "ok\n")
	f("/readyz", 200, "ready\n")
	f("/metrics", 200, "zyklus_events_total 7\n")
	f("/nothing", 404, "")

	err := errors.Join(errors.New("partition 3: restoring"), errors.New("clickhouse: no answer from 127.0.0.1:9000"))
	reasons.Store(&err)
	f("/readyz", 503, "partition 3: restoring\nclickhouse: no answer from 127.0.0.1:9000\n")
	f("/healthz", 200, "ok\n")

	resp, err := http.Post(url+"/healthz", "text/plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", resp.StatusCode)
	}
}

func TestWithoutReadyIsReady(t *testing.T) {
	if status, _ := get(t, start(t, nil)+"/readyz"); status != 200 {
		t.Errorf("status %d", status)
	}
}

func TestAddressInUse(t *testing.T) {
	addr := strings.TrimPrefix(start(t, nil), "http://")
	_, err := httpserver.Listen(addr)
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("got %v", err)
	}
	want := "http: " + addr + " is in use: stop the process that has it, or choose another address (--http-addr or http.addr); port 0 takes a free one: "
	if !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
	for _, addr := range []string{"nothing", "192.0.2.1:0", "127.0.0.1:99999", "no-such-host.invalid:0"} {
		if _, err := httpserver.Listen(addr); err == nil || !strings.Contains(err.Error(), "choose another address") {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

// A request under way when the context ends is answered.
func TestStopFinishesRequests(t *testing.T) {
	asked, finish := make(chan struct{}), make(chan struct{})
	registry := prometheus.NewRegistry()
	listener, err := httpserver.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg conc.WaitGroup
	wg.Go(func() {
		err := httpserver.Serve(ctx, listener, httpserver.Options{Metrics: registry, Log: slog.New(slog.DiscardHandler),
			Ready: func() error { close(asked); <-finish; return nil }})
		if err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() {
		<-asked
		cancel()
		close(finish)
	})
	if status, body := get(t, "http://"+listener.Addr().String()+"/readyz"); status != 200 || body != "ready\n" {
		t.Errorf("%d %q", status, body)
	}
	wg.Wait()
	if _, err := http.Get("http://" + listener.Addr().String()); err == nil {
		t.Error("still answering")
	}
}
