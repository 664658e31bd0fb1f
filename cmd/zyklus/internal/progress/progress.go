package progress

import (
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// Unit names what is counted, such as "events".
type Unit string

// Bytes are written as KiB, MiB and so on.
const Bytes Unit = "bytes"

const (
	drawInterval = 100 * time.Millisecond
	logInterval  = 5 * time.Second
)

// Progress is one piece of work after another: Start, then Add and Set from any goroutine, then Done. It has no
// goroutine of its own but the bar's, which Done ends and waits for.
type Progress struct {
	out      io.Writer
	terminal bool
	log      *slog.Logger

	title   string
	unit    Unit
	total   int64 // 0: unknown
	started time.Time
	done    atomic.Int64
	side    Unit // what Count counts; empty: nothing
	counted atomic.Int64
	next    atomic.Int64 // instant from which on the next Add shows something, Unix ns

	container *mpb.Progress // nil: not on a terminal
	bar       *mpb.Bar
}

// New returns a Progress that draws on out if that is a terminal, and else writes to log.
func New(out io.Writer, terminal bool, log *slog.Logger) *Progress {
	return &Progress{out: out, terminal: terminal, log: log}
}

// Start begins a piece of work; total is 0 if it is not known. What was begun before is done.
func (p *Progress) Start(title string, total int64, unit Unit) {
	p.Done()
	p.title, p.unit, p.total, p.started = title, unit, max(total, 0), time.Now()
	p.done.Store(0)
	p.side = ""
	p.counted.Store(0)
	p.next.Store(p.started.Add(p.interval()).UnixNano())
	if !p.terminal {
		p.log.Info(p.title, p.attributes()...)
		return
	}
	p.container = mpb.New(mpb.WithOutput(p.out), mpb.WithRefreshRate(drawInterval), mpb.WithAutoRefresh())
	options := []mpb.BarOption{
		mpb.PrependDecorators(decor.Name(p.title, decor.WC{})),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return p.status().line() })),
		mpb.BarWidth(26),
	}
	if p.total == 0 {
		p.bar = p.container.New(0, mpb.NopStyle(), options...)
		return
	}
	p.bar = p.container.New(p.total, mpb.BarStyle().Lbound("").Filler("█").Tip("█").Padding("░").Rbound(""), options...)
}

// Add counts n more. It costs about 50 ns.
func (p *Progress) Add(n int64) {
	p.done.Add(n)
	p.show()
}

// Set is for work that knows how far it is altogether.
func (p *Progress) Set(done int64) {
	p.done.Store(done)
	p.show()
}

// Aside makes the piece of work that was started show a second figure, which Count sets.
func (p *Progress) Aside(unit Unit) { p.side = unit }

// Count sets the second figure.
func (p *Progress) Count(n int64) { p.counted.Store(n) }

// Done ends the piece of work, as finished or given up, and leaves a last line. Without Start it does nothing.
func (p *Progress) Done() {
	if p.started.IsZero() {
		return
	}
	if p.bar == nil {
		p.log.Info(p.title+" ended", p.attributes()...)
	} else {
		done := p.done.Load()
		p.bar.SetCurrent(done)
		if p.total == 0 {
			p.bar.SetTotal(done, true)
		}
		p.bar.Abort(false) // without effect if it is complete
		p.container.Wait()
	}
	p.container, p.bar, p.started = nil, nil, time.Time{}
}

func (p *Progress) interval() time.Duration {
	if p.terminal {
		return drawInterval
	}
	return logInterval
}

// show draws or logs if it is time to; of several goroutines one does it.
func (p *Progress) show() {
	now, due := time.Now().UnixNano(), p.next.Load()
	if now < due || !p.next.CompareAndSwap(due, now+int64(p.interval())) {
		return
	}
	if p.bar != nil {
		p.bar.SetCurrent(p.done.Load())
		return
	}
	p.log.Info(p.title, p.attributes()...)
}

func (p *Progress) status() status {
	return status{
		unit: p.unit, done: p.done.Load(), total: p.total, elapsed: time.Since(p.started),
		side: p.side, counted: p.counted.Load(),
	}
}

func (p *Progress) attributes() []any { return p.status().attributes() }
