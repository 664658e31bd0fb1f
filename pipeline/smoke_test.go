package pipeline_test

import (
	"fmt"
	"testing"
	"time"

	"zyklus/models"
	"zyklus/models/lifecycle"
	"zyklus/operators"
	"zyklus/pipeline"
)

func TestSmoke(t *testing.T) {
	preset, err := lifecycle.Preset("role5")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := lifecycle.Parse(preset)
	if err != nil {
		t.Fatal(err)
	}
	job, err := pipeline.NewJob(pipeline.Options{
		Operators: operators.All(), Lifecycles: []*lifecycle.Document{doc}, Artefact: models.BuiltIn(),
		Lateness: 10 * time.Minute, Skew: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	task := pipeline.NewTask(job, "events", 0)
	day := pipeline.DayMillis
	base := int64(19800) * day
	send := func(kind pipeline.Kind, at int64, id uint64, order string, amount int64) {
		task.Process(&pipeline.Event{Kind: kind, At: at, ID: id, Customer: []byte("anna"), Known: true,
			OrderID: []byte(order), Amount: amount, HasAmount: amount > 0,
			Lines: []pipeline.Line{{Category: []byte("shoes"), Quantity: 1000, Amount: amount}}}, base+10000*day)
	}
	send(pipeline.KindPageViewed, base, 1, "", 0)
	send(pipeline.KindOrderCompleted, base+3600e3, 2, "a", 1999)
	send(pipeline.KindOrderCompleted, base+5*day, 3, "b", 2999)
	send(pipeline.KindHeartbeat, base+500*day, 0, "", 0)
	dump := func() {
		for task.Drain(100) {
		}
		cp := task.Checkpoint()
		task.Committed()
		for _, c := range cp.Changes {
			fmt.Printf("%q %d bytes\n", c.Key, len(c.Value))
		}
		for b := task.NextBatch(1000); b != nil; b = task.NextBatch(1000) {
			for _, r := range b.Tables {
				fmt.Println(r.Table.Name, r.N)
				for i, c := range r.Table.Columns {
					d := &r.Data[i]
					fmt.Println("   ", c.Name, d.Ints, d.Floats, d.Strings(nil), d.Nulls)
				}
			}
			task.Acknowledge()
		}
	}
	dump()
}
