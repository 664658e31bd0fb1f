package progress_test

import (
	"bytes"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sourcegraph/conc"

	"zyklus/cmd/zyklus/internal/progress"
)

// logger writes lines without the time.
func logger(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

func TestLogLines(t *testing.T) {
	f := func(total int64, unit progress.Unit, want string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			var b bytes.Buffer
			p := progress.New(io.Discard, false, logger(&b))
			p.Start("load", total, unit)
			for range 80 {
				time.Sleep(100 * time.Millisecond)
				p.Add(1000)
			}
			p.Done()
			p.Done()
			if got := b.String(); got != strings.TrimLeft(want, "\n") {
				t.Errorf("got\n%swant%s", got, want)
			}
		})
	}
	f(160_000, "events", `
level=INFO msg=load unit=events done=0 total=160000 percent=0 per_second=0 elapsed=0s
level=INFO msg=load unit=events done=50000 total=160000 percent=31 per_second=10000 elapsed=5s left=11s
level=INFO msg="load ended" unit=events done=80000 total=160000 percent=50 per_second=10000 elapsed=8s left=8s
`)
	f(0, progress.Bytes, `
level=INFO msg=load unit=bytes done=0 per_second=0 elapsed=0s
level=INFO msg=load unit=bytes done=50000 per_second=10000 elapsed=5s
level=INFO msg="load ended" unit=bytes done=80000 per_second=10000 elapsed=8s
`)
}

func TestAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		p := progress.New(io.Discard, false, logger(&b))
		p.Start("load", 8000, progress.Bytes)
		p.Aside("records")
		for i := range 4 {
			time.Sleep(time.Second)
			p.Count(int64(10 * (i + 1)))
			p.Add(1000)
		}
		p.Start("sort", 10, "events") // has no second figure
		p.Done()
		const want = `level=INFO msg=load unit=bytes done=0 total=8000 percent=0 per_second=0 elapsed=0s
level=INFO msg="load ended" unit=bytes done=4000 total=8000 percent=50 per_second=1000 elapsed=4s records=40 records_per_second=10 left=4s
level=INFO msg=sort unit=events done=0 total=10 percent=0 per_second=0 elapsed=0s
level=INFO msg="sort ended" unit=events done=0 total=10 percent=0 per_second=0 elapsed=0s
`
		if got := b.String(); got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
	})
	var b bytes.Buffer
	p := progress.New(&b, true, slog.New(slog.DiscardHandler))
	p.Start("load", 100, progress.Bytes)
	p.Aside("records")
	p.Count(7)
	p.Done()
	if !strings.Contains(b.String(), " records/s") {
		t.Errorf("the bar shows no records: %q", b.String())
	}
}

func TestBar(t *testing.T) {
	f := func(total int64, unit progress.Unit, adds int, want string) {
		t.Helper()
		var b bytes.Buffer
		p := progress.New(&b, true, slog.New(slog.DiscardHandler))
		p.Start("restore", total, unit)
		var wg conc.WaitGroup
		for range adds {
			wg.Go(func() { p.Add(1 << 20) })
		}
		wg.Wait()
		p.Done() // must not hang where the work is not finished
		if lines := strings.Split(strings.TrimSpace(b.String()), "\n"); !strings.Contains(lines[len(lines)-1], want) {
			t.Errorf("got %q, want %q at last", b.String(), want)
		}
	}
	f(8<<20, progress.Bytes, 8, "████████████████████████ 8.0 MiB of 8.0 MiB, 100 %")
	f(8<<20, progress.Bytes, 2, "░░░ 2.0 MiB of 8.0 MiB, 25 %")
	f(0, "customers", 3, "restore  3,145,728 customers, ")
	f(1<<20, "customers", 3, "3,145,728 of 1,048,576 customers, 100 %")
}

func TestPiecesOneAfterAnother(t *testing.T) {
	var b bytes.Buffer
	p := progress.New(&b, true, slog.New(slog.DiscardHandler))
	p.Start("download", 100, progress.Bytes)
	p.Set(100)
	p.Start("unpack", 100, progress.Bytes)
	p.Set(40)
	p.Set(100)
	p.Done()
	for _, want := range []string{"download", "unpack"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in %q", want, b.String())
		}
	}
}

func BenchmarkAdd(b *testing.B) {
	p := progress.New(io.Discard, false, slog.New(slog.DiscardHandler))
	p.Start("load", int64(b.N), "events")
	for b.Loop() {
		p.Add(1)
	}
	p.Done()
}
