package pipeline_test

import (
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"zyklus/bench/oracle"
	"zyklus/pipeline"
)

// TestLedgerLayouts holds the layouts of the ledger's section at rest: what an older binary wrote is read, changed by
// events, and written again. Layout 1 is of before orders in foreign currencies.
func TestLedgerLayouts(t *testing.T) {
	o := options(t)
	o.Rates = readRates(t, "small")
	job, err := pipeline.NewJob(o)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("testdata/ledger_2.golden", []byte(dump(foreignLedger(job))), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for file, want := range map[string][]string{
		"testdata/ledger_1.golden": {"a1 partially_refunded 4999 3000 1999  - -", "a2 completed 500 0 500  - -"},
		"testdata/ledger_2.golden": {"a1 partially_refunded 4625 2308 2317 USD 5000 2505", "a2 completed 500 0 500  - -"},
	} {
		golden, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		task, err := undump(t, string(golden), job).restore(job, 3)
		if err != nil {
			t.Fatal(file, err)
		}
		checkOrders(t, file, task, want)
		if strings.HasSuffix(file, "_2.golden") {
			if got := dump(foreignLedger(job)); got != string(golden) {
				t.Errorf("the bytes at rest have changed:\n%s\nwere\n%s", got, golden)
			}
		}
		// More comes back, in the reporting currency.
		at := task.Stats().Clock
		for i, id := range []string{"a1", "a2"} {
			task.Process(&pipeline.Event{
				Kind: pipeline.KindOrderRefunded, At: at, ID: uint64(100 + i), Customer: []byte("anna"), OrderID: []byte(id), Amount: 250, HasAmount: true,
			}, at)
		}
		var log changelog
		log.append(task.Checkpoint())
		if task, err = log.restore(job, 3); err != nil {
			t.Fatal(file, err)
		}
		checkOrders(t, file, task, []string{
			strings.NewReplacer("3000 1999", "3250 1749", "2308 2317 USD 5000 2505", "2558 2067 USD 5000 2235").Replace(want[0]),
			"a2 partially_refunded 500 250 250  - -",
		})
	}
}

// checkOrders compares the rows of orders that are yet to be written: all, after a restore.
func checkOrders(t *testing.T, file string, task *pipeline.Task, want []string) {
	t.Helper()
	got := map[string]bool{}
	for b := task.NextBatch(100); b != nil; b = task.NextBatch(100) {
		for _, r := range oracle.BatchRows(b) {
			if r.Table.Name == "orders" {
				got[fmt.Sprint(r.Get("order_id"), " ", r.Get("status"), " ", r.Get("value_minor"), " ", r.Get("refunded_minor"), " ", r.Get("net_value_minor"), " ",
					r.Get("currency"), " ", r.Get("original_value_minor"), " ", r.Get("original_net_minor"))] = true
			}
		}
		task.Acknowledge()
	}
	for _, w := range want {
		if !got[w] {
			t.Errorf("%s: no order %q in %v", file, w, got)
		}
	}
}

// foreignLedger returns the changelog of a customer with an order in dollars, half of which has come back.
func foreignLedger(job *pipeline.Job) changelog {
	task, at := pipeline.NewTask(job, "events", 3), time.Date(2024, 3, 1, 10, 0, 0, 0, time.UTC).UnixMilli()
	for i, e := range []pipeline.Event{
		{Kind: pipeline.KindOrderCompleted, OrderID: []byte("a1"), Amount: 5000, Currency: code("USD"), Lines: []pipeline.Line{
			{Product: 0x1122334455667788, Category: []byte("shoes"), Quantity: 2000, Amount: 5000, HasAmount: true},
		}},
		{Kind: pipeline.KindOrderRefunded, OrderID: []byte("a1"), Amount: 1500, Currency: code("USD")},
		{Kind: pipeline.KindOrderRefunded, OrderID: []byte("a1"), Amount: 920},
		{Kind: pipeline.KindOrderCompleted, OrderID: []byte("a2"), Amount: 500},
		{Kind: pipeline.KindOrderRefunded, OrderID: []byte("a0"), Amount: 300, Currency: code("GBP")},
	} {
		e.At, e.ID, e.Customer, e.HasAmount = at+int64(i)*3600_000, uint64(i), []byte("anna"), true
		e.Raw, e.Origin = fmt.Appendf(nil, "raw %d", i), pipeline.Origin{Topic: "events", Partition: 3, Offset: int64(i)}
		task.Process(&e, e.At)
	}
	var log changelog
	log.append(task.Checkpoint())
	return log
}

// dump prints the record of the customer.
func dump(log changelog) string { return fmt.Sprintf("key %x\n%s", log[0].Key, hex.Dump(log[0].Value)) }

// undump reads what dump wrote, with a record of the partition whose clock is later.
func undump(t *testing.T, text string, job *pipeline.Job) (log changelog) {
	t.Helper()
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, line := range strings.Split(text, "\n") {
		if key, ok := strings.CutPrefix(line, "key "); ok {
			log = append(log, pipeline.Change{Key: unhex(key)})
		} else if len(line) > 10 {
			c := &log[len(log)-1]
			digits, _, _ := strings.Cut(line[8:], "|")
			c.Value = append(c.Value, unhex(digits)...)
		}
	}
	task := pipeline.NewTask(job, "events", 3)
	task.AdvanceClock(time.Date(2024, 3, 3, 12, 0, 0, 0, time.UTC).UnixMilli())
	return append(log, task.Checkpoint().Changes...)
}
