package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// progressEvery is how often a restore, or one that waits, says how far it is.
const progressEvery = 5 * time.Second

// restore reads one partition of the changelog and hands each record to a Task.
type restore struct {
	o         *Options
	partition int32
	log       *slog.Logger
	apply     func(key, value []byte) error
	report    func(partition int32, done, total int64) // may be nil
	crash     func(step string)                        // may be nil

	start, end int64 // offsets; end is the first one after what is to be read
	next       int64
	records    int64
	bytes      int64
	frame      frame // of the last checkpoint
	began      time.Time
	told       time.Time
}

// run reads up to the end that the partition has now. It must be called after fencing: then nobody adds to the
// partition, its high watermark covers the last transaction with its marker, and reading up to there in committed mode
// waits until that transaction is visible. It uses admin for questions and reads with a client of its own.
func (r *restore) run(ctx context.Context, admin *kgo.Client) error {
	var err error
	if r.start, err = listOffset(ctx, admin, r.o.ChangelogTopic, r.partition, atStart, uncommitted); err != nil {
		return err
	}
	if r.end, err = listOffset(ctx, admin, r.o.ChangelogTopic, r.partition, atEnd, uncommitted); err != nil {
		return err
	}
	r.next, r.began = r.start, time.Now()
	r.told = r.began
	if r.next >= r.end {
		return nil
	}
	cl, err := r.o.newClient(fmt.Sprintf("restore-%d", r.partition), r.log,
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{r.o.ChangelogTopic: {r.partition: kgo.NewOffset().At(r.start)}}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // the last record is a transaction marker
		kgo.FetchMaxBytes(r.o.FetchMaxBytes),
		kgo.FetchMaxPartitionBytes(min(4<<20, r.o.FetchMaxBytes)),
		kgo.FetchMaxWait(fetchWait),
	)
	if err != nil {
		return err
	}
	defer cl.Close()
	if err := r.read(ctx, cl); err != nil {
		return err
	}
	r.tell("restored")
	return nil
}

func (r *restore) read(ctx context.Context, cl *kgo.Client) error {
	for r.next < r.end {
		poll, cancel := context.WithTimeout(ctx, progressEvery)
		fs := cl.PollRecords(poll, r.o.MaxPoll)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := r.problem(fs); err != nil {
			return fmt.Errorf("read changelog at offset %d: %w", r.next, err)
		}
		for it := fs.RecordIter(); !it.Done() && r.next < r.end; {
			if err := r.record(it.Next()); err != nil {
				return err
			}
		}
		if r.report != nil {
			r.report(r.partition, r.next-r.start, r.end-r.start)
		} else if time.Since(r.told) >= progressEvery {
			r.tell("restoring")
		}
	}
	return nil
}

// problem returns the first error of a poll that is more than its time limit.
func (r *restore) problem(fs kgo.Fetches) error {
	for _, e := range fs.Errors() {
		if !errors.Is(e.Err, context.DeadlineExceeded) {
			return e.Err
		}
	}
	return nil
}

func (r *restore) record(rec *kgo.Record) error {
	r.next = rec.Offset + 1
	if rec.Attrs.IsControl() || rec.Offset >= r.end {
		return nil
	}
	if r.crash != nil {
		r.crash("restoring")
	}
	r.records++
	r.bytes += int64(len(rec.Key) + len(rec.Value))
	f, ok, err := frameOf(rec)
	if ok {
		r.frame = f
	}
	if err == nil {
		err = r.apply(rec.Key, rec.Value)
	}
	if err != nil {
		return fatal(fmt.Errorf("changelog %s partition %d offset %d cannot be restored: %w",
			r.o.ChangelogTopic, r.partition, rec.Offset, err))
	}
	return nil
}

func (r *restore) tell(msg string) {
	r.told = time.Now()
	passed := r.told.Sub(r.began)
	done := float64(r.next-r.start) / float64(r.end-r.start)
	left := time.Duration(0)
	if done > 0 {
		left = time.Duration(float64(passed) * (1 - done) / done)
	}
	r.log.Info(msg, "records", r.records, "megabytes", r.bytes>>20, "done", fmt.Sprintf("%.0f %%", done*100),
		"per_second", int64(float64(r.records)/max(passed.Seconds(), 0.001)),
		"took", passed.Round(time.Millisecond), "left", left.Round(time.Second))
}
