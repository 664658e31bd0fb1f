package pipeline_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"zyklus/pipeline"
)

// TestRecordLayout holds the bytes at rest: state written by yesterday's binary is read by today's. If this fails without
// a new format or layout number, running deployments would not start again. With one, keep the old file beside the new.
func TestRecordLayout(t *testing.T) {
	for days, file := range map[bool]string{false: "testdata/record_1.golden", true: "testdata/record_1_days.golden"} {
		o := options(t)
		o.Days = days
		job, err := pipeline.NewJob(o)
		if err != nil {
			t.Fatal(err)
		}
		recordLayout(t, job, file)
	}
}

func recordLayout(t *testing.T, job *pipeline.Job, file string) {
	t.Helper()
	task := pipeline.NewTask(job, "events", 3)
	task.SetTopicID(pipeline.TopicID{0: 0xa1, 15: 0xaf})
	at := time.Date(2024, 3, 1, 10, 0, 0, 0, time.UTC).UnixMilli()
	send := func(e pipeline.Event) {
		e.Customer, e.Known = []byte("anna"), true
		e.Origin = pipeline.Origin{Topic: "events", Partition: 3, Offset: int64(e.ID)}
		e.Raw = fmt.Appendf(nil, "raw %d", e.ID)
		task.Process(&e, e.At)
	}
	shoes := pipeline.Line{Product: 0x1122334455667788, Category: []byte("shoes"), Quantity: 1000, Amount: 1999, HasAmount: true}
	hat := pipeline.Line{Product: 0x2233445566778899, Category: []byte("hats"), Quantity: 2000, Amount: 3000, HasAmount: true}
	send(pipeline.Event{Kind: pipeline.KindPageViewed, At: at, ID: 1})
	send(pipeline.Event{Kind: pipeline.KindOrderCompleted, At: at + 1000, ID: 2, OrderID: []byte("a1"), Amount: 4999, HasAmount: true, Lines: []pipeline.Line{shoes, hat}})
	send(pipeline.Event{Kind: pipeline.KindOrderRefunded, At: at + dayMs, ID: 3, OrderID: []byte("a1"), Lines: []pipeline.Line{hat}})
	send(pipeline.Event{Kind: pipeline.KindOrderCancelled, At: at + 2*dayMs - 1000, ID: 4, OrderID: []byte("a0")})
	send(pipeline.Event{Kind: pipeline.KindOrderCompleted, At: at + 2*dayMs, ID: 5, OrderID: []byte("a2"), Amount: 500, HasAmount: true})
	task.SetPosition(17)
	for task.Drain(10) {
	}
	var got strings.Builder
	for _, c := range task.Checkpoint().Changes {
		value := c.Value
		if c.Key[0] == 0 {
			value = withoutDigest(t, value)
		}
		fmt.Fprintf(&got, "key %x\n%s\n", c.Key, hex.Dump(value))
	}
	if *update {
		if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("the bytes at rest have changed:\n%s\nwere\n%s", got.String(), want)
	}
}

// TestEventLayout holds the compact form of an event, which is at rest in open events.
func TestEventLayout(t *testing.T) {
	e := pipeline.Event{
		Kind: pipeline.KindOrderRefunded, At: 1709287200000, ID: 0x0102030405060708, Known: true, OrderID: []byte("a1"), Amount: 1999, HasAmount: true,
		Lines: []pipeline.Line{{Product: 0x1122334455667788, Category: []byte("shoes"), Quantity: 1000, Amount: -1, HasAmount: true}},
		Raw:   []byte("{}"), Origin: pipeline.Origin{Topic: "t", Partition: 2, Offset: 300},
	}
	want, err := hex.DecodeString(strings.ReplaceAll("09 0f 80d4 a697 bf63 0807060504030201 9e1f 02 6131 01 8877665544332211 05 73686f6573 d00f 01 01 02 7b7d 01 74 02 ac02", " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	if got := pipeline.AppendEvent(nil, &e); !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
	// In a foreign currency: flag 10, then currency and rate behind the amount.
	e.Currency, e.Rate = [3]byte{'U', 'S', 'D'}, pipeline.Rate{Units: 9231, Digits: 4}
	foreign := bytes.Replace(want, []byte{0x9e, 0x1f}, []byte{0x9e, 0x1f, 'U', 'S', 'D', 0x8f, 0x48, 4}, 1)
	foreign[1] |= 0x10
	var again pipeline.Event
	if got := pipeline.AppendEvent(nil, &e); !bytes.Equal(got, foreign) {
		t.Errorf("got %x, want %x", got, foreign)
	} else if err := pipeline.DecodeEvent(got, &again); err != nil || again.Currency != e.Currency || again.Rate != e.Rate || again.Amount != 1999 {
		t.Errorf("read as %+v, %v", again, err)
	}
}

// withoutDigest zeroes the digest of lifecycles and artefact, which is not the layout's.
func withoutDigest(t *testing.T, value []byte) []byte {
	t.Helper()
	m, err := pipeline.ReadMeta(value)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Replace(value, pipeline.AppendUint64(nil, m.Digest), make([]byte, 8), 1)
}
