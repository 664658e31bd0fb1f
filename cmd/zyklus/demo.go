package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sourcegraph/conc/pool"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"zyklus/bench/simulator"
	"zyklus/cmd/zyklus/internal/config"
	"zyklus/cmd/zyklus/internal/view"
)

// demoHistory is how much history the demo replays before it plays on.
const demoHistory = 548 * 24 * time.Hour

// demoOptions are the flags of demo.
type demoOptions struct {
	data                        string
	period                      time.Duration
	customers                   int
	rate                        float64
	seed                        uint64
	speed, lead                 time.Duration
	kafkaAddr, chAddr, httpAddr string
	libchdb                     string
	partitions                  int
}

func demoCommand() *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use: "demo", Short: "Run everything on this machine with simulated customers", Args: noArguments,
		Long: `Run the pipeline on an embedded broker and the embedded ClickHouse engine, fed by simulated customers. Eighteen
months of history come first, up to --lead before now; then time plays on at --speed (simulated time per second)
until it meets the present, with customers falling silent all the while. From then on it is real time.

The first start fetches the engine with npm (170 MB) into your cache directory. Everything listens on this machine
only, without access control. Without --data, all is kept in a temporary directory and removed at the end; with it,
a later start goes on where the last one ended.`,
		Example: "  zyklus demo\n  zyklus demo --data ./demo --for 2m --clickhouse-addr 127.0.0.1:8123",
	}
	f := cmd.Flags()
	f.StringVar(&o.data, "data", "", "directory that keeps the demo; without it, it is gone at the end")
	f.DurationVar(&o.period, "for", 0, "stop by itself after this time, with a closing summary")
	f.IntVar(&o.customers, "customers", 20_000, "number of simulated customers")
	f.Float64Var(&o.rate, "rate", 0, "events per second at most; 0 is as fast as possible")
	f.Uint64Var(&o.seed, "seed", 1, "seed of all chance")
	f.DurationVar(&o.speed, "speed", time.Hour, "simulated time that passes in one second after the history")
	f.DurationVar(&o.lead, "lead", 30*24*time.Hour, "how long before now the history ends")
	f.IntVar(&o.partitions, "partitions", 4, "partitions of the topic")
	f.StringVar(&o.kafkaAddr, "kafka-addr", "127.0.0.1:0", "where the broker listens; port 0 takes a free one")
	f.StringVar(&o.chAddr, "clickhouse-addr", "127.0.0.1:0", "where ClickHouse listens (HTTP); port 0 takes a free one")
	f.StringVar(&o.httpAddr, "http-addr", "127.0.0.1:0", "where health and metrics are served; port 0 takes a free one")
	f.StringVar(&o.libchdb, "libchdb", "", "path of an existing libchdb, instead of fetching it; also ZYKLUS_LIBCHDB")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context(), cmd.OutOrStdout()) }
	return cmd
}

// demoState is what a later start must know; it is kept in the data directory.
type demoState struct {
	Customers  int       `json:"customers"`
	Seed       uint64    `json:"seed"`
	Partitions int       `json:"partitions"`
	Start      time.Time `json:"start"`   // of the history
	Reached    time.Time `json:"reached"` // simulated time up to which all events are in the topic
}

// demo is a running demo.
type demo struct {
	options *demoOptions
	cfg     *config.Config
	log     *slog.Logger
	out     io.Writer
	state   demoState
	history time.Time // end of the history
	begin   time.Time
	native  string // address of ClickHouse's native protocol
	service *service
	play    *playback
	board   board
}

func (o *demoOptions) run(ctx context.Context, out io.Writer) (err error) {
	if err := o.check(); err != nil {
		return usageError{err}
	}
	d := &demo{options: o, out: out}
	remove, err := d.prepare()
	if err != nil {
		return err
	}
	defer remove()
	closeLog, err := d.openLog()
	if err != nil {
		return err
	}
	defer closeLog()
	if err := metricsFree(d.cfg); err != nil {
		return err
	}
	p, err := startParts(ctx, d.cfg, d.log)
	if err != nil {
		return err
	}
	defer p.stop()
	d.native = p.clickhouse.NativeAddr()
	if err := migrate(ctx, d.cfg, d.log, func(string) {}); err != nil {
		return err
	}
	if d.service, err = newService(d.cfg, d.log); err != nil {
		return err
	}
	d.announce()
	d.begin = time.Now() // fetching and starting the parts is not the pipeline's time
	return d.perform(ctx)
}

func (o *demoOptions) check() error {
	switch {
	case o.customers < 1:
		return errors.New("--customers must be at least 1")
	case o.speed <= 0:
		return errors.New("--speed must be positive")
	case o.lead < 0:
		return errors.New("--lead cannot be negative")
	case o.partitions < 1 || o.partitions > 256:
		return errors.New("--partitions must be from 1 to 256")
	case o.rate < 0 || o.period < 0:
		return errors.New("--rate and --for cannot be negative")
	}
	return errors.Join(hostPort("--kafka-addr", o.kafkaAddr), hostPort("--clickhouse-addr", o.chAddr), hostPort("--http-addr", o.httpAddr))
}

func hostPort(flag, addr string) error {
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return fmt.Errorf("%s: %q is not host:port; 127.0.0.1:0 takes a free port", flag, addr)
	}
	return nil
}

// prepare makes the data directory and the configuration. remove undoes it where the demo is temporary.
func (d *demo) prepare() (remove func(), err error) {
	dir, remove := d.options.data, func() {}
	if dir == "" {
		if dir, err = os.MkdirTemp("", "zyklus-demo-"); err != nil {
			return nil, err
		}
		remove = func() { _ = os.RemoveAll(dir) }
	} else if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := d.recall(filepath.Join(dir, "demo.json")); err != nil {
		remove()
		return nil, err
	}
	d.history = d.state.Start.Add(demoHistory)
	sim, err := d.simulator()
	if err != nil {
		remove()
		return nil, err
	}
	d.play = &playback{
		sim: sim, rate: d.options.rate, now: time.Now, after: d.state.Reached,
		saved: func(at time.Time) error { return d.remember(filepath.Join(dir, "demo.json"), at) },
	}
	if err := d.configure(dir, sim); err != nil {
		remove()
		return nil, err
	}
	return remove, nil
}

// recall reads the state of an earlier start, or begins a new demo.
func (d *demo) recall(path string) error {
	o := d.options
	d.state = demoState{
		Customers: o.customers, Seed: o.seed, Partitions: o.partitions,
		Start: time.Now().Add(-o.lead - demoHistory).UTC().Truncate(time.Hour),
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return d.remember(path, time.Time{})
	}
	if err != nil {
		return err
	}
	var kept demoState
	if err := json.Unmarshal(text, &kept); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if kept.Customers != o.customers || kept.Seed != o.seed || kept.Partitions != o.partitions {
		return usageError{fmt.Errorf("%s holds a demo with --customers %d --seed %d --partitions %d: use these, or another --data",
			filepath.Dir(path), kept.Customers, kept.Seed, kept.Partitions)}
	}
	d.state = kept
	return nil
}

func (d *demo) remember(path string, reached time.Time) error {
	d.state.Reached = reached
	text, err := json.Marshal(d.state)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", text, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// simulator never ends; customers come until long after now.
func (d *demo) simulator() (*simulator.Simulator, error) {
	cfg := simulator.DefaultConfig()
	cfg.Customers, cfg.Seed = d.state.Customers, d.state.Seed
	cfg.Start, cfg.End = d.state.Start, time.Time{}
	cfg.Arrivals.Span = demoHistory + 180*24*time.Hour
	return simulator.New(cfg)
}

// configure makes the same configuration that a file could.
func (d *demo) configure(dir string, sim *simulator.Simulator) error {
	artefact := filepath.Join(dir, "artefact.yaml")
	if err := os.WriteFile(artefact, []byte(demoArtefact(sim)), 0o644); err != nil {
		return err
	}
	var flags config.Flags
	for key, value := range map[string]string{
		"group": "demo", "source.topic": "events", "source.clock": "events",
		"kafka.embedded": "true", "kafka.listen": d.options.kafkaAddr, "kafka.data": filepath.Join(dir, "kafka"),
		"kafka.partitions":    fmt.Sprint(d.state.Partitions),
		"clickhouse.embedded": "true", "clickhouse.listen": d.options.chAddr,
		"clickhouse.data": filepath.Join(dir, "clickhouse"), "http.addr": d.options.httpAddr, "artefact": artefact,
	} {
		flags.Set(key, value)
	}
	if d.options.libchdb != "" {
		flags.Set("clickhouse.library", d.options.libchdb)
	}
	cfg, err := config.Load("", libraryEnv(), &flags)
	if err != nil {
		return usageError{err}
	}
	d.cfg = &cfg
	return nil
}

// libraryEnv is the part of the environment that the demo heeds: a deployment's settings are not the demo's.
func libraryEnv() (env []string) {
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "ZYKLUS_LIBCHDB=") || strings.HasPrefix(v, "ZYKLUS_LOG_") {
			env = append(env, v)
		}
	}
	return env
}

// demoArtefact gives the built-in parameters the popularity of the simulated shop.
func demoArtefact(sim *simulator.Simulator) string {
	var b strings.Builder
	b.WriteString("# Built-in parameters with the popularity of the simulated shop's categories.\nversion: 1\ncategory:\n  popularity:\n")
	for _, c := range sim.Popularity() {
		fmt.Fprintf(&b, "    - {name: %q, share: %g}\n", c.Name, c.Share)
	}
	return b.String()
}

// openLog logs into a file while the view owns the terminal.
func (d *demo) openLog() (done func(), err error) {
	if !terminal(d.out) {
		d.log = d.cfg.Log.Logger(os.Stderr, term.IsTerminal(int(os.Stderr.Fd())))
		return func() {}, nil
	}
	f, err := os.Create(filepath.Join(filepath.Dir(d.cfg.Kafka.Data), "zyklus.log"))
	if err != nil {
		return nil, err
	}
	d.log = d.cfg.Log.Logger(f, false)
	return func() { _ = f.Close() }, nil
}

func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// announce prints where everything is and what to ask.
func (d *demo) announce() {
	_, _ = io.WriteString(d.out, view.Banner(d.addresses(), d.questions()))
}

// addresses of all parts.
func (d *demo) addresses() []view.Address {
	return []view.Address{
		{Name: "Kafka", URL: d.cfg.Kafka.Brokers[0]},
		{Name: "ClickHouse", URL: fmt.Sprintf("http://%s (native protocol: %s)", d.cfg.ClickHouse.Addrs[0], d.native)},
		{Name: "Metrics", URL: d.service.url() + "/metrics"},
	}
}

// questions are worth asking, and ready to paste.
func (d *demo) questions() []view.Query {
	ask := func(title, sql string) view.Query {
		return view.Query{Title: title, Text: fmt.Sprintf("curl 'http://%s/?database=%s&default_format=PrettyCompactMonoBlock' -d \"%s\"",
			d.cfg.ClickHouse.Addrs[0], d.cfg.ClickHouse.Database, sql)}
	}
	return []view.Query{
		ask("How many customers are in each phase, and what are they worth?",
			"SELECT role5_phase, count() AS customers, sum(net_value_365d) AS value, round(avg(churn_risk_now), 3) AS churn_risk FROM v_customers GROUP BY role5_phase ORDER BY customers DESC"),
		ask("Who has fallen silent within the last week, and was worth most?",
			"SELECT t.at, t.customer_id, t.from_phase, c.net_value, round(c.overdue_ratio_now, 1) AS overdue FROM v_phase_transitions AS t JOIN v_customers AS c USING (customer_id) WHERE t.cause = 'deadline' AND t.to_phase = 'inactive' AND c.role5_phase = 'inactive' AND t.at > c.clock - INTERVAL 7 DAY ORDER BY c.net_value DESC LIMIT 10"),
		ask("What should good customers at risk be offered next?",
			"SELECT next_category_1, count() AS customers, round(avg(next_category_1_probability), 3) AS probability FROM v_customers WHERE churn_risk_band = 'medium' AND orders > 1 GROUP BY next_category_1 ORDER BY customers DESC LIMIT 10"),
	}
}

// perform runs feeder, pipeline and view until ctx ends or the time is up, and then prints the summary.
func (d *demo) perform(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if d.options.period > 0 {
		ctx, cancel = context.WithTimeout(ctx, d.options.period)
		defer cancel()
	}
	feed, err := openTopicFeed(ctx, kafkaOptions(d.cfg), d.log)
	if err != nil {
		return err
	}
	defer feed.close()
	d.play.feed = feed

	serviceCtx, stopService := context.WithCancel(context.WithoutCancel(ctx))
	defer stopService()
	main := pool.New().WithErrors()
	main.Go(func() error {
		defer cancel() // nothing to show without the pipeline
		return d.service.run(serviceCtx)
	})
	side := pool.New().WithContext(ctx).WithCancelOnError().WithFirstError()
	side.Go(d.feed)
	side.Go(d.show)
	err = side.Wait()
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		err = nil
	}
	reached, ferr := d.figures()
	stopService()
	if err := errors.Join(err, ferr, main.Wait()); err != nil {
		return err
	}
	_, err = io.WriteString(d.out, d.summary(context.WithoutCancel(ctx), reached))
	return err
}

// feed plays the history and then joins the present.
func (d *demo) feed(ctx context.Context) error {
	from := d.history
	if d.state.Reached.After(from) {
		from = d.state.Reached
	}
	if err := d.play.until(ctx, from); err != nil {
		return err
	}
	d.board.historyFed(d.play.count)
	return d.play.join(ctx, from, d.options.speed.Seconds())
}
