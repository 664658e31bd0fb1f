package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
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

	started atomic.Bool           // all stages are there
	away    atomic.Pointer[error] // why no broker answers to a start; nil if none is waited for

	restoring *restoreBar // nil if standard error is no terminal
}

// newService makes everything that needs no server, so that what is wrong with the configuration is said before anything
// runs.
func newService(cfg *config.Config, log *slog.Logger) (*service, error) {
	s := &service{cfg: cfg, log: log, metrics: prometheus.NewRegistry()}
	for _, line := range exposures(cfg) {
		log.Warn(line)
	}
	if err := s.prepare(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *service) prepare() (err error) {
	cfg, log := s.cfg, s.log
	s.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if s.job, err = newJob(cfg); err != nil {
		return err
	}
	if s.client, err = clickhouse.New(clickhouseOptions(cfg), log, s.metrics); err != nil {
		return err
	}
	s.writer = clickhouse.NewWaitingWriter(s.client, schema(s.job, cfg.Currency))
	deps, err := kafkaDeps(cfg, s.job, s.writer, log)
	if err != nil {
		return err
	}
	deps.Registerer = s.metrics
	if bar := newRestoreBar(); bar != nil {
		deps.Restoring, s.restoring = bar.report, bar
	}
	if s.runner, err = kafka.New(s.patient(kafkaOptions(cfg)), deps); err != nil {
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

// run serves health and metrics, and works until ctx ends.
func (s *service) run(ctx context.Context) error {
	defer s.close()
	working, stop := context.WithCancel(ctx)
	defer stop()
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	server := pool.New().WithErrors()
	server.Go(func() error {
		defer stop() // nobody could be told any more what is missing
		return httpserver.Serve(serving, s.http, httpserver.Options{Ready: s.ready, Metrics: s.metrics, Log: s.log})
	})
	s.log.Info("serving health and metrics", "http", s.url())
	err := s.work(working)
	stopServing()
	err = errors.Join(err, server.Wait())
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return nil
	}
	return err
}

// firstContact is how long the start waits for the answer of a ClickHouse that may be away.
const firstContact = 5 * time.Second

// work waits for servers that are away, goes on without ClickHouse, and stops in order: checkpoints, last rows. What is
// wrong with a server, and will not pass, ends it before anything runs, or once a server that was away says so.
func (s *service) work(ctx context.Context) error {
	if err := s.meet(ctx); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	// The writer outlives the runner: stopping partitions still write their last rows.
	writing, stopWriter := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWriter()
	writer := pool.New().WithErrors()
	writer.Go(func() error {
		defer stop() // of no use without ClickHouse: it is wrong, not away
		return s.writer.Run(writing)
	})
	err := s.runStages(ctx)
	stopWriter()
	if werr := writer.Wait(); !errors.Is(werr, context.Canceled) {
		err = errors.Join(err, werr)
	}
	return err
}

// meet says what is wrong with ClickHouse for good, as far as that is known within firstContact.
func (s *service) meet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, firstContact)
	defer cancel()
	if err := s.writer.Meet(ctx); err != nil && ctx.Err() == nil && !clickhouse.Away(err) {
		return err
	}
	return nil
}

// runStages runs everything that lives on Kafka, once brokers answer.
func (s *service) runStages(ctx context.Context) (err error) {
	err = s.checkTopics(ctx)
	if err == nil {
		s.rekeys, err = s.newRekeying(ctx)
	}
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return err
	}
	s.started.Store(true)
	cfg := s.cfg
	s.log.Info("running", "version", versionText(), "brokers", cfg.Kafka.Brokers, "sources", sourceTopics(cfg), "group", cfg.Group,
		"clickhouse", cfg.ClickHouse.Addrs, "database", cfg.ClickHouse.Database, "http", s.url())
	loops := pool.New().WithContext(ctx).WithCancelOnError().WithFirstError()
	loops.Go(s.runner.Run)
	for _, r := range s.rekeys {
		loops.Go(r.Run)
	}
	for _, p := range s.copies {
		loops.Go(p.Run)
	}
	return loops.Wait()
}

// patient makes options wait for brokers that are away.
func (s *service) patient(o kafka.Options) kafka.Options {
	o.Waiting = func(why error) {
		switch {
		case why != nil:
			s.away.Store(&why)
			s.log.Warn("waiting for kafka", "error", why)
		case s.away.Swap(nil) != nil:
			s.log.Info("kafka answers")
		}
	}
	return o
}

// ready reports what is missing until all stages work.
func (s *service) ready() error {
	if why := s.away.Load(); why != nil {
		return errors.Join(fmt.Errorf("waiting for kafka: %w", *why), s.writer.Healthy())
	}
	if !s.started.Load() {
		return errors.New("starting")
	}
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
