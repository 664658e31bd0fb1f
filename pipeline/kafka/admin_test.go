package kafka

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"zyklus/pipeline"
)

// adminOf returns an Admin of the lab's deployment.
func adminOf(t *testing.T, l *lab) *Admin {
	t.Helper()
	a, err := NewAdmin(t.Context(), l.o)
	must(t, err)
	t.Cleanup(a.Close)
	return a
}

// newJob returns a job of no operator, which suffices for a partition's own record.
func newJob(t *testing.T) *pipeline.Job {
	t.Helper()
	j, err := pipeline.NewJob(pipeline.Options{Lateness: time.Minute})
	must(t, err)
	return j
}

// changes are those of a checkpoint: customers, and the partition's own record of a lineage.
func changes(j *pipeline.Job, lineage uint64, customers ...string) []pipeline.Change {
	var list []pipeline.Change
	for _, c := range customers {
		list = append(list, pipeline.Change{Key: []byte("\x01" + c), Value: fmt.Appendf(nil, "%s of %d", c, lineage)})
	}
	return append(list, j.NewLineage(lineage))
}

// scanned returns the values of the customers that a scan finds, the last of each.
func scanned(t *testing.T, a *Admin) map[string]string {
	t.Helper()
	found, last := map[string]string{}, int64(0)
	must(t, a.Scan(t.Context(), Scan{
		Each: func(_ int32, key, value []byte) error {
			customer, err := pipeline.ChangelogKey(key)
			if customer != nil {
				found[string(customer)] = string(value)
			}
			return err
		},
		Progress: func(done, total int64) {
			if done < last || done > total {
				t.Errorf("progress: %d after %d, of %d", done, last, total)
			}
			last = done
		},
	}))
	return found
}

// TestScanBesideTheOwner: a scan reads whole transactions only, whatever the partition's owner has under way, and the
// partition's own record is found behind any amount of aborted records.
func TestScanBesideTheOwner(t *testing.T) {
	l := newLab(t, 2)
	a, j := adminOf(t, l), newJob(t)
	if m, err := a.Metas(t.Context()); err != nil || len(m) != 0 || len(scanned(t, a)) != 0 {
		t.Errorf("an empty changelog: %v %v", m, err)
	}
	o := l.o.WithDefaults()
	owner, err := openTransactions(t.Context(), &o, 1, &Deps{Log: l.log()})
	must(t, err)
	defer owner.close()
	must(t, owner.commit(t.Context(), &pipeline.Checkpoint{Changes: changes(j, 1, "anna", "ben")}))
	want := map[string]string{"anna": "anna of 1", "ben": "ben of 1"}

	must(t, owner.cl.BeginTransaction())
	for i := range 500 {
		owner.cl.Produce(t.Context(), &kgo.Record{Topic: o.ChangelogTopic, Partition: 1, Key: fmt.Appendf(nil, "\x01c%d", i), Value: []byte("open")}, nil)
	}
	must(t, owner.cl.Flush(t.Context()))
	if got := scanned(t, a); !maps.Equal(got, want) {
		t.Errorf("during a transaction: %v", got)
	}
	must(t, owner.cl.EndTransaction(t.Context(), kgo.TryAbort))
	if got := scanned(t, a); !maps.Equal(got, want) {
		t.Errorf("after an aborted transaction: %v", got)
	}
	metas, err := a.Metas(t.Context())
	must(t, err)
	if len(metas) != 1 || metas[1].Lineage != 1 {
		t.Errorf("partitions' own records: %v", metas)
	}
	must(t, owner.commit(t.Context(), &pipeline.Checkpoint{Changes: changes(j, 2, "anna")}))
	want["anna"] = "anna of 2"
	if got := scanned(t, a); !maps.Equal(got, want) {
		t.Errorf("after another one: %v", got)
	}
}

// TestReplaceChangelog: former owners are fenced, each partition begins with the record of the new lineage, and the
// settings are those asked for.
func TestReplaceChangelog(t *testing.T) {
	l := newLab(t, 3)
	a, j := adminOf(t, l), newJob(t)
	o := l.o.WithDefaults()
	former, err := openTransactions(t.Context(), &o, 1, &Deps{Log: l.log()})
	must(t, err)
	must(t, former.commit(t.Context(), &pipeline.Checkpoint{Changes: changes(j, 1, "anna")}))
	former.close()
	zombie, err := openTransactions(t.Context(), &o, 0, &Deps{Log: l.log()}) // knows nothing of the topic yet
	must(t, err)
	defer zombie.close()
	settings, replicas, err := a.ChangelogSettings(t.Context())
	must(t, err)
	if settings["cleanup.policy"] != "compact" || replicas != 1 {
		t.Errorf("settings %v, %d replicas", settings, replicas)
	}
	settings["segment.bytes"] = "1048576"
	var steps []string
	for lineage := uint64(2); lineage <= 3; lineage++ { // again: as after a crash
		must(t, a.ReplaceChangelog(t.Context(), NewChangelog{Settings: settings, Replicas: replicas, First: j.NewLineage(lineage)},
			func(step string) { steps = append(steps, step) }))
	}
	if len(steps) != 8 {
		t.Errorf("steps: %q", steps)
	}
	metas, err := a.Metas(t.Context())
	must(t, err)
	for p, m := range metas {
		if m.Lineage != 3 || m.Position != -1 {
			t.Errorf("partition %d begins with %+v", p, m)
		}
	}
	if got := slices.Sorted(maps.Keys(metas)); len(got) != 3 {
		t.Errorf("partitions %v", got)
	}
	if now, _, err := a.ChangelogSettings(t.Context()); err != nil || !maps.Equal(now, settings) {
		t.Errorf("settings %v, want %v (%v)", now, settings, err)
	}
	if err := zombie.commit(t.Context(), &pipeline.Checkpoint{Changes: changes(j, 9, "zoe")}); err == nil || !fenced(err) {
		t.Errorf("a former owner still writes: %v", err)
	}
	if got := scanned(t, a); len(got) != 0 {
		t.Errorf("customers of the former owner: %v", got)
	}
	must(t, CheckTopics(t.Context(), l.o))
}
