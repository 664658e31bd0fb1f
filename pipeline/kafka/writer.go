package kafka

import (
	"context"
	"fmt"

	"github.com/sourcegraph/conc"

	"zyklus/pipeline"
)

// writer writes the batches of one attempt to the Sink in the background, one at a time: the Task goes on meanwhile.
// Before the first it compares the state with what the Sink holds.
type writer struct {
	busy     bool // a batch is being written; of the attempt's goroutine alone
	compared chan error
	in       chan *pipeline.Batch
	done     chan error
	cancel   context.CancelFunc
	wg       conc.WaitGroup
}

func newWriter(ctx context.Context, sink pipeline.Sink, compare func(context.Context) error) *writer {
	ctx, cancel := context.WithCancel(ctx)
	w := &writer{compared: make(chan error, 1), in: make(chan *pipeline.Batch, 1), done: make(chan error, 1), cancel: cancel}
	w.wg.Go(func() {
		err := compare(ctx)
		w.compared <- err
		if err != nil {
			return
		}
		for b := range w.in {
			w.done <- write(ctx, sink, b)
		}
	})
	return w
}

func write(ctx context.Context, sink pipeline.Sink, b *pipeline.Batch) error {
	err := sink.Write(ctx, b)
	if err != nil && ctx.Err() == nil { // the Sink has retried what may pass
		return fatal(fmt.Errorf("write rows of %s partition %d version %d: %w", b.Topic, b.Partition, b.Version, err))
	}
	return err
}

// noSink is for Tasks without rows.
type noSink struct{}

func (noSink) Write(context.Context, *pipeline.Batch) error          { return nil }
func (noSink) Version(context.Context, string, int32) (int64, error) { return 0, nil }

// start begins to write b. The result comes through w.done, which must be received before the next start.
func (w *writer) start(b *pipeline.Batch) {
	w.busy = true
	w.in <- b
}

// close gives up what is being written and waits for the goroutine.
func (w *writer) close() {
	w.cancel()
	close(w.in)
	w.wg.Wait()
}
