package pipeline_test

import (
	"bytes"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"zyklus/pipeline"
)

// again restores a changelog and has all of it written once more.
func (l changelog) again(t testing.TB, job *pipeline.Job) (written changelog, err error) {
	t.Helper()
	task, err := l.restore(job, 0)
	if err != nil {
		return nil, err
	}
	task.TouchAll()
	written.append(task.Checkpoint())
	return written, nil
}

// customers returns the records of customers by key.
func (l changelog) customers() map[string][]byte {
	records := map[string][]byte{}
	for _, c := range l {
		if c.Key[0] == 1 {
			records[string(c.Key)] = c.Value
		}
	}
	return records
}

// checkRewritten holds that a restored state is written as bytes that are restored, and written, as the same again.
func checkRewritten(t *testing.T, job *pipeline.Job, log changelog) {
	t.Helper()
	once, err := log.again(t, job)
	if err != nil {
		return // refused: FuzzRestoreCustomer and others tell
	}
	twice, err := once.again(t, job)
	if err != nil {
		t.Fatalf("refuses what it wrote: %v\n%x", err, once)
	}
	if a, b := once.customers(), twice.customers(); !reflect.DeepEqual(a, b) {
		t.Fatalf("written as\n%x\nthen as\n%x", a, b)
	}
}

// FuzzState writes real states again: what a run of any seed leaves, with its operators' sections, open events, outbox and
// pending days, is read and written without a change.
func FuzzState(f *testing.F) {
	for seed := range uint64(30) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		job, log := newJob(t, fuzzSetting), realRecords(t, seed)
		checkRewritten(t, job, log)
		if _, err := log.again(t, job); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	})
}

// FuzzOpenEvent restores a customer with an arbitrary open event: it is refused, or folded into a state that is restored
// again.
func FuzzOpenEvent(f *testing.F) {
	at := int64(1_700_000_000_000)
	for _, l := range []pipeline.Line{{Quantity: 1000, Amount: 5, HasAmount: true}, {Quantity: -1000}, {Quantity: 1, Amount: -5, HasAmount: true}} {
		for kind := pipeline.KindPageViewed; kind.Valid(); kind++ {
			f.Add(pipeline.AppendEvent(nil, &pipeline.Event{
				Kind: kind, At: at + 5, ID: 1, OrderID: []byte("o2"), Amount: 5, HasAmount: true, Lines: []pipeline.Line{l},
			}))
		}
	}
	f.Add(pipeline.AppendEvent(nil, &pipeline.Event{Kind: pipeline.KindOrderCompleted, At: at + 5, ID: 1, OrderID: []byte("o2"), Amount: -1, HasAmount: true}))
	f.Fuzz(func(t *testing.T, event []byte) {
		value := record(6, 1, nil, 1)
		value = append(pipeline.AppendBytes(append(value[:len(value)-2], 1), event), 0)
		job := newJob(t, fuzzSetting)
		once, err := (changelog{{Key: []byte{1, 'c'}, Value: value}, realMeta(t)}).again(t, job)
		if err != nil {
			return
		}
		checkRewritten(t, job, once)
		if _, err := once.again(t, job); err != nil {
			t.Fatalf("refuses what it wrote: %v\n%x", err, once)
		}
	})
}

// FuzzUnknownSections puts a section that this binary does not know into a real record: it is kept as it is, whatever
// happens to the customer.
func FuzzUnknownSections(f *testing.F) {
	f.Add(uint64(1), byte(200), byte(1), []byte("of a newer binary"))
	f.Add(uint64(2), byte(9), byte(0), []byte{})
	f.Fuzz(func(t *testing.T, seed uint64, tag, layout byte, body []byte) {
		if tag > 0 && tag < 200 || len(body) > 1000 {
			return // a tag that is, or will be, an operator's
		}
		section := pipeline.AppendBytes([]byte{tag, layout}, body)
		log := realRecords(t, seed%100)
		var ids [][]byte
		for i := range log {
			if c := &log[i]; c.Key[0] == 1 {
				var ok bool
				if c.Value, ok = withSection(c.Value, section); ok {
					ids = append(ids, c.Key[1:])
				}
			}
		}
		checkRewritten(t, newJob(t, fuzzSetting), log)
		task, err := log.restore(newJob(t, fuzzSetting), 0)
		if err != nil {
			t.Fatal(err)
		}
		task.TouchAll()
		goOnOnce(task, ids)
		for id, value := range checkpointed(task) {
			if !bytes.Contains(value, section) && known(ids, id) {
				t.Fatalf("the section is gone from %x", value)
			}
		}
	})
}

func known(ids [][]byte, key string) bool {
	for _, id := range ids {
		if string(id) == key[1:] {
			return true
		}
	}
	return false
}

func checkpointed(task *pipeline.Task) map[string][]byte {
	var log changelog
	log.append(task.Checkpoint())
	return log.customers()
}

// goOnOnce processes an order of each customer, and lets a year pass.
func goOnOnce(task *pipeline.Task, ids [][]byte) {
	at := task.Stats().Clock
	for i, id := range ids {
		task.Process(&pipeline.Event{
			Kind: pipeline.KindOrderCompleted, At: at, ID: uint64(i), Customer: id, OrderID: []byte("new"), Amount: 5, HasAmount: true,
		}, at)
	}
	task.AdvanceClock(at + 365*dayMs)
	for task.Drain(100) && !task.Full() {
	}
}

// withSection appends a section to the settled part of a customer's record; not to one of whom nothing is settled.
func withSection(value, section []byte) ([]byte, bool) {
	r := pipeline.NewReader(value)
	r.Byte()      // format
	r.Bytes()     // id
	for range 4 { // row version, as of, deadline, wake: varints all
		r.Uint()
	}
	r.Bytes() // phases
	head := value[:len(value)-r.Len()]
	settled := r.Bytes()
	if r.Err() != nil || len(settled) == 0 {
		return value, false
	}
	rest := value[len(value)-r.Len():]
	grown := append(bytes.Clone(settled), section...)
	return append(pipeline.AppendBytes(bytes.Clone(head), grown), rest...), true
}

// FuzzHostileRecord gives a Task a record of any kind and length: the error, or the state, costs memory in proportion to
// the bytes. What the fuzzer cannot grow to great lengths is padded.
func FuzzHostileRecord(f *testing.F) {
	for seed := range uint64(5) {
		for id, value := range realRecords(f, seed).customers() {
			f.Add([]byte(id), value, uint8(0), uint16(0))
		}
	}
	f.Add([]byte{1, 'c'}, []byte("\x01\x01c\x01\x01\x01\x01\x00\x00\xff\xff\x03"), uint8(0), uint16(65535))     // open events
	f.Add([]byte{1, 'c'}, []byte("\x01\x01c\x01\x01\x01\x01\x00\x00\x00\xff\xff\x03"), uint8(1), uint16(65535)) // outbox
	meta := realMeta(f)
	f.Add(meta.Key, meta.Value, uint8(0), uint16(0))
	f.Fuzz(func(t *testing.T, key, value []byte, pad uint8, times uint16) {
		checkCost(t, key, padded(value, pad, times))
	})
}

// FuzzHostileSection does the same with the section of an operator in a record that is else sound.
func FuzzHostileSection(f *testing.F) {
	for tag := range byte(8) {
		f.Add(tag, byte(1), []byte{0, 0}, uint8(0), uint16(100))
	}
	f.Add(byte(1), byte(2), []byte("\x00\x00\x00\x00\x00\x00\x00\x00\xf8\xff\x03"), uint8(0), uint16(65535)) // orders
	f.Add(byte(1), byte(2), []byte("\x00\x00\xf8\xff\x03"), uint8(0), uint16(65535))                         // waiting
	f.Add(byte(1), byte(2), foreignSection(), uint8(1), uint16(9))
	f.Fuzz(func(t *testing.T, tag, layout byte, body []byte, pad uint8, times uint16) {
		checkCost(t, []byte{1, 'c'}, record(tag, layout, padded(body, pad, times), 1))
	})
}

// FuzzHostileEvent does the same with an event, at rest and in the events' topic.
func FuzzHostileEvent(f *testing.F) {
	f.Add([]byte("\x06\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xf0\xff\x03"), uint8(0), uint16(65535)) // lines
	f.Fuzz(func(t *testing.T, value []byte, pad uint8, times uint16) {
		value = padded(value, pad, times)
		var e pipeline.Event
		var m pipeline.Marker
		var reader pipeline.RekeyedReader
		rekeyed := append(pipeline.AppendBytes([]byte{1}, value), 0, 0, 0, 0)
		if spent := allocations(func() {
			_ = pipeline.DecodeEvent(value, &e)
			_, _ = reader.Decode([]byte("c"), rekeyed, &e, &m)
			_, _ = reader.Decode([]byte("c"), value, &e, &m)
		}); spent > uint64(64<<10+128*len(value)) {
			t.Fatalf("%d bytes of memory for an event of %d", spent, len(value))
		}
	})
}

func padded(value []byte, pad uint8, times uint16) []byte {
	return append(bytes.Clone(value), bytes.Repeat([]byte{pad}, int(times))...)
}

// checkCost restores a record and a sound one of the partition.
func checkCost(t *testing.T, key, value []byte) {
	t.Helper()
	meta, task := realMeta(t), pipeline.NewTask(newJob(t, fuzzSetting), "events", 0)
	spent := allocations(func() {
		if task.Restore(key, value) == nil && task.Restore(meta.Key, meta.Value) == nil {
			_ = task.Restored()
		}
	})
	if limit := uint64(1<<20 + 128*len(value)); spent > limit { // a chunk of the slab, and the structs of work
		t.Fatalf("%d bytes of memory for a record of %d", spent, len(value))
	}
}

// allocations returns how many bytes of memory f asked for.
func allocations(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// FuzzRestoreRekeyed holds the partition's record of a Task behind the re-keying stage: what it has heard of the channels
// is written as it was read.
func FuzzRestoreRekeyed(f *testing.F) {
	job := rekeyedJob(f)
	task := pipeline.NewTask(job, "events", 0)
	set := pipeline.NewChannelSet(map[string]int32{"a": 2})
	task.Mark(&pipeline.Marker{Channel: pipeline.Channel("a", 0), Set: set, Clock: 1_700_000_000_000, Hold: pipeline.NoHold()})
	f.Add(task.Checkpoint().Changes[0].Value)
	task.Mark(&pipeline.Marker{Channel: pipeline.Channel("a", 1), Set: set, Clock: 1_700_000_000_000, Hold: pipeline.Hold{Clock: 5, Settled: 4}})
	f.Add(task.Checkpoint().Changes[0].Value)
	f.Add(realMeta(f).Value)
	f.Fuzz(func(t *testing.T, value []byte) {
		first, err := (changelog{{Key: []byte{0}, Value: value}}).again(t, job)
		if err != nil {
			return
		}
		second, err := first.again(t, job)
		if err != nil {
			t.Fatalf("refuses what it wrote: %v\n%x", err, first)
		}
		a, aerr := pipeline.ReadMeta(first[0].Value)
		b, berr := pipeline.ReadMeta(second[0].Value)
		if b.Number--; aerr != nil || berr != nil || !reflect.DeepEqual(a, b) {
			t.Fatalf("%+v (%v) became %+v (%v)", a, aerr, b, berr)
		}
		task, err := second.restore(job, 0)
		if err != nil {
			t.Fatal(err)
		}
		clock := task.Stats().Clock
		task.Mark(&pipeline.Marker{Channel: pipeline.Channel("b", 0), Set: pipeline.NewChannelSet(map[string]int32{"b": 1}), Clock: clock + 1, Hold: pipeline.NoHold()})
		goOn(task)
	})
}

// FuzzRekeyer holds the record of a Rekeyer: an error, or a position and clock to go on from.
func FuzzRekeyer(f *testing.F) {
	o := pipeline.RekeyOptions{Topic: "events", Partitions: 2, Set: pipeline.NewChannelSet(map[string]int32{"a": 1}), WallClock: true}
	r := pipeline.NewRekeyer(o, "a", 0)
	r.SetPosition(17)
	r.AdvanceClock(1_700_000_000_000)
	f.Add([]byte{0}, r.Checkpoint().Changes[0].Value)
	f.Add([]byte{1, 'c'}, []byte{0x80})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		r := pipeline.NewRekeyer(o, "a", 0)
		if r.Restore(key, value) != nil || r.Restored() != nil {
			return
		}
		position, clock, watermark := r.Position(), r.Stats().Clock, r.Stats().Watermark
		cp := r.Checkpoint()
		again := pipeline.NewRekeyer(o, "a", 0)
		err := again.Restore(cp.Changes[0].Key, cp.Changes[0].Value)
		if err != nil || again.Position() != position || again.Stats().Clock != clock || again.Stats().Watermark != watermark {
			t.Fatalf("%d at %d became %d at %d (%v)", position, clock, again.Position(), again.Stats().Clock, err)
		}
		again.Process(&pipeline.Event{Kind: pipeline.KindPageViewed, At: clock, ID: 1, Customer: []byte("c")}, clock+int64(time.Second))
		if again.SetPosition(position + 1); len(again.Checkpoint().Outputs) != 1+int(o.Partitions) {
			t.Fatal("does not go on")
		}
	})
}

// FuzzChangelogKey holds that each key of a changelog is a customer's, the partition's or refused, as Restore does.
func FuzzChangelogKey(f *testing.F) {
	f.Add([]byte{0})
	f.Add([]byte("\x01c"))
	f.Fuzz(func(t *testing.T, key []byte) {
		customer, err := pipeline.ChangelogKey(key)
		if err == nil && customer == nil != (len(key) == 1) || err == nil && string(customer) != string(key[min(1, len(key)):]) {
			t.Fatalf("%x is of %x, %v", key, customer, err)
		}
		restored := pipeline.NewTask(newJob(t, fuzzSetting), "events", 0).Restore(key, record(6, 1, nil, 0))
		if err != nil && restored == nil {
			t.Fatalf("%x is restored, but %v", key, err)
		}
		if restored != nil && strings.Contains(restored.Error(), "\n") {
			t.Fatalf("%q", restored)
		}
	})
}
