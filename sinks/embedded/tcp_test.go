package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/sourcegraph/conc"

	"zyklus/sinks/embedded/embeddedtest"
)

// openNative connects over TCP to a database of its own of the shared server.
func openNative(t testing.TB, change func(*clickhouse.Options)) driver.Conn {
	t.Helper()
	addr := embeddedtest.StartNative(t)
	database := "test_" + strings.NewReplacer("/", "_", "#", "_", "=", "_").Replace(t.Name())
	admin := connectNative(t, addr, nil)
	run(t, admin, "DROP DATABASE IF EXISTS "+database)
	run(t, admin, "CREATE DATABASE "+database)
	return connectNative(t, addr, func(o *clickhouse.Options) {
		o.Auth.Database = database
		if change != nil {
			change(o)
		}
	})
}

// connectNative opens a clickhouse-go connection and closes it at the end.
func connectNative(t testing.TB, addr string, change func(*clickhouse.Options)) driver.Conn {
	t.Helper()
	o := &clickhouse.Options{Protocol: clickhouse.Native, Addr: []string{addr}, Compression: &clickhouse.Compression{Method: clickhouse.CompressionLZ4}}
	if change != nil {
		change(o)
	}
	conn, err := clickhouse.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// nativeMethods are the compressions of the native protocol.
func nativeMethods() map[string]clickhouse.CompressionMethod {
	return map[string]clickhouse.CompressionMethod{
		"none": clickhouse.CompressionNone, "lz4": clickhouse.CompressionLZ4, "zstd": clickhouse.CompressionZSTD,
	}
}

func TestNativePing(t *testing.T) {
	for name, method := range nativeMethods() {
		t.Run(name, func(t *testing.T) {
			conn := openNative(t, func(o *clickhouse.Options) { o.Compression.Method = method })
			if err := conn.Ping(context.Background()); err != nil {
				t.Fatal(err)
			}
			version, err := conn.ServerVersion()
			if err != nil || version.Version.Major < 26 || version.Revision != 54460 {
				t.Fatalf("version %v, error %v", version, err)
			}
		})
	}
}

// TestNativeTypes is TestTypes over TCP.
func TestNativeTypes(t *testing.T) {
	for name, method := range nativeMethods() {
		t.Run(name, func(t *testing.T) {
			conn := openNative(t, func(o *clickhouse.Options) { o.Compression.Method = method })
			for _, c := range typeCases() {
				t.Run(c.typ, func(t *testing.T) { roundTrip(t, conn, c) })
			}
		})
	}
}

func TestNativeErrors(t *testing.T) {
	conn := openNative(t, func(o *clickhouse.Options) { o.MaxOpenConns = 1 })
	ctx := context.Background()
	wantCode(t, conn.Exec(ctx, "SELECT * FROM no_such_table"), 60)
	_, err := conn.Query(ctx, "SELECT * FROM no_such_table")
	wantCode(t, err, 60)
	var exc *clickhouse.Exception
	if errors.As(err, &exc); exc.Name != "DB::Exception" || strings.Contains(exc.Message, "Code: ") || !strings.Contains(exc.Message, "(UNKNOWN_TABLE)") {
		t.Fatalf("name %q, message %q", exc.Name, exc.Message)
	}
	_, err = conn.PrepareBatch(ctx, "INSERT INTO no_such_table (a)")
	wantCode(t, err, 60)
	run(t, conn, "CREATE TABLE e (a UInt8) ENGINE = MergeTree ORDER BY a")
	_, err = conn.PrepareBatch(ctx, "INSERT INTO e (b)")
	wantCode(t, err, 16)
	wantCode(t, conn.Exec(ctx, "SELEC"), 47)
	wantCode(t, conn.Exec(ctx, "SELECT 1; SELECT 2"), 62)
	wantCode(t, conn.Exec(ctx, ""), 62)
	wantCode(t, conn.Exec(ctx, "INSERT INTO e VALUES ('x')"), 6)
	bad := clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"no_such_setting": 1}))
	wantCode(t, conn.Exec(bad, "SELECT 1"), 115)
	bad = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"x = 1, y": 1}))
	wantCode(t, conn.Exec(bad, "SELECT 1"), 115)
	if stats := conn.Stats(); stats.Open != 0 {
		t.Fatal(stats)
	}
	var one uint8
	if err := conn.QueryRow(ctx, "SELECT 1").Scan(&one); err != nil || one != 1 {
		t.Fatal(one, err)
	}
}

func TestNativeParametersAndSettings(t *testing.T) {
	conn := openNative(t, nil)
	ctx := clickhouse.Context(context.Background(), clickhouse.WithSettings(clickhouse.Settings{"max_block_size": 7, "log_comment": "it's"}),
		clickhouse.WithParameters(clickhouse.Parameters{"num": "42", "str": `it's \\ ä`, "list": "['a','b']"}), clickhouse.WithQueryID("my-id"))
	var num, block uint64
	var str, comment string
	var list []string
	row := conn.QueryRow(ctx, "SELECT {num:UInt64}, {str:String}, {list:Array(String)}, toUInt64(getSetting('max_block_size')), getSetting('log_comment')")
	if err := row.Scan(&num, &str, &list, &block, &comment); err != nil {
		t.Fatal(err)
	}
	if num != 42 || str != `it's \ ä` || !reflect.DeepEqual(list, []string{"a", "b"}) || block != 7 || !strings.HasPrefix(comment, "it's ") {
		t.Fatal(num, str, list, block, comment)
	}
	if err := conn.QueryRow(context.Background(), "SELECT toUInt64(getSetting('max_block_size'))").Scan(&block); err != nil || block == 7 {
		t.Fatalf("the setting leaked: %d, %v", block, err)
	}
	var small uint8
	if err := conn.QueryRow(context.Background(), "SELECT ?, ?", 5, "it's").Scan(&small, &str); err != nil || small != 5 || str != "it's" {
		t.Fatal(small, str, err)
	}
}

// TestNativeEmptyResults: a result without rows has columns.
func TestNativeEmptyResults(t *testing.T) {
	conn := openNative(t, nil)
	for sql, want := range map[string][]string{
		"SHOW TABLES": {"name"},
		"SELECT b, a + 1 AS c FROM empty WHERE a > {x:UInt8}": {"b", "c"},
		"(SELECT a FROM empty)":                               {"a"},
		"WITH 1 AS one SELECT a, one FROM empty":              {"a", "one"},
		"SELECT a FROM empty FORMAT JSON":                     {"a"},
		"EXISTS TABLE empty":                                  {"result"},
	} {
		rows, err := conn.Query(context.Background(), sql, clickhouse.Named("x", 3))
		if err != nil && sql == "SHOW TABLES" {
			t.Fatal(err)
		}
		if err != nil {
			run(t, conn, "CREATE TABLE IF NOT EXISTS empty (a UInt8, b LowCardinality(String)) ENGINE = MergeTree ORDER BY a")
			if rows, err = conn.Query(context.Background(), sql, clickhouse.Named("x", 3)); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
		if got := rows.Columns(); !reflect.DeepEqual(got, want) {
			t.Fatalf("%s: columns %v", sql, got)
		}
		for rows.Next() {
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNativeInserts sends data in every manner.
func TestNativeInserts(t *testing.T) {
	conn := openNative(t, nil)
	ctx := context.Background()
	run(t, conn, "CREATE TABLE f (a UInt64, s LowCardinality(String), `odd name` Nullable(UInt8), m UInt64 MATERIALIZED a + 1) ENGINE = MergeTree ORDER BY a")
	for i, sql := range []string{
		"INSERT INTO f (a, s) VALUES (1, 'x')",
		"INSERT INTO f (s, a) FORMAT JSONEachRow {\"a\":1,\"s\":\"x\"}",
		"INSERT INTO f (a, s) SELECT 1, 'x'",
		"INSERT INTO f SETTINGS max_insert_threads = 1 VALUES (2 - 1, lower('X'), NULL)",
	} {
		run(t, conn, sql)
		wantOne(t, conn, i)
	}
	for i, sql := range []string{"INSERT INTO f", "INSERT INTO f (a, s, `odd name`)", "insert into `f`(\"a\",s,`odd name`) values"} {
		batch, err := conn.PrepareBatch(ctx, sql)
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		if len(batch.Columns()) != 3 || batch.Columns()[1].Type() != "LowCardinality(String)" {
			t.Fatal(batch.Columns())
		}
		if err := batch.Append(uint64(1), "x", nil); err != nil {
			t.Fatal(err)
		}
		if err := batch.Send(); err != nil {
			t.Fatal(err)
		}
		wantOne(t, conn, i)
	}
	plain := clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"low_cardinality_allow_in_native_format": 0}))
	batch, err := conn.PrepareBatch(plain, "INSERT INTO f (a, s)")
	if err != nil || batch.Columns()[1].Type() != "String" {
		t.Fatal(batch, err)
	}
	for range 3 { // several blocks
		if err := errors.Join(batch.Append(uint64(1), "x"), batch.Flush()); err != nil {
			t.Fatal(err)
		}
	}
	wantCount(t, conn, "f", 0) // nothing is there before the end
	if err := batch.Send(); err != nil {
		t.Fatal(err)
	}
	wantCount(t, conn, "f", 3)
}

func wantOne(t *testing.T, conn driver.Conn, i int) {
	t.Helper()
	var a, m uint64
	var s string
	if err := conn.QueryRow(context.Background(), "SELECT a, s, m FROM f").Scan(&a, &s, &m); err != nil || a != 1 || s != "x" || m != 2 {
		t.Fatalf("case %d: %d %q %d, %v", i, a, s, m, err)
	}
	run(t, conn, "TRUNCATE TABLE f")
}

// TestNativeSession: what a connection sets stays on it, and on no other.
func TestNativeSession(t *testing.T) {
	conn := openNative(t, func(o *clickhouse.Options) { o.MaxOpenConns, o.MaxIdleConns = 1, 1 })
	other := connectNative(t, embeddedtest.StartNative(t), nil)
	want := func(c driver.Conn, ctx context.Context, block string, database string) {
		t.Helper()
		var gotBlock, gotDatabase string
		if err := c.QueryRow(ctx, "SELECT toString(getSetting('max_block_size')), currentDatabase()").Scan(&gotBlock, &gotDatabase); err != nil ||
			gotBlock != block || gotDatabase != database {
			t.Fatalf("block size %s, database %s, error %v; want %s, %s", gotBlock, gotDatabase, err, block, database)
		}
	}
	ctx := context.Background()
	want(conn, ctx, "65409", "test_TestNativeSession")
	run(t, conn, "SET max_block_size = 11")
	run(t, conn, "CREATE TEMPORARY TABLE tmp (a UInt64)")
	insertNumbers(t, ctx, conn, "tmp", 0, 10)
	wantCount(t, conn, "tmp", 10)
	want(conn, ctx, "11", "test_TestNativeSession")
	for _, setting := range []string{"max_block_size", "max_threads"} {
		want(conn, clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{setting: 12})), map[bool]string{true: "12", false: "11"}[setting == "max_block_size"], "test_TestNativeSession")
		want(conn, ctx, "11", "test_TestNativeSession")
	}
	run(t, conn, "USE default")
	want(conn, ctx, "11", "default")
	want(other, ctx, "65409", "default")
	_, err := other.Query(ctx, "SELECT * FROM tmp")
	wantCode(t, err, 60)
	run(t, conn, "SET readonly = 1")
	want(conn, ctx, "11", "default")
	wantCode(t, conn.Exec(ctx, "CREATE TABLE no (a UInt8) ENGINE = Memory"), 164)
}

// TestNativeCancel ends statements by their context: the client sends a
// cancellation and closes the connection.
func TestNativeCancel(t *testing.T) {
	conn := openNative(t, nil)
	for _, held := range []bool{false, true} {
		if held {
			run(t, conn, "SET max_threads = 1")
		}
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		err := conn.Exec(ctx, "SELECT count(sipHash64(number)), 'native cancel' FROM numbers(100000000000)")
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			var netErr net.Error
			if !errors.As(err, &netErr) || !netErr.Timeout() {
				t.Fatal(err)
			}
		}
		wantEnd(t, conn, "native cancel")
	}
}

// wantEnd waits until no statement with the text runs.
func wantEnd(t *testing.T, conn driver.Conn, text string) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for running := uint64(1); running > 0; time.Sleep(20 * time.Millisecond) {
		q := "SELECT count() FROM system.processes WHERE query LIKE '%" + text + "%' AND query NOT LIKE '%processes%'"
		if err := conn.QueryRow(context.Background(), q).Scan(&running); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatal("the statement still runs")
		}
	}
}

func TestNativeLargeResult(t *testing.T) {
	for name, method := range nativeMethods() {
		t.Run(name, func(t *testing.T) {
			conn := openNative(t, func(o *clickhouse.Options) { o.Compression.Method = method })
			var progress clickhouse.Progress
			var profile clickhouse.ProfileInfo
			var mu sync.Mutex
			ctx := clickhouse.Context(context.Background(), clickhouse.WithProgress(func(p *clickhouse.Progress) {
				mu.Lock()
				defer mu.Unlock()
				progress.Rows += p.Rows
			}), clickhouse.WithProfileInfo(func(p *clickhouse.ProfileInfo) {
				mu.Lock()
				defer mu.Unlock()
				profile = *p
			}))
			rows, err := conn.Query(ctx, "SELECT number, toString(number), toLowCardinality(toString(number % 5)) FROM numbers(300000)")
			if err != nil {
				t.Fatal(err)
			}
			var n, want uint64
			var s, l string
			for ; rows.Next(); want++ {
				if err := rows.Scan(&n, &s, &l); err != nil {
					t.Fatal(err)
				}
				if n != want || s != fmt.Sprint(want) || l != fmt.Sprint(want%5) {
					t.Fatal(n, s, l, want)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			if rows.Err() != nil || want != 300000 || progress.Rows != 300000 || profile.Rows != 300000 || profile.Blocks < 2 {
				t.Fatal(want, rows.Err(), progress, profile)
			}
		})
	}
}

func TestNativeMillionRows(t *testing.T) {
	const rows = 1_000_000
	columns := wideColumns(rows)
	conn := openNative(t, nil)
	run(t, conn, wideTable)
	took := insertWide(t, conn, columns)
	t.Logf("%d rows of 20 columns: %v, %.2f M rows/s", rows, took, rows/took.Seconds()/1e6)
	var count, ids, customers uint64
	row := conn.QueryRow(context.Background(), "SELECT count(), sum(id), uniqExact(customer) FROM wide")
	if err := row.Scan(&count, &ids, &customers); err != nil || count != rows || ids != rows*(rows-1)/2 || customers != 50000 {
		t.Fatal(count, ids, customers, err)
	}
}

func TestNativeParallel(t *testing.T) {
	conn := openNative(t, nil)
	run(t, conn, "CREATE TABLE par (a UInt64) ENGINE = MergeTree ORDER BY a")
	var wg conc.WaitGroup
	for worker := range uint64(6) {
		own := connectNative(t, embeddedtest.StartNative(t), func(o *clickhouse.Options) { o.Auth.Database = "test_TestNativeParallel" })
		wg.Go(func() {
			for i := range uint64(10) {
				if err := tryInsert(context.Background(), own, "par", worker*10000+i*1000, 1000); err != nil {
					t.Error(err)
				}
				var sum, count uint64
				if err := own.QueryRow(context.Background(), "SELECT sum(a), count() FROM par").Scan(&sum, &count); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	wantCount(t, conn, "par", 60000)
}

// TestNativeRefusals: who may not connect is told why.
func TestNativeRefusals(t *testing.T) {
	addr := embeddedtest.StartNative(t)
	for _, c := range []struct {
		code   int32
		change func(*clickhouse.Options)
	}{
		{516, func(o *clickhouse.Options) { o.Auth.Username, o.Auth.Password = "nobody", "wrong" }},
		{516, func(o *clickhouse.Options) { o.Auth.Username = "nobody" }},
		{81, func(o *clickhouse.Options) { o.Auth.Database = "no_such_database" }},
	} {
		err := connectNative(t, addr, c.change).Ping(context.Background())
		wantCode(t, err, c.code)
		if strings.Contains(err.Error(), "wrong") {
			t.Fatalf("the password is in %v", err)
		}
	}
}
