package main

import (
	"bytes"
	"context"
	varint "encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"zyklus/bench/simulator"
	"zyklus/pipeline"
	"zyklus/pipeline/kafka"
)

// part is an embedded part in a process of its own, which can be killed and started again where it was. Or it is the
// cluster of real brokers, then addr lists their addresses, separated by commas.
type part struct {
	t               testing.TB
	kind, addr, dir string
	p               *process

	real   *realBrokers // nil for an embedded part
	suffix string       // of names that others on the same brokers must not have
}

func startPart(t testing.TB, kind string) *part {
	t.Helper()
	part := &part{t: t, kind: kind, addr: "127.0.0.1:0", dir: t.TempDir()}
	part.start()
	return part
}

// start starts what was killed.
func (p *part) start() {
	p.t.Helper()
	if p.real != nil {
		p.real.start(p.t)
		return
	}
	p.p = start(p.t, nil, "embedded", p.kind, "--listen", p.addr, "--data-dir", p.dir)
	p.addr = p.p.ready()
}

// kill ends the part's process, of several brokers one. What is left of the cluster goes on.
func (p *part) kill() {
	p.t.Helper()
	if p.real != nil {
		p.real.killNext(p.t)
		return
	}
	p.p.kill()
}

// killAll ends all processes of the part.
func (p *part) killAll() {
	p.t.Helper()
	if p.real != nil {
		p.real.killAll(p.t)
		return
	}
	p.p.kill()
}

// rigPartitions is the number of partitions of a rig's topic.
const rigPartitions = 4

// rig is a broker and an engine in processes of their own, and a topic that is fed with simulated time.
type rig struct {
	t              testing.TB
	broker, engine *part
	topic          string
	feed           *feeder
}

func newRig(t testing.TB, change ...func(*simulator.Config)) *rig {
	t.Helper()
	if testing.Short() {
		t.Skip("runs real processes")
	}
	return newRigOn(t, startPart(t, "broker"), change...)
}

// newRigOn is newRig on brokers that run.
func newRigOn(t testing.TB, broker *part, change ...func(*simulator.Config)) *rig {
	t.Helper()
	r := &rig{t: t, broker: broker, engine: startPart(t, "clickhouse"), topic: "events" + broker.suffix}
	topicOn(t, r.broker.addr, r.topic, rigPartitions, map[string]string{"message.timestamp.type": "LogAppendTime"})
	r.feed = startFeeder(t, r.broker.addr, r.topic, change...)
	return r
}

// deploy makes a group with its own database.
func (r *rig) deploy(name string) deployment {
	r.t.Helper()
	d := r.configure(name+r.broker.suffix, r.engine.addr)
	if code, out, log := runZyklus(r.t, nil, "migrate", "--config", d.config); code != 0 {
		r.t.Fatalf("migrate of %s ended with %d\n%s\n%s", name, code, out, log)
	}
	return d
}

// configure writes the configuration of a deployment, with as much lateness as the feed needs. The engine may be something
// that stands before it.
func (r *rig) configure(name, engine string) deployment {
	r.t.Helper()
	d := deploy(r.t, name, r.topic, r.broker.addr, engine, "")
	if r.feed == nil {
		return d
	}
	text, err := os.ReadFile(d.config)
	if err == nil {
		text = bytes.Replace(text, []byte("clock: events"), fmt.Appendf(nil, "clock: events, lateness: %v", r.feed.patience), 1)
		err = os.WriteFile(d.config, text, 0o644)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

// run starts the pipeline of a deployment, with checkpoints every 100 ms.
func (r *rig) run(d deployment, env ...string) *process {
	r.t.Helper()
	return start(r.t, append([]string{"ZYKLUS_KAFKA_CHECKPOINT_INTERVAL=100ms"}, env...), "run", "--config", d.config)
}

// static makes a process a static member of the group, so that a killed one is replaced at once: others are waited
// for until their session times out.
func static(name string) string { return "ZYKLUS_KAFKA_INSTANCE_ID=" + name }

// finishAndCompare stops feeding and does what compareAt does.
func (r *rig) finishAndCompare(p *process, d deployment, checkpoints *ledgerOfCheckpoints) {
	r.t.Helper()
	at := r.feed.finish()
	r.await(p, d, at, "at the end")
	r.compareAt(p, d, checkpoints, at)
}

// compareAt stops the last process, which has written everything up to an instant, and compares what it leaves with a run
// that nothing happened to, and with the input. checkpoints may be nil.
func (r *rig) compareAt(p *process, d deployment, checkpoints *ledgerOfCheckpoints, at time.Time) {
	r.t.Helper()
	r.awaitLetters(d)
	if code := p.stop(20 * time.Second); code != 0 {
		r.t.Errorf("the last run of %s ended with %d\n%s", d.database, code, tail(p.log.String(), 20))
	}
	if checkpoints != nil {
		checkpoints.checkNoFuture("at the end")
	}
	r.agrees(d)
	r.compare(r.control("control", at), d)
	r.checkAccount(d)
}

// agrees holds the state and all rows of a deployment that has stopped against the oracle, customer by customer. Of those
// of whom an event may have come too late only totals follow: half agree exactly, and everybody where none does.
func (r *rig) agrees(d deployment) {
	r.t.Helper()
	all := sums(verifies(r.t, d, 0, "--all"))
	floor := all.Customers
	if r.feed.tooLate > 0 {
		floor /= 2
	}
	if all.Customers == 0 || all.Exact < floor || all.Unknown["in_motion"] > 0 {
		r.t.Errorf("%s stands still, and at least %d customers should agree exactly: %+v", d.database, floor, all)
	}
	r.t.Logf("%s was verified: %+v", d.database, all)
}

// control runs a deployment that nothing happens to over all that was fed, and stops it.
func (r *rig) control(name string, at time.Time) deployment {
	r.t.Helper()
	d := r.deploy(name)
	p := start(r.t, nil, "run", "--config", d.config)
	d.awaitClock(r.t, rigPartitions, at)
	r.awaitLetters(d)
	if code := p.stop(20 * time.Second); code != 0 {
		r.t.Fatalf("the control run ended with %d\n%s", code, tail(p.log.String(), 20))
	}
	return d
}

// served returns where a running pipeline serves its health and metrics, as its log says.
func (p *process) served() string {
	p.t.Helper()
	return p.serves(`msg=running .*http=(http://\S+)`)
}

// health returns where a pipeline serves its health, which may still wait for what it needs to run.
func (p *process) health() string {
	p.t.Helper()
	return p.serves(`http=(http://\S+)`)
}

func (p *process) serves(line string) string {
	p.t.Helper()
	find, url := regexp.MustCompile(line), ""
	eventually(p.t, time.Minute, "the pipeline's log says where it serves its health", func() error {
		if m := find.FindStringSubmatch(p.log.String()); m != nil {
			url = m[1]
			return nil
		}
		return p.alive()
	})
	return url
}

// alive returns an error that tells the end of the process's log, if it has ended.
func (p *process) alive() error {
	select {
	case <-p.exited:
		p.t.Fatalf("zyklus has ended (%v)\n%s", p.err, tail(p.log.String(), 30))
	default:
	}
	return errors.New("not yet")
}

// await waits until a running pipeline has written everything up to an instant.
func (r *rig) await(p *process, d deployment, at time.Time, when string) {
	r.t.Helper()
	sql := fmt.Sprintf("SELECT countIf(clock >= fromUnixTimestamp64Milli(%d)), min(clock), max(clock) FROM v_checkpoints", at.UnixMilli())
	eventually(r.t, 3*time.Minute, fmt.Sprintf("%s: all rows of %s up to %s", when, d.database, at.Format(time.RFC3339)), func() error {
		_ = p.alive()
		lines, err := d.query(sql)
		if err == nil && !strings.HasPrefix(lines[0], strconv.Itoa(rigPartitions)+"\t") {
			code, reason := readiness(p.served())
			err = fmt.Errorf("partitions that are there, least and greatest clock: %s; /readyz: %d %s", lines[0], code, reason)
		}
		return err
	})
}

// awaitReady waits until /readyz says so.
func (p *process) awaitReady(within time.Duration, when string) {
	p.t.Helper()
	url := p.served()
	eventually(p.t, within, when+": /readyz is 200", func() error {
		_ = p.alive()
		if code, reason := readiness(url); code != http.StatusOK {
			return fmt.Errorf("%d %s", code, reason)
		}
		return nil
	})
}

// awaitNotReady waits until /readyz is 503 with a reason that names what is missing.
func (p *process) awaitNotReady(within time.Duration, names, when string) {
	p.t.Helper()
	url := p.health()
	eventually(p.t, within, when+": /readyz is 503 and names "+names, func() error {
		_ = p.alive()
		if code, reason := readiness(url); code != http.StatusServiceUnavailable || !strings.Contains(reason, names) {
			return fmt.Errorf("it is %d %q", code, reason)
		}
		return nil
	})
}

// readiness asks /readyz.
func readiness(url string) (code int, reason string) {
	code, reason, err := get(url + "/readyz")
	if err != nil {
		return 0, err.Error()
	}
	return code, strings.TrimSpace(reason)
}

func get(url string) (int, string, error) {
	resp, err := (&http.Client{Timeout: 10 * time.Second}).Get(url)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// metric returns the sum of a metric over its labels, or over those lines only that have certain ones, such as cause="deadline".
func metric(t testing.TB, url, name string, labels ...string) (sum float64) {
	t.Helper()
	code, text, err := get(url + "/metrics")
	if err != nil || code != http.StatusOK {
		t.Fatalf("%s/metrics: %d %v", url, code, err)
	}
	found := false
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		found = true
		if slices.ContainsFunc(labels, func(l string) bool { return !strings.Contains(rest, l) }) {
			continue
		}
		fields := strings.Fields(rest)
		v, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		if err != nil {
			t.Fatalf("metric %q: %v", line, err)
		}
		sum += v
	}
	if !found {
		t.Fatalf("there is no metric %s", name)
	}
	return sum
}

// feeder plays simulated time into a topic, slice by slice, each with its heartbeats, and remembers what it wrote.
type feeder struct {
	t        testing.TB
	play     *playback
	tape     *tape
	mu       sync.Mutex
	at       time.Time // simulated time reached
	stop     chan struct{}
	done     chan struct{}
	stopped  sync.Once
	err      error
	tooLate  float64       // share of events that come later than the lateness
	patience time.Duration // lateness under which the others come in time
}

const (
	feedSlice = 24 * time.Hour        // of simulated time
	feedPause = 30 * time.Millisecond // between two slices
)

// startFeeder begins to feed. Records that cannot be used are among what it writes.
func startFeeder(t testing.TB, broker, topic string, change ...func(*simulator.Config)) *feeder {
	t.Helper()
	return startFeederInto(t, broker, topic, func(f feed) feed { return f }, change...)
}

// startFeederInto is startFeeder with a feed that passes on to the topic's.
func startFeederInto(t testing.TB, broker, topic string, wrap func(feed) feed, change ...func(*simulator.Config)) *feeder {
	t.Helper()
	cfg := simulator.DefaultConfig()
	// Early enough that a slow machine does not come to the present: the future is not believed.
	cfg.Start = time.Date(2012, 1, 1, 0, 0, 0, 0, time.UTC)
	cfg.Customers, cfg.End, cfg.Arrivals.Span = 600, time.Time{}, 3*365*24*time.Hour
	cfg.Shares.Duplicated, cfg.Shares.Late, cfg.Shares.TooLate = 0.05, 0.1, 0.03
	cfg.Shares.Cancelled, cfg.Shares.Updated, cfg.Shares.Refunded = 0.05, 0.08, 0.15
	for _, c := range change {
		c(&cfg)
	}
	sim, err := simulator.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	out, err := openTopicFeed(context.Background(), kafka.Options{Brokers: strings.Split(broker, ","), Group: "feeder", Topic: topic},
		slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	f := &feeder{t: t, tape: &tape{feed: wrap(out)}, at: cfg.Start, stop: make(chan struct{}), done: make(chan struct{}),
		tooLate: cfg.Shares.TooLate, patience: cfg.TooLateMin * 2 / 3}
	f.play = &playback{sim: sim, feed: f.tape, now: time.Now}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	go func() {
		defer close(f.done)
		defer out.close()
		f.err = f.run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-f.done })
	return f
}

func (f *feeder) run(ctx context.Context) error {
	for n := 0; ; n++ {
		select {
		case <-f.stop:
			return f.settle(ctx)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(feedPause):
		}
		if n%10 == 0 {
			if err := f.tape.spoil(ctx, n/10, f.reached()); err != nil {
				return err
			}
		}
		to := f.reached().Add(feedSlice)
		if to.After(time.Now()) {
			return errors.New("simulated time has reached the present, and the future is not believed: begin earlier")
		}
		if err := f.play.until(ctx, to); err != nil {
			return err
		}
		f.mu.Lock()
		f.at = to
		f.mu.Unlock()
	}
}

// settle lets time go on until nothing is open: a refund waits for its order once the patience, and its dead letter until
// nothing can come before it.
func (f *feeder) settle(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = f.at.Add(2*f.patience + feedSlice)
	return f.play.heartbeat(ctx, f.at)
}

// reached is the simulated time up to which everything is in the topic.
func (f *feeder) reached() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.at
}

// finish stops feeding and returns the simulated time reached.
func (f *feeder) finish() time.Time {
	f.t.Helper()
	f.stopped.Do(func() { close(f.stop) })
	<-f.done
	if f.err != nil {
		f.t.Fatalf("feeding the topic: %v", f.err)
	}
	f.t.Logf("fed %d events up to %s", f.play.count, f.at.Format(time.DateOnly))
	return f.at
}

// tape is a feed that remembers what went through it.
type tape struct {
	feed
	values []string
	bad    int // records that cannot be used
	strays int // refunds of orders that do not exist
}

func (t *tape) Produce(ctx context.Context, key, value []byte, at time.Time) error {
	t.values = append(t.values, string(value))
	return t.feed.Produce(ctx, key, value, at)
}

// spoil writes one record that cannot be used, and a refund of an order that does not exist.
func (t *tape) spoil(ctx context.Context, n int, at time.Time) error {
	t.bad++
	t.strays++
	refund := fmt.Appendf(nil, `{"type":"track","event":"Order Refunded","userId":"stray-%d","messageId":"stray-%d","timestamp":%q,"properties":{"order_id":"none-%[2]d","total":1}}`,
		n%7, n, at.Format(time.RFC3339))
	if err := t.feed.Produce(ctx, fmt.Appendf(nil, "stray-%d", n%7), refund, at); err != nil {
		return err
	}
	values := []string{`not JSON`, `{"type":"track","event":"Order Completed","userId":"c1","timestamp":"2024-01-01T`,
		`{"type":"track","event":"No Such Event","userId":"c1","timestamp":"2024-01-01T00:00:00Z"}`, ``}
	return t.feed.Produce(ctx, fmt.Appendf(nil, "bad-%d", n), []byte(values[n%len(values)]), time.Now())
}

// account is what the input says about orders, found without any code of the pipeline.
type account struct {
	orders    map[string]int64 // value in cents, by customer and order id
	undone    map[string]bool  // cancelled, or refunded as a whole
	customers map[string]bool
}

// account reads the tape. Changes of orders in refused (by message id) are left out: they are dead letters.
func (t *tape) account(tb testing.TB, refused map[string]bool) account {
	tb.Helper()
	a := account{orders: map[string]int64{}, undone: map[string]bool{}, customers: map[string]bool{}}
	latest, refunded, seen := map[string]string{}, map[string]int64{}, map[string]bool{}
	for _, value := range t.values {
		var e struct {
			UserID, AnonymousID, MessageID, Event, Timestamp string
			Properties                                       struct {
				OrderID                       string `json:"order_id"`
				Total, Revenue, Shipping, Tax *float64
				Products                      []struct{ Price, Quantity float64 }
			}
		}
		if err := json.Unmarshal([]byte(value), &e); err != nil {
			tb.Fatalf("tape: %v\n%s", err, value)
		}
		a.customers[e.UserID+e.AnonymousID] = true
		p, id := &e.Properties, e.UserID+"\t"+e.Properties.OrderID
		if refused[e.MessageID] || seen[e.MessageID] {
			continue
		}
		seen[e.MessageID] = true
		switch e.Event {
		case "Order Completed", "Order Updated":
			if e.Timestamp < latest[id] {
				continue
			}
			latest[id] = e.Timestamp
			v := p.Revenue
			if v == nil {
				rest := *p.Total - *p.Shipping - *p.Tax
				v = &rest
			}
			a.orders[id] = cents(*v)
		case "Order Cancelled":
			a.undone[id] = true
		case "Order Refunded":
			switch {
			case p.Total != nil:
				refunded[id] += cents(*p.Total)
			case len(p.Products) == 0:
				a.undone[id] = true
			}
			for _, line := range p.Products {
				refunded[id] += cents(line.Price * line.Quantity)
			}
		}
	}
	for id, sum := range refunded {
		if sum >= a.orders[id] {
			a.undone[id] = true
		}
	}
	return a
}

func cents(v float64) int64 { return int64(math.Round(v * 100)) }

// checkAccount compares a deployment's rows with what the input says.
func (r *rig) checkAccount(d deployment) {
	r.t.Helper()
	refused := map[string]bool{}
	for _, line := range d.mustQuery(r.t, "SELECT JSONExtractString(value, 'messageId') FROM v_dead_letters WHERE error IN ('order_unknown', 'order_too_old')") {
		refused[line] = true
	}
	a := r.feed.tape.account(r.t, refused)
	var want []string
	for id, value := range a.orders {
		status := "kept"
		if a.undone[id] {
			status = "undone"
		}
		want = append(want, fmt.Sprintf("%s\t%s\t%d", id, status, value))
	}
	slices.Sort(want)
	got := d.mustQuery(r.t, "SELECT customer_id, order_id, status IN ('cancelled', 'refunded') ? 'undone' : 'kept', toInt64(value * 100) FROM v_orders ORDER BY customer_id, order_id")
	diffLines(r.t, "orders by the input and by "+d.database+" (customer, order, state, cents)", want, got)
	kept := map[string]int{}
	for id := range a.orders {
		if !a.undone[id] {
			customer, _, _ := strings.Cut(id, "\t")
			kept[customer]++
		}
	}
	want = want[:0]
	for customer := range maps.Keys(a.customers) {
		want = append(want, fmt.Sprintf("%s\t%d", customer, kept[customer]))
	}
	slices.Sort(want)
	got = d.mustQuery(r.t, "SELECT customer_id, orders FROM v_customers WHERE NOT startsWith(customer_id, 'stray-') ORDER BY customer_id")
	diffLines(r.t, "customers by the input and by "+d.database+" (customer, net orders)", want, got)
	bad := d.mustQuery(r.t, "SELECT count() FROM v_dead_letters WHERE error NOT IN ('order_unknown', 'order_too_old')")
	if bad[0] != strconv.Itoa(r.feed.tape.bad) {
		r.t.Errorf("%s has %s dead letters of records that cannot be used, %d were written", d.database, bad[0], r.feed.tape.bad)
	}
	strays := d.mustQuery(r.t, "SELECT count() FROM v_dead_letters WHERE error = 'order_unknown' AND startsWith(key, 'stray-')")
	if strays[0] != strconv.Itoa(r.feed.tape.strays) {
		r.t.Errorf("%s has %s dead letters of refunds without an order, %d were written", d.database, strays[0], r.feed.tape.strays)
	}
	r.t.Logf("%s was compared with the input: %d orders, %d customers, %d bad records", d.database, len(a.orders), len(a.customers), r.feed.tape.bad)
}

// diffLines reports lines that are in one sorted list only.
func diffLines(t testing.TB, what string, want, got []string) {
	t.Helper()
	in := func(list []string) map[string]int {
		m := map[string]int{}
		for _, l := range list {
			m[l]++
		}
		return m
	}
	w, g := in(want), in(got)
	var diffs []string
	for l, n := range w {
		if g[l] < n {
			diffs = append(diffs, "- "+l)
		}
	}
	for l, n := range g {
		if w[l] < n {
			diffs = append(diffs, "+ "+l)
		}
	}
	if len(diffs) == 0 {
		return
	}
	slices.SortFunc(diffs, func(a, b string) int { return strings.Compare(a[2:]+a[:1], b[2:]+b[:1]) })
	t.Errorf("%s differ: %d lines wanted (-), %d found (+), %d differ, of these the first:\n%s",
		what, len(want), len(got), len(diffs), strings.Join(diffs[:min(12, len(diffs))], "\n"))
}

// compare compares all tables of two deployments of the same topic, column by column.
func (r *rig) compare(want, got deployment) {
	r.t.Helper()
	r.awaitLetters(got)
	for _, table := range []struct{ name, except, key string }{
		{"v_customers", "", "customer_id"},
		{"v_phase_transitions", "", "lifecycle, customer_id, at"},
		{"v_orders", "", "customer_id, order_id"},
		{"v_customer_days", "", "customer_id, day"},
		{"v_dead_letters", "EXCEPT (received_at)", "topic, partition, position"}, // when it was written
		{"v_checkpoints", "EXCEPT (lineage, number)", "topic, partition"},        // how often it was written
	} {
		sql := fmt.Sprintf("SELECT * %s FROM %s ORDER BY %s FORMAT TSVWithNames", table.except, table.name, table.key)
		a, b := want.mustQuery(r.t, sql), got.mustQuery(r.t, sql)
		if len(a) < 2 {
			r.t.Errorf("%s of %s is empty: there is nothing to compare", table.name, want.database)
		}
		r.compareRows(table.name, strings.Count(table.key, ",")+1, want.database, got.database, a, b)
	}
	r.checkVersions(got)
	a, b := r.letters(want), r.letters(got)
	if len(a) != len(b) {
		r.t.Errorf("the dead-letter topic of %s holds %d committed records, that of %s %d", want.database, len(a), got.database, len(b))
	}
}

// compareRows reports what differs between two answers whose first line names the columns, of which the first are the
// key.
func (r *rig) compareRows(table string, keys int, nameA, nameB string, a, b []string) {
	r.t.Helper()
	names, rowsA, rowsB := strings.Split(a[0], "\t"), byKey(a[1:], keys), byKey(b[1:], keys)
	var missing, extra, examples []string
	rows, counts := 0, map[string]int{}
	for _, key := range slices.Sorted(maps.Keys(rowsA)) {
		va, vb := rowsA[key], rowsB[key]
		if vb == nil {
			missing = append(missing, key)
			continue
		}
		if slices.Equal(va, vb) {
			continue
		}
		rows++
		for c := range va {
			if va[c] != vb[c] {
				counts[names[c]]++
				examples = append(examples, fmt.Sprintf("%s: %s is %s in %s, %s in %s", key, names[c], va[c], nameA, vb[c], nameB))
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(rowsB)) {
		if rowsA[key] == nil {
			extra = append(extra, key)
		}
	}
	first := func(list []string) string { return strings.Join(list[:min(8, len(list))], "\n  ") }
	if len(missing) > 0 {
		r.t.Errorf("%s: %d of %d rows of %s are not in %s, the first:\n  %s", table, len(missing), len(rowsA), nameA, nameB, first(missing))
	}
	if len(extra) > 0 {
		r.t.Errorf("%s: %d of %d rows of %s are not in %s, the first:\n  %s", table, len(extra), len(rowsB), nameB, nameA, first(extra))
	}
	if rows > 0 {
		r.t.Errorf("%s: %d of %d rows differ, by column %v; the first:\n  %s", table, rows, len(rowsA), counts, first(examples))
	}
	if doubled := len(b) - 1 - len(rowsB); doubled > 0 {
		r.t.Errorf("%s of %s has %d rows more than keys", table, nameB, doubled)
	}
}

// byKey splits rows into columns.
func byKey(lines []string, keys int) map[string][]string {
	m := make(map[string][]string, len(lines))
	for _, line := range lines {
		columns := strings.Split(line, "\t")
		m[strings.Join(columns[:keys], " ")] = columns
	}
	return m
}

// checkVersions holds stored rows to design §2: equal version means identical row.
func (r *rig) checkVersions(d deployment) {
	r.t.Helper()
	for table, key := range map[string]string{
		"customers": "customer_id", "orders": "customer_id, order_id", "phase_transitions": "lifecycle, customer_id, at",
		"customer_days": "customer_id, day",
		"checkpoints":   "topic, partition",
	} {
		lines := d.mustQuery(r.t, fmt.Sprintf("SELECT %s, version, groupUniqArray(2)(toString(tuple(*))) AS rows FROM %s GROUP BY %[1]s, version HAVING length(rows) > 1 LIMIT 3", key, table))
		if len(lines) > 0 {
			r.t.Errorf("%s of %s holds different rows under one version:\n%s", table, d.database, strings.Join(lines, "\n"))
		}
	}
}

// letters returns the committed dead letters of a deployment by their origins: topic, partition and offset.
func (r *rig) letters(d deployment) map[string]*kgo.Record {
	r.t.Helper()
	records, _ := readCommitted(r.t, r.broker.addr, "zyklus-"+d.database+"-dead-letters", nil)
	letters := map[string]*kgo.Record{}
	for _, rec := range records {
		h := map[string]string{}
		for _, header := range rec.Headers {
			h[header.Key] = string(header.Value)
		}
		origin := h["topic"] + "\t" + h["partition"] + "\t" + h["offset"]
		if first := letters[origin]; first != nil {
			r.t.Errorf("dead letters of %s: the record at %s has two, at offsets %d and %d of partition %d: %s: %s\n%s", d.database, origin,
				first.Offset, rec.Offset, rec.Partition, h["error"], h["cause"], rec.Value)
		}
		letters[origin] = rec
	}
	return letters
}

// awaitLetters waits until the table of dead letters holds all that the topic does.
func (r *rig) awaitLetters(d deployment) {
	r.t.Helper()
	letters := r.letters(d)
	eventually(r.t, time.Minute, fmt.Sprintf("%s.v_dead_letters holds the %d committed dead letters", d.database, len(letters)), func() error {
		lines, err := d.query("SELECT topic, partition, position FROM v_dead_letters")
		if err != nil {
			return err
		}
		var missing []string
		for origin, rec := range letters {
			if !slices.Contains(lines, origin) {
				missing = append(missing, fmt.Sprintf("%s: offset %d of partition %d, written %s", origin, rec.Offset, rec.Partition, rec.Timestamp.UTC().Format(time.StampMilli)))
			}
		}
		if len(missing) > 0 {
			slices.Sort(missing)
			return fmt.Errorf("it holds %d; missing are\n%s", len(lines), strings.Join(missing[:min(12, len(missing))], "\n"))
		}
		return nil
	})
}

// readCommitted returns the committed data records of a topic from given offsets on, and the offsets that follow.
func readCommitted(t testing.TB, broker, topic string, from map[int32]int64) (records []*kgo.Record, next map[int32]int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	adm := kafkaClient(t, broker)
	defer adm.Close()
	var ends kadm.ListedOffsets
	eventually(t, 30*time.Second, "the ends of "+topic, func() (err error) { // a broker that has just died may be asked
		if ends, err = kadm.NewClient(adm).ListCommittedOffsets(ctx, topic); err == nil {
			err = ends.Error()
		}
		return err
	})
	next = map[int32]int64{}
	at, open := map[int32]kgo.Offset{}, 0
	ends.Each(func(end kadm.ListedOffset) {
		next[end.Partition] = from[end.Partition]
		if end.Offset > from[end.Partition] {
			at[end.Partition] = kgo.NewOffset().At(from[end.Partition])
			open++
		}
	})
	if open == 0 {
		return nil, next
	}
	cl := kafkaClient(t, broker, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: at}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	defer cl.Close()
	for open > 0 {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Fatalf("read %s: %v; reached %v, ends are %v", topic, err, next, ends[topic])
		}
		for it := fs.RecordIter(); !it.Done(); {
			rec := it.Next()
			end := ends[topic][rec.Partition].Offset
			if next[rec.Partition] >= end || rec.Offset >= end {
				continue
			}
			if next[rec.Partition] = rec.Offset + 1; next[rec.Partition] == end {
				open--
			}
			if !rec.Attrs.IsControl() {
				records = append(records, rec)
			}
		}
	}
	return records, next
}

// ledgerOfCheckpoints follows the changelog of a deployment.
type ledgerOfCheckpoints struct {
	rig      *rig
	d        deployment
	next     map[int32]int64
	versions map[int32]int64 // of the last committed checkpoint, by partition
	reached  map[int32]int64 // position in the input topic
	heard    map[int32]int64 // instant up to which all deadlines have fired, Unix milliseconds
}

func (r *rig) checkpointsOf(d deployment) *ledgerOfCheckpoints {
	return &ledgerOfCheckpoints{rig: r, d: d, next: map[int32]int64{}, versions: map[int32]int64{}, reached: map[int32]int64{}, heard: map[int32]int64{}}
}

// read takes what has been committed since the last call. Positions and numbers never go back.
func (l *ledgerOfCheckpoints) read() {
	t := l.rig.t
	t.Helper()
	var records []*kgo.Record
	records, l.next = readCommitted(t, l.rig.broker.addr, "zyklus-"+l.d.database+"-changelog", l.next)
	for _, rec := range records {
		if len(rec.Key) != 1 || rec.Key[0] != 0 {
			continue
		}
		version, position, err := parseMeta(rec.Value)
		if err != nil {
			t.Fatalf("changelog of %s, partition %d offset %d: %v", l.d.database, rec.Partition, rec.Offset, err)
		}
		if last := l.versions[rec.Partition]; version <= last { // compaction may have removed some in between
			t.Errorf("changelog of %s, partition %d offset %d: checkpoint %s follows %s", l.d.database, rec.Partition, rec.Offset,
				versionName(version), versionName(last))
		}
		if position < l.reached[rec.Partition] {
			t.Errorf("changelog of %s, partition %d offset %d: position went back from %d to %d", l.d.database, rec.Partition,
				rec.Offset, l.reached[rec.Partition], position)
		}
		l.versions[rec.Partition], l.reached[rec.Partition] = version, position
		meta, err := pipeline.ReadMeta(rec.Value)
		if err != nil {
			t.Fatal(err)
		}
		l.heard[rec.Partition] = meta.Heard
	}
}

// position is the sum of the positions of the last committed checkpoints.
func (l *ledgerOfCheckpoints) position() (sum int64) {
	for _, at := range l.reached {
		sum += at
	}
	return sum
}

func versionName(v int64) string {
	lineage, number := pipeline.SplitVersion(v)
	return fmt.Sprintf("%d.%d", lineage, number)
}

// parseMeta reads the version and the position in a partition's own record of the changelog.
func parseMeta(b []byte) (version, position int64, err error) {
	if len(b) == 0 || b[0] != 3 {
		return 0, 0, fmt.Errorf("partition record of another format: %x", b)
	}
	b = b[1:]
	var fields [3]uint64
	for i := range fields {
		v, n := varint.Uvarint(b)
		if n <= 0 {
			return 0, 0, fmt.Errorf("partition record ends early")
		}
		fields[i], b = v, b[n:]
	}
	position, n := varint.Varint(b)
	if n <= 0 {
		return 0, 0, fmt.Errorf("partition record ends early")
	}
	return pipeline.Version(fields[0], fields[1]), position, nil
}

// checkNoFuture reports rows that are newer than the last committed checkpoint of their partition. Nothing may be
// running.
func (l *ledgerOfCheckpoints) checkNoFuture(when string) {
	t := l.rig.t
	t.Helper()
	l.read()
	queries := map[string]string{
		"orders": "SELECT c.partition, max(o.version) FROM orders AS o INNER JOIN (SELECT DISTINCT customer_id, partition FROM customers) AS c ON c.customer_id = o.customer_id GROUP BY c.partition",
	}
	for _, table := range []string{"customers", "customer_days", "phase_transitions", "checkpoints"} {
		queries[table] = "SELECT partition, max(version) FROM " + table + " GROUP BY partition"
	}
	for table, sql := range queries {
		for _, line := range l.d.mustQuery(t, sql) {
			var partition int32
			var version int64
			if _, err := fmt.Sscan(line, &partition, &version); err != nil {
				t.Fatalf("%s: %q: %v", sql, line, err)
			}
			if version > l.versions[partition] {
				t.Errorf("%s: %s of %s has a row of checkpoint %s of partition %d, but the last committed one is %s", when, table,
					l.d.database, versionName(version), partition, versionName(l.versions[partition]))
			}
		}
	}
}

// awaitKilled waits until a process has killed itself at its crash point.
func (p *process) awaitKilled(within time.Duration) {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(within):
		p.t.Fatalf("zyklus has not come to its crash point within %v\n%s", within, tail(p.log.String(), 30))
	}
	var exit *exec.ExitError
	if !errors.As(p.err, &exit) || !exit.Sys().(syscall.WaitStatus).Signaled() {
		p.t.Fatalf("zyklus has ended by itself (%v) instead of at its crash point\n%s", p.err, tail(p.log.String(), 30))
	}
}
