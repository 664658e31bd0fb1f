package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/shopspring/decimal"

	"zyklus/sinks/embedded/embeddedtest"
)

// open connects to a database of its own of the shared server.
func open(t testing.TB, method clickhouse.CompressionMethod) (driver.Conn, string) {
	t.Helper()
	addr := embeddedtest.StartClickHouse(t)
	database := "test_" + strings.NewReplacer("/", "_", "#", "_", "=", "_").Replace(t.Name())
	admin := connect(t, addr, "default", method)
	run(t, admin, "DROP DATABASE IF EXISTS "+database)
	run(t, admin, "CREATE DATABASE "+database)
	return connect(t, addr, database, method), addr
}

// connect opens a clickhouse-go connection and closes it at the end.
func connect(t testing.TB, addr, database string, method clickhouse.CompressionMethod) driver.Conn {
	t.Helper()
	conn, err := clickhouse.Open(&clickhouse.Options{
		Protocol:    clickhouse.HTTP,
		Addr:        []string{addr},
		Auth:        clickhouse.Auth{Database: database},
		Compression: &clickhouse.Compression{Method: method},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func run(t testing.TB, conn driver.Conn, sql string, args ...any) {
	t.Helper()
	if err := conn.Exec(context.Background(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// methods are the compressions clickhouse-go offers over HTTP.
func methods() map[string]clickhouse.CompressionMethod {
	return map[string]clickhouse.CompressionMethod{
		"none": clickhouse.CompressionNone, "lz4": clickhouse.CompressionLZ4, "zstd": clickhouse.CompressionZSTD,
		"gzip": clickhouse.CompressionGZIP, "deflate": clickhouse.CompressionDeflate, "br": clickhouse.CompressionBrotli,
	}
}

func TestPingAndVersion(t *testing.T) {
	for name, method := range methods() {
		t.Run(name, func(t *testing.T) {
			conn, _ := open(t, method)
			if err := conn.Ping(context.Background()); err != nil {
				t.Fatal(err)
			}
			version, err := conn.ServerVersion()
			if err != nil || version.Version.Major < 26 {
				t.Fatalf("version %v, error %v", version, err)
			}
		})
	}
}

// typeCase is a column type with values as clickhouse-go appends and scans them.
type typeCase struct {
	typ    string
	values any
}

// typeCases holds three values of each type.
func typeCases() []typeCase {
	day := time.Date(2026, 3, 4, 0, 0, 0, 0, time.UTC)
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	ms := at.Add(89 * time.Millisecond)
	str, num := "x", int64(-7)
	return []typeCase{
		{"UInt8", []uint8{0, 1, 255}},
		{"UInt16", []uint16{0, 1, 65535}},
		{"UInt32", []uint32{0, 1, 1 << 31}},
		{"UInt64", []uint64{0, 1, 1 << 63}},
		{"Int8", []int8{-128, 0, 127}},
		{"Int16", []int16{-32768, 0, 1}},
		{"Int32", []int32{-1 << 31, 0, 1}},
		{"Int64", []int64{-1 << 63, 0, 1}},
		{"Float32", []float32{-1.5, 0, 3e38}},
		{"Float64", []float64{-1.5, 0, 1e300}},
		{"Bool", []bool{true, false, true}},
		{"String", []string{"", "ä\x00\n'", strings.Repeat("long", 1000)}},
		{"FixedString(3)", []string{"abc", "äb", "xyz"}},
		{"LowCardinality(String)", []string{"a", "b", "a"}},
		{"LowCardinality(Nullable(String))", []*string{nil, &str, nil}},
		{"Nullable(String)", []*string{nil, &str, nil}},
		{"Nullable(Int64)", []*int64{&num, nil, &num}},
		{"Date", []time.Time{day, day.AddDate(0, 0, 1), time.Unix(0, 0).UTC()}},
		{"Date32", []time.Time{day, day.AddDate(-80, 0, 0), day}},
		{"DateTime('UTC')", []time.Time{at, at.Add(time.Second), time.Unix(0, 0).UTC()}},
		{"DateTime64(3, 'UTC')", []time.Time{ms, ms.Add(time.Millisecond), time.Unix(0, 0).UTC()}},
		{"DateTime64(9, 'UTC')", []time.Time{ms, ms.Add(1), time.Unix(0, 0).UTC()}},
		{"Enum8('a' = 1, 'b' = -2)", []string{"a", "b", "a"}},
		{"Enum16('a' = 1000, 'b (c)' = -2)", []string{"a", "b (c)", "a"}},
		{"Decimal(9, 2)", decimals("1.25", "-3.5", "0")},
		{"Decimal(18, 6)", decimals("123456789012.123456", "-3.5", "0")},
		{"Decimal(38, 10)", decimals("1234567890123456789012345678.5", "-3.5", "0")},
		{"UUID", []string{"00000000-0000-0000-0000-000000000000", "6f2b0e3a-0d5c-4a8e-9b5d-3a1d6c2e7f10", "00000000-0000-0000-0000-000000000001"}},
		{"Array(String)", [][]string{{}, {"a", "b"}, {""}}},
		{"Array(Array(Nullable(Int64)))", [][][]*int64{{}, {{nil, &num}, {}}, {{&num}}}},
		{"Array(LowCardinality(String))", [][]string{{"a"}, {}, {"b", "a"}}},
		{"Map(String, UInt64)", []map[string]uint64{{}, {"a": 1}, {"b": 2, "c": 3}}},
		{"Map(LowCardinality(String), Array(Float32))", []map[string][]float32{{}, {"a": {1}}, {"b": {}}}},
	}
}

func decimals(texts ...string) []decimal.Decimal {
	var list []decimal.Decimal
	for _, text := range texts {
		list = append(list, decimal.RequireFromString(text))
	}
	return list
}

// TestTypes inserts column by column and row by row and reads back what it
// inserted, with each compression.
func TestTypes(t *testing.T) {
	for name, method := range methods() {
		t.Run(name, func(t *testing.T) {
			conn, _ := open(t, method)
			for _, c := range typeCases() {
				t.Run(c.typ, func(t *testing.T) { roundTrip(t, conn, c) })
			}
		})
	}
}

func roundTrip(t *testing.T, conn driver.Conn, c typeCase) {
	ctx := context.Background()
	run(t, conn, "DROP TABLE IF EXISTS types")
	run(t, conn, "CREATE TABLE types (n UInt64, v "+c.typ+", w "+c.typ+") ENGINE = MergeTree ORDER BY n")
	batch, err := conn.PrepareBatch(ctx, "INSERT INTO types (n, v, w)")
	if err != nil {
		t.Fatal(err)
	}
	for i, values := range []any{[]uint64{0, 1, 2}, c.values, c.values} {
		if err := batch.Column(i).Append(values); err != nil {
			t.Fatalf("append column %d: %v", i, err)
		}
	}
	if err := batch.Send(); err != nil {
		t.Fatal(err)
	}
	rows, err := conn.Query(ctx, "SELECT v, w FROM types ORDER BY n")
	if err != nil {
		t.Fatal(err)
	}
	compareRows(t, rows, reflect.ValueOf(c.values))
}

// compareRows reads rows of two equal columns.
func compareRows(t *testing.T, rows driver.Rows, want reflect.Value) {
	t.Helper()
	defer func() { _ = rows.Close() }()
	n := 0
	for ; rows.Next(); n++ {
		v, w := reflect.New(want.Type().Elem()), reflect.New(want.Type().Elem())
		if err := rows.Scan(v.Interface(), w.Interface()); err != nil {
			t.Fatal(err)
		}
		for _, got := range []reflect.Value{v, w} {
			if !equalValue(got.Elem().Interface(), want.Index(n).Interface()) {
				t.Fatalf("row %d: %v instead of %v", n, got.Elem().Interface(), want.Index(n).Interface())
			}
		}
	}
	if err := rows.Err(); err != nil || n != want.Len() {
		t.Fatalf("%d rows, error %v", n, err)
	}
}

// equalValue compares as ClickHouse would: times by instant, decimals by value.
func equalValue(a, b any) bool {
	switch a := a.(type) {
	case time.Time:
		return a.Equal(b.(time.Time))
	case decimal.Decimal:
		return a.Equal(b.(decimal.Decimal))
	}
	return reflect.DeepEqual(a, b)
}

func TestUnknownTable(t *testing.T) {
	for name, method := range methods() {
		t.Run(name, func(t *testing.T) {
			conn, _ := open(t, method)
			err := conn.Exec(context.Background(), "SELECT * FROM no_such_table")
			wantCode(t, err, 60)
			_, err = conn.Query(context.Background(), "SELECT * FROM no_such_table")
			wantCode(t, err, 60)
			var httpErr *clickhouse.HTTPError
			if !errors.As(err, &httpErr) || httpErr.StatusCode != http.StatusNotFound {
				t.Fatalf("no status 404: %v", err)
			}
			_, err = conn.PrepareBatch(context.Background(), "INSERT INTO no_such_table (a)")
			wantCode(t, err, 60)
		})
	}
}

func wantCode(t testing.TB, err error, code int32) {
	t.Helper()
	var exc *clickhouse.Exception
	if !errors.As(err, &exc) || exc.Code != code {
		t.Fatalf("error %v, want code %d", err, code)
	}
}

func TestParametersAndSettings(t *testing.T) {
	conn, _ := open(t, clickhouse.CompressionLZ4)
	ctx := clickhouse.Context(context.Background(), clickhouse.WithSettings(clickhouse.Settings{"max_block_size": 7}),
		clickhouse.WithParameters(clickhouse.Parameters{"num": "42", "str": `it's \\ ä`, "list": "['a','b']"}))
	var num, block uint64
	var str string
	var list []string
	row := conn.QueryRow(ctx, "SELECT {num:UInt64}, {str:String}, {list:Array(String)}, toUInt64(getSetting('max_block_size'))")
	if err := row.Scan(&num, &str, &list, &block); err != nil {
		t.Fatal(err)
	}
	if num != 42 || str != `it's \ ä` || len(list) != 2 || block != 7 {
		t.Fatal(num, str, list, block)
	}
	if err := conn.QueryRow(context.Background(), "SELECT toUInt64(getSetting('max_block_size'))").Scan(&block); err != nil || block == 7 {
		t.Fatalf("the setting leaked: %d, %v", block, err)
	}
	var small uint8
	if err := conn.QueryRow(context.Background(), "SELECT ?, ?", 5, "it's").Scan(&small, &str); err != nil || small != 5 || str != "it's" {
		t.Fatal(small, str, err)
	}
	bad := clickhouse.Context(context.Background(), clickhouse.WithSettings(clickhouse.Settings{"no_such_setting": 1}))
	wantCode(t, conn.Exec(bad, "SELECT 1"), 115)
}

func TestEmptyResultHasColumns(t *testing.T) {
	conn, _ := open(t, clickhouse.CompressionLZ4)
	run(t, conn, "CREATE TABLE empty (a UInt8, b LowCardinality(String)) ENGINE = MergeTree ORDER BY a")
	rows, err := conn.Query(context.Background(), "SELECT b, a + 1 AS c FROM empty WHERE a > {x:UInt8}", clickhouse.Named("x", 3))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	if got := rows.Columns(); !reflect.DeepEqual(got, []string{"b", "c"}) {
		t.Fatalf("columns %v", got)
	}
	if rows.Next() || rows.Err() != nil {
		t.Fatalf("a row, or error %v", rows.Err())
	}
}

func TestDeduplicationToken(t *testing.T) {
	conn, _ := open(t, clickhouse.CompressionLZ4)
	run(t, conn, "CREATE TABLE dedup (a UInt64) ENGINE = MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 100")
	for _, token := range []string{"t1", "t1", "t2"} {
		ctx := clickhouse.Context(context.Background(), clickhouse.WithSettings(clickhouse.Settings{"insert_deduplication_token": token}))
		insertNumbers(t, ctx, conn, "dedup", 0, 10)
	}
	wantCount(t, conn, "dedup", 20)
}

// insertNumbers inserts n numbers from first on into column a.
func insertNumbers(t testing.TB, ctx context.Context, conn driver.Conn, table string, first, n uint64) {
	t.Helper()
	if err := tryInsert(ctx, conn, table, first, n); err != nil {
		t.Fatal(err)
	}
}

func tryInsert(ctx context.Context, conn driver.Conn, table string, first, n uint64) error {
	batch, err := conn.PrepareBatch(ctx, "INSERT INTO "+table+" (a)")
	if err != nil {
		return err
	}
	numbers := make([]uint64, n)
	for i := range numbers {
		numbers[i] = first + uint64(i)
	}
	if err := batch.Column(0).Append(numbers); err != nil {
		return err
	}
	return batch.Send()
}

func wantCount(t testing.TB, conn driver.Conn, table string, want uint64) {
	t.Helper()
	var got uint64
	if err := conn.QueryRow(context.Background(), "SELECT count() FROM "+table).Scan(&got); err != nil || got != want {
		t.Fatalf("%d rows in %s, want %d, error %v", got, table, want, err)
	}
}

func TestParallel(t *testing.T) {
	conn, addr := open(t, clickhouse.CompressionLZ4)
	run(t, conn, "CREATE TABLE par (a UInt64) ENGINE = MergeTree ORDER BY a")
	var wg sync.WaitGroup
	errs := make(chan error, 100)
	for worker := range uint64(6) {
		own := connect(t, addr, "test_TestParallel", clickhouse.CompressionLZ4)
		wg.Go(func() {
			for i := range uint64(10) {
				if err := tryInsert(context.Background(), own, "par", worker*10000+i*1000, 1000); err != nil {
					errs <- fmt.Errorf("insert: %w", err)
				}
				var sum, count uint64
				if err := own.QueryRow(context.Background(), "SELECT sum(a), count() FROM par").Scan(&sum, &count); err != nil {
					errs <- fmt.Errorf("select: %w", err)
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	wantCount(t, conn, "par", 60000)
}

func TestCancel(t *testing.T) {
	conn, _ := open(t, clickhouse.CompressionNone)
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	err := conn.Exec(ctx, "SELECT count(sipHash64(number)), 'cancel me' FROM numbers(100000000000)")
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 5*time.Second {
		t.Fatalf("error %v after %v", err, time.Since(start))
	}
	deadline := time.Now().Add(10 * time.Second)
	for running := uint64(1); running > 0; time.Sleep(20 * time.Millisecond) {
		q := "SELECT count() FROM system.processes WHERE query LIKE '%cancel me%' AND query NOT LIKE '%processes%'"
		if err := conn.QueryRow(context.Background(), q).Scan(&running); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatal("the statement still runs")
		}
	}
}

func TestLargeResult(t *testing.T) {
	for name, method := range methods() {
		t.Run(name, func(t *testing.T) {
			conn, _ := open(t, method)
			rows, err := conn.Query(context.Background(), "SELECT number, toString(number), toLowCardinality(toString(number % 5)) FROM numbers(300000)")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = rows.Close() }()
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
			if rows.Err() != nil || want != 300000 {
				t.Fatal(want, rows.Err())
			}
		})
	}
}
