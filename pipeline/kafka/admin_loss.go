package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"zyklus/pipeline"
)

// Places returns where the state of each partition stands: none for one without a checkpoint.
func (a *Admin) Places(ctx context.Context) (map[int32]pipeline.Place, error) {
	records, err := a.ownRecords(ctx, nil)
	if err != nil {
		return nil, err
	}
	places := map[int32]pipeline.Place{}
	for p, own := range records {
		if places[p], err = pipeline.ReadPlace(own.value); err != nil {
			return nil, fmt.Errorf("%s partition %d: %w", a.o.ChangelogTopic, p, err)
		}
	}
	return places, nil
}

// Losses compares where the states of places stand with what the topic holds. The result is by partition.
func (a *Admin) Losses(ctx context.Context, places map[int32]pipeline.Place) (losses []Loss, err error) {
	topic, err := describe(ctx, a.cl, a.o.Topic)
	if err != nil {
		return nil, a.o.deny(err)
	}
	partitions, err := a.partitions(ctx, a.o.Topic)
	if err != nil {
		return nil, err
	}
	starts, _, err := a.bounds(ctx, a.o.Topic, partitions)
	if err != nil {
		return nil, err
	}
	ends, err := listOffsets(ctx, a.cl, a.o.Topic, partitions, atEnd, uncommitted)
	if err != nil {
		return nil, err
	}
	for _, p := range slices.Sorted(maps.Keys(places)) {
		end, ok := ends[p]
		if !ok {
			return nil, fmt.Errorf("%s partition %d, which has a state, is not there or has no leader", a.o.Topic, p)
		}
		if l, lost := lossOf(p, places[p], extent{topic.id, starts[p], end}); lost {
			losses = append(losses, l)
		}
	}
	if len(losses) == 0 {
		return nil, nil
	}
	first, err := a.adm.ListOffsetsAfterMilli(ctx, 0, a.o.Topic)
	if err = errors.Join(err, first.Error()); err != nil {
		return nil, a.o.deny(err)
	}
	for i := range losses {
		l := &losses[i]
		if o, ok := first.Lookup(a.o.Topic, l.Partition); ok && o.Offset < l.End {
			l.First = max(o.Timestamp, 0)
		}
	}
	return losses, nil
}

// CheckTopic returns an error that says what to do if a partition's state is of a topic that was created anew since.
func (a *Admin) CheckTopic(ctx context.Context, partition int32, at pipeline.Place) error {
	have, err := extentOf(ctx, a.cl, a.o.Topic, partition)
	if err != nil {
		return a.o.deny(err)
	}
	if l, lost := lossOf(partition, at, have); lost && l.Kind == LossAnew {
		return errors.New(l.advice(a.o.Topic))
	}
	return nil
}

// AcceptLosses moves partitions to where their topic can be read on. For each, the former owner is fenced, and one
// transaction holds the partition's own record, which differs from the last one in its place alone, and a dead letter
// (pipeline.ErrRecordsLost) that says what was lost. The caller has made sure that the group has no members. After an
// error, or a crash, those that are done are no losses any more.
func (a *Admin) AcceptLosses(ctx context.Context, losses []Loss, from From, progress func(done string)) error {
	for i := range losses {
		if _, err := losses[i].Next(from); err != nil {
			return err
		}
	}
	letters, err := a.partitions(ctx, a.o.DeadLetterTopic)
	if err != nil {
		return err
	}
	topic, err := describe(ctx, a.cl, a.o.Topic)
	if err != nil {
		return a.o.deny(err)
	}
	deps := Deps{Log: slog.New(slog.DiscardHandler), letters: int32(len(letters)), partitions: int32(topic.partitions)}
	for i := range losses {
		l := &losses[i]
		next, err := l.Next(from)
		if err == nil {
			err = a.acceptLoss(ctx, l, next, &deps)
		}
		if err != nil {
			return fmt.Errorf("%s partition %d: %w", a.o.Topic, l.Partition, err)
		}
		progress(fmt.Sprintf("%s partition %d goes on at offset %d", a.o.Topic, l.Partition, next))
	}
	return nil
}

func (a *Admin) acceptLoss(ctx context.Context, l *Loss, next int64, deps *Deps) error {
	txn, err := openTransactions(ctx, &a.o, l.Partition, deps)
	if err != nil {
		return a.o.deny(err)
	}
	defer txn.close()
	// From here on nobody else adds to the partition, but the former owner's last transaction may be on its way.
	end, err := listOffset(ctx, a.cl, a.o.ChangelogTopic, l.Partition, atEnd, uncommitted)
	if err != nil {
		return err
	}
	for pause := (backoff{}); ; pause.wait(ctx) {
		stable, err := listOffset(ctx, a.cl, a.o.ChangelogTopic, l.Partition, atEnd, readCommitted)
		if err == nil && stable >= end {
			break
		}
		if ctx.Err() != nil {
			return errors.Join(ctx.Err(), err)
		}
	}
	records, err := a.ownRecords(ctx, []int32{l.Partition})
	if err != nil {
		return err
	}
	own := records[l.Partition]
	at, err := pipeline.ReadPlace(own.value)
	if err != nil {
		return err
	}
	if at.Position != l.Position {
		return fmt.Errorf("the state has moved from offset %d to %d: an instance is running; stop all and repeat", l.Position, at.Position)
	}
	change, err := pipeline.MovePlace(own.value, l.Topic, next)
	if err != nil {
		return err
	}
	if before, now := own.frame.partitions, int(deps.partitions); before != 0 && before < now && a.o.Stage == "" {
		return a.o.grown(before, now)
	}
	txn.frame = own.frame
	txn.frame.lost = true
	cp := pipeline.Checkpoint{Number: at.Number + 1, Position: next, Changes: []pipeline.Change{change}}
	if next != l.Position {
		cp.DeadLetters = []pipeline.DeadLetter{l.letter(a.o.Topic, next, at)}
	}
	return a.o.deny(txn.commit(ctx, &cp))
}
