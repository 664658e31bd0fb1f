package pipeline

import "fmt"

const metaFormat = 3

// TopicID identifies a topic as the brokers do: one that is deleted and created again gets another. Zero is unknown, as
// of brokers that know none.
type TopicID [16]byte

// Is reports whether two ids may be of the same topic: one that is unknown may be.
func (t TopicID) Is(o TopicID) bool { return t == o || t == TopicID{} || o == TopicID{} }

// Meta is the partition's own record in the changelog, the last one of each checkpoint.
type Meta struct {
	Lineage, Number uint64  // of the checkpoint
	Acked           int64   // version up to which the sink had everything
	Position        int64   // offset of the next record to read; -1 for the start of the topic
	Clock           int64   // Unix milliseconds
	Heard           int64   // instant up to which all timers have fired, Unix milliseconds
	Digest          uint64  // of lifecycles, artefact and time zone; see Job.Fits
	Watermark       int64   // Unix milliseconds; see Job.Watermark
	Topic           TopicID // that Position is an offset of
	// Of a Task behind the re-keying stage: what it has heard of the channels, and the hold that follows.
	Rekeyed  bool
	Hold     Hold
	Channels Channels
}

// Version returns the version of the checkpoint.
func (m *Meta) Version() int64 { return Version(m.Lineage, m.Number) }

func (m *Meta) append(dst []byte) []byte {
	dst = append(dst, metaFormat)
	dst = AppendUint(AppendUint(dst, m.Lineage), m.Number)
	dst = AppendUint(dst, uint64(m.Acked))
	dst = AppendInt(AppendInt(AppendInt(dst, m.Position), m.Clock), m.Heard)
	dst = AppendInt(AppendUint64(dst, m.Digest), m.Watermark)
	dst = append(dst, m.Topic[:]...)
	dst = append(dst, byte(boolInt(m.Rekeyed)))
	if m.Rekeyed {
		dst = m.Channels.append(AppendInt(AppendInt(dst, m.Hold.Clock), m.Hold.Settled))
	}
	return dst
}

// ReadMeta decodes the value of a partition's own record.
func ReadMeta(value []byte) (m Meta, err error) {
	r := Reader{b: value}
	format := r.Byte()
	if format == 0 || format > metaFormat {
		return m, fmt.Errorf("%w: partition record of format %d, this binary reads up to %d", errCorrupt, format, metaFormat)
	}
	m.Lineage, m.Number, m.Acked = r.Uint(), r.Uint(), int64(r.Uint())
	m.Position, m.Clock, m.Heard = r.Int(), r.Int(), r.Int()
	m.Digest = r.Uint64()
	if format > 1 {
		m.Watermark = r.Int()
		if format > 2 {
			m.Topic = r.topicID()
		}
		if m.Rekeyed = r.Byte() != 0; m.Rekeyed {
			m.Hold = Hold{Clock: r.Int(), Settled: r.Int()}
			m.Channels.read(&r)
		}
	}
	if m.Watermark > m.Clock || m.Number == 0 || m.Number>>lineageShift != 0 || m.Lineage == 0 || m.Lineage>>(63-lineageShift) != 0 || m.Position < -1 || !instant(m.Clock) || !instant(m.Heard) {
		return m, fmt.Errorf("%w: partition record out of range", errCorrupt)
	}
	return m, r.Err()
}

func (r *Reader) topicID() (id TopicID) {
	for i := range id {
		id[i] = r.Byte()
	}
	return id
}

// Watermark returns the watermark of the checkpoint. A record of format 1 has none, for it was the clock less the allowed
// lateness.
func (j *Job) Watermark(m *Meta) int64 {
	if m.Watermark == 0 {
		return m.Clock - j.Lateness
	}
	return m.Watermark
}

// Fits reports whether the job can go on from a state with that digest.
func (j *Job) Fits(m *Meta) bool { return m.Digest == j.digest }

// NewLineage returns the first record of a changelog that begins a lineage: no customer, and the topic is to be read
// from its start.
func (j *Job) NewLineage(lineage uint64) Change {
	m := Meta{Lineage: lineage, Number: 1, Acked: Version(lineage, 1), Position: -1, Digest: j.digest, Watermark: -j.Lateness}
	return Change{Key: []byte{metaKey}, Value: m.append(nil)}
}

// ChangelogKey tells what a record of the changelog is about: a customer, or the partition itself (nil).
func ChangelogKey(key []byte) (customer []byte, err error) {
	switch {
	case len(key) == 1 && key[0] == metaKey:
		return nil, nil
	case len(key) > 1 && key[0] == customerKey:
		return key[1:], nil
	}
	return nil, fmt.Errorf("%w: changelog key of an unknown kind", errCorrupt)
}

// Place is where a partition's state stands in its topic, by the partition's own record in the changelog: that of a Task
// or of a Rekeyer.
type Place struct {
	Topic    TopicID
	Position int64 // offset of the next record to read; -1 for the start of the topic
	Clock    int64 // Unix milliseconds
	Version  int64 // of the checkpoint; 0 of a Rekeyer, which has no rows
	Number   uint64
}

// ReadPlace decodes the value of a partition's own record.
func ReadPlace(value []byte) (Place, error) {
	if len(value) > 0 && value[0]&rekeyFormat != 0 {
		m, err := readRekeyMeta(value)
		return Place{Topic: m.topic, Position: m.position, Clock: m.clock, Number: m.number}, err
	}
	m, err := ReadMeta(value)
	return Place{Topic: m.Topic, Position: m.Position, Clock: m.Clock, Version: m.Version(), Number: m.Number}, err
}

// MovePlace returns the change of a checkpoint that follows the one of value, a partition's own record, and differs from
// it in its number and in where it stands alone.
func MovePlace(value []byte, topic TopicID, position int64) (Change, error) {
	c := Change{Key: []byte{metaKey}}
	if len(value) > 0 && value[0]&rekeyFormat != 0 {
		m, err := readRekeyMeta(value)
		m.number, m.topic, m.position = m.number+1, topic, position
		c.Value = m.append(nil)
		return c, err
	}
	m, err := ReadMeta(value)
	m.Number, m.Topic, m.Position = m.Number+1, topic, position
	c.Value = m.append(nil)
	return c, err
}
