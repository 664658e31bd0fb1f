package kafka

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// watch asks for the ends of the partitions, from which sessions learn whether they are caught up, and commits group
// offsets.
func (r *Runner) watch(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		sessions := r.snapshot()
		r.askEnds(ctx, sessions)
		if n%4 == 0 {
			r.commitOffsets(sessions)
		}
	}
}

// askEnds gives each session the newest end of its partition: the last stable offset, as nothing beyond it is read.
func (r *Runner) askEnds(ctx context.Context, sessions []*session) {
	if len(sessions) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, watchLimit)
	defer cancel()
	partitions := make([]int32, len(sessions))
	for i, s := range sessions {
		partitions[i] = s.partition
	}
	at := r.d.Now().UnixMilli() // before the question: what is appended later is beyond the end
	ends, err := listOffsets(ctx, r.feed.cl, r.o.Topic, partitions, atEnd, readCommitted)
	if err != nil {
		return // no answer, no clock
	}
	r.answered.Store(time.Now().UnixNano())
	for _, s := range sessions {
		if end, ok := ends[s.partition]; ok {
			s.end.Store(&endOffset{offset: end, at: at})
		}
	}
}

// commitOffsets tells the group, for lag tools, how far sessions have come. Nothing depends on it, so a coordinator that
// is slow to answer is not waited for.
func (r *Runner) commitOffsets(sessions []*session) {
	offsets := map[int32]kgo.EpochOffset{}
	for _, s := range sessions {
		if at := s.committed.Load(); at >= 0 && at != s.told.Swap(at) {
			offsets[s.partition] = kgo.EpochOffset{Epoch: -1, Offset: at}
		}
	}
	if len(offsets) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	r.group.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{r.o.Topic: offsets},
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, _ *kmsg.OffsetCommitResponse, err error) {
			if err != nil {
				r.d.Log.Debug("commit group offsets", "error", err)
			}
		})
}
