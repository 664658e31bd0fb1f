package kafka

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sourcegraph/conc"

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
