package pipeline_test

import (
	"bytes"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"zyklus/bench/oracle"
	"zyklus/models/lifecycle"
	"zyklus/operators"
	"zyklus/pipeline"
)

// dayMs is a day in milliseconds.
const dayMs = 24 * 3600 * 1000

// setting is what the tests vary of a job.
type setting struct {
	zone     string
	lateness time.Duration
	history  bool // its lifecycles are those of histories, not role5 alone
}

var jobs sync.Map // setting -> *pipeline.Job

// newJob returns the job of all operators.
func newJob(t testing.TB, s setting) *pipeline.Job {
	t.Helper()
	if j, ok := jobs.Load(s); ok {
		return j.(*pipeline.Job)
	}
	o := options(t)
	o.Lateness = s.lateness
	if s.history {
		o.Lifecycles = oracle.Lifecycles()
	}
	zone, err := time.LoadLocation(s.zone)
	if err != nil {
		t.Fatal(err)
	}
	o.Calendar = pipeline.NewCalendar(zone)
	j, err := pipeline.NewJob(o)
	if err != nil {
		t.Fatal(err)
	}
	jobs.Store(s, j)
	return j
}

func options(t testing.TB) pipeline.Options {
	t.Helper()
	preset, err := lifecycle.Preset("role5")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := lifecycle.Parse(preset)
	if err != nil {
		t.Fatal(err)
	}
	return pipeline.Options{
		Operators: operators.All(), Lifecycles: []*lifecycle.Document{doc}, Artefact: oracle.Artefact(),
		Lateness: 10 * time.Minute, Skew: time.Minute, WallClock: true, Days: true, Rates: parseRates(t, oracle.RateTable()),
	}
}

func parseRates(t testing.TB, table string) *pipeline.Rates {
	t.Helper()
	rates, err := pipeline.ParseRates([]byte(table), pipeline.RateOptions{Currency: "EUR"})
	if err != nil {
		t.Fatal(err)
	}
	return rates
}

// readRates reads a table of testdata/rates.
func readRates(t testing.TB, name string) *pipeline.Rates {
	t.Helper()
	table, err := os.ReadFile("testdata/rates/" + name + ".csv")
	if err != nil {
		t.Fatal(err)
	}
	return parseRates(t, string(table))
}

// changelog is what was committed.
type changelog []pipeline.Change

func (l *changelog) append(cp *pipeline.Checkpoint) {
	for _, c := range cp.Changes {
		*l = append(*l, pipeline.Change{Key: bytes.Clone(c.Key), Value: bytes.Clone(c.Value)})
	}
}

// compacted keeps the last record of each key.
func (l changelog) compacted() (kept changelog) {
	seen := map[string]bool{}
	for _, c := range slices.Backward(l) {
		if !seen[string(c.Key)] {
			seen[string(c.Key)] = true
			kept = append(kept, c)
		}
	}
	slices.Reverse(kept)
	return kept
}

// restore returns a Task that continues from a changelog.
func (l changelog) restore(job *pipeline.Job, partition int32) (*pipeline.Task, error) {
	task := pipeline.NewTask(job, "events", partition)
	for _, c := range l {
		if err := task.Restore(c.Key, c.Value); err != nil {
			return nil, err
		}
	}
	return task, task.Restored()
}

// scribble overwrites an event: a Task must not keep its bytes.
func scribble(e *pipeline.Event) {
	over := func(b []byte) {
		for i := range b {
			b[i] = '#'
		}
	}
	over(e.Customer)
	over(e.OrderID)
	over(e.Raw)
	for i := range e.Lines {
		over(e.Lines[i].Category)
		e.Lines[i] = pipeline.Line{Quantity: -1, Amount: -1}
	}
}
