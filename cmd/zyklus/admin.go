package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"zyklus/cmd/zyklus/internal/config"
	"zyklus/pipeline"
	"zyklus/pipeline/kafka"
	"zyklus/sinks/clickhouse"
)

func adminCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "admin", Short: "Look into a deployment and repair it",
		Long: `Look into a deployment and repair it. All commands read the configuration of the deployment; those that only look
may be used at any time, beside running instances.

  zyklus admin lag                  # how far each partition is: position, clock, watermark, rows in ClickHouse
  zyklus admin top                  # what instances are doing now
  zyklus admin state get CUSTOMER   # everything that is known of one customer, from the changelog
	cmd.AddCommand(lagCommand(), topCommand(), state, verifyCommand(), leaveCommand(), republishCommand(), acceptLossCommand(), rebuildCommand())
  zyklus admin republish            # write all customers' rows again, beside running instances
  zyklus admin accept-loss          # keep the state and go on without records that the topic has lost
  zyklus admin rebuild              # begin again from the topic, after the changelog was lost

Exit codes: 0 done, 1 failed or stopped, 2 the command line or the configuration is wrong.`,
	}
	state := &cobra.Command{
		Use: "state", Short: "Look into the state of customers",
		Long: "Look into the state of customers as it is in the changelog: what was committed, whatever ClickHouse holds.",
	}
	state.AddCommand(stateGetCommand())
	group(state)
	cmd.AddCommand(lagCommand(), topCommand(), state, verifyCommand(), leaveCommand(), republishCommand(), acceptLossCommand(), rebuildCommand())
	group(cmd)
	return cmd
}

// site is a deployment that a command looks into.
type site struct {
	cfg    *config.Config
	log    *slog.Logger
	parts  *parts
	job    *pipeline.Job
	kafka  *kafka.Admin
	client *clickhouse.Client
}

// need says what a command connects to.
type need int

const (
	brokerAlone  need = iota // the broker
	brokerMostly             // the broker, and ClickHouse later if it answers
	brokerAndDatabase
)

// openSite connects to what a command needs.
func openSite(ctx context.Context, cfg *config.Config, log *slog.Logger, n need) (s *site, err error) {
	s = &site{cfg: cfg, log: log}
	if s.job, err = newJob(cfg); err != nil {
		return nil, err
	}
	if n == brokerAlone {
		cfg.ClickHouse.Embedded = false
	}
	if s.parts, err = reach(ctx, cfg, log); err != nil {
		return nil, err
	}
	if s.kafka, err = kafka.NewAdmin(ctx, kafkaOptions(cfg)); err != nil {
		s.close()
		return nil, err
	}
	if n == brokerAndDatabase {
		if err = s.database(ctx); err != nil {
			s.close()
			return nil, err
		}
	}
	return s, nil
}

// database connects to ClickHouse.
func (s *site) database(ctx context.Context) (err error) {
	s.client, err = clickhouse.Open(ctx, clickhouseOptions(s.cfg), s.log, prometheus.NewRegistry())
	return err
}

// schema is what ClickHouse is to hold.
func (s *site) schema() clickhouse.Schema { return schema(s.job, s.cfg.Currency) }

func (s *site) close() {
	if s.client != nil {
		_ = s.client.Close()
	}
	if s.kafka != nil {
		s.kafka.Close()
	}
	s.parts.stop()
}

// reach starts the embedded parts that the configuration asks for, unless they run already in another process: then it
// is those that are meant.
func reach(ctx context.Context, cfg *config.Config, log *slog.Logger) (*parts, error) {
	if cfg.Kafka.Embedded && answers(cfg.Kafka.Listen) {
		cfg.Kafka.Embedded, cfg.Kafka.Brokers = false, []string{cfg.Kafka.Listen}
	}
	if cfg.ClickHouse.Embedded && answers(cfg.ClickHouse.Listen) {
		cfg.ClickHouse.Embedded, cfg.ClickHouse.Addrs, cfg.ClickHouse.Protocol = false, []string{cfg.ClickHouse.Listen}, clickhouse.HTTP
	}
	return startParts(ctx, cfg, log)
}

// answers reports whether something listens at an address.
func answers(addr string) bool {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	return c.Close() == nil
}

// siteCommand gives a command the flags of the configuration and returns what connects to the deployment.
func siteCommand(cmd *cobra.Command, n need) func(ctx context.Context) (*site, error) {
	load := configured(cmd)
	return func(ctx context.Context) (*site, error) {
		cfg, log, err := load()
		if err != nil {
			return nil, err
		}
		return openSite(ctx, cfg, log, n)
	}
}

// oneArgument is for commands with one argument, which what names.
func oneArgument(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 || args[0] == "" {
			return usageError{fmt.Errorf("%s needs one %s: see %[1]s --help", cmd.CommandPath(), what)}
		}
		return nil
	}
}
