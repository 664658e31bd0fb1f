package verify

import (
	"bytes"
	"errors"
	"fmt"
	"sort"
	"strings"

	"zyklus/pipeline"
	"zyklus/pipeline/kafka"
)

// history is what the input says of the selected customers of one partition, and of the clock meanwhile.
type history struct {
	v         *Verifier
	now       int64 // wall clock, Unix milliseconds
	partition int32
	selected  func(customer []byte) bool
	decoder   kafka.Decoder
	reader    pipeline.RekeyedReader
	e         pipeline.Event // present one; its memory is reused
	// clocks is a Task that hears nothing but markers: its watermark is that of the partition's owner.
	clocks *pipeline.Task

	bound   int64 // no clock was later; without re-keying
	next    int64 // offset to go on from
	records int64
	// begun says that the topic does not hold its first records any more; first is when the first one left came.
	begun bool
	first int64
	// lost says that a loss was accepted: the state has seen what is not in the topic.
	lost bool
	// unstamped says that records keep their producers' time.
	unstamped bool
	marks     []mark // of the checkpoints that the changelog holds, by position
	lives     map[string]*life
}

// mark is what a checkpoint says of all records before its position: when they came, the watermark was no later.
type mark struct {
	position, watermark int64
	first               int64 // watermark of the first of the checkpoints that it stands for
}

// life is what is known of one customer, in the order of the log.
type life struct{ events []kept }

// kept is an event at rest.
type kept struct {
	bytes []byte // pipeline.AppendEvent
	at    int64
	// settled is an instant that the watermark had not passed when the event came: if the event is later, it came in time.
	settled int64
	ahead   bool // it may have been refused as of the future
}

func (k *kept) late() bool { return k.at <= k.settled }

func newHistory(v *Verifier, partition int32, selected func([]byte) bool) *history {
	h := &history{v: v, partition: partition, selected: selected, lives: map[string]*life{}, now: v.Now().UnixMilli()}
	if v.Rekeyed {
		h.clocks = pipeline.NewTask(v.Job, v.Kafka.Options().Topic, partition)
	} else {
		h.decoder = v.NewDecoder()
	}
	return h
}

// read goes on to a position.
func (h *history) read(a *kafka.Arrival) error {
	if h.records++; h.records == 1 {
		h.first = a.At
	}
	if h.clocks != nil {
		return h.rekeyed(a)
	}
	var bad *pipeline.RecordError
	switch err := h.decoder.Decode(&a.Record, &h.e); {
	case err == nil:
		h.event(&h.e, a)
	case errors.Is(err, pipeline.ErrIgnored), errors.As(err, &bad):
	default:
		return err
	}
	return nil
}

// event takes an event of a topic that is keyed by customer. Where the broker stamps records, it is known whether the
// event was believed.
func (h *history) event(e *pipeline.Event, a *kafka.Arrival) {
	h.unstamped = h.unstamped || !a.Appended
	ahead := e.At > a.At+h.v.Skew
	if ahead && (a.Appended || e.At > h.now+h.v.Skew) {
		return
	}
	h.bound = max(h.bound, e.At)
	if h.v.WallClock {
		h.bound = max(h.bound, a.At+min(h.v.Skew, h.v.Job.Lateness/2)) // instances' clocks may differ from the broker's
	}
	settled := h.bound - h.v.Job.Lateness
	if h.v.WallClock && !a.Appended {
		settled = pipeline.Never // the record does not tell when it came
	}
	if e.Kind != pipeline.KindHeartbeat {
		h.keep(e, min(settled, h.passed(a.Offset)), ahead)
	}
}

// checkpoint takes what a checkpoint says of the records before it. Those that are close together are one.
func (h *history) checkpoint(m *pipeline.Meta) {
	if n := len(h.marks); n > 0 && m.Position < h.marks[n-1].position {
		h.marks = h.marks[:0] // it was begun anew
	}
	watermark := h.v.Job.Watermark(m)
	switch n := len(h.marks); {
	case n > 0 && m.Position == h.marks[n-1].position:
	case n > 0 && watermark-h.marks[n-1].first < h.v.Job.Lateness/8:
		h.marks[n-1].position, h.marks[n-1].watermark = m.Position, watermark
	default:
		h.marks = append(h.marks, mark{m.Position, watermark, watermark})
	}
}

// passed returns an instant that the watermark had not passed when the record at an offset came.
func (h *history) passed(offset int64) int64 {
	i := sort.Search(len(h.marks), func(i int) bool { return h.marks[i].position > offset })
	if i == len(h.marks) {
		return pipeline.Never
	}
	return h.marks[i].watermark
}

// rekeyed takes a record that the re-keying stage wrote.
func (h *history) rekeyed(a *kafka.Arrival) error {
	var m pipeline.Marker
	marker, err := h.reader.Decode(a.Key, a.Value, &h.e, &m)
	switch {
	case err != nil:
		return nil //nolint:nilerr // it became a dead letter
	case marker:
		h.clocks.Mark(&m)
	default:
		h.keep(&h.e, h.clocks.Watermark(), false)
	}
	return nil
}

func (h *history) keep(e *pipeline.Event, settled int64, ahead bool) {
	if !h.selected(e.Customer) {
		return
	}
	l := h.lives[string(e.Customer)]
	if l == nil {
		l = &life{}
		h.lives[string(e.Customer)] = l
	}
	if string(e.Currency[:]) == h.v.Currency {
		e.Currency = [3]byte{}
	}
	e.Raw = nil
	l.events = append(l.events, kept{pipeline.AppendEvent(nil, e), e.At, settled, ahead})
}

// decode returns the events up to an instant.
func (l *life) decode(id string, to int64) (events []pipeline.Event, err error) {
	if l == nil {
		return nil, nil
	}
	for i := range l.events {
		if l.events[i].at > to {
			continue
		}
		var e pipeline.Event // with memory of its own: the oracle keeps lines
		if err := pipeline.DecodeEvent(l.events[i].bytes, &e); err != nil {
			return nil, fmt.Errorf("an event of the input: %w", err)
		}
		e.Customer = []byte(id)
		events = append(events, e)
	}
	return events, nil
}

// repeated reports whether one id names two different events.
func (l *life) repeated() bool {
	first := map[uint64][]byte{}
	for i := range l.events {
		var e pipeline.Event
		if pipeline.DecodeEvent(l.events[i].bytes, &e) != nil {
			return true
		}
		if have := first[e.ID]; have != nil && !bytes.Equal(have, l.events[i].bytes) {
			return true
		}
		first[e.ID] = l.events[i].bytes
	}
	return false
}

// RateTable reads a table of rates as the oracle wants it: the text of the rate by date and currency.
func RateTable(table string) func(date, currency string) string {
	rates := map[string]string{}
	for line := range strings.Lines(strings.TrimPrefix(table, "\xef\xbb\xbf")) {
		fields := strings.Split(strings.ReplaceAll(strings.TrimSpace(line), `"`, ""), ",")
		if len(fields) == 3 && !strings.HasPrefix(line, "#") {
			rates[strings.TrimSpace(fields[0])+" "+strings.TrimSpace(fields[1])] = strings.TrimSpace(fields[2])
		}
	}
	return func(date, currency string) string { return rates[date+" "+currency] }
}
