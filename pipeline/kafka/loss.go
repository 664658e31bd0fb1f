package kafka

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"zyklus/pipeline"
)

// LossKind says why a partition's topic cannot be read on from where the state stands.
type LossKind string

// The kinds of losses.
const (
	LossDeleted LossKind = "deleted" // records that were not read yet are gone: retention, or DeleteRecords
	LossAnew    LossKind = "anew"    // the topic was deleted and created again
	LossCut     LossKind = "cut"     // the topic has lost its last records, which the state has seen
	LossUnclear LossKind = "unclear" // it is cut or created anew: the state does not know the topic's id
)

// Loss is what the topic of a partition does not hold any more, or not where the state left off.
type Loss struct {
	Partition int32
	Kind      LossKind
	Topic     pipeline.TopicID // as it is now
	Position  int64            // offset of the next record to read, by the state
	Start     int64            // first offset that the topic still holds
	End       int64            // offset after its last record
	Clock     int64            // event time that the state has come to, Unix milliseconds
	First     int64            // time of the first record left, Unix milliseconds; 0 for none, or if it is unknown
}

// extent is what a partition of a topic holds.
type extent struct {
	topic      pipeline.TopicID
	start, end int64
}

// lossOf compares where a state stands with what the topic holds.
func lossOf(partition int32, at pipeline.Place, have extent) (Loss, bool) {
	l := Loss{Partition: partition, Topic: have.topic, Position: at.Position, Start: have.start, End: have.end, Clock: at.Clock}
	switch {
	case at.Position < 0:
		return l, false // nothing was read yet
	case !at.Topic.Is(have.topic):
		l.Kind = LossAnew
	case at.Position < have.start:
		l.Kind = LossDeleted
	case at.Position <= have.end:
		return l, false
	case at.Topic == pipeline.TopicID{} || have.topic == pipeline.TopicID{}:
		l.Kind = LossUnclear
	default:
		l.Kind = LossCut
	}
	return l, true
}

// From says where a partition is read on after a loss.
type From string

// Where to read on. FromStart is the first record that the topic holds, FromEnd after its last. FromPosition is where
// the state stands, for a topic that is a copy of the former one with the same offsets.
const (
	FromStart    From = "start"
	FromEnd      From = "end"
	FromPosition From = "position"
)

// Next returns the offset to read on from. A topic created anew is read from its start if from is empty; one that may
// have been needs to be told. Where the topic is still the same, there is one answer only: nothing is read twice.
func (l *Loss) Next(from From) (int64, error) {
	switch {
	case l.Kind == LossDeleted:
		return l.Start, nil
	case l.Kind == LossCut:
		return l.End, nil
	case l.Kind == LossUnclear && from == "":
		return 0, fmt.Errorf("partition %d: give --from start if the topic was created anew, --from end if it is the same one and has lost its last records", l.Partition)
	case from == FromPosition && (l.Position < l.Start || l.Position > l.End):
		return 0, fmt.Errorf("partition %d: --from position: the topic holds offsets %d to %d and so is no copy of one that was read up to %d", l.Partition, l.Start, l.End-1, l.Position)
	case from == FromPosition:
		return l.Position, nil
	case from == FromEnd:
		return l.End, nil
	}
	return l.Start, nil
}

// Records is the greatest number of records that were lost before they were read, -1 if nobody can know.
func (l *Loss) Records() int64 {
	if l.Kind == LossDeleted {
		return l.Start - l.Position
	}
	return -1
}

// String says what has happened.
func (l *Loss) String() string {
	switch l.Kind {
	case LossDeleted:
		return fmt.Sprintf("has lost the records from offset %d to %d before they were read (retention too short or paused too long)", l.Position, l.Start-1)
	case LossAnew:
		return fmt.Sprintf("was built up to offset %d of a former topic: the topic was created anew and ends at offset %d", l.Position, l.End)
	case LossCut:
		return fmt.Sprintf("ends at offset %d, state was built up to %d: the topic has lost its last records", l.End, l.Position)
	}
	return fmt.Sprintf("ends at offset %d, state was built up to %d: the topic was created anew or lost its last records", l.End, l.Position)
}

// advice is what the Runner says when it ends.
func (l *Loss) advice(topic string) string {
	return fmt.Sprintf("%s partition %d %s: restore them, go on without them by zyklus admin accept-loss, or run zyklus admin rebuild to build all state again from what the topic holds",
		topic, l.Partition, l)
}

// letter is the trace that the loss leaves, which was accepted by the checkpoint after the one at a place. Its offset is
// negative: that of no record, for one may yet come to where the state stood, and become a dead letter, too.
func (l *Loss) letter(topic string, next int64, at pipeline.Place) pipeline.DeadLetter {
	cause := fmt.Sprintf("accepted: the partition %s", l)
	if n := l.Records(); n >= 0 {
		cause += fmt.Sprintf("; at most %d records, later than %s", n, instantText(l.Clock))
		if l.First > 0 {
			cause += " and not later than " + instantText(l.First)
		}
	}
	return pipeline.DeadLetter{
		Kind: pipeline.ErrRecordsLost, Cause: cause + fmt.Sprintf("; reading goes on at offset %d", next), At: l.Clock,
		Origin: pipeline.Origin{Topic: topic, Partition: l.Partition, Offset: -max(at.Version, int64(at.Number)) - 1},
	}
}

func instantText(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }

// extentOf asks what a partition holds. The id comes first: what is read of a topic that is created anew in between
// carries another one.
func extentOf(ctx context.Context, cl *kgo.Client, topic string, partition int32) (have extent, err error) {
	now, err := describe(ctx, cl, topic)
	if err != nil {
		return have, err
	}
	have.topic = now.id
	if have.start, err = listOffset(ctx, cl, topic, partition, atStart, uncommitted); err != nil {
		return have, err
	}
	have.end, err = listOffset(ctx, cl, topic, partition, atEnd, uncommitted)
	return have, err
}

// topicNow is a topic as the brokers know it.
type topicNow struct {
	id         pipeline.TopicID // zero of brokers that know none
	partitions int
}

// describe asks for a topic.
func describe(ctx context.Context, cl *kgo.Client, topic string) (now topicNow, err error) {
	req := kmsg.NewPtrMetadataRequest()
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = &topic
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, cl)
	if err == nil && len(resp.Topics) != 1 {
		err = fmt.Errorf("an answer of %d topics", len(resp.Topics))
	}
	if err == nil {
		now = topicNow{resp.Topics[0].TopicID, len(resp.Topics[0].Partitions)}
		err = kerr.ErrorForCode(resp.Topics[0].ErrorCode)
	}
	if err != nil {
		return now, fmt.Errorf("describe topic %s: %w", topic, err)
	}
	return now, nil
}
