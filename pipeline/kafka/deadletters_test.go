package kafka

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sourcegraph/conc"
	"github.com/twmb/franz-go/pkg/kgo"

	"zyklus/pipeline"
)

// project runs a Projector until stop is called, which returns its error.
func (l *lab) project() (stop func() error) {
	l.t.Helper()
	p, err := DeadLetters(l.o, l.sink, l.log())
	must(l.t, err)
	stop = runProjector(p)
	l.t.Cleanup(func() { _ = stop() })
	return stop
}

// runProjector runs a Projector until stop is called, which returns its error.
func runProjector(p *Projector) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg conc.WaitGroup
	var err error
	wg.Go(func() { err = p.Run(ctx) })
	return func() error { cancel(); wg.Wait(); return err }
}

func (l *lab) awaitLetters(n int) {
	l.t.Helper()
	eventually(l.t, "dead letters are stored", func() error {
		l.sink.mu.Lock()
		defer l.sink.mu.Unlock()
		if len(l.sink.letters) != n {
			return fmt.Errorf("%d of %d", len(l.sink.letters), n)
		}
		return nil
	})
}

func TestDeadLetters(t *testing.T) {
	l := newLab(t, 2)
	l.run()
	stop := l.project()
	for i := range 50 {
		l.send(fmt.Sprint("bad-", i))
		l.send("guest")
		l.send("good")
	}
	l.flush()
	l.awaitTotals()
	l.awaitLetters(50)
	l.sink.set(func() {
		for letter := range l.sink.letters {
			at, rest, _ := strings.Cut(letter, " ")
			if !strings.HasPrefix(at, "events/") || !strings.HasPrefix(rest, "not_json: is bad-") {
				t.Errorf("got %q", letter)
			}
			if _, value, _ := strings.Cut(rest, "="); !strings.HasSuffix(rest, value+"="+value) {
				t.Errorf("key and value differ from the original: %q", letter)
			}
		}
	})
	must(t, stop())
	stop = l.project() // goes on where it was
	l.send("bad-again")
	l.flush()
	l.awaitLetters(51)
	l.sink.set(func() {
		for letter, n := range l.sink.letters {
			if n != 1 {
				t.Errorf("%q is written %d times", letter, n)
			}
		}
	})
	must(t, stop())
}

func TestDeadLettersWithBrokenSink(t *testing.T) {
	l := newLab(t, 1)
	l.run()
	l.send("bad-1")
	l.flush()
	broken := &failingSink{memorySink: l.sink}
	p, err := DeadLetters(l.o, broken, nil)
	must(t, err)
	if err := p.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "no table") {
		t.Fatalf("got %v", err)
	}
	l.project()
	l.awaitLetters(1)
}

type failingSink struct{ *memorySink }

func (failingSink) Write(context.Context, *pipeline.Batch) error { return errors.New("no table") }

func TestDeadLetterIsCut(t *testing.T) {
	l := pipeline.DeadLetter{Key: make([]byte, maxLetter), Value: make([]byte, 2*maxLetter)}
	r := deadLetterRecord("t", 0, &l, time.Now())
	if n := len(r.Key) + len(r.Value); n != maxLetter {
		t.Fatalf("%d bytes are kept", n)
	}
	if h := r.Headers[len(r.Headers)-1]; h.Key != headerTruncated || string(h.Value) != fmt.Sprint(2*maxLetter) {
		t.Fatalf("got %v", h)
	}
}

// TestCopierThatWaitsKeepsItsPlace: a copier that waits for the Sink takes part in rebalances all the same. The group would
// throw it out otherwise.
func TestCopierThatWaitsKeepsItsPlace(t *testing.T) {
	l := newLab(t, 2)
	l.o.Client = append(l.o.Client, kgo.RebalanceTimeout(time.Second))
	l.run()
	for i := range 50 {
		l.send(fmt.Sprint("bad-", i))
	}
	stuck := make(chan struct{})
	l.sink.set(func() { l.sink.stuck = stuck })
	first := l.project()
	eventually(t, "the first copier waits for the sink", func() (err error) {
		l.sink.set(func() {
			if l.sink.waits == 0 {
				err = errors.New("nothing waits")
			}
		})
		return err
	})
	second := l.project()
	eventually(t, "both copiers are members", func() error {
		groups, err := l.admin().DescribeGroups(t.Context(), l.o.Group+"-dead-letters")
		must(t, err)
		g := groups[l.o.Group+"-dead-letters"]
		if g.State != "Stable" || len(g.Members) != 2 {
			return fmt.Errorf("%s with %d members", g.State, len(g.Members))
		}
		return nil
	})
	l.sink.set(func() { l.sink.stuck = nil })
	close(stuck)
	l.awaitLetters(50)
	must(t, errors.Join(first(), second()))
}
