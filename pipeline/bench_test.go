package pipeline_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"syscall"
	"testing"
	"time"

	"zyklus/pipeline"
)

var benchStart = time.Date(2024, 3, 1, 10, 0, 0, 0, time.UTC).UnixMilli()

// load makes events of many customers without allocating.
type load struct {
	ids    [][]byte
	names  [][]byte
	r      *rand.Rand
	zipf   *rand.Zipf
	at, n  int64
	step   int64 // ms between two events
	orders bool  // whether there are any
	event  pipeline.Event
	lines  [2]pipeline.Line
	order  [8]byte
}

func newLoad(customers int) *load {
	l := &load{r: rand.New(rand.NewPCG(1, 2)), at: benchStart, step: 50, orders: true}
	l.zipf = rand.NewZipf(l.r, 1.1, 10, uint64(customers-1))
	for i := range customers {
		l.ids = append(l.ids, fmt.Appendf(nil, "customer-%08d", i))
	}
	for i := range 24 {
		l.names = append(l.names, fmt.Appendf(nil, "category-%02d", i))
	}
	return l
}

// next makes the next event of a customer: 70 % views, 25 % orders of two lines, 5 % refunds of a whole order.
func (l *load) next(customer int) *pipeline.Event {
	l.n++
	l.at += l.step
	e := &l.event
	*e = pipeline.Event{Kind: pipeline.KindProductViewed, At: l.at, ID: uint64(l.n) * 0x9e3779b97f4a7c15, Customer: l.ids[customer], Known: true}
	kind := l.r.IntN(20)
	if kind < 14 || !l.orders {
		return e
	}
	order := uint64(l.n)
	if kind == 19 {
		order -= uint64(l.r.IntN(40)) // mostly somebody else's: waits in vain
	}
	for i := range l.order {
		l.order[i] = byte(order >> (8 * i))
	}
	e.OrderID = l.order[:]
	if kind == 19 {
		e.Kind = pipeline.KindOrderRefunded
		return e
	}
	e.Kind, e.Amount, e.HasAmount = pipeline.KindOrderCompleted, 4999, true
	for i := range l.lines {
		l.lines[i] = pipeline.Line{Product: l.r.Uint64N(1000), Category: l.names[l.r.IntN(len(l.names))], Quantity: 1000, Amount: 2499, HasAmount: true}
	}
	e.Lines = l.lines[:]
	return e
}

func benchTask(b *testing.B) *pipeline.Task {
	return pipeline.NewTask(newJob(b, setting{zone: "UTC", lateness: 10 * time.Minute}), "events", 0)
}

// commit makes a checkpoint and, with rows, projects it.
func commit(task *pipeline.Task, rows bool) {
	task.Checkpoint()
	task.Committed()
	for rows {
		if task.NextBatch(50_000) == nil {
			return
		}
		task.Acknowledge()
	}
}

// BenchmarkReplay is history: 20,000 customers by Zipf's law, a checkpoint for each 8,000 touched.
func BenchmarkReplay(b *testing.B) {
	for _, rows := range []bool{false, true} {
		b.Run(fmt.Sprintf("rows=%v", rows), func(b *testing.B) {
			task, l := benchTask(b), newLoad(20_000)
			step := func() {
				task.Process(l.next(int(l.zipf.Uint64())), l.at)
				if l.n%16 == 0 {
					task.Drain(64)
					if task.Stats().WorkingSet >= 8000 {
						commit(task, rows)
					}
				}
			}
			for range 200_000 {
				step()
			}
			b.ReportAllocs()
			b.ResetTimer()
			done := cpu(b)
			for range b.N {
				step()
			}
			done()
		})
	}
}

// BenchmarkLive is the other extreme: each event touches another customer, a checkpoint for each 10,000 events.
func BenchmarkLive(b *testing.B) {
	for _, rows := range []bool{false, true} {
		b.Run(fmt.Sprintf("rows=%v", rows), func(b *testing.B) {
			const customers = 100_000
			task, l := benchTask(b), newLoad(customers)
			step := func() {
				task.Process(l.next(int(l.n%customers)), l.at)
				if l.n%10_000 == 0 {
					task.Drain(1000)
					commit(task, rows)
				}
			}
			for range 5 * customers {
				step()
			}
			b.ReportAllocs()
			b.ResetTimer()
			done := cpu(b)
			for range b.N {
				step()
			}
			done()
		})
	}
}

// BenchmarkEqualDeadlines drains one deadline of each of a million customers, all of one instant; ns/op is per deadline.
func BenchmarkEqualDeadlines(b *testing.B) {
	const customers = 1_000_000
	task := benchTask(b)
	e := &pipeline.Event{Kind: pipeline.KindOrderCompleted, At: benchStart, Known: true, OrderID: []byte("o1"), Amount: 4999, HasAmount: true}
	for i := range customers {
		e.ID, e.Customer = uint64(i)+1, fmt.Appendf(nil, "customer-%08d", i)
		if task.Process(e, benchStart); task.Full() {
			commit(task, false)
		}
	}
	clock := benchStart + dayMs
	settle := func() {
		task.AdvanceClock(clock)
		for task.Drain(1000) {
			if task.Full() {
				commit(task, false)
			}
		}
		commit(task, false)
	}
	settle()
	runtime.GC()
	b.ReportAllocs()
	b.ResetTimer()
	b.N = 4 * customers //nolint:staticcheck // the work is fixed: so many deadlines, whatever -benchtime says
	defer cpu(b)()
	for _, days := range []int64{7, 23, 60, 1} { // windows of 7, 30, 90 days, then inactive
		clock += days * dayMs
		settle()
	}
	b.ReportMetric(float64(task.Stats().Fired)/customers, "fired/customer")
}

// BenchmarkRest measures a customer at rest: bytes of the record, and memory held for it in all.
func BenchmarkRest(b *testing.B) {
	line := func(i int) pipeline.Line {
		return pipeline.Line{Product: uint64(i) * 0x9e3779b97f4a7c15, Category: fmt.Appendf(nil, "category-%02d", i%8), Quantity: 1000, Amount: 2499, HasAmount: true}
	}
	order := func(i int) pipeline.Event {
		return pipeline.Event{Kind: pipeline.KindOrderCompleted, OrderID: fmt.Appendf(nil, "order-%06d", i), Amount: 4998, HasAmount: true, Lines: []pipeline.Line{line(i), line(i + 1)}}
	}
	for _, c := range []struct {
		name   string
		orders int
	}{{"lead", 0}, {"one-time buyer", 1}, {"full customer", 20}} {
		b.Run(c.name, func(b *testing.B) {
			const customers, wave = 100_000, 4_000 // they come in waves, so that memory of one's life is used for the next's
			before := heap()
			task := benchTask(b)
			at := benchStart
			settle := func(days int64) {
				at += days * dayMs
				task.AdvanceClock(at)
				for task.Drain(1000) {
				}
				commit(task, true)
			}
			for first := 0; first < customers; first += wave {
				for n := range c.orders + 1 {
					for i := first; i < first+wave; i++ {
						e := pipeline.Event{Kind: pipeline.KindPageViewed}
						if n > 0 {
							e = order(n)
						}
						e.At, e.ID, e.Customer, e.Known = at, uint64(n)+1, fmt.Appendf(nil, "customer-%08d", i), true
						task.Process(&e, at)
					}
					settle(1)
				}
			}
			settle(1)
			b.ReportMetric(float64(task.Stats().StateBytes)/customers, "record-B")
			b.ReportMetric(float64(task.Stats().StateHeld)/customers, "slab-B")
			b.ReportMetric(float64(heap()-before)/customers, "heap-B")
			b.ReportMetric(0, "ns/op")
			runtime.KeepAlive(task)
		})
	}
}

// cpu reports the processor time of an operation, garbage collection included: wall time means little on a busy machine.
func cpu(b *testing.B) (done func()) {
	used := func() int64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano() + u.Stime.Nano()
	}
	before := used()
	return func() { b.ReportMetric(float64(used()-before)/float64(b.N), "cpu-ns/op") }
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
