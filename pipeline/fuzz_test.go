package pipeline_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"zyklus/bench/oracle"
	"zyklus/pipeline"
)

// FuzzDecodeEvent: arbitrary bytes are an error or an event that survives another round.
func FuzzDecodeEvent(f *testing.F) {
	for seed := range uint64(20) {
		for _, e := range oracle.NewHistory(seed, false).Events {
			if e.Foreign() {
				e.Rate = pipeline.Rate{Units: 920000, Digits: 6}
			}
			f.Add(pipeline.AppendEvent(nil, &e.Event))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var e, again pipeline.Event
		if pipeline.DecodeEvent(b, &e) != nil {
			return
		}
		if err := pipeline.DecodeEvent(pipeline.AppendEvent(nil, &e), &again); err != nil {
			t.Fatal(err)
		}
		if e.Kind != again.Kind || e.At != again.At || e.ID != again.ID || e.Amount != again.Amount || !bytes.Equal(e.OrderID, again.OrderID) ||
			e.Currency != again.Currency || e.Rate != again.Rate ||
			len(e.Lines) != len(again.Lines) || len(e.Lines) > 0 && !reflect.DeepEqual(e.Lines, again.Lines) {
			t.Fatalf("%+v became %+v", e, again)
		}
	})
}

var fuzzSetting = setting{zone: "UTC", lateness: 5 * time.Hour}

// realRecords returns the changelog of a random run.
func realRecords(t testing.TB, seed uint64) changelog {
	tr := oracle.NewHistory(seed, false)
	tr.Zone, tr.Lateness = fuzzSetting.zone, fuzzSetting.lateness
	r := newRun(tr, newJob(t, fuzzSetting), 0, tr.Log(0, 1), rand.New(rand.NewPCG(seed, 2)))
	for i := range 400 {
		if r.position() == len(r.log) || i > 5 && r.chance.IntN(20) == 0 {
			break
		}
		if err := r.act(); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.checkpoint(false); err != nil {
		t.Fatal(err)
	}
	return r.durable.compacted()
}

// FuzzRestoreMeta: an arbitrary record of the partition is an error or a state to go on from.
func FuzzRestoreMeta(f *testing.F) {
	job := newJob(f, fuzzSetting)
	log := realRecords(f, 1)
	f.Add(log[len(log)-1].Value)
	f.Fuzz(func(t *testing.T, value []byte) {
		task := pipeline.NewTask(job, "events", 0)
		if task.Restore([]byte{0}, value) == nil && task.Restored() == nil {
			goOn(task)
		}
	})
}

// FuzzRestoreCustomer: an arbitrary record of a customer is an error or a state to go on from.
func FuzzRestoreCustomer(f *testing.F) {
	for seed := range uint64(40) {
		for _, c := range realRecords(f, seed) {
			if c.Key[0] == 1 {
				f.Add(c.Value)
			}
		}
	}
	f.Fuzz(restoreCustomer)
}

// FuzzRestoreTail: arbitrary bytes in the place of the last ones of a real record, where rows wait to be written.
func FuzzRestoreTail(f *testing.F) {
	var real changelog
	for seed := range uint64(40) {
		for _, c := range realRecords(f, seed) {
			if c.Key[0] == 1 {
				f.Add(uint16(len(real)), uint16(200), c.Value[max(0, len(c.Value)-200):])
				real = append(real, c)
			}
		}
	}
	f.Fuzz(func(t *testing.T, n, cut uint16, tail []byte) {
		value := real[int(n)%len(real)].Value
		restoreCustomer(t, append(bytes.Clone(value[:len(value)-int(cut)%len(value)]), tail...))
	})
}

// FuzzRestoreSection: arbitrary bytes of one operator's section, in a record that is else sound.
func FuzzRestoreSection(f *testing.F) {
	for tag := range byte(8) {
		f.Add(tag, byte(1), []byte{2, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0}, uint8(1))
		f.Add(tag, byte(1), []byte{0x80, 0xb4, 0x99, 0x02, 2, 0xa0, 0x1f}, uint8(0))
	}
	f.Add(byte(1), byte(2), foreignSection(), uint8(1))
	f.Fuzz(func(t *testing.T, tag, layout byte, body []byte, orders uint8) {
		restoreCustomer(t, record(tag, layout, body, int64(orders%2)))
	})
}

// foreignSection is a ledger with an order in dollars, of which 10 have come back, and 1 in euros.
func foreignSection() []byte {
	return foreignOrder(pipeline.Rate{Units: 9231, Digits: 4}, 1)
}

func foreignOrder(rate pipeline.Rate, other int64) []byte {
	b := pipeline.AppendInt([]byte{0}, 1_700_000_000_000)
	b = append(b, 0, 0, 0, 0, 0, 0, 1, 2, 'o', '1', 0, 0, 200, 1, 20, 0x80, 'U', 'S', 'D')
	b = pipeline.AppendInt(pipeline.AppendRate(b, rate), other)
	return append(b, 0, 0)
}

// TestCorruptMoney: a restore refuses money that no fold can have written.
func TestCorruptMoney(t *testing.T) {
	for name, section := range map[string][]byte{
		"no rate":               foreignOrder(pipeline.Rate{}, 0),
		"too great a rate":      foreignOrder(pipeline.Rate{Units: 1e18}, 0),
		"rate of 20 digits":     foreignOrder(pipeline.Rate{Units: 1, Digits: 20}, 0),
		"below zero":            foreignOrder(pipeline.Rate{Units: 1}, -1),
		"more back than worth":  foreignOrder(pipeline.Rate{Units: 1}, 101),
		"a currency like 'uSD'": bytes.Replace(foreignSection(), []byte("USD"), []byte("uSD"), 1),
	} {
		task := pipeline.NewTask(newJob(t, fuzzSetting), "events", 0)
		if err := restored(t, task, []byte("c"), record(1, 2, section, 1)); err == nil {
			t.Errorf("%s is restored", name)
		}
	}
	// An order that is open still, whose rate has become a zero of two bytes.
	o := options(t)
	o.Rates = readRates(t, "small")
	job, err := pipeline.NewJob(o)
	if err != nil {
		t.Fatal(err)
	}
	task, at := pipeline.NewTask(job, "events", 0), time.Date(2024, 3, 1, 10, 0, 0, 0, time.UTC).UnixMilli()
	task.Process(&pipeline.Event{
		Kind: pipeline.KindOrderCompleted, At: at, ID: 1, Customer: []byte("c"), OrderID: []byte("o"), Amount: 5, HasAmount: true, Currency: code("USD"),
	}, at)
	var log changelog
	log.append(task.Checkpoint())
	if _, err := log.restore(job, 0); err != nil {
		t.Fatal(err)
	}
	log[0].Value = bytes.Replace(log[0].Value, []byte("USD\x9d\x07\x03"), []byte("USD\x80\x00\x03"), 1)
	if _, err := log.restore(job, 0); err == nil {
		t.Errorf("an order without a rate is restored: %x", log[0].Value)
	}
}

// record writes a customer with one section by hand.
func record(tag, layout byte, body []byte, orders int64) []byte {
	at := int64(1_700_000_000_000)
	totals := []int64{orders, 100 * orders, 0, at, at, 1}
	if orders == 0 {
		totals = make([]int64, 6)
	}
	settled := pipeline.AppendInt(nil, at)
	for _, v := range totals {
		settled = pipeline.AppendInt(settled, v)
	}
	settled = append(settled, 0, 1)
	settled = pipeline.AppendBytes(settled, []byte("shoes"))
	settled = append(settled, 1, 1) // one lifecycle, in its first phase
	settled = pipeline.AppendInt(pipeline.AppendInt(settled, at), 1)
	settled = append(settled, 0, 0, 4) // no stay before; the last rule
	if orders > 0 && tag != 1 {
		ledger := pipeline.AppendInt([]byte{0}, at) // nothing waits; the oldest order
		ledger = append(ledger, 0, 0, 0, 0, 0, 0, 1, 2, 'o', '1', 0, 0, 200, 1, 0, 0, 0, 0)
		settled = pipeline.AppendBytes(append(settled, 1, 1), ledger)
	}
	settled = pipeline.AppendBytes(append(settled, tag, layout), body)
	r := pipeline.AppendBytes([]byte{1}, []byte("c"))
	r = pipeline.AppendInt(pipeline.AppendUint(r, 1), at)
	r = pipeline.AppendBytes(append(pipeline.AppendUint(r, uint64(at)+1), 0), []byte{1})
	return append(pipeline.AppendBytes(r, settled), 0, 0)
}

func restoreCustomer(t *testing.T, value []byte) {
	r := pipeline.NewReader(value)
	r.Byte()
	id := r.Bytes()
	if task := pipeline.NewTask(newJob(t, fuzzSetting), "events", 0); restored(t, task, id, value) == nil {
		goOn(task, id)
	}
}

// restored restores one customer, with a clock after all.
func restored(t testing.TB, task *pipeline.Task, id, value []byte) error {
	meta := realMeta(t)
	return errors.Join(task.Restore(append([]byte{1}, id...), value), task.Restore(meta.Key, meta.Value), task.Restored())
}

// TestFuzzSeedsAreSound: fuzzing would be blind if what it starts from were refused.
func TestFuzzSeedsAreSound(t *testing.T) {
	for seed := range uint64(40) {
		for _, c := range realRecords(t, seed) {
			if c.Key[0] == 1 {
				if err := restored(t, pipeline.NewTask(newJob(t, fuzzSetting), "events", 0), c.Key[1:], c.Value); err != nil {
					t.Errorf("seed %d: %v", seed, err)
				}
			}
		}
	}
	if err := restored(t, pipeline.NewTask(newJob(t, fuzzSetting), "events", 0), []byte("c"), record(1, 2, foreignSection(), 1)); err != nil {
		t.Error(err)
	}
	for orders := range int64(2) {
		task := pipeline.NewTask(newJob(t, fuzzSetting), "events", 0)
		if err := restored(t, task, []byte("c"), record(6, 1, nil, orders)); err != nil {
			t.Error(err)
		}
	}
}

var lastMeta pipeline.Change

// realMeta is the partition's record at a checkpoint and a clock after those of all real records.
func realMeta(t testing.TB) pipeline.Change {
	if lastMeta.Key == nil {
		task := pipeline.NewTask(newJob(t, fuzzSetting), "events", 0)
		task.AdvanceClock(time.Date(2035, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli())
		for range 1000 {
			lastMeta = task.Checkpoint().Changes[0]
		}
	}
	return lastMeta
}

// goOn does everything that a Task does with a restored state.
func goOn(task *pipeline.Task, customers ...[]byte) {
	clock := task.Stats().Clock
	for round := range int64(3) {
		for i, id := range customers {
			for k, kind := range []pipeline.Kind{pipeline.KindOrderCompleted, pipeline.KindOrderRefunded, pipeline.KindPageViewed, pipeline.KindOrderUpdated} {
				for _, late := range []int64{0, 10 * dayMs} {
					at := clock - late
					e := pipeline.Event{Kind: kind, At: at, ID: uint64(clock) + uint64(i*8+k), Customer: id, OrderID: []byte("o1"), Amount: 5, HasAmount: true}
					if late == 0 {
						e.Currency = [3]byte{'U', 'S', 'D'}
					}
					task.Process(&e, at)
				}
			}
		}
		for n := 0; task.Drain(100) && n < 100; n++ {
		}
		task.Checkpoint()
		task.Committed()
		for b := task.NextBatch(100); b != nil; b = task.NextBatch(100) {
			oracle.BatchRows(b)
			task.Acknowledge()
		}
		clock += (round + 1) * 300 * dayMs
		task.AdvanceClock(clock)
	}
}
