package kafka

import (
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"zyklus/pipeline"
)

// inbox holds the records that were fetched for one attempt and are not processed yet. It is bounded by its users: the
// feed adds nothing while it is full, and the last addition is at most one poll. Safe for concurrent use by the feed,
// which adds, and the attempt, which takes.
type inbox struct {
	topic      pipeline.TopicID // whose records the attempt wants
	maxRecords int
	// ready has a token when there is something to take or an error to see.
	ready chan struct{}
	// room gets a token when a full inbox has room again. It belongs to the feed.
	room chan<- struct{}

	mu      sync.Mutex
	batches []fetched
	records int
	bytes   int
	paused  bool // the feed has paused the partition
	err     error
}

// fetched are records of one poll, in the order of their offsets.
type fetched struct {
	records []*kgo.Record
	bytes   int
	at      int64 // Unix milliseconds, when they were polled
}

func newInbox(topic pipeline.TopicID, maxRecords int, room chan<- struct{}) *inbox {
	return &inbox{topic: topic, maxRecords: maxRecords, ready: make(chan struct{}, 1), room: room}
}

func (b *inbox) put(f fetched) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.batches = append(b.batches, f)
	b.records += len(f.records)
	b.bytes += f.bytes
	signal(b.ready)
}

// fail tells the attempt that its partition cannot be fetched. The first error counts.
func (b *inbox) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
	signal(b.ready)
}

// take removes the oldest batch. resume says that the partition was paused and has room for more.
func (b *inbox) take() (f fetched, resume bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return fetched{}, false, b.err
	}
	if len(b.batches) == 0 {
		return fetched{}, false, nil
	}
	wasFull := b.isFull()
	f = b.batches[0]
	b.batches[0] = fetched{}
	b.batches = b.batches[1:]
	b.records -= len(f.records)
	b.bytes -= f.bytes
	if wasFull && !b.isFull() {
		signal(b.room)
	}
	if len(b.batches) > 0 {
		signal(b.ready)
	}
	resume = b.paused && b.records <= b.maxRecords/2 && b.bytes <= inboxBytes/2
	if resume {
		b.paused = false
	}
	return f, resume, nil
}

func (b *inbox) isFull() bool { return b.records >= b.maxRecords || b.bytes >= inboxBytes }

// blocked reports whether the inbox is full and its partition is still fetched.
func (b *inbox) blocked() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.isFull() && !b.paused
}

// pause marks the partition as paused, unless the inbox has got room meanwhile.
func (b *inbox) pause() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.paused = b.isFull()
	return b.paused
}

// signal leaves a token in a channel of capacity one.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
