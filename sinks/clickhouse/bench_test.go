package clickhouse

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"zyklus/pipeline"
)

// wideTable resembles the real `customers`: 60 columns, of which 58 are data in the mix of types that operators have.
func wideTable() *pipeline.Table {
	t := &pipeline.Table{Name: "customers", Comment: "Wide.", Key: []string{"customer_id"}}
	t.Columns = append(t.Columns, pipeline.Column{Name: "customer_id", Type: pipeline.TypeString})
	add := func(n int, kind pipeline.Type, nullable bool, suffix string) {
		for range n {
			t.Columns = append(t.Columns, pipeline.Column{Name: fmt.Sprintf("c%d%s", len(t.Columns), suffix), Type: kind, Nullable: nullable})
		}
	}
	add(10, pipeline.TypeText, false, "")
	add(2, pipeline.TypeText, true, "")
	add(14, pipeline.TypeCount, false, "")
	add(6, pipeline.TypeMoney, false, "_minor")
	add(2, pipeline.TypeMoney, true, "_minor")
	add(8, pipeline.TypeNumber, false, "")
	add(4, pipeline.TypeNumber, true, "")
	add(6, pipeline.TypeInstant, false, "")
	add(4, pipeline.TypeInstant, true, "")
	add(1, pipeline.TypeBool, false, "")
	t.Columns = versioned(t.Columns...)
	return t
}

// wideRows fills the table with values that differ from row to row as customers do.
func wideRows(t *pipeline.Table, n int, version int64) *pipeline.Rows {
	rows := pipeline.NewRows(t)
	texts := []string{"new", "active", "loyal", "at_risk", "lapsed", "lost", "", "one_time"}
	for i := range n {
		rows.String(fmt.Sprintf("customer-%08d", i))
		for k := 1; k < len(t.Columns)-2; k++ {
			h := uint32(i*2654435761 + k*40503)
			switch c := &t.Columns[k]; {
			case c.Nullable && h%3 == 0:
				rows.Null()
			case c.Type == pipeline.TypeText:
				rows.String(texts[h>>8%uint32(len(texts))])
			case c.Type == pipeline.TypeNumber:
				rows.Float(float64(h) / 1e6)
			case c.Type == pipeline.TypeInstant:
				rows.Int(1_700_000_000_000 + int64(h))
			case c.Type == pipeline.TypeBool:
				rows.Int(int64(h & 1))
			default:
				rows.Int(int64(h >> 20))
			}
		}
		rows.End(version, false)
	}
	return rows
}

// cpu returns the CPU time that this process, which is the client alone, has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkWrite measures a Write of customers, copy into the group included, by our encoding and by the driver's
// batches.
func BenchmarkWrite(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		for _, way := range []string{"none", "lz4", "batches", "batches_lz4"} {
			b.Run(fmt.Sprintf("rows=%d/%s", n, way), func(b *testing.B) {
				o := server(b)
				o.Linger, o.Compression = -1, "none"
				if strings.Contains(way, "lz4") {
					o.Compression = "lz4"
				}
				table := wideTable()
				c := migrated(b, o, Schema{Tables: []*pipeline.Table{table, checkpointTable()}})
				w := newRunning(b, c, func(w *Writer) { w.encoder.batches = strings.HasPrefix(way, "batches") })
				rows := wideRows(table, n, 1)
				write(b, w, rows)
				b.ReportAllocs()
				begin := cpu(b)
				b.ResetTimer()
				for b.Loop() {
					write(b, w, rows)
				}
				done := float64(b.N) * float64(n)
				b.ReportMetric(done/b.Elapsed().Seconds(), "rows/s")
				b.ReportMetric(float64(cpu(b)-begin)/done, "client-cpu-ns/row")
			})
		}
	}
}
