package kafka

import (
	"context"
	"fmt"
	"time"

	"zyklus/pipeline"
)

// compareWithin is how long a partition waits for the Sink before it runs.
const compareWithin = 5 * time.Second

// compare waits for the writer to find that the state is not older than what the Sink holds. A Sink that is away must not
// hold timers, checkpoints and outputs back: the partition runs, and its rows wait. But a state that is empty waits: it
// may be all that is left of a lost changelog, and would go through the topic from its start.
func (a *attempt) compare(empty bool) error {
	s := a.s
	s.in(phaseComparing)
	var enough <-chan time.Time
	if !empty {
		timer := time.NewTimer(compareWithin)
		defer timer.Stop()
		enough = timer.C
	}
	select {
	case err := <-a.writer.compared:
		return err
	case <-enough:
		s.log.Warn("the database does not answer: the partition runs, its rows wait until they can be compared")
		return nil
	case <-s.soft.Done():
		return s.soft.Err()
	}
}

// refuseOlder waits for the Sink and returns an error if it holds rows of a later version of the state: against those,
// the rows of this one would lose.
func (s *session) refuseOlder(ctx context.Context, version int64) error {
	for pause := (backoff{}); ; pause.wait(ctx) {
		stored, err := s.r.d.Sink.Version(ctx, s.r.o.Topic, s.partition)
		if err == nil && stored > version {
			return fatalf("state of %s partition %d is older (%s) than the database (%s): the changelog %s was lost, or this is the database of another group; use a fresh database and group, or run zyklus admin rebuild",
				s.r.o.Topic, s.partition, versionText(version), versionText(stored), s.r.o.ChangelogTopic)
		}
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.log.Warn("waiting for the database", "error", err)
	}
}

func versionText(v int64) string {
	lineage, number := pipeline.SplitVersion(v)
	return fmt.Sprintf("lineage %d checkpoint %d", lineage, number)
}
