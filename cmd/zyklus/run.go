package main

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"zyklus/cmd/zyklus/internal/config"
)

// configured gives a command the flags of the configuration and returns what loads it.
func configured(cmd *cobra.Command) func() (*config.Config, *slog.Logger, error) {
	path := cmd.Flags().String("config", "", "configuration file (YAML); every setting can also be given as ZYKLUS_SECTION_KEY in the environment")
	flags := config.RegisterFlags(cmd.Flags())
	completeConfig(cmd)
	return func() (*config.Config, *slog.Logger, error) {
		cfg, err := config.Load(*path, os.Environ(), flags)
		if err != nil {
			return nil, nil, usageError{err}
		}
		return &cfg, newLogger(&cfg), nil
	}
}

func newLogger(cfg *config.Config) *slog.Logger {
	return cfg.Log.Logger(os.Stderr, term.IsTerminal(int(os.Stderr.Fd())))
}

func runCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "run", Short: "Run the pipeline", Args: noArguments,
		Long: `Run the pipeline: consume the source topic, keep every customer's state, write to ClickHouse.

A minimal zyklus.yaml:

  source:
    topic: events                 # Segment-format JSON, keyed by customer
  kafka:
    brokers: [kafka-1:9092, kafka-2:9092]
  clickhouse:
    addrs: [clickhouse:9000]
    username: zyklus              # password: ZYKLUS_CLICKHOUSE_PASSWORD in the environment

Connections are secured under kafka and clickhouse alike; Kafka may also want a login:

  kafka:
    tls: {enabled: true, ca: ca.crt, cert: tls.crt, key: tls.key}
    sasl: {mechanism: scram-sha-512, username: zyklus, password_file: /run/secrets/kafka}

Every secret can also be given as a file: password_file here, or ZYKLUS_CLICKHOUSE_PASSWORD_FILE in the environment.
Certificates, the token_file of oauthbearer and Kafka's secrets in files are read again for each connection.

Topics and tables must exist: run ` + "`zyklus migrate`" + ` first. With kafka.embedded and clickhouse.embedded
both run inside this command and are created as needed.

A server that is away is waited for, at the start, too, and the log names its address and the error; what is wrong for
good (a password, a certificate, a schema that is not migrated) ends the command. While ClickHouse is away, timers,
checkpoints and outputs go on, and rows wait; only a partition without any checkpoint yet waits, too. On http.addr
/healthz answers from the beginning, and /readyz says what is missing.

SIGTERM or Ctrl-C stops gracefully: a last checkpoint, the last rows, then exit 0. After a crash the next start
goes on where the last checkpoint ended; nothing is lost or counted twice.`,
	}
	load := configured(cmd)
	period := cmd.Flags().Duration("for", 0, "stop by itself after this time; 0 runs until stopped")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, log, err := load()
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		if *period > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, *period)
			defer cancel()
		}
		return run(ctx, cfg, log)
	}
	return cmd
}

func run(ctx context.Context, cfg *config.Config, log *slog.Logger) error {
	if err := metricsFree(cfg); err != nil {
		return err
	}
	p, err := startParts(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer p.stop()
	if cfg.Kafka.Embedded && cfg.ClickHouse.Embedded {
		if err := migrate(ctx, cfg, log, func(string) {}); err != nil {
			return err
		}
	}
	s, err := newService(cfg, log)
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := s.run(ctx); err != nil {
		return err
	}
	log.Info("stopped", "after", time.Since(begin).Round(time.Second))
	return nil
}
