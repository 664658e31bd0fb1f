package pipeline_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"zyklus/bench/oracle"
	"zyklus/pipeline"
)

// TestDaysOutage leaves the sink away for thirty years of a customer who comes every day, and goes on though the Task is
// crowded. The record stays small: rows are given up and counted, the latest day is there, and afterwards every day is again.
func TestDaysOutage(t *testing.T) {
	job := newJob(t, setting{zone: "UTC", lateness: 10 * time.Minute})
	task := pipeline.NewTask(job, "events", 0)
	begin := time.Date(1995, 1, 1, 12, 0, 0, 0, time.UTC).UnixMilli()
	var durable changelog
	largest := 0
	checkpoint := func() {
		cp := task.Checkpoint()
		for _, c := range cp.Changes {
			largest = max(largest, len(c.Value))
		}
		durable.append(cp)
		task.Committed()
	}
	day := int64(0)
	live := func(days int64) {
		for end := day + days; day < end; day++ {
			e := pipeline.Event{
				Kind: pipeline.KindPageViewed, At: begin + day*dayMs, ID: uint64(day) + 1, Customer: []byte("anna"), Known: true,
			}
			if day%300 == 0 {
				e.Kind, e.OrderID, e.Amount, e.HasAmount = pipeline.KindOrderCompleted, fmt.Appendf(nil, "o%d", day), 100, true
			}
			if task.Process(&e, e.At); task.Full() || day%100 == 0 {
				checkpoint()
			}
		}
	}
	sink := oracle.NewStore()
	back := func() {
		checkpoint()
		for b := task.NextBatch(1000); b != nil; b = task.NextBatch(1000) {
			sink.Write(oracle.BatchRows(b))
			task.Acknowledge()
		}
	}
	live(11_000)
	checkpoint()
	if !task.Crowded() {
		t.Error("the Task does not say that too much waits")
	}
	lost := task.Stats().DaysLost
	if limit := 300 << 10; largest > limit {
		t.Errorf("a record of %d bytes, want at most %d", largest, limit)
	}
	task, err := durable.compacted().restore(job, 0)
	if err != nil {
		t.Fatal(err)
	}
	if !task.Crowded() {
		t.Error("the next owner does not know that too much waits")
	}
	if back(); task.Crowded() || task.Stats().BytesPending != 0 {
		t.Errorf("all is written, and %d bytes wait", task.Stats().BytesPending)
	}
	rows := sink.Tables["customer_days"]
	if int64(len(rows)) != day-1-lost || lost == 0 || len(rows) < 500 {
		t.Errorf("%d rows and %d lost, want %d together", len(rows), lost, day-1)
	}
	days := begin/dayMs + day
	if r, ok := rows[fmt.Sprintf("anna|%d|", days-2)]; !ok || r.Get("touches").Int != day-1 {
		t.Errorf("the row of the last day that ended is %v", r)
	}
	atRest := task.Stats().StateBytes
	live(2)
	back()
	if grown := task.Stats().StateBytes - atRest; grown > 1000 {
		t.Errorf("written rows are still at rest: %d bytes more for two days", grown)
	}
	if r, ok := rows[fmt.Sprintf("anna|%d|", days)]; !ok || r.Get("touches").Int != day-1 || len(sink.Faults) > 0 {
		t.Errorf("after the outage: %v, %v", r, sink.Faults)
	}
}

// TestDaysOutageAfterCorrection corrects days whose rows are written while the sink is away, for so long that rows are
// given up: a row may be missing then, but none stands that is wrong.
func TestDaysOutageAfterCorrection(t *testing.T) {
	const written, corrected = 50, 42
	job := newJob(t, setting{zone: "UTC", lateness: 10 * 24 * time.Hour})
	task := pipeline.NewTask(job, "events", 0)
	begin := time.Date(1995, 1, 1, 12, 0, 0, 0, time.UTC).UnixMilli()
	see := func(at int64, id uint64) {
		task.Process(&pipeline.Event{Kind: pipeline.KindPageViewed, At: at, ID: id, Customer: []byte("anna"), Known: true}, at)
	}
	sink := oracle.NewStore()
	back := func() {
		task.Checkpoint()
		task.Committed()
		for b := task.NextBatch(1000); b != nil; b = task.NextBatch(1000) {
			sink.Write(oracle.BatchRows(b))
			task.Acknowledge()
		}
	}
	for day := range int64(11_000) {
		see(begin+day*dayMs, uint64(day)+1)
		switch {
		case day == written:
			back()
			see(begin+corrected*dayMs+1, 1<<40)
			fallthrough
		case day%100 == 0:
			task.Checkpoint()
			task.Committed()
		}
	}
	stood := sink.Tables["customer_days"][fmt.Sprintf("anna|%d|", begin/dayMs+corrected)]
	back()
	rows := sink.Tables["customer_days"]
	for _, r := range rows {
		if r.Deleted {
			continue
		}
		day := r.Get("day").Int - begin/dayMs
		want := day + 1
		if day >= corrected {
			want++
		}
		if got := r.Get("touches").Int; got != want {
			t.Errorf("day %d stands with %d events, there were %d", day, got, want)
		}
	}
	if task.Stats().DaysLost == 0 || len(rows) < 100 || stood.Get("touches").Int != corrected+1 || len(sink.Faults) > 0 {
		t.Errorf("%d days lost, %d rows, %v: the test is too easy", task.Stats().DaysLost, len(rows), sink.Faults)
	}
}

// TestDaysShed writes the rows of many days and holds that the customer at rest is as small as one without.
func TestDaysShed(t *testing.T) {
	o := options(t)
	var bytes [2]int64
	for i, days := range []bool{false, true} {
		o.Days = days
		job, err := pipeline.NewJob(o)
		if err != nil {
			t.Fatal(err)
		}
		task := pipeline.NewTask(job, "events", 0)
		for day := range int64(100) {
			task.Process(&pipeline.Event{Kind: pipeline.KindPageViewed, At: benchStart + day*dayMs, ID: uint64(day) + 1, Customer: []byte("anna")}, benchStart+day*dayMs)
		}
		task.AdvanceClock(benchStart + 101*dayMs)
		commit(task, true)
		bytes[i] = task.Stats().StateBytes
	}
	if bytes[0] != bytes[1] {
		t.Errorf("%d bytes at rest with days, %d without", bytes[1], bytes[0])
	}
}

// TestDaysSwitch restores states with pending rows where the table is off, and the other way round, and under a job whose
// columns are others: withdrawals are still known, rows are lost and counted.
func TestDaysSwitch(t *testing.T) {
	on := newJob(t, fuzzSetting)
	o := options(t)
	o.Lateness, o.Days = fuzzSetting.lateness, false
	off, err := pipeline.NewJob(o)
	if err != nil {
		t.Fatal(err)
	}
	o = options(t)
	o.Lateness = fuzzSetting.lateness
	o.Operators = slices.DeleteFunc(o.Operators, func(op pipeline.Operator) bool { return op.Section().Name == "touchpoints" })
	other, err := pipeline.NewJob(o)
	if err != nil {
		t.Fatal(err)
	}
	pending, lost := 0, int64(0)
	for seed := range uint64(200) {
		log := realRecords(t, seed)
		task, err := log.restore(other, 0)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		lost += task.Stats().DaysLost
		for _, jobs := range [][]*pipeline.Job{{off}, {off, on}, {on, off, on}} {
			durable := log
			for _, job := range jobs {
				task, err := durable.restore(job, 0)
				if err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				durable.append(task.Checkpoint())
				task.Committed()
				days := 0
				for b := task.NextBatch(100); b != nil; b = task.NextBatch(100) {
					for _, rows := range b.Tables {
						if rows.Table.Name == "customer_days" {
							days += rows.N
						}
					}
					task.Acknowledge()
				}
				if job == jobs[0] {
					pending += days
				}
				if job == off && days > 0 {
					t.Fatalf("seed %d: %d rows of a table that is off", seed, days)
				}
			}
		}
	}
	if pending < 100 || lost < 100 {
		t.Errorf("only %d rows were pending, %d lost: the test is too easy", pending, lost)
	}
}
