package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/term"

	"zyklus/cmd/zyklus/internal/config"
	"zyklus/cmd/zyklus/internal/httpserver"
	"zyklus/cmd/zyklus/internal/progress"
	"zyklus/sinks/clickhouse"
	"zyklus/sinks/embedded"
)

// parts are the embedded parts that the configuration asks for. They listen on the network like the real ones; the
// configuration is changed to name their addresses, and from there on nothing knows that they are embedded.
type parts struct {
	broker     *embedded.Broker
	clickhouse *embedded.ClickHouse
	log        *slog.Logger
}

// startParts starts them; what is started when one fails is stopped again.
func startParts(ctx context.Context, cfg *config.Config, log *slog.Logger) (*parts, error) {
	if err := portsFree(cfg); err != nil {
		return nil, err
	}
	p := &parts{log: log}
	if err := p.start(ctx, cfg); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

func (p *parts) start(ctx context.Context, cfg *config.Config) error {
	if cfg.ClickHouse.Embedded {
		if err := p.startClickHouse(ctx, &cfg.ClickHouse); err != nil {
			return err
		}
	}
	if cfg.Kafka.Embedded {
		return p.startBroker(&cfg.Kafka)
	}
	return nil
}

func (p *parts) startBroker(cfg *config.Kafka) error {
	if cfg.Data != "" {
		if err := os.MkdirAll(cfg.Data, 0o755); err != nil {
			return fmt.Errorf("data directory of the embedded broker: %w", err)
		}
	}
	begin := time.Now()
	b, err := embedded.StartBroker(embedded.BrokerOptions{
		Addr: cfg.Listen, DataDir: cfg.Data, Log: func(line string) { p.log.Warn("embedded broker", "line", line) },
	})
	if err != nil {
		return err
	}
	p.broker, cfg.Brokers = b, []string{b.Addr()}
	p.log.Info("embedded broker started", "addr", b.Addr(), "took", time.Since(begin).Round(time.Millisecond))
	return nil
}

func (p *parts) startClickHouse(ctx context.Context, cfg *config.ClickHouse) error {
	data, err := filepath.Abs(cfg.Data)
	if err != nil {
		return fmt.Errorf("data directory of the embedded ClickHouse: %w", err)
	}
	library, done := fetchProgress(p.log)
	defer done()
	begin := time.Now()
	c, err := embedded.StartClickHouse(ctx, embedded.Options{
		DataDir: data, Addr: cfg.Listen, NativeAddr: cfg.Native, Log: func(line string) { p.log.Warn("embedded clickhouse", "line", line) },
		Library: embedded.LibraryOptions{Path: cfg.Library, Progress: library},
		Users:   map[string]string{cfg.Username: cfg.Password.Reveal()},
	})
	if err != nil {
		return err
	}
	p.clickhouse, cfg.Addrs = c, []string{c.Addr()}
	if cfg.Protocol == clickhouse.Native {
		cfg.Addrs = []string{c.NativeAddr()}
	}
	p.log.Info("embedded clickhouse started", "addr", c.Addr(), "native", cmp.Or(c.NativeAddr(), config.NativeOff),
		"took", time.Since(begin).Round(time.Millisecond))
	return nil
}

// portsFree reports all addresses of embedded parts that cannot be listened on, before anything is started.
func portsFree(cfg *config.Config) error {
	var problems []error
	if cfg.ClickHouse.Embedded {
		problems = append(problems, free(cfg.ClickHouse.Listen, "clickhouse.listen"))
		if cfg.ClickHouse.Native != config.NativeOff {
			problems = append(problems, free(cfg.ClickHouse.Native, "clickhouse.native_listen"))
		}
	}
	if cfg.Kafka.Embedded {
		problems = append(problems, free(cfg.Kafka.Listen, "kafka.listen"))
	}
	return errors.Join(problems...)
}

// metricsFree does the same for health and metrics. They are served last, when embedded parts run and have made their
// directories.
func metricsFree(cfg *config.Config) error {
	l, err := httpserver.Listen(cfg.HTTP.Addr)
	if err != nil {
		return err
	}
	return l.Close()
}

// free reports whether an address can be listened on.
func free(addr, key string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			err = syscall.EADDRINUSE
		}
		return fmt.Errorf("%s: cannot listen on %s (%w): stop what listens there, or choose another address; port 0 takes a free one", key, addr, err)
	}
	return l.Close()
}

// stop ends the parts, the broker last: ClickHouse may still be written to until everything else has ended.
func (p *parts) stop() {
	if p.clickhouse != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := p.clickhouse.Stop(ctx); err != nil {
			p.log.Warn("stopping the embedded clickhouse", "error", err)
		}
	}
	if p.broker != nil {
		p.broker.Close()
	}
}

// newProgress shows long work on standard error: a bar on a terminal, log lines elsewhere.
func newProgress(log *slog.Logger) *progress.Progress {
	return progress.New(os.Stderr, term.IsTerminal(int(os.Stderr.Fd())), log)
}

// fetchProgress shows the fetch of the engine, which happens once per machine.
func fetchProgress(log *slog.Logger) (report func(embedded.Progress), done func()) {
	bar := newProgress(log)
	var phase embedded.Phase
	return func(p embedded.Progress) {
		if p.Phase != phase {
			phase = p.Phase
			bar.Start("ClickHouse engine: "+string(phase), p.Total, progress.Bytes)
		}
		bar.Set(p.Done)
	}, bar.Done
}
