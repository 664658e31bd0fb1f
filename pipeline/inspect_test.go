package pipeline_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"zyklus/bench/oracle"
	"zyklus/pipeline"
)

// goldenChanges reads the changelog records that TestRecordLayout holds. The digest, which it leaves out, is zero.
func goldenChanges(t testing.TB, file string) (changes []pipeline.Change) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range strings.Split(string(text), "key ")[1:] {
		head, dump, _ := strings.Cut(part, "\n")
		key, err := hex.DecodeString(head)
		if err != nil {
			t.Fatal(err)
		}
		var value []byte
		for line := range strings.Lines(dump) {
			if len(line) < 58 {
				continue
			}
			b, err := hex.DecodeString(strings.ReplaceAll(line[10:58], " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			value = append(value, b...)
		}
		if key[0] == 0 {
			value = append(value, make([]byte, 8)...)
		}
		changes = append(changes, pipeline.Change{Key: key, Value: value})
	}
	return changes
}

// inspectGolden inspects the one customer of the golden record.
func inspectGolden(t testing.TB) (*pipeline.Inspection, pipeline.Meta, []byte) {
	t.Helper()
	changes := goldenChanges(t, "testdata/record_1.golden")
	if len(changes) != 2 {
		t.Fatalf("%d records", len(changes))
	}
	id, err := pipeline.ChangelogKey(changes[0].Key)
	if err != nil || string(id) != "anna" {
		t.Fatalf("customer %q, %v", id, err)
	}
	if id, err = pipeline.ChangelogKey(changes[1].Key); id != nil || err != nil {
		t.Fatalf("partition's own record: %q, %v", id, err)
	}
	meta, err := pipeline.ReadMeta(changes[1].Value)
	if err != nil {
		t.Fatal(err)
	}
	got, err := newJob(t, setting{zone: "UTC", lateness: 10 * time.Minute}).Inspect(changes[0].Value, &meta)
	if err != nil {
		t.Fatal(err)
	}
	return got, meta, changes[0].Value
}

// TestInspect says what is known of the golden customer: a page and an order of 49.99 on 1 March 2024, the refund of the
// hats (30.00) a day later, the cancellation of an unknown order and an order of 5.00 on 3 March, not settled yet.
func TestInspect(t *testing.T) {
	got, meta, value := inspectGolden(t)
	if meta.Lineage != 1 || meta.Number != 1 || meta.Position != 17 || meta.Acked != 0 || meta.Clock != meta.Heard {
		t.Errorf("partition: %+v", meta)
	}
	if want := (pipeline.InspectedTotals{Orders: 2, Net: 1999 + 500, Refunded: 3000, PurchaseDays: 2}); got.Totals != want {
		t.Errorf("totals %+v, want %+v", got.Totals, want)
	}
	for what, pair := range map[string][2]string{
		"as of": {got.AsOf, "2024-03-03T10:00:00.000Z"}, "settled to": {got.SettledTo, "2024-03-02T10:00:00.000Z"},
		"wake": {got.Wake, "2024-03-03T11:00:00.000Z"}, "row version": {got.RowVersion, "1.1"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s is %s, want %s", what, pair[0], pair[1])
		}
	}
	if len(got.Open) != 2 || got.Open[0].Kind != "order.cancelled" || got.Open[0].Order != "a0" || got.Open[0].Ahead != 599_000 ||
		got.Open[1].Kind != "order.completed" || got.Open[1].ID != "0000000000000005" || got.Open[1].Ahead != 600_000 {
		t.Errorf("open events: %+v", got.Open)
	}
	rows := map[string]int{}
	for _, r := range got.Outbox {
		rows[r.Table+" "+r.Key+r.To+" "+r.Version]++
	}
	if fmt.Sprint(rows) != "map[orders a1 1.1:1 orders a2 1.1:1 phase_transitions active 1.1:1 phase_transitions new 1.1:1 phase_transitions prospect 1.1:1]" {
		t.Errorf("outbox: %v", rows)
	}
	sum := 0
	for _, p := range got.Bytes[1:] {
		sum += p.Bytes
	}
	if got.Bytes[0].Bytes != len(value) || sum != len(value) {
		t.Errorf("the parts have %d bytes, the record %d: %+v", sum, len(value), got.Bytes)
	}
	w, err := pipeline.RecordWeight(value)
	if err != nil || w.Bytes != len(value) || w.Open != 2 || w.Orders != 1 {
		t.Errorf("weight %+v, %v; one order is settled", w, err)
	}
	checkInspectedValues(t, got)
}

func checkInspectedValues(t *testing.T, got *pipeline.Inspection) {
	t.Helper()
	values := map[string]any{}
	for _, s := range got.Sections {
		for _, f := range s.Fields {
			if f.Label == "" {
				t.Errorf("%s.%s has no label", s.Name, f.Name)
			}
			values[f.Name] = f.Value
		}
	}
	for name, want := range map[string]any{
		"known": true, "touches": int64(5), "first_seen_at": "2024-03-01T10:00:00.000Z", "orders": int64(2),
	} {
		if values[name] != want {
			t.Errorf("%s is %v, want %v", name, values[name], want)
		}
	}
	if len(got.Phases) != 1 || got.Phases[0].Lifecycle != "role5" || got.Phases[0].Since == "" || got.Phases[0].Previous == "" {
		t.Errorf("phases: %+v", got.Phases)
	}
	if len(got.Deadlines) < 2 || got.Deadlines[0].At <= got.AsOf {
		t.Errorf("deadlines: %+v", got.Deadlines)
	}
	for i, d := range got.Deadlines {
		if i > 0 && d.At < got.Deadlines[i-1].At || strings.HasPrefix(d.Of, "lifecycle ") != (d.Rule != "" && d.To != "") {
			t.Errorf("deadline %d: %+v", i, d)
		}
	}
	if _, err := json.Marshal(got); err != nil {
		t.Error(err)
	}
}

// TestNewLineage: a Task that is restored from the first record of a lineage reads the topic from its start, has nothing
// to write, and its version is greater than any before.
func TestNewLineage(t *testing.T) {
	job := newJob(t, setting{zone: "UTC", lateness: 10 * time.Minute})
	c := job.NewLineage(7)
	task := pipeline.NewTask(job, "events", 0)
	if err := task.Restore(c.Key, c.Value); err != nil {
		t.Fatal(err)
	}
	if err := task.Restored(); err != nil {
		t.Fatal(err)
	}
	if task.Position() != -1 || task.Version() != pipeline.Version(7, 1) || task.NextBatch(10) != nil {
		t.Errorf("position %d, version %s", task.Position(), pipeline.VersionText(task.Version()))
	}
	if last := pipeline.Version(6, 1<<40-1); task.Version() <= last {
		t.Errorf("version %d is not greater than %d", task.Version(), last)
	}
	meta, err := pipeline.ReadMeta(c.Value)
	if err != nil || !job.Fits(&meta) || newJob(t, setting{zone: "Europe/Berlin", lateness: 10 * time.Minute}).Fits(&meta) {
		t.Errorf("%+v %v", meta, err)
	}
}

// TestRepublish: a Task restored from a changelog whose rows are all acknowledged writes every row again, as it was.
func TestRepublish(t *testing.T) {
	job := newJob(t, setting{zone: "UTC", lateness: 10 * time.Minute})
	live := pipeline.NewTask(job, "events", 0)
	log := map[string]pipeline.Change{}
	written := map[string]string{}
	checkpoint := func() {
		for live.Drain(100) {
		}
		for _, c := range live.Checkpoint().Changes {
			log[string(c.Key)] = pipeline.Change{Key: bytes.Clone(c.Key), Value: bytes.Clone(c.Value)}
		}
		live.Committed()
		for b := live.NextBatch(7); b != nil; b = live.NextBatch(7) {
			keepCustomers(b, written)
			live.Acknowledge()
		}
	}
	at := time.Date(2024, 3, 1, 10, 0, 0, 0, time.UTC).UnixMilli()
	for round := range 3 {
		for i := range 20 + round {
			e := pipeline.Event{
				Kind: pipeline.KindOrderCompleted, At: at + int64(round*40+i)*dayMs/40, ID: uint64(100*round + i), Customer: fmt.Appendf(nil, "c%d", i),
				OrderID: fmt.Appendf(nil, "o%d-%d", round, i), Amount: int64(1000 + i), HasAmount: true,
			}
			live.Process(&e, e.At)
		}
		checkpoint()
	}
	live.SetPosition(63)
	checkpoint()
	again := pipeline.NewTask(job, "events", 0)
	for _, c := range log {
		if err := again.Restore(c.Key, c.Value); err != nil {
			t.Fatal(err)
		}
	}
	if err := again.Restored(); err != nil {
		t.Fatal(err)
	}
	if err := again.Republish(); err != nil {
		t.Fatal(err)
	}
	republished, checkpoints := map[string]string{}, 0
	for b := again.NextBatch(5); b != nil; b = again.NextBatch(5) {
		keepCustomers(b, republished)
		for _, rows := range b.Tables {
			if rows.Table.Name == "checkpoints" {
				checkpoints += rows.N
			}
		}
		again.Acknowledge()
	}
	if len(republished) != 22 || checkpoints != 1 {
		t.Errorf("%d customers and %d checkpoints were written again", len(republished), checkpoints)
	}
	for id, row := range republished {
		if row != written[id] {
			t.Errorf("%s\n%s was\n%s", id, row, written[id])
		}
	}
}

// keepCustomers keeps the text of each row of customers.
func keepCustomers(b *pipeline.Batch, rows map[string]string) {
	for _, table := range b.Tables {
		if table.Table.Name != "customers" {
			continue
		}
		for _, r := range oracle.ReadRows(table) {
			rows[r.Key()] = fmt.Sprintf("%v %d", r.Cells, r.Version)
		}
	}
}

// FuzzInspect: no bytes make the inspection panic, and what a Task can restore it can inspect.
func FuzzInspect(f *testing.F) {
	changes := goldenChanges(f, "testdata/record_1.golden")
	f.Add(changes[0].Value, changes[1].Value)
	job := newJob(f, setting{zone: "UTC", lateness: 10 * time.Minute})
	f.Fuzz(func(t *testing.T, value, meta []byte) {
		m, err := pipeline.ReadMeta(meta)
		if err != nil {
			return
		}
		_, _ = pipeline.RecordWeight(value)
		got, err := job.Inspect(value, &m)
		if err == nil && got.Bytes[0].Bytes != len(value) {
			t.Errorf("%d bytes of %d", got.Bytes[0].Bytes, len(value))
		}
	})
}
