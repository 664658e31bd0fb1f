package clickhouse

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"zyklus/pipeline"
)

// ErrStopped is returned by Write after Run has ended. The rows were not stored for certain; they will be written
// again after the next start.
var ErrStopped = fmt.Errorf("ClickHouse writer has stopped: %w", context.Canceled)

// Writer is the pipeline's Sink. Partitions Write concurrently; Run inserts, one insert at a time, everything that
// waits, table by table: the slower ClickHouse is, the larger its inserts get.
//
//	Write ─► open group ─(Run takes it)─► insert table by table ─► all Writes of the group return
//	         the next group fills meanwhile
type Writer struct {
	client  *Client
	inserts attempts
	queries attempts
	encoder encoder // of Run
	schema  *Schema // that the database must have before anything is written; nil once it is known to have it

	mu      sync.Mutex
	open    *group        // fills; never nil
	spare   *group        // empty, for reuse; may be nil
	waiting chan struct{} // holds a token while the open group has rows
	full    chan struct{} // holds a token once a batch did not fit any more
	met     chan struct{} // closed once the database is known to have the schema
	stopped chan struct{} // closed when Run ends
}

var _ pipeline.Sink = (*Writer)(nil)

// NewWriter returns a Writer, which writes while Run runs, to a database that has been checked.
func NewWriter(c *Client) *Writer {
	w := newWriter(c)
	close(w.met)
	return w
}

// NewWaitingWriter returns a Writer to a server that may be away. Run waits for it and checks the schema before it writes
// anything, unless Meet has; Version waits for that, too.
func NewWaitingWriter(c *Client, s Schema) *Writer {
	w := newWriter(c)
	w.schema = &s
	return w
}

func newWriter(c *Client) *Writer {
	return &Writer{
		client:  c,
		inserts: attempts{client: c, sleep: sleep},
		queries: attempts{client: c, sleep: sleep},
		open:    newGroup(),
		waiting: make(chan struct{}, 1),
		full:    make(chan struct{}, 1),
		met:     make(chan struct{}),
		stopped: make(chan struct{}),
	}
}

// Meet checks the server and its schema, once, if nobody has yet. It is called before Run or not at all. After an error for
// which Away holds Run may be called, and waits.
func (w *Writer) Meet(ctx context.Context) error {
	if w.schema == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, w.client.opts.InsertTimeout)
	defer cancel()
	if err := w.client.Check(ctx, *w.schema); err != nil {
		return err
	}
	w.schema = nil
	close(w.met)
	return nil
}

// meet waits for the server. Its error is ctx's, or what is wrong with server or schema.
func (w *Writer) meet(ctx context.Context) error {
	var wrong error
	err := w.queries.do(ctx, "check the database", func(ctx context.Context) error {
		err := w.Meet(ctx)
		if Away(err) || ctx.Err() != nil {
			return err
		}
		wrong = err
		return nil
	})
	return cmp.Or(err, wrong)
}

// Write stores the rows of a batch and returns nil when they are durable, else ctx's error, or ErrStopped if Run has
// ended. It waits as long as it takes. After an error the rows may still be stored, which is harmless. The batch is
// the caller's again when Write returns.
func (w *Writer) Write(ctx context.Context, b *pipeline.Batch) error {
	if b.Rows() == 0 {
		return nil
	}
	for {
		g, added := w.add(b)
		if added {
			notify(w.waiting)
			return w.await(ctx, g.done)
		}
		notify(w.full)
		if err := w.await(ctx, g.taken); err != nil {
			return err
		}
	}
}

// add puts the batch into the open group if it fits and returns the group's signals.
func (w *Writer) add(b *pipeline.Batch) (group, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	added := w.open.add(b, w.client.opts.MaxRows)
	w.client.metrics.waiting.Set(float64(w.open.rows))
	return *w.open, added
}

func (w *Writer) await(ctx context.Context, event <-chan struct{}) error {
	select {
	case <-event:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-w.stopped:
		return ErrStopped
	}
}

// Version returns the greatest version stored for a partition, 0 if there is none. Like Write it ends with success or
// with ctx's error.
func (w *Writer) Version(ctx context.Context, topic string, partition int32) (version int64, err error) {
	if err := w.await(ctx, w.met); err != nil {
		return 0, err
	}
	sql := "SELECT max(version) FROM " + w.client.table(checkpointsTable) + " WHERE topic = ? AND partition = ?"
	err = w.queries.do(ctx, "read version", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, w.client.opts.InsertTimeout)
		defer cancel()
		return w.client.conn.QueryRow(ctx, sql, topic, partition).Scan(&version)
	})
	return version, err
}

// Healthy returns nil, or the error of the last attempt while statements are failing: the pipeline goes on, but rows
// wait.
func (w *Writer) Healthy() error {
	err := errors.Join(w.inserts.health(), w.queries.health())
	select {
	case <-w.met:
		return err
	default:
		return cmp.Or(err, errors.New("ClickHouse has not answered yet"))
	}
}

// Run inserts until ctx ends, and returns ctx's error. It is called once, by a goroutine of its own that the caller
// waits for, and stopped after the last Write has returned; Writes still waiting then return ErrStopped.
//
// A Writer that waits for its server may find something wrong with it, or with its schema, that waiting cannot mend. Then
// Run returns that error before anything was written, and calls of Write and Version wait until their own contexts end.
func (w *Writer) Run(ctx context.Context) error {
	if err := w.meet(ctx); err != nil {
		return err
	}
	defer close(w.stopped)
	for {
		select {
		case <-w.waiting:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := w.linger(ctx); err != nil {
			return err
		}
		g := w.take()
		for _, rows := range g.tables {
			if err := w.insert(ctx, rows); err != nil {
				return err
			}
		}
		close(g.done)
		w.recycle(g)
	}
}

// linger gives other partitions time to join, unless the group is full.
func (w *Writer) linger(ctx context.Context) error {
	if w.client.opts.Linger <= 0 {
		return nil
	}
	t := time.NewTimer(w.client.opts.Linger)
	defer t.Stop()
	select {
	case <-t.C:
	case <-w.full:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// take closes the open group for further batches and opens another.
func (w *Writer) take() *group {
	w.mu.Lock()
	defer w.mu.Unlock()
	g := w.open
	if w.open = w.spare; w.open == nil {
		w.open = newGroup()
	}
	w.spare = nil
	// Tokens of batches that this group holds would only cause an empty round.
	drain(w.waiting)
	drain(w.full)
	close(g.taken)
	w.client.metrics.waiting.Set(0)
	return g
}

// recycle keeps an inserted group's memory. Who waits for it holds its channels, not the group.
func (w *Writer) recycle(g *group) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.spare = g.reset()
}

// insert stores the rows of one table, whatever it takes.
func (w *Writer) insert(ctx context.Context, rows *pipeline.Rows) error {
	return w.inserts.do(ctx, "insert into "+rows.Table.Name, func(ctx context.Context) error {
		begin := time.Now()
		if err := w.client.insertOnce(ctx, rows, &w.encoder); err != nil {
			return err
		}
		m, table := w.client.metrics, rows.Table.Name
		m.seconds.WithLabelValues(table).Observe(time.Since(begin).Seconds())
		m.inserts.WithLabelValues(table).Inc()
		m.rows.WithLabelValues(table).Add(float64(rows.N))
		return nil
	})
}

// notify leaves a token where there is none.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// drain removes the token.
func drain(c chan struct{}) {
	select {
	case <-c:
	default:
	}
}
