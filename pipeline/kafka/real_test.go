package kafka

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/twmb/franz-go/pkg/kgo"

	"zyklus/models"
	"zyklus/models/lifecycle"
	"zyklus/operators"
	"zyklus/pipeline"
	"zyklus/pipeline/codec"
)

// realLab is a lab whose Runners are those of the product: all operators, a lifecycle, the Segment decoder. It has a wall
// clock of its own and a Sink that keeps rows as the database does.
type realLab struct {
	*lab
	job   *pipeline.Job
	now   atomic.Int64 // Unix milliseconds
	wrong atomic.Int64 // how far the Runner's wall clock is ahead of it, milliseconds
	rows  *rowSink
	parts int32
	out   *kgo.Client
	reads codec.Options

	written int64
	read    atomic.Int64 // records that a Runner has taken from the topic
}

const (
	minute = int64(60_000)
	hour   = 60 * minute
	day    = 24 * hour
	// spring is the beginning of all histories, a Monday.
	spring = int64(1_709_510_400_000)
)

const realLateness = 10 * time.Minute

func newRealLab(t *testing.T, partitions int32, change ...func(*pipeline.Options)) *realLab {
	t.Helper()
	text, err := lifecycle.Preset("role5")
	must(t, err)
	doc, err := lifecycle.Parse(text)
	must(t, err)
	o := pipeline.Options{
		Operators: operators.All(), Lifecycles: []*lifecycle.Document{doc}, Artefact: models.BuiltIn(), Calendar: pipeline.NewCalendar(time.UTC),
		Lateness: realLateness, Skew: time.Minute, WallClock: true,
	}
	for _, c := range change {
		c(&o)
	}
	l := &realLab{lab: newLab(t, partitions), rows: newRowSink(), parts: partitions, reads: codec.Options{Source: "shop", Currency: "EUR"}}
	l.job, err = pipeline.NewJob(o)
	must(t, err)
	l.now.Store(spring)
	l.reopen()
	t.Cleanup(func() { l.out.Close() })
	return l
}

// reopen gives the source a new client: one goes on with no topic that was created anew.
func (l *realLab) reopen() {
	l.t.Helper()
	if l.out != nil {
		l.out.Close()
	}
	var err error
	l.out, err = kgo.NewClient(kgo.SeedBrokers(l.o.Brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0))
	must(l.t, err)
}

// start runs a Runner of the real thing.
func (l *realLab) start(change ...func(*Options, *Deps)) *running {
	l.t.Helper()
	return l.run(append([]func(*Options, *Deps){func(_ *Options, d *Deps) {
		d.Sink, d.Job = l.rows, l.job
		d.Now = func() time.Time { return time.UnixMilli(l.now.Load() + l.wrong.Load()) }
		d.NewTask = func(topic string, partition int32) Task { return pipeline.NewTask(l.job, topic, partition) }
		d.NewDecoder = func() Decoder {
			decoder, err := codec.NewSegment(l.reads)
			if err != nil {
				panic(err)
			}
			return countingDecoder{decoder, &l.read}
		}
	}}, change...)...)
}

// countingDecoder counts what it is given.
type countingDecoder struct {
	Decoder
	read *atomic.Int64
}

func (d countingDecoder) Decode(r *pipeline.Record, e *pipeline.Event) error {
	defer d.read.Add(1)
	return d.Decoder.Decode(r, e)
}

// caughtUp waits until the one Runner that there ever was has read all that was written: else the wall clock of what it
// reads would be a later one.
func (l *realLab) caughtUp() {
	l.t.Helper()
	eventually(l.t, "all is read", func() error {
		if n := l.read.Load(); n < l.written {
			return fmt.Errorf("%d of %d", n, l.written)
		}
		return nil
	})
}

// happening is one event as its source writes it.
type happening struct {
	at       int64 // Unix milliseconds, as the source says
	customer string
	order    bool
	value    string
}

func stampOf(at int64) string { return time.UnixMilli(at).UTC().Format("2006-01-02T15:04:05.000Z") }

func orderOf(customer, id string, at, cents int64) happening {
	return happening{at, customer, true, fmt.Sprintf(`{"type":"track","event":"Order Completed","userId":%q,"messageId":"m-%s","timestamp":%q,"properties":{"order_id":%q,"revenue":%d.%02d,"total":%[5]d.%02[6]d}}`,
		customer, id, stampOf(at), id, cents/100, cents%100)}
}

func refundOf(customer, id string, at, cents int64) happening {
	return happening{at, customer, true, fmt.Sprintf(`{"type":"track","event":"Order Refunded","userId":%q,"messageId":"r-%s","timestamp":%q,"properties":{"order_id":%q,"total":%d.%02d}}`,
		customer, id, stampOf(at), id, cents/100, cents%100)}
}

func pageOf(customer, id string, at int64) happening {
	return happening{at, customer, false, fmt.Sprintf(`{"type":"page","userId":%q,"messageId":"p-%s","timestamp":%q}`, customer, id, stampOf(at))}
}

// history is a shop's, in order of time: some customers buy for a while and then stop, all look at pages, and no more
// than half a day passes without an order.
func history(seed uint64, days int64) (events []happening) {
	r := rand.New(rand.NewPCG(seed, 1))
	for n, at := 0, spring+hour; at < spring+days*day; n++ {
		c := r.IntN(30)
		customer := fmt.Sprint("c-", c)
		if bought := at - spring; c >= 20 || bought < int64(c+2)*days*day/24 { // later, this one is silent
			id := fmt.Sprint("o", n)
			events = append(events, orderOf(customer, id, at, 100+r.Int64N(9900)))
			if r.IntN(6) == 0 {
				events = append(events, refundOf(customer, id, at+1+r.Int64N(day), 50))
			}
		}
		events = append(events, pageOf(fmt.Sprint("c-", r.IntN(34)), fmt.Sprint(n), at+r.Int64N(hour)))
		events = append(events, orderOf("steady", fmt.Sprint("s", n), at+2, 500))
		at += r.Int64N(10*hour) + minute
	}
	slices.SortStableFunc(events, func(a, b happening) int { return cmp.Compare(a.at, b.at) })
	return events
}

// happen writes events, each at its own time by the wall clock, which never goes back.
func (l *realLab) happen(events ...happening) {
	l.t.Helper()
	for i := range events {
		l.now.Store(max(l.now.Load(), events[i].at))
		l.write(events[i])
	}
}

// write writes one event, whatever the time.
func (l *realLab) write(e happening) {
	l.t.Helper()
	rec := &kgo.Record{Topic: l.o.Topic, Partition: int32(xxhash.Sum64String(e.customer) % uint64(l.parts)), Key: []byte(e.customer), Value: []byte(e.value)}
	must(l.t, l.out.ProduceSync(l.t.Context(), rec).FirstErr())
	l.written++
}

// heartbeat says in every partition how far time has come.
func (l *realLab) heartbeat(at int64) {
	l.t.Helper()
	for p := range l.parts {
		value := fmt.Appendf(nil, `{"type":"heartbeat","timestamp":%q}`, stampOf(at))
		must(l.t, l.out.ProduceSync(l.t.Context(), &kgo.Record{Topic: l.o.Topic, Partition: p, Value: value}).FirstErr())
		l.written++
	}
}

// await sets the wall clock, which goes on, and waits until all partitions have come to an instant, with all rows.
func (l *realLab) await(now, clock int64) {
	l.t.Helper()
	l.now.Store(now)
	eventually(l.t, "rows up to "+stampOf(clock), func() error {
		l.now.Add(1)
		clocks := l.rows.column("checkpoints", "clock")
		if len(clocks) != int(l.parts) || slices.Min(clocks) < clock {
			return fmt.Errorf("clocks are %v", clocks)
		}
		return nil
	})
}

// rowSink keeps the newest row of each key.
type rowSink struct {
	mu     sync.Mutex
	tables map[string]map[string]storedRow
	faults []string
}

type storedRow struct {
	table   *pipeline.Table
	cells   []string // without version and is_deleted
	version int64
	deleted bool
}

func newRowSink() *rowSink { return &rowSink{tables: map[string]map[string]storedRow{}} }

// Write implements pipeline.Sink. Equal versions must be equal rows.
func (s *rowSink) Write(_ context.Context, b *pipeline.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, rows := range b.Tables {
		m := s.tables[rows.Table.Name]
		if m == nil {
			m = map[string]storedRow{}
			s.tables[rows.Table.Name] = m
		}
		for _, r := range readRows(rows) {
			key := r.key()
			old, ok := m[key]
			if ok && old.version == r.version && (!slices.Equal(old.cells, r.cells) || old.deleted != r.deleted) {
				s.faults = append(s.faults, fmt.Sprintf("%s %s: two rows of version %d", rows.Table.Name, key, r.version))
			}
			if !ok || r.version > old.version {
				m[key] = r
			}
		}
	}
	return nil
}

func readRows(rows *pipeline.Rows) []storedRow {
	out := make([]storedRow, rows.N)
	n := len(rows.Table.Columns) - 2
	for c := range n {
		d, column := &rows.Data[c], &rows.Table.Columns[c]
		texts := d.Strings(nil)
		for i := range out {
			cell := ""
			switch {
			case column.Nullable && d.Nulls[i]:
				cell = "-"
			case column.Type == pipeline.TypeText || column.Type == pipeline.TypeString:
				cell = strings.Clone(texts[i])
			case column.Type == pipeline.TypeNumber:
				cell = fmt.Sprint(d.Floats[i])
			default:
				cell = fmt.Sprint(d.Ints[i])
			}
			out[i].cells = append(out[i].cells, cell)
		}
	}
	for i := range out {
		out[i].table = rows.Table
		out[i].version, out[i].deleted = rows.Data[n].Ints[i], rows.Data[n+1].Ints[i] != 0
	}
	return out
}

func (r *storedRow) key() string {
	var parts []string
	for _, k := range r.table.Key {
		i := slices.IndexFunc(r.table.Columns, func(c pipeline.Column) bool { return c.Name == k })
		parts = append(parts, r.cells[i])
	}
	return strings.Join(parts, "|")
}

// Version implements pipeline.Sink.
func (s *rowSink) Version(_ context.Context, _ string, partition int32) (newest int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, r := range s.tables["checkpoints"] {
		if strings.HasSuffix(key, fmt.Sprint("|", partition)) {
			newest = r.version
		}
	}
	return newest, nil
}

// column returns the numbers in a column, of all rows that are not withdrawn.
func (s *rowSink) column(table, column string) (values []int64) {
	for _, cells := range s.pick(table, column) {
		values = append(values, number([]byte(cells[0])))
	}
	return values
}

// pick returns some columns of all rows that are not withdrawn.
func (s *rowSink) pick(table string, columns ...string) (rows [][]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.tables[table] {
		if r.deleted {
			continue
		}
		var cells []string
		for _, c := range columns {
			cells = append(cells, r.cells[slices.IndexFunc(r.table.Columns, func(o pipeline.Column) bool { return o.Name == c })])
		}
		rows = append(rows, cells)
	}
	return rows
}

// dump returns the rows of a table that are not withdrawn, sorted, one line each.
func (s *rowSink) dump(table string) (lines []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.tables[table] {
		if !r.deleted {
			lines = append(lines, strings.Join(r.cells, " "))
		}
	}
	slices.Sort(lines)
	return lines
}

// sameRows compares tables of two labs, row by row.
func sameRows(t *testing.T, want, got *realLab, tables ...string) {
	t.Helper()
	for _, s := range []*rowSink{want.rows, got.rows} {
		s.mu.Lock()
		if len(s.faults) > 0 {
			t.Errorf("%d faults, the first: %s", len(s.faults), s.faults[0])
		}
		s.mu.Unlock()
	}
	for _, table := range tables {
		a, b := want.rows.dump(table), got.rows.dump(table)
		if len(a) == 0 {
			t.Errorf("%s of the clean run is empty", table)
		}
		missing := slices.DeleteFunc(slices.Clone(a), func(l string) bool { return slices.Contains(b, l) })
		extra := slices.DeleteFunc(slices.Clone(b), func(l string) bool { return slices.Contains(a, l) })
		if len(missing)+len(extra) > 0 || len(a) != len(b) {
			t.Errorf("%s: %d rows wanted, %d found; missing\n  %s\nnot wanted\n  %s", table, len(a), len(b),
				strings.Join(missing[:min(4, len(missing))], "\n  "), strings.Join(extra[:min(4, len(extra))], "\n  "))
		}
	}
}
