package embedded_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"zyklus/sinks/embedded/embeddedtest"
)

// wideTable has 20 plain columns.
const wideTable = `CREATE TABLE wide (id UInt64, at DateTime64(3, 'UTC'), day Date, customer String, kind LowCardinality(String),
	phase Enum8('a' = 1, 'b' = 2, 'c' = 3), flag Bool, n8 UInt8, n16 UInt16, n32 UInt32, i32 Int32, i64 Int64,
	f1 Float32, f2 Float32, f3 Float32, f4 Float32, d1 Float64, d2 Float64, d3 Float64, note Nullable(Float64))
	ENGINE = MergeTree ORDER BY (customer, at)`

// wideColumns makes the columns of n rows.
func wideColumns(n int) []any {
	id, n32, i64 := make([]uint64, n), make([]uint32, n), make([]int64, n)
	at, day := make([]time.Time, n), make([]time.Time, n)
	customer, kind, phase := make([]string, n), make([]string, n), make([]string, n)
	flag, n8, n16, i32 := make([]bool, n), make([]uint8, n), make([]uint16, n), make([]int32, n)
	f, d, note := make([]float32, n), make([]float64, n), make([]*float64, n)
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range n {
		id[i], n32[i], i64[i] = uint64(i), uint32(i*7), int64(-i)
		at[i] = start.Add(time.Duration(i) * time.Millisecond)
		day[i] = start.AddDate(0, 0, i%30)
		customer[i], kind[i], phase[i] = fmt.Sprintf("customer-%d", i%50000), fmt.Sprintf("kind-%d", i%7), "abc"[i%3:i%3+1]
		flag[i], n8[i], n16[i], i32[i] = i%2 == 0, uint8(i), uint16(i), int32(i%1000)
		f[i], d[i] = float32(i%997)/7, float64(i%9973)/11
		if i%3 == 0 {
			note[i] = &d[i]
		}
	}
	return []any{id, at, day, customer, kind, phase, flag, n8, n16, n32, i32, i64, f, f, f, f, d, d, d, note}
}

// insertWide inserts columns as one batch and returns how long Send took.
func insertWide(t testing.TB, conn driver.Conn, columns []any) time.Duration {
	t.Helper()
	batch, err := conn.PrepareBatch(context.Background(), "INSERT INTO wide (id, at, day, customer, kind, phase, flag, n8, n16, n32, i32, i64, f1, f2, f3, f4, d1, d2, d3, note)")
	if err != nil {
		t.Fatal(err)
	}
	for i, column := range columns {
		if err := batch.Column(i).Append(column); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Now()
	if err := batch.Send(); err != nil {
		t.Fatal(err)
	}
	return time.Since(start)
}

// TestMillionRows inserts a million rows as one batch: with ClickHouse's frames
// it is one frame of more than 128 MiB.
func TestMillionRows(t *testing.T) {
	const rows = 1_000_000
	columns := wideColumns(rows)
	for _, name := range []string{"lz4", "none"} {
		t.Run(name, func(t *testing.T) {
			conn, _ := open(t, methods()[name])
			run(t, conn, wideTable)
			took := insertWide(t, conn, columns)
			t.Logf("%d rows of 20 columns: %v, %.2f M rows/s", rows, took, rows/took.Seconds()/1e6)
			var count, ids, customers uint64
			row := conn.QueryRow(context.Background(), "SELECT count(), sum(id), uniqExact(customer) FROM wide")
			if err := row.Scan(&count, &ids, &customers); err != nil || count != rows || ids != rows*(rows-1)/2 || customers != 50000 {
				t.Fatal(count, ids, customers, err)
			}
		})
	}
}

// BenchmarkInsert measures batches of 20 plain columns; an op is a batch.
func BenchmarkInsert(b *testing.B) {
	for _, rows := range []int{10_000, 100_000, 1_000_000} {
		columns := wideColumns(rows)
		for _, name := range []string{"lz4", "none"} {
			b.Run(fmt.Sprintf("%s/%d", name, rows), func(b *testing.B) {
				addr := embeddedtest.StartClickHouse(b)
				conn := connect(b, addr, "default", methods()[name])
				run(b, conn, "DROP TABLE IF EXISTS wide SYNC")
				run(b, conn, wideTable)
				b.ResetTimer()
				for range b.N {
					insertWide(b, conn, columns)
				}
				b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mrows/s")
			})
		}
	}
}

// BenchmarkSelect measures reading all columns of 100,000 rows.
func BenchmarkSelect(b *testing.B) {
	addr := embeddedtest.StartClickHouse(b)
	conn := connect(b, addr, "default", clickhouse.CompressionLZ4)
	run(b, conn, "DROP TABLE IF EXISTS wide SYNC")
	run(b, conn, wideTable)
	insertWide(b, conn, wideColumns(100_000))
	b.ResetTimer()
	for range b.N {
		rows, err := conn.Query(context.Background(), "SELECT * FROM wide")
		if err != nil {
			b.Fatal(err)
		}
		n := 0
		for rows.Next() {
			n++
		}
		if err := rows.Err(); err != nil || n != 100_000 {
			b.Fatal(n, err)
		}
	}
	b.ReportMetric(0.1*float64(b.N)/b.Elapsed().Seconds(), "Mrows/s")
}

// BenchmarkPing measures the shortest statement over one connection.
func BenchmarkPing(b *testing.B) {
	addr := embeddedtest.StartClickHouse(b)
	conn := connect(b, addr, "default", clickhouse.CompressionLZ4)
	for range b.N {
		if err := conn.Ping(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}

// memory returns the resident memory of a process and its peak, in MB.
func memory(t testing.TB, pid int) (now, peak string) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Skip(err)
	}
	for line := range strings.Lines(string(text)) {
		switch name, value, _ := strings.Cut(strings.TrimSpace(line), ":"); name {
		case "VmRSS":
			now = strings.TrimSpace(value)
		case "VmHWM":
			peak = strings.TrimSpace(value)
		}
	}
	return now, peak
}

// TestStartTimeAndMemory reports the figures of a process of its own.
func TestStartTimeAndMemory(t *testing.T) {
	server(t) // is built
	start := time.Now()
	ch := startOwn(t)
	t.Logf("start: %v", time.Since(start))
	now, peak := memory(t, ch.Pid())
	t.Logf("after the start: %s, peak %s", now, peak)
	conn := connect(t, ch.Addr(), "default", clickhouse.CompressionLZ4)
	run(t, conn, wideTable)
	for range 3 {
		took := insertWide(t, conn, wideColumns(1_000_000))
		now, peak = memory(t, ch.Pid())
		t.Logf("insert of 1 M rows: %v, then %s, peak %s", took, now, peak)
	}
}
