package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"zyklus/pipeline"
)

// How much an attempt does before it looks up.
const (
	sliceRecords = 256
	sliceTimers  = 256
	tickEvery    = 50 * time.Millisecond
)

// attempt is one life of a partition's Task. All of it but the writer runs in the session's goroutine.
type attempt struct {
	s       *session
	task    Task
	decoder Decoder
	txn     *transactions
	inbox   *inbox
	writer  *writer

	input    pipeline.Record
	event    pipeline.Event
	batch    fetched    // being processed
	position int64      // offset of the next record
	restored int64      // end of the changelog that the state was restored from
	draining bool       // timers are due
	target   *endOffset // once it is reached, the clock may move to its instant
	reached  int64      // instant of the last target that was reached
	next     time.Time  // when a checkpoint is due

	stage    pipeline.RekeyedReader // of what the re-keying stage writes
	marker   pipeline.Marker
	families []string        // that are watched
	last     []int64         // as in a note, of this partition
	sample   smallest        // as in a note
	bounds   *bounds         // newest
	judged   []judgement     // as of the last checkpoint of the owner before; of partition 0 alone
	past     *bounds         // newest that this partition has been read past
	told     map[uint64]bool // alerts that are in a committed transaction of this attempt, by id

	pending int64 // of Runner.pending, those of this attempt
	over    bool  // because of all that waits for it
	warned  time.Time

	since   int64       // version that the Sink must not be ahead of: the one of the last owner that could ask it
	unasked atomic.Bool // the Task runs, though the Sink has not said yet what it holds
	asked   bool        // it has, and the changelog says so: rows may be written
	doubted bool        // the changelog says that it could not be asked

	shown   *pipeline.Stats // last figures shown
	shownAt time.Time
}

// attempt lives until the session ends (nil) or something fails.
func (s *session) attempt() error {
	s.in(phaseFencing)
	if before := s.r.d.partitions; s.partition >= before {
		return fatal(s.r.o.grown(int(before), int(s.partition)+1))
	}
	txn, err := openTransactions(s.soft, &s.r.o, s.partition, &s.r.d)
	if err != nil {
		return s.denied(err)
	}
	a := &attempt{
		s: s, txn: txn, shown: &pipeline.Stats{},
		task: s.r.d.NewTask(s.r.o.Topic, s.partition), families: s.r.o.Stall.watched(),
	}
	if !s.r.o.Rekeyed {
		a.decoder = s.r.d.NewDecoder()
	}
	a.last, a.told = make([]int64, len(a.families)), map[uint64]bool{}
	defer a.task.Close()
	defer txn.close() // before the Task: it may still hold the Task's bytes
	if err := a.restore(); err != nil {
		return err
	}
	if a.since == 0 {
		a.since = a.task.Version()
	}
	a.writer = newWriter(s.hard, s.r.d.Sink, a.refuseOlder)
	defer a.writer.close()
	if err := a.compare(); err != nil {
		return err
	}
	if a.position, err = a.startPosition(); err != nil {
		return err
	}
	a.inbox = s.r.feed.add(s.partition, a.position, a.task.TopicID())
	defer s.r.feed.remove(s.partition, a.inbox)
	s.in(phaseRunning)
	defer a.show()
	defer func() {
		s.r.pending.Add(-a.pending)
		s.waiting.Store(false)
	}()
	return a.run()
}

// denied makes missing rights fatal.
func (s *session) denied(err error) error {
	if refused(err) {
		return fatal(s.r.o.explain(err))
	}
	return err
}

// restore fills the Task from the changelog. Only some partitions do so at the same time.
func (a *attempt) restore() error {
	s := a.s
	s.in(phaseRestoring)
	select {
	case s.r.restores <- struct{}{}:
		defer func() { <-s.r.restores }()
	case <-s.soft.Done():
		return s.soft.Err()
	}
	r := restore{
		o: &s.r.o, partition: s.partition, log: s.log, apply: a.task.Restore, report: s.r.d.Restoring, crash: s.r.d.crash,
	}
	if err := r.run(s.soft, a.txn.cl); err != nil {
		return fmt.Errorf("restore: %w", s.denied(err))
	}
	a.restored = r.end
	if before, now := r.frame.partitions, int(s.r.d.partitions); before != 0 && before < now && s.r.o.Stage == "" {
		return fatal(s.r.o.grown(before, now))
	}
	a.since, a.doubted = r.frame.unasked, r.frame.unasked != 0
	a.txn.frame.lost = r.frame.lost
	a.recall(r.frame.note)
	if err := a.task.Restored(); err != nil {
		return fatal(fmt.Errorf("restore %s partition %d: %w", s.r.o.ChangelogTopic, s.partition, err))
	}
	return nil
}

// startPosition returns the offset to read from and makes sure that it is of this topic and that the topic holds it.
func (a *attempt) startPosition() (int64, error) {
	s, cl, topic := a.s, a.txn.cl, a.s.r.o.Topic
	have, err := extentOf(s.soft, cl, topic, s.partition)
	if err != nil {
		return 0, s.denied(err)
	}
	position := a.task.Position()
	a.s.committed.Store(position) // an idle partition tells its note, too
	place := pipeline.Place{Topic: a.task.TopicID(), Position: position, Clock: a.task.Stats().Clock}
	if loss, lost := lossOf(s.partition, place, have); lost {
		return 0, a.verdict(s.soft, "%s", loss.advice(topic))
	}
	if have.topic != (pipeline.TopicID{}) {
		a.task.SetTopicID(have.topic)
	}
	if position < 0 {
		a.task.SetPosition(have.start)
		return have.start, nil
	}
	return position, nil
}

// run processes records, timers and ticks until the session ends or something fails.
func (a *attempt) run() error {
	a.scheduleCheckpoint()
	if !a.unasked.Load() {
		if err := a.compared(); err != nil {
			return err
		}
	}
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	busy := make(chan struct{})
	close(busy)
	for {
		var again <-chan struct{}
		if (len(a.batch.records) > 0 || a.draining) && !a.stands() {
			again = busy
		}
		select {
		case <-a.s.soft.Done():
			return a.finish()
		case err := <-a.writer.compared: // what compare did not wait for
			if err == nil {
				err = a.compared()
			}
			if err != nil {
				return err
			}
		case err := <-a.writer.done:
			if err := a.written(err); err != nil {
				return err
			}
		case <-tick.C:
			a.tick()
		case <-a.inbox.ready:
		case <-again:
		}
		if err := a.step(); err != nil {
			return err
		}
	}
}

// step processes a slice of records and timers, and makes a checkpoint if one is due.
func (a *attempt) step() error {
	if a.awaitSink(); !a.stands() {
		if err := a.proceed(); err != nil {
			return err
		}
	}
	if a.task.Full() {
		return a.checkpoint()
	}
	if !time.Now().Before(a.next) {
		a.scheduleCheckpoint()
		return a.checkpoint()
	}
	return nil
}

// stands reports whether nothing is to happen: too much waits for the Sink, or what holds time is not known yet.
func (a *attempt) stands() bool { return a.s.waiting.Load() || a.blind() }

// proceed processes a slice of records and timers.
func (a *attempt) proceed() error {
	if len(a.batch.records) == 0 {
		if err := a.take(); err != nil {
			return err
		}
	}
	a.process(sliceRecords)
	if a.draining = a.task.Drain(sliceTimers); a.draining {
		a.s.r.d.crash("timers")
	}
	return nil
}

// awaitSink finds out whether too much waits for the Sink. It is asked for before it is more: neither are rows given up nor
// is memory without a bound. The group goes on meanwhile, and so do checkpoints.
func (a *attempt) awaitSink() {
	r, now := a.s.r, a.task.Stats().BytesPending
	all := r.pending.Add(now - a.pending)
	a.pending = now
	a.over = now > 0 && all >= r.o.MaxPending
	if a.over && time.Since(a.warned) >= time.Minute { // a slow Sink is at the limit again and again
		a.warned = time.Now()
		a.s.log.Warn("daily rows wait for the database: no events are read until it has taken them", "megabytes", all>>20)
	}
	a.s.waiting.Store(a.over || a.task.Crowded())
}

func (a *attempt) take() error {
	batch, resume, err := a.inbox.take()
	if err != nil {
		return a.s.denied(fmt.Errorf("fetch at offset %d: %w", a.position, err))
	}
	if resume {
		a.s.r.feed.resume(a.s.partition)
	}
	a.batch = batch
	return nil
}

// process hands at most max records to the Task, fewer if it is full.
func (a *attempt) process(max int) {
	records := a.batch.records
	n := 0
	for n < len(records) && n < max && !(n > 0 && a.task.Full()) {
		a.record(records[n])
		records[n].Recycle() // nothing of it is kept: the contract of Event and Decoder
		records[n] = nil
		n++
	}
	a.batch.records = records[n:]
}

func (a *attempt) record(rec *kgo.Record) {
	if rec.Offset < a.position { // cannot happen, and must not: state would count it twice
		return
	}
	a.position = rec.Offset + 1
	switch {
	case rec.Attrs.IsControl():
	case a.s.r.o.Rekeyed:
		a.rekeyed(rec)
	default:
		a.apply(rec, a.decoder.Decode(a.asRecord(rec), &a.event))
	}
	a.task.SetPosition(a.position)
}

// asRecord returns what a Decoder reads of a record, in memory that is reused.
func (a *attempt) asRecord(rec *kgo.Record) *pipeline.Record {
	in := &a.input
	in.Key, in.Value, in.Headers = rec.Key, rec.Value, in.Headers[:0]
	for i := range rec.Headers {
		in.Headers = append(in.Headers, pipeline.Header{Key: rec.Headers[i].Key, Value: rec.Headers[i].Value})
	}
	return in
}

func (a *attempt) apply(rec *kgo.Record, err error) {
	origin := pipeline.Origin{Topic: rec.Topic, Partition: rec.Partition, Offset: rec.Offset}
	var bad *pipeline.RecordError
	switch {
	case err == nil:
		a.event.Origin, a.event.Raw = origin, rec.Value
		believable := a.believable(rec)
		a.notice(&a.event, believable)
		a.task.Process(&a.event, believable)
	case errors.Is(err, pipeline.ErrIgnored):
		a.task.Ignore()
	case errors.As(err, &bad):
		// Copies: the record's memory is used again.
		a.task.Reject(pipeline.DeadLetter{
			Kind: bad.Kind, Cause: bad.Cause, At: a.event.At, Key: clone(rec.Key), Value: clone(rec.Value), Origin: origin,
		})
	default:
		panic("BUG: decoder returned an error that is no RecordError: " + err.Error())
	}
}

// rekeyed takes a record that the re-keying stage wrote. Events were found believable there.
func (a *attempt) rekeyed(rec *kgo.Record) {
	marker, err := a.stage.Decode(rec.Key, rec.Value, &a.event, &a.marker)
	switch {
	case err != nil:
		origin := pipeline.Origin{Topic: rec.Topic, Partition: rec.Partition, Offset: rec.Offset}
		a.task.Reject(pipeline.DeadLetter{
			Kind: pipeline.ErrNotRekeyed, Cause: err.Error(), Key: clone(rec.Key), Value: clone(rec.Value), Origin: origin,
		})
	case marker:
		a.task.Mark(&a.marker)
	default:
		a.task.Process(&a.event, anyTime)
	}
}

// anyTime is later than any event that a decoder lets pass.
const anyTime = 1 << 60

// believable is the instant up to which the record's event time is believed: when the broker appended it, else when it
// was fetched.
func (a *attempt) believable(rec *kgo.Record) int64 {
	if appended(rec) {
		return rec.Timestamp.UnixMilli()
	}
	return a.batch.at
}

// tick moves the clock, if the partition is caught up, and shows the Task's figures. A target is kept until it is
// reached: under steady load the newest end is always a little ahead.
func (a *attempt) tick() {
	if end := a.s.end.Load(); end != nil && !end.topic.Is(a.task.TopicID()) {
		a.inbox.fail(errAnew) // sooner than by a fetch, and the end of another topic moves no clock
	} else if a.target == nil && end != nil && end.at > a.reached {
		a.target = end
	}
	if b := a.s.bounds.Load(); b != a.bounds {
		a.bounds = b
		a.hold()
	}
	if a.target != nil && a.position >= a.target.offset {
		a.reached, a.target = a.target.at, nil
		a.hearOthers() // before time moves
		if a.wallMoves() {
			a.task.AdvanceClock(a.reached)
		}
	}
	a.hearOthers()
	if time.Since(a.shownAt) >= showEvery {
		a.show()
	}
}

func clone(b []byte) []byte { return append([]byte(nil), b...) }

// scheduleCheckpoint sets the next checkpoint to the next multiple of the interval, so that all partitions of all
// processes checkpoint together and their rows share inserts.
func (a *attempt) scheduleCheckpoint() {
	interval := a.s.r.o.CheckpointInterval
	a.next = time.Now().Truncate(interval).Add(interval)
}

// checkpoint commits what the Task has and starts to write its rows.
func (a *attempt) checkpoint() error {
	if err := a.commit(); err != nil {
		return err
	}
	a.project()
	return nil
}

// commit makes one checkpoint, if there is anything to hold. After an error the Task is of no more use.
func (a *attempt) commit() error {
	alerts := a.untold()
	if !a.task.Pending() && len(alerts) == 0 && !a.clears() {
		return nil
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(a.s.hard, commitTimeout)
	defer cancel()
	defer context.AfterFunc(a.s.soft, func() { // also of one that is under way
		sleep(ctx, lastCommitTimeout)
		cancel()
	})()
	cp := a.task.Checkpoint()
	for _, alert := range alerts {
		cp.Outputs = append(cp.Outputs, pipeline.Output{
			Topic: a.s.r.o.OutputTopic, Key: []byte(alert.Source), Value: alert.cloudEvent(a.s.r.o.Group),
		})
	}
	if a.s.r.tells() {
		a.txn.frame.note = a.note()
	}
	a.s.r.d.crash("encoded")
	if err := a.txn.commit(ctx, cp); err != nil {
		return a.s.denied(err)
	}
	position := cp.Position
	a.task.Committed()
	a.doubted = a.txn.frame.unasked != 0
	for _, alert := range alerts {
		a.told[alert.id(a.s.r.o.Group)] = true
	}
	a.s.committed.Store(position)
	a.s.r.metrics.checkpoint.Observe(time.Since(began).Seconds())
	return nil
}

// untold returns the alerts that hold and are not told yet. The owner of the topic's first partition tells them. One that
// another attempt has told is told again: its id says that it is the same.
func (a *attempt) untold() (list []Alert) {
	if a.s.partition != 0 || a.bounds == nil {
		return nil
	}
	for _, alert := range a.bounds.alerts {
		if !a.told[alert.id(a.s.r.o.Group)] {
			list = append(list, alert)
		}
	}
	return list
}

// project starts to write the next batch of rows, unless one is under way or the Sink may be ahead of the state.
func (a *attempt) project() {
	if a.writer.busy || !a.asked {
		return
	}
	if b := a.task.NextBatch(a.s.r.o.BatchRows); b != nil {
		a.writer.start(b)
	}
}

// written takes the result of the batch under way.
func (a *attempt) written(err error) error {
	a.writer.busy = false
	if err != nil {
		return fmt.Errorf("write rows: %w", err)
	}
	a.s.r.d.crash("written")
	a.task.Acknowledge()
	a.project()
	return nil
}

// finish makes the last checkpoint of a session that was revoked, with the records processed so far, and gives the
// Sink some time to take the rows. What it does not take is written by the next owner.
func (a *attempt) finish() error {
	if a.s.hard.Err() != nil {
		return nil // lost: another process may own the partition already
	}
	a.s.r.d.crash("revoked")
	if err := a.checkpoint(); err != nil {
		return err
	}
	grace := time.NewTimer(time.Duration(a.s.grace.Load()))
	defer grace.Stop()
	for a.writer.busy {
		select {
		case err := <-a.writer.done:
			if err := a.written(err); err != nil {
				return err
			}
		case <-grace.C:
			a.s.log.Warn("the sink did not take the last rows in time: they will be written after the next start")
			return nil
		case <-a.s.hard.Done():
			return nil
		}
	}
	return a.commit() // remembers what the Sink has, so that it need not be written again
}
