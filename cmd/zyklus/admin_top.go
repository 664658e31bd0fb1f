package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/sourcegraph/conc/pool"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"zyklus/cmd/zyklus/internal/output"
)

const (
	topEvery  = 2 * time.Second // between two frames
	topLimit  = 5 * time.Second // for one instance to answer
	topMetric = 8 << 20         // bytes of one answer
)

func topCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "top", Short: "Show what instances are doing now", Args: noArguments,
		Long: `Show what instances are doing now: events per second, lag, watermark age, timers, working set and dead letters, read
from their /metrics and from Kafka. On a terminal it is drawn anew every two seconds until Ctrl-C; with --once, with
--output json, or elsewhere, once: rates are then those of the first two seconds.

--instance names where instances serve http.addr; repeat it, or separate by commas. A partition without OWNER is worked
on by none of those.

--heavy N lists, before the rest, the N greatest customers by bytes and by orders: ids that are no persons (a till, a
test account) show up there. They are counted exactly, from the changelog, which is read once: about a second and
100 bytes of memory per customer of a partition and million records.`,
		Example: "  zyklus admin top --instance zyklus-0:9464,zyklus-1:9464\n  zyklus admin top --once --heavy 10 -o json",
	}
	f := cmd.Flags()
	instances := f.StringSlice("instance", nil, "host:port or URL of an instance; default: http.addr")
	once := f.Bool("once", false, "show one frame and end")
	heavy := f.Int("heavy", 0, "list so many of the greatest customers")
	open, format := siteCommand(cmd, brokerAlone), answering(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *heavy < 0 || *heavy > 10_000 {
			return usageError{errors.New("--heavy must be from 0 to 10000")}
		}
		s, err := open(cmd.Context())
		if err != nil {
			return err
		}
		defer s.close()
		if len(*instances) == 0 {
			*instances = []string{s.cfg.HTTP.Addr}
		}
		t := &top{site: s, urls: instanceURLs(*instances)}
		if *heavy > 0 {
			if t.heavy, err = s.heaviest(cmd.Context(), *heavy); err != nil {
				return stopped(cmd.Context(), err, "the changelog was not read to its end")
			}
		}
		live := !*once && *format == output.Text && term.IsTerminal(int(os.Stdout.Fd()))
		return t.run(cmd, *format, live)
	}
	return cmd
}

// instanceURLs completes addresses.
func instanceURLs(addrs []string) []string {
	var urls []string
	for _, a := range addrs {
		if !strings.Contains(a, "://") {
			if strings.HasPrefix(a, ":") {
				a = "127.0.0.1" + a
			}
			a = "http://" + a
		}
		urls = append(urls, strings.TrimSuffix(strings.TrimSuffix(a, "/"), "/metrics"))
	}
	return urls
}

// top collects frames.
type top struct {
	site  *site
	urls  []string
	heavy []heavyCustomer
}

// topFrame is one look.
type topFrame struct {
	At         string          `json:"at"`
	Instances  []topInstance   `json:"instances"`
	Partitions []topPartition  `json:"partitions"`
	Heavy      []heavyCustomer `json:"heavy_customers,omitempty"`
}

// topInstance is one instance. Rates are null until two looks tell them.
type topInstance struct {
	URL               string   `json:"url"`
	Error             string   `json:"error,omitempty"`
	Events            *float64 `json:"events_per_second"`
	DeadLetters       *float64 `json:"dead_letters_per_minute"`
	Rows              *float64 `json:"rows_per_second"`
	Customers         int64    `json:"customers"`
	StateBytes        int64    `json:"state_bytes"`
	WorkingSet        int64    `json:"working_set"`
	Timers            int64    `json:"timers"`
	TimersDue         int64    `json:"timers_due"`
	RowsPending       int64    `json:"rows_pending"`
	ResidentBytes     int64    `json:"resident_bytes"`
	owns              map[int32]bool
	events, bad, rows float64
	at                time.Time
}

type topPartition struct {
	partitionLag
	Owner string `json:"owner"`
}

// run shows one frame, or one after the other until ctx ends.
func (t *top) run(cmd *cobra.Command, format output.Format, live bool) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	before := t.ask(ctx)
	for {
		if err := sleepUntil(ctx, time.Now, time.Now().Add(topEvery)); err != nil {
			return nil // Ctrl-C is how one leaves
		}
		now := t.ask(ctx)
		f, err := t.frame(ctx, before, now)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if live {
			fmt.Fprint(out, "\x1b[H\x1b[2J")
		}
		if err := format.Write(out, f, f.text); err != nil || !live {
			return errors.Join(err, f.silent())
		}
		before = now
	}
}

// ask reads the metrics of all instances at the same time.
func (t *top) ask(ctx context.Context) []topInstance {
	list := make([]topInstance, len(t.urls))
	asking := pool.New().WithMaxGoroutines(16)
	for i, url := range t.urls {
		asking.Go(func() { list[i] = askInstance(ctx, url) })
	}
	asking.Wait()
	return list
}

func askInstance(ctx context.Context, url string) topInstance {
	i := topInstance{URL: url, owns: map[int32]bool{}}
	families, err := readMetrics(ctx, url)
	if err != nil {
		i.Error = err.Error()
		return i
	}
	i.at = time.Now()
	for name, family := range families {
		for _, m := range family.GetMetric() {
			i.add(name, m)
		}
	}
	return i
}

func readMetrics(ctx context.Context, url string) (map[string]*dto.MetricFamily, error) {
	ctx, cancel := context.WithTimeout(ctx, topLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("no instance answers: %w", errors.Unwrap(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("/metrics answers %s", resp.Status)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	return parser.TextToMetricFamilies(io.LimitReader(resp.Body, topMetric))
}

// add takes one series. Metrics of other programs are left.
func (i *topInstance) add(name string, m *dto.Metric) {
	count, gauge := m.GetCounter().GetValue(), int64(m.GetGauge().GetValue())
	switch name {
	case "zyklus_events_total":
		i.events += count
	case "zyklus_dead_letters_total":
		i.bad += count
	case "zyklus_clickhouse_rows_total":
		i.rows += count
	case "zyklus_customers":
		i.Customers = gauge
	case "zyklus_state_bytes":
		i.StateBytes = gauge
	case "zyklus_working_set":
		i.WorkingSet = gauge
	case "zyklus_timers":
		i.Timers = gauge
	case "zyklus_timers_due":
		i.TimersDue = gauge
	case "zyklus_rows_pending":
		i.RowsPending = gauge
	case "process_resident_memory_bytes":
		i.ResidentBytes = gauge
	case "zyklus_clock_seconds":
		if p, err := strconv.ParseInt(label(m, "partition"), 10, 32); err == nil {
			i.owns[int32(p)] = true
		}
	}
}

// rates are the differences to an earlier look; none if the instance has started anew since.
func (i *topInstance) rates(before *topInstance) {
	past := i.at.Sub(before.at).Seconds()
	if i.Error != "" || before.Error != "" || past <= 0 || i.events < before.events || i.rows < before.rows {
		return
	}
	per := func(now, then, unit float64) *float64 {
		rate := (now - then) / past * unit
		return &rate
	}
	i.Events, i.Rows, i.DeadLetters = per(i.events, before.events, 1), per(i.rows, before.rows, 1), per(i.bad, before.bad, 60)
}

func (t *top) frame(ctx context.Context, before, now []topInstance) (*topFrame, error) {
	at := time.Now()
	f := &topFrame{At: output.Instant(at), Instances: now, Partitions: []topPartition{}, Heavy: t.heavy}
	for i := range now {
		now[i].rates(&before[i])
	}
	lags, err := t.site.kafka.Lags(ctx)
	if err != nil {
		return nil, err
	}
	for i := range lags {
		p := topPartition{partitionLag: t.site.partitionLag(t.site.kafka.Options().Topic, &lags[i], at)}
		for _, instance := range now {
			if instance.owns[p.Partition] {
				p.Owner = instance.URL
			}
		}
		f.Partitions = append(f.Partitions, p)
	}
	return f, nil
}

// silent is an error if no instance has answered: there is something wrong with them, or with --instance.
func (f *topFrame) silent() error {
	for _, i := range f.Instances {
		if i.Error == "" {
			return nil
		}
	}
	return errors.New("no instance has answered: name where they serve http.addr with --instance host:port")
}

func (f *topFrame) text(w io.Writer) error {
	var errs []error
	if len(f.Heavy) > 0 {
		var rows [][]any
		for _, h := range f.Heavy {
			rows = append(rows, []any{h.Customer, h.Partition, output.Bytes(int64(h.Bytes)), h.Orders, h.Open})
		}
		errs = append(errs, output.Table(w, "HEAVY CUSTOMER\tPARTITION\tBYTES\tORDERS\tOPEN EVENTS", rows))
		fmt.Fprintln(w)
	}
	var rows [][]any
	for _, i := range f.Instances {
		if i.Error != "" {
			rows = append(rows, []any{i.URL, i.Error})
			continue
		}
		rows = append(rows, []any{
			i.URL, rate(i.Events), rate(i.Rows), rate(i.DeadLetters), i.Customers, output.Bytes(i.StateBytes), i.WorkingSet,
			i.Timers, i.TimersDue, i.RowsPending, output.Bytes(i.ResidentBytes),
		})
	}
	errs = append(errs, output.Table(w, "INSTANCE\tEVENTS/S\tROWS/S\tDEAD/MIN\tCUSTOMERS\tSTATE\tWORKING SET\tTIMERS\tDUE\tPENDING\tMEMORY", rows))
	rows = nil
	for _, p := range f.Partitions {
		age := ""
		if p.Watermark != "" {
			age = output.Age(time.Duration(p.WatermarkAge * float64(time.Second)))
		}
		rows = append(rows, []any{p.Source, p.Partition, p.Lag, p.Clock, age, p.Committed, p.Owner})
	}
	errs = append(errs, section(w, "SOURCE\tPARTITION\tLAG\tCLOCK\tWATERMARK AGE\tCOMMITTED\tOWNER", rows))
	return errors.Join(errs...)
}

// rate writes a number that may not be known.
func rate(v *float64) string {
	switch {
	case v == nil:
		return ""
	case *v < 10:
		return strconv.FormatFloat(*v, 'f', 1, 64)
	}
	return strconv.FormatFloat(*v, 'f', 0, 64)
}
