package kafka

import (
	"strings"
	"testing"
)

// TestSinkAwayAtStart: a partition whose Sink cannot say what it holds processes and commits all the same. Its rows are
// written once the Sink is back, unless the state turns out to be older: then none is, and the Runner ends.
func TestSinkAwayAtStart(t *testing.T) {
	for name, ahead := range map[string]int64{
		"and comes back": 0, "and holds a later version": 100, "and holds a version that was overtaken meanwhile": 1,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 1)
			l.produce(100)
			r := l.run()
			l.awaitTotals()
			must(t, r.stop())

			mute, writes := make(chan struct{}), 0
			l.sink.set(func() {
				l.sink.mute, writes = mute, l.sink.writes
				l.sink.versions[0] += ahead
			})
			r = l.run()
			for n := int64(200); n <= 500; n += 100 {
				l.produce(100)
				r.awaitPosition(t, 0, n)
			}
			close(mute)
			if ahead == 0 {
				l.awaitTotals()
				return
			}
			r.wg.Wait()
			if r.err == nil || !strings.Contains(r.err.Error(), "zyklus admin rebuild") {
				t.Errorf("got %v", r.err)
			}
			l.sink.set(func() {
				if l.sink.writes != writes {
					t.Errorf("%d batches of the older state were written", l.sink.writes-writes)
				}
			})
		})
	}
}
