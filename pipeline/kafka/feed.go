package kafka

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"zyklus/pipeline"
)

// patience is how long the feed waits for sessions with a full inbox before it pauses their partitions.
const patience = 100 * time.Millisecond

// feed reads the input topic for all sessions with one client, each partition from the offset that its Task names.
// Only its loop adds and removes partitions, between two polls, so that no record fetched for one attempt ever reaches
// the next.
type feed struct {
	cl      *kgo.Client
	topic   string
	maxPoll int
	now     func() time.Time
	log     *slog.Logger
	room    chan struct{}
	inboxes map[int32]*inbox // of the loop alone

	mu       sync.Mutex
	commands []command          // for the loop
	wake     context.CancelFunc // ends the current poll
}

// command starts or ends the reading of one partition.
type command struct {
	partition int32
	inbox     *inbox
	offset    int64 // first one to read; -1 ends the reading
}

func (o *Options) newFeed(d *Deps, opts ...kgo.Opt) (*feed, error) {
	cl, err := o.newClient("input", d.Log, append(opts,
		kgo.ConsumePartitions(nil),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), // never skip or repeat silently
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // the position must pass them to reach the end
		kgo.FetchMaxBytes(o.FetchMaxBytes),
		kgo.WithPools(newRecordPool()),
		kgo.FetchMaxWait(fetchWait),
	)...)
	if err != nil {
		return nil, err
	}
	return &feed{
		cl: cl, topic: o.Topic, maxPoll: o.MaxPoll, now: (&steadyClock{now: d.Now}).read, log: d.Log,
		room: make(chan struct{}, 1), inboxes: map[int32]*inbox{}, wake: func() {},
	}, nil
}

// add begins to read a partition at an offset of the topic with that id, into a new inbox.
func (f *feed) add(partition int32, offset int64, topic pipeline.TopicID) *inbox {
	in := newInbox(topic, f.maxPoll, f.room)
	f.send(command{partition: partition, inbox: in, offset: offset})
	return in
}

// remove ends the reading into in. Records that were fetched already may still arrive in it.
func (f *feed) remove(partition int32, in *inbox) {
	f.send(command{partition: partition, inbox: in, offset: -1})
}

func (f *feed) send(c command) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.commands = append(f.commands, c)
	f.wake()
}

// resume fetches a paused partition again.
func (f *feed) resume(partition int32) { f.cl.ResumeFetchPartitions(f.one(partition)) }

func (f *feed) one(partition int32) map[string][]int32 {
	return map[string][]int32{f.topic: {partition}}
}

// run polls until ctx ends.
func (f *feed) run(ctx context.Context) error {
	for ctx.Err() == nil {
		poll, cancel := context.WithCancel(ctx)
		f.obey(cancel)
		f.waitForRoom(poll)
		f.deliver(f.cl.PollRecords(poll, f.maxPoll))
		cancel()
	}
	return nil
}

// obey executes the commands given so far. One that comes later ends the poll by wake.
func (f *feed) obey(wake context.CancelFunc) {
	f.mu.Lock()
	commands := f.commands
	f.commands, f.wake = nil, wake
	f.mu.Unlock()
	for _, c := range commands {
		switch {
		case c.offset >= 0:
			f.inboxes[c.partition] = c.inbox
			f.cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{f.topic: {c.partition: kgo.NewOffset().At(c.offset)}})
		case f.inboxes[c.partition] == c.inbox:
			delete(f.inboxes, c.partition)
			f.cl.RemoveConsumePartitions(f.one(c.partition))
			f.resume(c.partition)
		}
	}
}

// waitForRoom returns when no inbox is full. After a moment it pauses the partitions of those that still are.
func (f *feed) waitForRoom(ctx context.Context) {
	if !f.anyBlocked() {
		return
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for f.anyBlocked() {
		select {
		case <-f.room:
		case <-ctx.Done():
			return
		case <-timer.C:
			f.pauseBlocked()
			return
		}
	}
}

func (f *feed) anyBlocked() bool {
	for _, in := range f.inboxes {
		if in.blocked() {
			return true
		}
	}
	return false
}

func (f *feed) pauseBlocked() {
	for p, in := range f.inboxes {
		if !in.blocked() {
			continue
		}
		// Paused first and marked second: the session resumes only what is marked.
		f.cl.PauseFetchPartitions(f.one(p))
		if !in.pause() {
			f.resume(p)
		}
	}
}

// deliver hands what was polled to the inboxes.
func (f *feed) deliver(fs kgo.Fetches) {
	at := f.now().UnixMilli()
	for i := range fs { // not EachTopic, which takes the id of one broker's answer for all
		for k := range fs[i].Topics {
			f.sort(&fs[i].Topics[k], at)
		}
	}
}

// sort hands what one broker has answered to the inboxes.
func (f *feed) sort(t *kgo.FetchTopic, at int64) {
	for i := range t.Partitions {
		p := &t.Partitions[i]
		in := f.inboxes[p.Partition]
		if in == nil || t.Topic != f.topic {
			continue // injected error without a partition, or fetched before it was removed
		}
		switch {
		case !in.topic.Is(t.TopicID):
			in.fail(errAnew)
		case len(p.Records) > 0:
			in.put(fetched{records: p.Records, bytes: size(p.Records), at: at})
		}
		f.heed(in, p)
	}
}

// errAnew says that the topic is not the one any more that the position is of.
var errAnew = errors.New("the topic was created anew")

// heed looks at the error that a partition was fetched with.
func (f *feed) heed(in *inbox, p *kgo.FetchPartition) {
	switch {
	case p.Err == nil, errors.Is(p.Err, context.Canceled):
	case broken(p.Err):
		in.fail(p.Err)
	default: // the client goes on trying
		f.log.Warn("fetching fails", "topic", f.topic, "partition", p.Partition, "error", p.Err)
	}
}

// broken reports whether a partition will not be read on from where it stands, or only once somebody gives a right.
func broken(err error) bool {
	var loss *kgo.ErrDataLoss
	var large *kgo.ErrDecompressTooLarge
	return refused(err) || errors.Is(err, kerr.OffsetOutOfRange) || errors.Is(err, kerr.UnknownTopicID) ||
		errors.As(err, &loss) || errors.As(err, &large)
}

func size(records []*kgo.Record) int {
	n := 0
	for _, r := range records {
		n += len(r.Key) + len(r.Value)
	}
	return n
}
