package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"zyklus/pipeline"
)

// Scan reads partitions of the changelog from their start to the end that they have when it begins: all that is
// committed by then, whole transactions only. It may run beside the owners of the partitions.
type Scan struct {
	// Partitions are those to read; nil for all.
	Partitions []int32
	// Each takes one record, in the order of the log within a partition. Its bytes are overwritten afterwards. An error
	// ends the scan.
	Each func(partition int32, key, value []byte) error
	// Progress, which may be nil, is told how many of the offsets have been passed. Compaction leaves gaps, so records
	// are fewer.
	Progress func(done, total int64)

	tail int64                   // if positive, only so many last offsets of each partition
	each func(*kgo.Record) error // instead of Each; may be nil
}

// Scan runs s.
func (a *Admin) Scan(ctx context.Context, s Scan) error {
	if s.Partitions == nil {
		var err error
		if s.Partitions, err = a.Partitions(ctx); err != nil {
			return err
		}
	}
	starts, ends, err := a.bounds(ctx, a.o.ChangelogTopic, s.Partitions)
	if err != nil {
		return err
	}
	if s.tail > 0 {
		for p := range starts {
			starts[p] = max(starts[p], ends[p]-s.tail)
		}
	}
	if s.each == nil {
		s.each = func(r *kgo.Record) error { return s.Each(r.Partition, r.Key, r.Value) }
	}
	return a.scan(ctx, &scanning{topic: a.o.ChangelogTopic, next: starts, ends: ends, progress: s.Progress, each: s.each})
}

// scan reads what r says.
func (a *Admin) scan(ctx context.Context, r *scanning) error {
	r.a = a
	at := map[int32]kgo.Offset{}
	for p, start := range r.next {
		if start >= r.ends[p] {
			delete(r.next, p)
			continue
		}
		at[p] = kgo.NewOffset().At(start)
		r.total += r.ends[p] - start
	}
	if len(at) == 0 {
		return nil
	}
	cl, err := a.o.newClient("scan", slog.New(slog.DiscardHandler),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{r.topic: at}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // the last record is a transaction marker
		kgo.FetchMaxBytes(a.o.FetchMaxBytes),
		kgo.FetchMaxPartitionBytes(min(4<<20, a.o.FetchMaxBytes)),
		kgo.FetchMaxWait(fetchWait),
	)
	if err != nil {
		return err
	}
	defer cl.Close()
	return r.run(ctx, cl)
}

// scanning is a scan under way. A partition is in next until its end is reached.
type scanning struct {
	a           *Admin
	topic       string
	next, ends  map[int32]int64
	each        func(*kgo.Record) error
	progress    func(done, total int64)
	done, total int64
}

// silence is how long no partition may answer before the scan is given up.
const silence = time.Minute

func (r *scanning) run(ctx context.Context, cl *kgo.Client) error {
	heard := time.Now()
	for len(r.next) > 0 {
		poll, cancel := context.WithTimeout(ctx, time.Second)
		fs := cl.PollRecords(poll, r.a.o.MaxPoll)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for _, e := range fs.Errors() {
			if !errors.Is(e.Err, context.DeadlineExceeded) {
				return fmt.Errorf("read %s partition %d: %w", e.Topic, e.Partition, r.a.o.deny(e.Err))
			}
		}
		for it := fs.RecordIter(); !it.Done(); {
			heard = time.Now()
			if err := r.record(it.Next()); err != nil {
				return err
			}
		}
		if time.Since(heard) > silence {
			return fmt.Errorf("read %s: no broker has answered for %s; %d of %d offsets were read", r.topic, silence, r.done, r.total)
		}
		if r.progress != nil {
			r.progress(r.done, r.total)
		}
	}
	return nil
}

func (r *scanning) record(rec *kgo.Record) error {
	next, open := r.next[rec.Partition]
	if !open || rec.Offset < next {
		return nil
	}
	end := r.ends[rec.Partition]
	after := min(rec.Offset+1, end)
	r.done += after - next
	r.next[rec.Partition] = after
	if after == end {
		delete(r.next, rec.Partition)
	}
	if rec.Attrs.IsControl() || rec.Offset >= end {
		return nil
	}
	if err := r.each(rec); err != nil {
		return fmt.Errorf("%s partition %d offset %d: %w", rec.Topic, rec.Partition, rec.Offset, err)
	}
	return nil
}

// deny explains an error about rights; others are as they are.
func (o *Options) deny(err error) error {
	if refused(err) {
		return o.explain(err)
	}
	return err
}

// firstTail is how many of a changelog's last offsets are looked at first: the partition's own record is the last of a
// transaction. What an aborted transaction left behind it makes the next look longer.
const firstTail = 8

// ownRecord is the record of a partition itself in the changelog.
type ownRecord struct {
	value []byte
	frame frame
}

// ownRecords returns the partitions' own records in the changelog, of those given or of all: none for one without a
// checkpoint, and none at all if there is no changelog.
func (a *Admin) ownRecords(ctx context.Context, partitions []int32) (map[int32]ownRecord, error) {
	records := map[int32]ownRecord{}
	have, err := a.adm.ListTopics(ctx, a.o.ChangelogTopic)
	if err != nil {
		return nil, a.o.explain(err)
	}
	if errors.Is(have[a.o.ChangelogTopic].Err, kerr.UnknownTopicOrPartition) {
		return records, nil
	}
	if partitions == nil {
		if partitions, err = a.Partitions(ctx); err != nil {
			return nil, err
		}
	}
	for tail := int64(firstTail); len(partitions) > 0; tail *= 16 {
		starts, ends, err := a.bounds(ctx, a.o.ChangelogTopic, partitions)
		if err != nil {
			return nil, err
		}
		err = a.Scan(ctx, Scan{Partitions: partitions, tail: tail, each: func(r *kgo.Record) error {
			customer, err := pipeline.ChangelogKey(r.Key)
			if err != nil || customer != nil {
				return err
			}
			f, _, err := frameOf(r)
			records[r.Partition] = ownRecord{clone(r.Value), f}
			return err
		}})
		if err != nil {
			return nil, err
		}
		var missing []int32
		for _, p := range partitions {
			if records[p].value == nil && ends[p]-starts[p] > tail {
				missing = append(missing, p)
			}
		}
		partitions = missing
	}
	return records, nil
}

// Metas returns the last partition's own record of each partition of the changelog: none for one without a checkpoint,
// and none at all if there is no changelog.
func (a *Admin) Metas(ctx context.Context) (map[int32]*pipeline.Meta, error) {
	records, err := a.ownRecords(ctx, nil)
	if err != nil {
		return nil, err
	}
	metas := map[int32]*pipeline.Meta{}
	for p, own := range records {
		m, err := pipeline.ReadMeta(own.value)
		if err != nil {
			return nil, fmt.Errorf("%s partition %d: %w", a.o.ChangelogTopic, p, err)
		}
		metas[p] = &m
	}
	return metas, nil
}

// Sizes returns how many offsets partitions of the changelog span.
func (a *Admin) Sizes(ctx context.Context, partitions []int32) (map[int32]int64, error) {
	starts, ends, err := a.bounds(ctx, a.o.ChangelogTopic, partitions)
	sizes := map[int32]int64{}
	for p, end := range ends {
		sizes[p] = end - starts[p]
	}
	return sizes, err
}
