package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"zyklus/pipeline"
)

// compareWithin is how long a partition waits for the Sink before it runs.
const compareWithin = 5 * time.Second

// compare waits for the writer to find that the state is not older than what the Sink holds. A Sink that is away must not
// hold timers, checkpoints and outputs back: the partition runs, and its rows wait. But a state that is empty waits: it
// may be all that is left of a lost changelog, and would go through the topic from its start.
//
// Checkpoints made meanwhile say since which version the Sink could not be asked, and no row is written before one says that
// it was: else an old state would only have to run for as long as it is behind, and whoever compares next found nothing.
func (a *attempt) compare() error {
	s := a.s
	s.in(phaseComparing)
	var enough <-chan time.Time
	if a.task.Version() != 0 {
		timer := time.NewTimer(compareWithin)
		defer timer.Stop()
		enough = timer.C
	}
	select {
	case err := <-a.writer.compared:
		return err
	case <-enough:
		a.unasked.Store(true)
		a.txn.frame.unasked = a.since
		s.log.Warn("the database does not answer: the partition runs, its rows wait until they can be compared")
		return nil
	case <-s.soft.Done():
		return s.soft.Err()
	}
}

// compared lets rows be written, once the changelog does not say any more that the Sink could not be asked.
func (a *attempt) compared() error {
	a.txn.frame.unasked = 0
	if a.clears() {
		if err := a.commit(); err != nil {
			return err
		}
	}
	a.asked = true
	a.project()
	return nil
}

// clears reports whether a checkpoint is to say that the Sink was asked.
func (a *attempt) clears() bool { return a.doubted && a.txn.frame.unasked == 0 }

// refuseOlder waits for the Sink and returns an error if it holds rows of a later version of the state: against those,
// the rows of this one would lose. If the Task has been running meanwhile, the partition is restored and compared again
// first: another process may have taken it over.
func (a *attempt) refuseOlder(ctx context.Context) error {
	s, version := a.s, a.since
	for pause := (backoff{}); ; pause.wait(ctx) {
		stored, err := s.r.d.Sink.Version(ctx, s.r.o.Topic, s.partition)
		switch {
		case err == nil && stored > version && a.unasked.Load():
			return fmt.Errorf("the database holds rows of a later state (%s) than the one that was restored (%s)",
				versionText(stored), versionText(version))
		case err == nil && stored > version:
			return a.verdict(ctx, "state of %s partition %d is older (%s) than the database (%s): the changelog %s was lost, or this is the database of another group; use a fresh database and group, or run zyklus admin rebuild",
				s.r.o.Topic, s.partition, versionText(version), versionText(stored), s.r.o.ChangelogTopic)
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		}
		s.log.Warn("waiting for the database", "error", err)
	}
}

// verdict is a fatal error about the state, unless another process has written to the changelog since it was restored
// here: then this one stood still, and what it has restored is old, not wrong.
func (a *attempt) verdict(ctx context.Context, format string, args ...any) error {
	end, err := listOffset(ctx, a.txn.cl, a.s.r.o.ChangelogTopic, a.s.partition, atEnd, uncommitted)
	switch {
	case err != nil:
		return a.s.denied(err)
	case end > a.restored:
		return errors.New("another process has taken the partition over since it was restored here")
	}
	return fatalf(format, args...)
}

func versionText(v int64) string {
	lineage, number := pipeline.SplitVersion(v)
	return fmt.Sprintf("lineage %d checkpoint %d", lineage, number)
}
