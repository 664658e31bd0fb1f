package pipeline

import (
	"fmt"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"
)

// The re-keying stage makes one topic of events, keyed by customer, out of sources that are not: of several topics, or
// of records keyed by anything else. A Rekeyer is its work on one partition of a source, which is called a channel.
//
// Time passes through the stage in step with the events. Each transaction of a channel ends with a marker in every
// partition of the events' topic, which says how far time has come in the channel: what the channel brought up to
// there stands before it. A Task takes the least of all channels for its clock, so that a channel that lags, or a
// source that is held, holds time for all.

// Output is a record that a checkpoint's transaction writes to a topic.
type Output struct {
	Topic      string
	Partition  int32
	Key, Value []byte
}

// Marker says how far time has come in one channel.
type Marker struct {
	Channel uint64
	Set     ChannelSet
	Clock   int64 // Unix milliseconds
	Hold    Hold
}

// ChannelSet identifies the channels that there are: time is known only once all have been heard of.
type ChannelSet struct {
	Digest uint64
	Count  int
}

// NewChannelSet returns the set of all partitions of some topics, given as pairs of name and number of partitions.
func NewChannelSet(topics map[string]int32) (set ChannelSet) {
	for topic, n := range topics {
		for p := range n {
			set.Digest += Channel(topic, p) // of any order
			set.Count++
		}
	}
	return set
}

// Channel identifies a partition of a source's topic.
func Channel(topic string, partition int32) uint64 {
	return xxhash.Sum64String(fmt.Sprintf("%s/%d", topic, partition))
}

// First byte of the values in the events' topic. A value of a later layout gets another one.
const (
	rekeyedEvent  = 1
	rekeyedMarker = 2
)

// RekeyedReader reads the events' topic.
type RekeyedReader struct {
	topics []string // names of sources' topics met so far: an event does not make a new string of its origin's
}

// Decode reads a record: an event, whose slices then alias key and value, or a marker.
func (d *RekeyedReader) Decode(key, value []byte, e *Event, m *Marker) (marker bool, err error) {
	if len(value) == 0 {
		return false, fmt.Errorf("%w: an empty record", errCorrupt)
	}
	r := Reader{b: value[1:]}
	switch value[0] {
	case rekeyedEvent:
		return false, d.event(&r, key, e)
	case rekeyedMarker:
		*m = Marker{Channel: r.Uint64(), Set: ChannelSet{Digest: r.Uint64(), Count: int(r.Uint())}}
		m.Clock, m.Hold.Clock, m.Hold.Settled = r.Int(), r.Int(), r.Int()
		if m.Set.Count < 1 && r.Err() == nil {
			return true, fmt.Errorf("%w: a marker of no channels", errCorrupt)
		}
		return true, r.Err()
	}
	return false, fmt.Errorf("%w: a record of layout %d: was it written by a newer version?", errCorrupt, value[0])
}

func (d *RekeyedReader) event(r *Reader, key []byte, e *Event) error {
	if err := DecodeEvent(r.Bytes(), e); err != nil {
		return err
	}
	e.Customer = key
	e.Origin = Origin{Topic: d.topic(r.Bytes()), Partition: int32(r.Uint()), Offset: int64(r.Uint())}
	e.Raw = r.Bytes()
	if !e.Sound() {
		return fmt.Errorf("%w: an event with an amount out of range", errCorrupt)
	}
	if r.Err() != nil || len(key) == 0 || len(key) > MaxID || e.Kind == KindHeartbeat || !instant(e.At) {
		return fmt.Errorf("%w: an event without customer, time or origin", errCorrupt)
	}
	return nil
}

// topic returns the name as a string.
func (d *RekeyedReader) topic(name []byte) string {
	for _, t := range d.topics {
		if t == string(name) {
			return t
		}
	}
	if len(d.topics) == 100 { // more than there can be: they are hostile
		d.topics = d.topics[:0]
	}
	d.topics = append(d.topics, string(name))
	return d.topics[len(d.topics)-1]
}

// appendRekeyed appends the record of an event. The original value goes with it where the event may still end as a dead
// letter.
func appendRekeyed(dst []byte, e *Event, compact []byte) []byte {
	dst = AppendBytes(append(dst, rekeyedEvent), compact)
	dst = AppendBytes(dst, []byte(e.Origin.Topic))
	dst = AppendUint(AppendUint(dst, uint64(e.Origin.Partition)), uint64(e.Origin.Offset))
	if !e.Kind.Order() || len(e.Raw) > maxRaw {
		return AppendUint(dst, 0)
	}
	return AppendBytes(dst, e.Raw)
}

func appendMarker(dst []byte, m *Marker) []byte {
	dst = AppendUint64(append(dst, rekeyedMarker), m.Channel)
	dst = AppendUint(AppendUint64(dst, m.Set.Digest), uint64(m.Set.Count))
	return AppendInt(AppendInt(AppendInt(dst, m.Clock), m.Hold.Clock), m.Hold.Settled)
}

// Channels is what a Task has heard of the channels.
type Channels struct {
	set   ChannelSet
	heard []Marker // one for each channel, the last
}

// Take notes a marker and returns how far time has come in all channels. It reports false while one of them has not
// been heard of.
func (c *Channels) Take(m *Marker) (clock int64, hold Hold, ok bool) {
	if m.Set != c.set {
		c.set, c.heard = m.Set, c.heard[:0]
	}
	i := slices.IndexFunc(c.heard, func(h Marker) bool { return h.Channel == m.Channel })
	if i < 0 {
		i = len(c.heard)
		c.heard = append(c.heard, *m)
	}
	earlier := c.heard[i].Clock
	c.heard[i] = *m
	c.heard[i].Clock = max(m.Clock, earlier) // a new owner may have less to tell at first
	if len(c.heard) < c.set.Count {
		return 0, NoHold(), false
	}
	clock, hold = Never, NoHold()
	for i := range c.heard {
		clock, hold = min(clock, c.heard[i].Clock), hold.And(c.heard[i].Hold)
	}
	return clock, hold, true
}

func (c *Channels) append(dst []byte) []byte {
	dst = AppendUint(AppendUint64(dst, c.set.Digest), uint64(c.set.Count))
	dst = AppendUint(dst, uint64(len(c.heard)))
	for i := range c.heard {
		h := &c.heard[i]
		dst = AppendInt(AppendUint64(dst, h.Channel), h.Clock)
		dst = AppendInt(AppendInt(dst, h.Hold.Clock), h.Hold.Settled)
	}
	return dst
}

func (c *Channels) read(r *Reader) {
	c.set = ChannelSet{Digest: r.Uint64(), Count: int(r.Uint())}
	for n := r.Count(); n > 0 && !r.bad; n-- {
		h := Marker{Channel: r.Uint64(), Set: c.set, Clock: r.Int()}
		h.Hold = Hold{Clock: r.Int(), Settled: r.Int()}
		c.heard = append(c.heard, h)
	}
}

// RekeyOptions are what a Rekeyer is made of.
type RekeyOptions struct {
	Topic      string // of the events
	Partitions int32  // of that topic
	Set        ChannelSet
	Skew       time.Duration // how much later than its append time an event is believed
	WallClock  bool          // whether the wall clock moves a caught-up channel's clock
	Held       bool          // whether the clock stands still until the first Hold
}

// Rekeyer writes the events of one channel, a partition of a source, to the events' topic. Like a Task it does no I/O
// and reads no clock; it keeps no state but its position and clock.
type Rekeyer struct {
	o       RekeyOptions
	channel uint64

	clock    int64
	settled  int64 // how far clock and hold have let the watermark come, but for the allowed lateness
	marked   int64 // clock of the last marker
	hold     Hold
	source   TopicID
	position int64
	number   uint64
	moved    bool // position or hold has changed since then
	letters  []DeadLetter
	outputs  []Output
	arena    []byte
	compact  []byte
	stats    Stats
}

// NewRekeyer returns the Rekeyer of a partition of a source's topic.
func NewRekeyer(o RekeyOptions, topic string, partition int32) *Rekeyer {
	r := &Rekeyer{o: o, channel: Channel(topic, partition), position: -1, hold: NoHold()}
	if o.Held {
		r.hold = Hold{}
	}
	return r
}

// How much a Rekeyer gathers before it asks for a transaction.
const (
	fullOutputs = 20_000
	fullBytes   = 8 << 20
)

// Position returns the offset of the next record to consume, -1 for the topic's first.
func (r *Rekeyer) Position() int64 { return r.position }

// SetPosition says that all records before next have been dealt with.
func (r *Rekeyer) SetPosition(next int64) {
	r.moved = r.moved || next != r.position
	r.position = next
}

// TopicID identifies the topic that Position is an offset of; zero if it is not known yet.
func (r *Rekeyer) TopicID() TopicID { return r.source }

// SetTopicID says of which topic positions are.
func (r *Rekeyer) SetTopicID(id TopicID) {
	r.moved = r.moved || id != r.source
	r.source = id
}

// Version returns 0: a Rekeyer has no rows.
func (r *Rekeyer) Version() int64 { return 0 }

// Reject takes a record that could not be decoded: it becomes a dead letter.
func (r *Rekeyer) Reject(l DeadLetter) {
	if l.At == 0 {
		l.At = r.clock
	}
	r.letters = append(r.letters, l)
	r.stats.DeadLetters[l.Kind]++
}

// Ignore counts a record of an id that is no person.
func (r *Rekeyer) Ignore() { r.stats.Ignored++ }

// AdvanceClock says that everything appended up to now, Unix milliseconds, has been processed.
func (r *Rekeyer) AdvanceClock(now int64) {
	if r.o.WallClock {
		r.observe(now)
	}
}

// Mark must not be called: a Rekeyer makes markers.
func (r *Rekeyer) Mark(*Marker) { panic("BUG: a Rekeyer takes no markers") }

// Hold replaces the bounds in force. They travel with the channel's markers.
func (r *Rekeyer) Hold(h Hold) {
	r.moved = r.moved || h != r.hold
	r.hold = h
	r.observe(r.clock)
}

func (r *Rekeyer) observe(at int64) {
	r.clock = max(r.clock, min(at, r.hold.Clock))
	r.settled = max(r.settled, min(r.clock, r.hold.Settled))
}

// Process passes one event on, to the partition of its customer.
func (r *Rekeyer) Process(e *Event, believable int64) {
	r.stats.Events++
	if l, ok := future(e, believable, r.o.Skew.Milliseconds()); ok {
		r.Reject(l)
		return
	}
	r.observe(e.At)
	if e.Kind == KindHeartbeat {
		return
	}
	raw := e.Raw
	e.Raw = nil // appendRekeyed has it for more kinds than AppendEvent
	r.compact = AppendEvent(r.compact[:0], e)
	e.Raw = raw
	key := r.keep(func(b []byte) []byte { return append(b, e.Customer...) })
	r.outputs = append(r.outputs, Output{
		Topic: r.o.Topic, Partition: int32(xxhash.Sum64(e.Customer) % uint64(r.o.Partitions)), Key: key,
		Value: r.keep(func(b []byte) []byte { return appendRekeyed(b, e, r.compact) }),
	})
}

// keep appends to the arena and returns what was appended. When the arena grows, earlier slices keep its old memory.
func (r *Rekeyer) keep(appendTo func([]byte) []byte) []byte {
	n := len(r.arena)
	r.arena = appendTo(r.arena)
	return r.arena[n:len(r.arena):len(r.arena)]
}

// Drain has no timers to fire.
func (r *Rekeyer) Drain(int) bool { return false }

// Full reports whether a checkpoint is due before its time.
func (r *Rekeyer) Full() bool {
	return len(r.outputs) >= fullOutputs || len(r.arena) >= fullBytes || len(r.letters) >= 1<<12
}

// idleGrain is how far the clock moves, in milliseconds, before it alone is worth a transaction: a marker goes to every
// partition of the events' topic.
const idleGrain = 1000

// Crowded reports false: a Rekeyer has no rows.
func (r *Rekeyer) Crowded() bool { return false }

// Pending reports whether anything has changed since the last checkpoint.
func (r *Rekeyer) Pending() bool {
	return r.moved || len(r.outputs) > 0 || len(r.letters) > 0 || r.clock-r.marked >= idleGrain
}

// Checkpoint returns the events gathered and, after them, a marker for every partition. The result is valid until
// Committed.
func (r *Rekeyer) Checkpoint() *Checkpoint {
	r.number++
	m := Marker{Channel: r.channel, Set: r.o.Set, Clock: r.clock, Hold: r.hold}
	marker := r.keep(func(b []byte) []byte { return appendMarker(b, &m) })
	for p := range r.o.Partitions {
		r.outputs = append(r.outputs, Output{Topic: r.o.Topic, Partition: p, Value: marker})
	}
	c := &Checkpoint{
		Number: r.number, Position: r.position, Clock: r.clock, Watermark: r.settled,
		Changes: []Change{{Key: []byte{metaKey}, Value: r.appendMeta(nil)}}, DeadLetters: r.letters, Outputs: r.outputs,
	}
	r.letters, r.moved, r.marked = nil, false, r.clock
	return c
}

// Committed says that the transaction of the last Checkpoint is committed.
func (r *Rekeyer) Committed() { r.outputs, r.arena = r.outputs[:0], r.arena[:0] }

func (r *Rekeyer) appendMeta(dst []byte) []byte {
	return (&rekeyMeta{number: r.number, position: r.position, clock: r.clock, topic: r.source, settled: r.settled}).append(dst)
}

// rekeyMeta is the partition's own record of a Rekeyer.
type rekeyMeta struct {
	number          uint64
	position, clock int64
	topic           TopicID
	settled         int64
}

// The highest bit of the format tells the record of a Rekeyer from that of a Task.
const (
	rekeyFormat        = 0x80
	rekeyFormatTopic   = 0x81 // with the topic's id
	rekeyFormatSettled = 0x82 // and how far the watermark may be
)

func (m *rekeyMeta) append(dst []byte) []byte {
	dst = AppendUint(append(dst, rekeyFormatSettled), m.number)
	dst = AppendInt(AppendInt(dst, m.position), m.clock)
	return AppendInt(append(dst, m.topic[:]...), m.settled)
}

func readRekeyMeta(value []byte) (m rekeyMeta, err error) {
	in := Reader{b: value}
	f := in.Byte()
	if f < rekeyFormat || f > rekeyFormatSettled {
		return m, fmt.Errorf("%w: a record of format %d is none of the re-keying stage", errCorrupt, f)
	}
	m.number, m.position, m.clock = in.Uint(), in.Int(), in.Int()
	if f >= rekeyFormatTopic {
		m.topic = in.topicID()
	}
	if m.settled = m.clock; f >= rekeyFormatSettled {
		m.settled = in.Int()
	}
	if in.Err() == nil && (m.position < -1 || !instant(m.clock) || m.settled < 0 || m.settled > m.clock) {
		return m, fmt.Errorf("%w: position or clock", errCorrupt)
	}
	return m, in.Err()
}

// Restore takes one record of the changelog.
func (r *Rekeyer) Restore(key, value []byte) error {
	if len(key) != 1 || key[0] != metaKey {
		return fmt.Errorf("%w: changelog key of the re-keying stage", errCorrupt)
	}
	m, err := readRekeyMeta(value)
	if err != nil {
		return err
	}
	r.number, r.position, r.clock, r.settled, r.source = m.number, m.position, m.clock, m.settled, m.topic
	if r.o.Held {
		r.hold = Hold{Clock: r.clock, Settled: r.settled}
	}
	return nil
}

// Restored ends the restoration.
func (r *Rekeyer) Restored() error { return nil }

// NextBatch returns nil: a Rekeyer has no rows.
func (r *Rekeyer) NextBatch(int) *Batch { return nil }

// Acknowledge must not be called.
func (r *Rekeyer) Acknowledge() { panic("BUG: a Rekeyer has no rows") }

// Stats returns the figures, for reading in the Rekeyer's own goroutine.
func (r *Rekeyer) Stats() *Stats {
	r.stats.Clock, r.stats.Watermark = r.clock, r.settled
	return &r.stats
}

// Close releases memory.
func (r *Rekeyer) Close() { *r = Rekeyer{o: r.o} }
