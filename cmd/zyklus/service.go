package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/sourcegraph/conc/pool"

	"zyklus/cmd/zyklus/internal/config"
	"zyklus/cmd/zyklus/internal/httpserver"
	"zyklus/pipeline"
	"zyklus/pipeline/kafka"
	"zyklus/sinks/clickhouse"
)

// service is the main job: the runner of the partitions, the writer to ClickHouse, the copier of dead letters, and the
// endpoint for health and metrics.
type service struct {
	cfg     *config.Config
	log     *slog.Logger
	job     *pipeline.Job
	metrics *prometheus.Registry
	client  *clickhouse.Client
	writer  *clickhouse.Writer
	runner  *kafka.Runner
	rekeys  []*kafka.Runner    // of the re-keying stage; none if the one source is keyed by customer
	copies  []*kafka.Projector // of dead letters and alerts
	http    net.Listener

	restoring *restoreBar // nil if standard error is no terminal
}

// newService connects and checks everything that must be there, so that what is wrong is said before anything runs.
func newService(ctx context.Context, cfg *config.Config, log *slog.Logger) (*service, error) {
	s := &service{cfg: cfg, log: log, metrics: prometheus.NewRegistry()}
	for _, line := range exposures(cfg) {
		log.Warn(line)
	}
	if err := s.prepare(ctx); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *service) prepare(ctx context.Context) (err error) {
	cfg, log := s.cfg, s.log
	s.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if s.job, err = newJob(cfg); err != nil {
		return err
	}
	if s.client, err = clickhouse.Open(ctx, clickhouseOptions(cfg), log, s.metrics); err != nil {
		return err
	}
	if err = s.client.Check(ctx, schema(s.job, cfg.Currency)); err != nil {
		return err
	}
	if err = checkTopics(ctx, cfg); err != nil {
		return err
	}
	s.writer = clickhouse.NewWriter(s.client)
	deps, err := kafkaDeps(cfg, s.job, s.writer, log)
	if err != nil {
		return err
	}
	deps.Registerer = s.metrics
	if bar := newRestoreBar(); bar != nil {
		deps.Restoring, s.restoring = bar.report, bar
	}
	if s.runner, err = kafka.New(kafkaOptions(cfg), deps); err != nil {
		return err
	}
	if s.rekeys, err = newRekeying(ctx, cfg, log, s.metrics); err != nil {
		return err
	}
	letters, err := kafka.DeadLetters(kafkaOptions(cfg), s.writer, log)
	if err != nil {
		return err
	}
	stalls, err := kafka.SourceStalls(kafkaOptions(cfg), s.writer, log)
	if err != nil {
		return err
	}
	s.copies = []*kafka.Projector{letters, stalls}
	s.http, err = httpserver.Listen(cfg.HTTP.Addr)
	return err
}

// run works until ctx ends, and then stops in order: checkpoints, last rows, connections.
func (s *service) run(ctx context.Context) error {
	defer s.close()
	// The writer outlives the runner: stopping partitions still write their last rows.
	writerCtx, stopWriter := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWriter()
	writer := pool.New().WithErrors()
	writer.Go(func() error { return s.writer.Run(writerCtx) })

	loops := pool.New().WithContext(ctx).WithCancelOnError().WithFirstError()
	loops.Go(s.runner.Run)
	for _, r := range s.rekeys {
		loops.Go(r.Run)
	}
	for _, p := range s.copies {
		loops.Go(p.Run)
	}
	loops.Go(func(ctx context.Context) error {
		return httpserver.Serve(ctx, s.http, httpserver.Options{Ready: s.ready, Metrics: s.metrics, Log: s.log})
	})
	err := loops.Wait()
	stopWriter()
	if werr := writer.Wait(); !errors.Is(werr, context.Canceled) {
		err = errors.Join(err, werr)
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return nil
	}
	return err
}

// ready reports what is missing until all stages work.
func (s *service) ready() error {
	for _, r := range s.rekeys {
		if err := r.Ready(); err != nil {
			return fmt.Errorf("re-keying: %w", err)
		}
	}
	return s.runner.Ready()
}

func (s *service) close() {
	s.restoring.end()
	if s.client == nil {
		return
	}
	if err := s.client.Close(); err != nil {
		s.log.Warn("closing the connection to ClickHouse", "error", err)
	}
	s.client = nil
}

// migrate creates or brings up to date topics and tables. It says what it does through progress.
func migrate(ctx context.Context, cfg *config.Config, log *slog.Logger, progress func(step string)) error {
	job, err := newJob(cfg)
	if err != nil {
		return err
	}
	client, err := clickhouse.Open(ctx, clickhouseOptions(cfg), log, prometheus.NewRegistry())
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	progress(fmt.Sprintf("topics of group %s", cfg.Group))
	if err := ensureTopics(ctx, cfg); err != nil {
		return err
	}
	topics, err := describeTopics(ctx, cfg)
	if err != nil {
		return err
	}
	for _, line := range kafka.Advice(topics) {
		progress("advice: " + line)
	}
	begin := time.Now()
	applied, err := client.Migrate(ctx, schema(job, cfg.Currency), progress)
	if err != nil {
		return err
	}
	log.Info("migrated", "changes", len(applied), "took", time.Since(begin).Round(time.Millisecond))
	return nil
}

// url is where health and metrics are served.
func (s *service) url() string { return "http://" + s.http.Addr().String() }
