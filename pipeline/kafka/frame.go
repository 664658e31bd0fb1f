package kafka

import (
	"fmt"
	"math"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"
)

// frame is what each checkpoint says beside the state, in headers of its last change.
type frame struct {
	partitions int   // of the input: state that was built with another number is of other customers; 0 if unknown
	unasked    int64 // version since which the Sink could not be asked what it holds; 0 if it was
	lost       bool  // the state has seen what the topic does not hold any more: a loss was accepted
	note       *note // as its owner would have told the group next; nil if it tells nothing
}

const (
	headerPartitions = "partitions" // decimal
	headerUnasked    = "unasked"    // decimal; none for 0
	headerLost       = "lost"       // empty; none if nothing was
	headerNote       = "note"       // note.text; none if the group is told nothing
)

func (f *frame) headers() []kgo.RecordHeader {
	list := []kgo.RecordHeader{{Key: headerPartitions, Value: strconv.AppendInt(nil, int64(f.partitions), 10)}}
	if f.unasked != 0 {
		list = append(list, kgo.RecordHeader{Key: headerUnasked, Value: strconv.AppendInt(nil, f.unasked, 10)})
	}
	if f.lost {
		list = append(list, kgo.RecordHeader{Key: headerLost})
	}
	if f.note != nil {
		list = append(list, kgo.RecordHeader{Key: headerNote, Value: []byte(f.note.text())})
	}
	return list
}

// frameOf reads what a record of the changelog says; ok if it is the last one of a checkpoint that says something. What
// cannot have been written is an error: taken for unknown, it would switch off what it is there for.
func frameOf(rec *kgo.Record) (f frame, ok bool, err error) {
	said := ""
	for _, h := range rec.Headers {
		var n int64
		switch h.Key {
		case headerPartitions:
			n, err = decimal(h, math.MaxInt32)
			f.partitions, ok = int(n), true
		case headerUnasked:
			f.unasked, err = decimal(h, math.MaxInt64)
			said = h.Key
		case headerLost:
			f.lost, said = true, h.Key
		case headerNote:
			said = h.Key
			if n, ok := parseNote(string(h.Value)); ok {
				f.note = &n
			} else {
				err = fmt.Errorf("its header %q is %.40q, which is no note", h.Key, h.Value)
			}
		}
		if err != nil {
			return frame{}, false, err
		}
	}
	if said != "" && !ok {
		return frame{}, false, fmt.Errorf("it has a header %q and none %q", said, headerPartitions)
	}
	return f, ok, nil
}

// decimal reads the number of a header, from 0 to a limit, as headers writes it.
func decimal(h kgo.RecordHeader, limit int64) (int64, error) {
	n, err := strconv.ParseInt(string(h.Value), 10, 64)
	if err != nil || n < 0 || n > limit || strconv.FormatInt(n, 10) != string(h.Value) {
		return 0, fmt.Errorf("its header %q is %.40q, which is no number from 0 to %d", h.Key, h.Value, limit)
	}
	return n, nil
}
