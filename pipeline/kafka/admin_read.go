package kafka

import (
	"context"
	"errors"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"zyklus/pipeline"
)

// Arrival is a record of a topic and when it came.
type Arrival struct {
	pipeline.Record
	Offset int64
	At     int64 // timestamp of the record, Unix milliseconds
	// Appended says that the broker set the timestamp when it appended the record; else the producer did.
	Appended bool
}

// Lost reports of a partition's own record in the changelog whether the state has seen what the topic does not hold any
// more, because a loss was accepted (Admin.AcceptLosses).
func (a *Arrival) Lost() bool {
	return slices.ContainsFunc(a.Headers, func(h pipeline.Header) bool { return h.Key == headerLost })
}

// Reading reads a part of one partition of a topic: what is committed.
type Reading struct {
	Topic     string
	Partition int32
	From      int64 // first offset; the first one that there is, if that is later
	To        int64 // offset after the last one; the end that the partition has when it begins, if that is earlier or To is 0
	// Each takes one record, in the order of the log. Its bytes are overwritten afterwards. An error ends the reading.
	Each func(*Arrival) error
	// Progress, which may be nil, is told how many of the offsets have been passed.
	Progress func(done, total int64)
}

// Extent is what a Reading has passed.
type Extent struct {
	Start int64 // first offset that the partition still holds
	Next  int64 // offset to go on from
}

// Read runs r. It joins no group and may run beside those who do.
func (a *Admin) Read(ctx context.Context, r Reading) (Extent, error) {
	starts, ends, err := a.bounds(ctx, r.Topic, []int32{r.Partition})
	if err != nil {
		return Extent{}, err
	}
	start, end := starts[r.Partition], ends[r.Partition]
	if r.To > 0 {
		end = min(end, r.To)
	}
	from := max(start, r.From)
	arrival, next := Arrival{}, map[int32]int64{r.Partition: from}
	err = a.scan(ctx, &scanning{
		topic: r.Topic, next: next, ends: map[int32]int64{r.Partition: end}, progress: r.Progress,
		each: func(rec *kgo.Record) error {
			arrival.set(rec)
			return r.Each(&arrival)
		},
	})
	if at, open := next[r.Partition]; open && at == from && errors.Is(err, kerr.OffsetOutOfRange) {
		if now, _, askErr := a.bounds(ctx, r.Topic, []int32{r.Partition}); askErr == nil && now[r.Partition] > from {
			return a.Read(ctx, r) // the first records have been deleted since their offset was asked for
		}
	}
	return Extent{Start: start, Next: max(from, end)}, err
}

func (a *Arrival) set(rec *kgo.Record) {
	a.Key, a.Value, a.Headers = rec.Key, rec.Value, a.Headers[:0]
	for i := range rec.Headers {
		a.Headers = append(a.Headers, pipeline.Header{Key: rec.Headers[i].Key, Value: rec.Headers[i].Value})
	}
	a.Offset, a.At, a.Appended = rec.Offset, rec.Timestamp.UnixMilli(), appended(rec)
}

// appended reports whether the broker set the record's timestamp.
func appended(rec *kgo.Record) bool { return rec.Attrs.TimestampType() == 1 } // LogAppendTime
