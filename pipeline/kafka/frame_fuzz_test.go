package kafka

import (
	"reflect"
	"regexp"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// FuzzFrame reads headers of the changelog that anybody wrote: what is read is what would be written again, and nothing that
// is no number is one.
func FuzzFrame(f *testing.F) {
	for _, c := range []struct{ partitions, unasked string }{
		{"8", "1099511627777"}, {"0", "0"}, {"", "x"}, {"-1", "+5"}, {"08", " 1"}, {"99999999999", "9223372036854775808"},
	} {
		f.Add(headerPartitions, []byte(c.partitions), headerUnasked, []byte(c.unasked), headerLost, []byte(nil))
		f.Add(headerNote, []byte((&note{watched: 7, reached: 1, last: []int64{5, 6}, sample: smallest{1, 2}}).text()), headerPartitions, []byte(c.partitions), headerUnasked, []byte(c.unasked))
		f.Add("other", []byte(c.partitions), headerLost, []byte(c.unasked), headerPartitions, []byte(c.partitions))
	}
	canonical := regexp.MustCompile(`^(0|[1-9][0-9]*)$`)
	f.Fuzz(func(t *testing.T, name1 string, value1 []byte, name2 string, value2 []byte, name3 string, value3 []byte) {
		rec := kgo.Record{Headers: []kgo.RecordHeader{{Key: name1, Value: value1}, {Key: name2, Value: value2}, {Key: name3, Value: value3}}}
		said := map[string]bool{}
		for _, h := range rec.Headers {
			said[h.Key] = true
		}
		known := said[headerPartitions] || said[headerUnasked] || said[headerLost] || said[headerNote]
		got, ok, err := frameOf(&rec)
		if err != nil {
			if !known {
				t.Fatalf("%v of headers that are nobody's business", err)
			}
			return
		}
		if ok != said[headerPartitions] || known && !ok || got.lost != said[headerLost] || (got.note != nil) != said[headerNote] {
			t.Fatalf("%v became %+v, %v", rec.Headers, got, ok)
		}
		for _, h := range rec.Headers {
			if (h.Key == headerPartitions || h.Key == headerUnasked) && !canonical.Match(h.Value) {
				t.Fatalf("%q of %s became %+v", h.Value, h.Key, got)
			}
		}
		again, _, err := frameOf(&kgo.Record{Headers: got.headers()})
		if err != nil || ok && !reflect.DeepEqual(again, got) {
			t.Fatalf("%+v became %+v, %v", got, again, err)
		}
	})
}
