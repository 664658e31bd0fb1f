package kafka

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// watch asks for the ends of the partitions, from which sessions learn whether they are caught up, and commits group
// offsets. It ends the Runner if its topic is given more partitions: from then on customers come to partitions where their
// state is not.
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
		if now := r.askEnds(ctx, sessions); now > int(r.d.partitions) {
			return r.o.grown(int(r.d.partitions), now)
		}
		if n%4 != 0 {
			continue
		}
		r.commitOffsets(sessions)
		if r.tells() {
			if err := r.compareNotes(ctx, sessions); err != nil {
				return err
			}
		}
	}
}

// tells reports whether members of the group need each other's notes.
func (r *Runner) tells() bool { return r.o.CheckKeys || len(r.o.Stall.Limits) > 0 }

// compareNotes judges by the notes of all partitions whether the source is stalled, and whether it is keyed by customer.
func (r *Runner) compareNotes(ctx context.Context, sessions []*session) error {
	notes, err := r.notes(ctx, sessions)
	if err != nil {
		if r.untold++; r.untold%60 == 10 { // about once a minute
			r.d.Log.Warn("the group's offsets cannot be read: a stalled source is not noticed, and a required one holds time", "error", err)
		}
		return nil // no answer, no judgement
	}
	r.untold = 0
	partitions := slices.Sorted(maps.Keys(notes))
	list := make([]note, len(partitions))
	for i, p := range partitions {
		list[i] = notes[p]
		for k := range i {
			if r.o.CheckKeys && list[k].sample.meet(list[i].sample) {
				return fmt.Errorf("topic %s is not keyed by customer: events of one customer are in partitions %d and %d, and their state would be split; set key: other for this source, with a new group, so that events are re-keyed first",
					r.o.Topic, partitions[k], p)
			}
		}
	}
	if len(r.o.Stall.Limits) == 0 {
		return nil
	}
	now := r.d.Now().UnixMilli() // after the notes were made
	alerts := r.guard.judge(list, int(r.d.partitions), now)
	for _, a := range alerts {
		r.logAlert(a)
	}
	b := r.guard.bounds()
	b.at = now
	if r.blind++; b.known {
		r.blind = 0
	} else if r.o.Stall.Required && r.blind%60 == 10 { // about once a minute
		r.d.Log.Warn("nothing is read: not all partitions have told what they heard of the source, which may hold time", "told", len(list), "partitions", r.d.partitions)
	}
	r.metrics.setStalled(r.guard)
	for _, s := range sessions {
		s.bounds.Store(b)
	}
	return nil
}

// notes returns those of all partitions that have one: of our own sessions as they are, of others as committed.
func (r *Runner) notes(ctx context.Context, sessions []*session) (map[int32]note, error) {
	ctx, cancel := context.WithTimeout(ctx, watchLimit)
	defer cancel()
	offsets, err := kadm.NewClient(r.group).FetchOffsets(ctx, r.o.Group)
	if err != nil {
		return nil, err
	}
	notes := map[int32]note{}
	for p, o := range offsets[r.o.Topic] {
		if n, ok := parseNote(o.Metadata); ok && o.Err == nil {
			if n.watched != r.o.Stall.fingerprint() {
				n.last, n.judged = nil, nil
			}
			notes[p] = n
		}
	}
	r.telling.take()
	defer r.telling.give()
	for _, s := range sessions {
		if s.earlier == nil {
			n := notes[s.partition]
			s.earlier = &n
		}
		if own := s.note.Load(); own != nil {
			notes[s.partition] = own.with(s.earlier)
		}
	}
	return notes, nil
}

func (r *Runner) logAlert(a Alert) {
	if a.Resumed {
		r.d.Log.Info("source is back", "source", a.Source, "family", a.Family)
		return
	}
	r.d.Log.Warn("source is stalled", "source", a.Source, "family", a.Family, "last_event", time.UnixMilli(a.Last).UTC(),
		"limit", a.Limit, "time_stands_still", a.Required)
}

// askEnds gives each session the newest end of its partition: the last stable offset, as nothing beyond it is read. It
// returns how many partitions the topic has, 0 without an answer.
func (r *Runner) askEnds(ctx context.Context, sessions []*session) (partitions int) {
	at := r.d.Now().UnixMilli() // before the question: what is appended later is beyond the end
	ends := r.ends(ctx, sessions)
	ctx, cancel := context.WithTimeout(ctx, watchLimit)
	defer cancel()
	topic, err := describe(ctx, r.feed.cl, r.o.Topic) // after the ends: they are of this topic, or of the one before it
	if err != nil {
		return 0
	}
	for _, s := range sessions {
		if end, ok := ends[s.partition]; ok {
			s.end.Store(&endOffset{topic: topic.id, offset: end, at: at})
		}
	}
	if ends != nil {
		r.answered.Store(time.Now().UnixNano())
	}
	return topic.partitions
}

// ends asks for the ends of the sessions' partitions. Without an answer it returns nil, and no clock moves.
func (r *Runner) ends(ctx context.Context, sessions []*session) map[int32]int64 {
	if len(sessions) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, watchLimit)
	defer cancel()
	partitions := make([]int32, len(sessions))
	for i, s := range sessions {
		partitions[i] = s.partition
	}
	ends, err := listOffsets(ctx, r.feed.cl, r.o.Topic, partitions, atEnd, readCommitted)
	if err != nil {
		return nil
	}
	return ends
}

func firstCommitError(resp *kmsg.OffsetCommitResponse) error {
	for i := range resp.Topics {
		for k := range resp.Topics[i].Partitions {
			if err := kerr.ErrorForCode(resp.Topics[i].Partitions[k].ErrorCode); err != nil {
				return err
			}
		}
	}
	return nil
}

// commitOffsets tells the group how far sessions have come, for lag tools, and their notes. Positions do not depend on
// it, so a coordinator that is slow to answer is not waited for.
func (r *Runner) commitOffsets(sessions []*session) {
	r.telling.take()
	defer r.telling.give()
	var offsets []kmsg.OffsetCommitRequestTopicPartition
	for _, s := range sessions {
		at, own := s.committed.Load(), s.note.Load()
		if at < 0 || own == nil || r.tells() && s.earlier == nil { // what the owner before knew would be lost
			continue
		}
		n := own.with(s.earlier)
		if b := s.bounds.Load(); b != nil && s.partition == 0 {
			n.judged = b.judged
		}
		if text := n.text(); at != s.told || text != s.noted {
			o := kmsg.NewOffsetCommitRequestTopicPartition()
			o.Partition, o.Offset, o.Metadata = s.partition, at, &text
			offsets = append(offsets, o)
			s.told, s.noted = at, text
		}
	}
	if len(offsets) == 0 {
		return
	}
	if err := r.commit(offsets); err != nil {
		r.d.Log.Debug("commit group offsets", "error", err)
		for _, s := range sessions { // tell them again
			s.told = -1
		}
	}
}

// commit commits group offsets as a member of the present generation. It does so by itself: the client library lets no
// commit begin while it joins the group, for as long as that takes, and a commit in vain costs nothing here.
func (r *Runner) commit(offsets []kmsg.OffsetCommitRequestTopicPartition) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group = r.o.Group
	req.MemberID, req.Generation = r.group.GroupMetadata()
	if r.o.InstanceID != "" {
		req.InstanceID = &r.o.InstanceID
	}
	topic := kmsg.NewOffsetCommitRequestTopic()
	topic.Topic, topic.Partitions = r.o.Topic, offsets
	var err error
	if topic.TopicID, err = r.topicID(ctx); err != nil {
		return err
	}
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(ctx, r.group)
	if err != nil {
		return err
	}
	return firstCommitError(resp)
}

// topicID returns the id by which newer brokers want topics to be named.
func (r *Runner) topicID(ctx context.Context) ([16]byte, error) {
	if r.id == [16]byte{} {
		topic, err := describe(ctx, r.group, r.o.Topic)
		if err != nil {
			return r.id, err
		}
		r.id = topic.id
	}
	return r.id, nil
}
