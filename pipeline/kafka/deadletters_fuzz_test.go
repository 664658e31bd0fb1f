package kafka

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"zyklus/pipeline"
)

// FuzzDeadLetter writes a dead letter to its topic and reads it back for the table: what was refused, where and why is the
// same.
func FuzzDeadLetter(f *testing.F) {
	f.Add("events", int32(3), int64(17), int64(1_700_000_000_000), "is bad", []byte("key"), []byte("value"))
	f.Add("", int32(-1), int64(-1), int64(-1), "a\nb\x00ü\xff", []byte(nil), bytes.Repeat([]byte("x"), 100))
	f.Fuzz(func(t *testing.T, topic string, partition int32, offset, at int64, cause string, key, value []byte) {
		l := pipeline.DeadLetter{
			Kind: pipeline.ErrNotJSON, Cause: cause, At: at, Key: key, Value: value,
			Origin: pipeline.Origin{Topic: topic, Partition: partition, Offset: offset},
		}
		now := time.UnixMilli(1_700_000_000_000)
		r := deadLetterRecord("dead", 0, &l, now)
		rows := pipeline.NewRows(pipeline.DeadLetterTable())
		appendDeadLetter(rows, &r)
		text := func(column int) string { return rows.Data[column].Strings(nil)[0] }
		number := func(column int) int64 { return rows.Data[column].Ints[0] }
		if rows.N != 1 || text(0) != topic || number(1) != int64(partition) || number(2) != offset || number(3) != at ||
			text(4) != pipeline.ErrNotJSON.String() || text(5) != cause || text(6) != string(key) || text(7) != string(value) ||
			number(8) != now.UnixMilli() {
			t.Fatalf("%+v became %q %d/%d at %d, %q %q %q %q", l, text(0), number(1), number(2), number(3), text(4), text(5), text(6), text(7))
		}
	})
}

// FuzzForeignDeadLetter reads records of the dead-letter and the output topic that others wrote there: one row of the first,
// whatever it holds, and at most one of the second.
func FuzzForeignDeadLetter(f *testing.F) {
	stalled, err := json.Marshal(cloudEvent{SpecVersion: "1.0", Type: typeStalled, Data: alertData{Source: "shop", Family: "orders", LastEventAt: 5}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(headerTopic, []byte("events"), headerOffset, []byte("99999999999999999999"), stalled)
	f.Add(headerPartition, []byte("-1"), headerAt, []byte("x"), []byte(`{"type":"`+typeResumed+`","data":{"required":true}}`))
	f.Fuzz(func(t *testing.T, name1 string, value1 []byte, name2 string, value2, value []byte) {
		r := kgo.Record{
			Topic: "dead", Partition: 2, Offset: 5, Value: value,
			Headers: []kgo.RecordHeader{{Key: name1, Value: value1}, {Key: name2, Value: value2}},
		}
		rows := pipeline.NewRows(pipeline.DeadLetterTable())
		appendDeadLetter(rows, &r)
		if rows.N != 1 {
			t.Fatalf("%d rows", rows.N)
		}
		given := name1 == headerTopic && name2 == headerOffset || name1 == headerOffset && name2 == headerTopic
		if topic := rows.Data[0].Strings(nil)[0]; !given && (topic != r.Topic || rows.Data[2].Ints[0] != r.Offset) {
			t.Fatalf("a record without a place of its own is at %s/%d", topic, rows.Data[2].Ints[0])
		}
		stalls := pipeline.NewRows(pipeline.SourceStallTable())
		appendStall(stalls, &r)
		var e cloudEvent
		alert := json.Unmarshal(value, &e) == nil && (e.Type == typeStalled || e.Type == typeResumed)
		if alert != (stalls.N == 1) {
			t.Fatalf("%q gives %d rows", value, stalls.N)
		}
	})
}
