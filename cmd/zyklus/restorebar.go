package main

import (
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"zyklus/cmd/zyklus/internal/progress"
)

// restoreBar shows on a terminal how far the restore of all partitions is, if it takes long enough to be looked at.
type restoreBar struct {
	mu          sync.Mutex
	bar         *progress.Progress
	began       time.Time
	shown       bool
	done, total map[int32]int64
}

// barAfter is how long a restore takes before a bar is worth it.
const barAfter = time.Second

// newRestoreBar returns nil if standard error is no terminal: log lines tell there.
func newRestoreBar() *restoreBar {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return nil
	}
	return &restoreBar{
		bar:  progress.New(os.Stderr, true, slog.New(slog.DiscardHandler)),
		done: map[int32]int64{}, total: map[int32]int64{},
	}
}

func (b *restoreBar) report(partition int32, done, total int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.began.IsZero() {
		b.began = time.Now()
	}
	b.done[partition], b.total[partition] = done, total
	sumDone, sumTotal := sum(b.done), sum(b.total)
	switch {
	case sumDone >= sumTotal:
		b.finish()
	case !b.shown && time.Since(b.began) >= barAfter:
		b.shown = true
		b.bar.Start("restoring state", sumTotal, "records")
		fallthrough
	case b.shown:
		b.bar.Set(sumDone)
	}
}

// finish ends the bar; partitions that are restored later begin another.
func (b *restoreBar) finish() {
	if b.shown {
		b.bar.Set(sum(b.done))
		b.bar.Done()
	}
	b.shown, b.began = false, time.Time{}
	clear(b.done)
	clear(b.total)
}

// end is for a stop in the middle of a restore.
func (b *restoreBar) end() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.finish()
}

func sum(of map[int32]int64) (n int64) {
	for _, v := range of {
		n += v
	}
	return n
}
