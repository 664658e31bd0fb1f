package kafka

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"zyklus/pipeline"
)

// headerReplayOf names the record that was replayed: topic/partition/offset.
const headerReplayOf = "zyklus-replay-of"

// MayBeCut reports whether a dead letter of so many bytes, key and value together, may not be all of its original: longer
// ones are cut to that.
func MayBeCut(bytes int) bool { return bytes >= maxLetter }

// Replay produces the original of a dead letter again: into its own partition if that is the Producer's topic, so that
// its customer stays there whatever the key, else into that of its key. Key and Value belong to the Producer until the
// next Flush. Events are known by their ids, so to replay one twice changes nothing.
func (p *Producer) Replay(ctx context.Context, l *pipeline.DeadLetter) error {
	r := &kgo.Record{
		Partition: byKey, Key: l.Key, Value: l.Value, Timestamp: time.Now(),
		Headers: []kgo.RecordHeader{{
			Key: headerReplayOf, Value: fmt.Appendf(nil, "%s/%d/%d", l.Origin.Topic, l.Origin.Partition, l.Origin.Offset),
		}},
	}
	if l.Origin.Topic == p.o.Topic {
		r.Partition = l.Origin.Partition
	}
	return p.send(ctx, r)
}
