package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sourcegraph/conc"

	"zyklus/pipeline"
	"zyklus/sinks/embedded/embeddedtest"
)

// server returns the address of the tests' ClickHouse and a database of the test's own, which is dropped in the end.
func server(t testing.TB) Options { return serverOver(t, HTTP) }

// overBoth runs a test over each protocol.
func overBoth(t *testing.T, test func(t *testing.T, o Options)) {
	for _, protocol := range []string{HTTP, Native} {
		t.Run(protocol, func(t *testing.T) { test(t, serverOver(t, protocol)) })
	}
}

func serverOver(t testing.TB, protocol string) Options {
	t.Helper()
	addr := embeddedtest.StartClickHouse(t)
	if protocol == Native {
		addr = embeddedtest.StartNative(t)
	}
	o := Options{
		Addrs: []string{addr}, Protocol: protocol, Linger: time.Millisecond,
		Database: "t_" + strings.NewReplacer("/", "_", "=", "_").Replace(t.Name()),
	}
	t.Cleanup(func() {
		c := open(t, o)
		if err := c.Exec(context.Background(), "DROP DATABASE IF EXISTS "+quote(o.Database)); err != nil {
			t.Error(err)
		}
	})
	return o
}

func open(t testing.TB, o Options) *Client {
	t.Helper()
	c, err := Open(context.Background(), o, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// migrated opens a client on a database with the schema.
func migrated(t testing.TB, o Options, s Schema) *Client {
	t.Helper()
	c := open(t, o)
	if _, err := c.Migrate(context.Background(), s, nil); err != nil {
		t.Fatal(err)
	}
	return c
}

// running returns a Writer that runs until the test ends and retries at once.
func running(t testing.TB, c *Client) *Writer { return newRunning(t, c, func(*Writer) {}) }

func newRunning(t testing.TB, c *Client, prepare func(*Writer)) *Writer {
	t.Helper()
	w := NewWriter(c)
	prepare(w)
	run(t, w)
	return w
}

// run runs a Writer until the test ends.
func run(t testing.TB, w *Writer) {
	t.Helper()
	w.inserts.sleep = func(ctx context.Context, _ time.Duration) error { return sleep(ctx, 5*time.Millisecond) }
	w.queries.sleep = w.inserts.sleep
	ctx, cancel := context.WithCancel(context.Background())
	var wg conc.WaitGroup
	wg.Go(func() {
		if err := w.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
}

// value runs a query with one row and returns it as text.
func value(t testing.TB, c *Client, sql string) string {
	t.Helper()
	var text string
	sql = strings.ReplaceAll(sql, "{db}", quote(c.opts.Database))
	if err := c.conn.QueryRow(context.Background(), sql).Scan(&text); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return text
}

func expect(t testing.TB, c *Client, sql, want string) {
	t.Helper()
	if got := value(t, c, sql); got != want {
		t.Errorf("%s\n got %s\nwant %s", sql, got, want)
	}
}

func write(t testing.TB, w *Writer, tables ...*pipeline.Rows) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := w.Write(ctx, &pipeline.Batch{Topic: "events", Tables: tables}); err != nil {
		t.Fatalf("%v (%v)", err, w.Healthy())
	}
}

// customers returns rows of customers from to to.
func customers(from, to int, version int64, deleted bool) *pipeline.Rows {
	rows := pipeline.NewRows(customersTable())
	for i := from; i < to; i++ {
		customer(rows, i, version, deleted)
	}
	return rows
}

func checkpoint(partition, version int64) *pipeline.Rows {
	rows := pipeline.NewRows(checkpointTable())
	checkpointRow(rows, partition, version)
	return rows
}

func TestEngineMigrate(t *testing.T) { overBoth(t, testMigrate) }

func testMigrate(t *testing.T, o Options) {
	c, s, ctx := open(t, o), testSchema(), context.Background()
	if err := c.Check(ctx, s); err == nil || !strings.Contains(err.Error(), "run `zyklus migrate`") {
		t.Errorf("check of nothing: %v", err)
	}
	var shown []string
	applied, err := c.Migrate(ctx, s, func(step string) { shown = append(shown, step) })
	if err != nil {
		t.Fatal(err)
	}
	if len(applied) != 13 || strings.Join(applied, "\n") != strings.Join(shown, "\n") {
		t.Errorf("applied %q, shown %q", applied, shown)
	}
	if applied, err = c.Migrate(ctx, s, nil); err != nil || len(applied) != 0 {
		t.Errorf("second run applied %q, %v", applied, err)
	}
	if err := c.Check(ctx, s); err != nil {
		t.Error(err)
	}
	expect(t, c, "SELECT toString(count()) FROM {db}.schema_migrations", "12") // all but the database itself
	expect(t, c, "SELECT comment FROM system.columns WHERE database = '"+c.opts.Database+"' AND table = 'customers' AND name = 'risk'",
		"P(no order within H). Unit: share.")
	expect(t, c, "SELECT comment FROM system.columns WHERE database = '"+c.opts.Database+"' AND table = 'v_customers' AND name = 'margin'",
		"The customer's contribution, where costs are known. Unit: reporting currency.")
	expect(t, c, "SELECT comment FROM system.tables WHERE database = '"+c.opts.Database+"' AND name = 'v_checkpoints'",
		"How far each partition has been written.")
}

func TestEngineMigrateTwiceAtOnce(t *testing.T) { overBoth(t, testMigrateTwiceAtOnce) }

func testMigrateTwiceAtOnce(t *testing.T, o Options) {
	s := testSchema()
	var wg conc.WaitGroup
	for range 4 {
		c := open(t, o)
		wg.Go(func() {
			if _, err := c.Migrate(context.Background(), s, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := open(t, o).Check(context.Background(), s); err != nil {
		t.Error(err)
	}
}

func TestEngineReconcile(t *testing.T) { overBoth(t, testReconcile) }

func testReconcile(t *testing.T, o Options) {
	s, ctx := testSchema(), context.Background()
	c := migrated(t, o, s)
	w := running(t, c)
	write(t, w, customers(0, 2, 1, false))

	table := s.Tables[0]
	added := pipeline.Column{Name: "refunds", Type: pipeline.TypeCount, Comment: "Number of refunds."}
	table.Columns = append(append(append([]pipeline.Column{}, table.Columns[:5]...), added), table.Columns[5:]...)
	table.Columns[0].Comment = "Who."
	s.Tables[2].TTLDays = 30
	if err := c.Check(ctx, s); err == nil || !strings.Contains(err.Error(), "add column customers.refunds, create view v_customers") {
		t.Errorf("check: %v", err)
	}
	applied, err := c.Migrate(ctx, s, nil)
	want := "comment column customers.customer_id, add column customers.refunds, set TTL of dead_letters, create view v_customers"
	if got := strings.Join(applied, ", "); err != nil || got != want {
		t.Errorf("applied %s, %v\nwant %s", got, err, want)
	}
	if applied, err = c.Migrate(ctx, s, nil); err != nil || len(applied) != 0 {
		t.Errorf("second run applied %q, %v", applied, err)
	}
	expect(t, c, "SELECT toString(position) FROM system.columns WHERE database = '"+o.Database+"' AND table = 'customers' AND name = 'refunds'", "6")
	expect(t, c, "SELECT toString(sum(refunds)) FROM {db}.v_customers", "0")
	write(t, w, customers(2, 3, 1, false)) // an older binary still writes

	table.Columns[1].Type = pipeline.TypeString
	if _, err := c.Migrate(ctx, s, nil); err == nil || !strings.Contains(err.Error(), "column customers.phase has type LowCardinality(String), declared is String") {
		t.Errorf("type difference: %v", err)
	}
}

// TestEngineTypes reads back every type, written by both encodings, over both protocols, in all compressions.
func TestEngineTypes(t *testing.T) {
	for _, compression := range []string{"none", "lz4", "zstd"} {
		t.Run("http_"+compression, func(t *testing.T) { testTypes(t, serverOver(t, HTTP), compression, false) })
		t.Run("native_"+compression, func(t *testing.T) { testTypes(t, serverOver(t, Native), compression, true) })
	}
	t.Run("http_batches_lz4", func(t *testing.T) { testTypes(t, serverOver(t, HTTP), "lz4", true) })
}

func testTypes(t *testing.T, o Options, compression string, batches bool) {
	o.Compression = compression
	c := migrated(t, o, testSchema())
	w := newRunning(t, c, func(w *Writer) { w.encoder.batches = batches })
	write(t, w, customers(0, 2, 1, false), checkpoint(0, 1), checkpoint(1, 1))
	row := "SELECT toString(tuple(* EXCEPT (is_deleted))) FROM {db}.customers WHERE customer_id = '"
	expect(t, c, row+"c0000000'", `('c0000000','lead','shoes','it\'s \\ ü',0,0,0,0,0,0,0,0,'2023-11-14 22:13:20.000','2023-11-14 22:13:20.123',0,1,0,1)`)
	expect(t, c, row+"c0000001'", `('c0000001','active',NULL,NULL,1,NULL,-1,NULL,1099,NULL,0.125,NULL,'2023-11-14 22:13:20.001',NULL,1,NULL,1,1)`)
	view := "SELECT toString(tuple(value, margin, recency)) FROM {db}.v_customers WHERE customer_id = '"
	expect(t, c, view+"c0000000'", "(0,0,1)")
	expect(t, c, view+"c0000001'", "(10.99,NULL,NULL)")
	expect(t, c, "SELECT toTypeName(tuple(value, margin)) FROM {db}.v_customers LIMIT 1", "Tuple(Decimal(18, 2), Nullable(Decimal(18, 2)))")

	testDates(t, c, w)

	const many = 100_000
	write(t, w, customers(0, many, 2, false))
	expect(t, c, "SELECT toString(tuple(count(), sum(orders), sum(orders_90d), sum(balance), sum(value), uniqExact(customer_id), countIf(note IS NULL))) FROM {db}.v_customers",
		fmt.Sprintf("(%d,%d,%d,%d,%d,%d,%d)", many, many*(many-1)/2, many/2*(many/2-1), -many*(many-1)/2, 1099*(many-1)*(many/200), many, many/2))
}

// testDates writes days of more years than one insert may have partitions where those are months.
func testDates(t *testing.T, c *Client, w *Writer) {
	days := pipeline.NewRows(daysTable())
	for year := range int64(20) {
		days.String("c0000000")
		days.Int(11_000 + 365*year)
		if year%2 == 0 {
			days.Null()
		} else {
			days.Int(math.MaxInt64)
		}
		days.Int(150)
		days.End(1, year == 3)
	}
	write(t, w, days)
	expect(t, c, "SELECT toString(tuple(count(), min(day), max(day), max(ended), countIf(ended IS NULL), sum(value))) FROM {db}.v_customer_days WHERE customer_id = 'c0000000'",
		"(20,'2000-02-13','2023-11-14','2149-06-06',11,28.5)")
}

func TestEngineReplacing(t *testing.T) {
	c := migrated(t, server(t), testSchema())
	w := running(t, c)
	write(t, w, customers(0, 10, 5, false))
	write(t, w, customers(0, 5, 3, false)) // a late writer with an older version
	write(t, w, customers(0, 10, 5, false))
	for _, optimize := range []bool{false, true} {
		if optimize {
			if err := c.Exec(context.Background(), "OPTIMIZE TABLE "+c.table("customers")+" FINAL"); err != nil {
				t.Fatal(err)
			}
		}
		expect(t, c, "SELECT toString(tuple(count(), min(version), max(version))) FROM {db}.customers FINAL", "(10,5,5)")
	}
	write(t, w, customers(0, 4, 6, true))
	expect(t, c, "SELECT toString(tuple(count(), min(customer_id))) FROM {db}.v_customers", "(6,'c0000004')")
	write(t, w, customers(0, 4, 4, false)) // older than the withdrawal
	expect(t, c, "SELECT toString(tuple(count(), min(customer_id))) FROM {db}.v_customers", "(6,'c0000004')")
	write(t, w, customers(0, 1, 7, false)) // and back
	expect(t, c, "SELECT toString(tuple(count(), min(customer_id))) FROM {db}.v_customers", "(7,'c0000000')")
}

func TestEngineVersion(t *testing.T) { overBoth(t, testVersion) }

func testVersion(t *testing.T, o Options) {
	c := migrated(t, o, testSchema())
	w := running(t, c)
	ctx := context.Background()
	if v, err := w.Version(ctx, "events", 3); v != 0 || err != nil {
		t.Errorf("got %d, %v", v, err)
	}
	high := pipeline.Version(2, 17)
	write(t, w, checkpoint(3, pipeline.Version(1, 99)))
	write(t, w, checkpoint(3, high))
	write(t, w, checkpoint(4, high+1))
	if v, err := w.Version(ctx, "events", 3); v != high || err != nil {
		t.Errorf("got %d, %v, want %d", v, err, high)
	}
	if v, err := w.Version(ctx, "it's other", 3); v != 0 || err != nil {
		t.Errorf("got %d, %v", v, err)
	}
}
