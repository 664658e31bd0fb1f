package embedded

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestBrokerAbortsWhatAKillLeftOpen copies the data of a broker in the middle of a transaction, which is what a kill
// leaves, and goes on with it as the same producer, twice.
func TestBrokerAbortsWhatAKillLeftOpen(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	root := t.TempDir()
	start := func(dir string) *Broker {
		t.Helper()
		b, err := StartBroker(BrokerOptions{DataDir: filepath.Join(root, dir)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.Close)
		return b
	}
	// write commits one record and leaves another one open.
	write := func(b *Broker, committed, open string) {
		t.Helper()
		cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.TransactionalID("one"), kgo.DefaultProduceTopic("t"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cl.Close)
		produce := func(value string) {
			t.Helper()
			if err := cl.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			if err := cl.ProduceSync(ctx, kgo.StringRecord(value)).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		produce(committed)
		if err := cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
		produce(open)
	}
	kill := func(from, to string) *Broker {
		t.Helper()
		if err := os.CopyFS(filepath.Join(root, to), os.DirFS(filepath.Join(root, from))); err != nil {
			t.Fatal(err)
		}
		return start(to)
	}
	check := func(b *Broker, want ...string) {
		t.Helper()
		if got := readToEnd(ctx, t, b); !slices.Equal(got, want) {
			t.Errorf("committed records %q, wanted %q", got, want)
		}
	}

	b := start("1")
	adm, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	defer adm.Close()
	if _, err := kadm.NewClient(adm).CreateTopic(ctx, 1, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	write(b, "a", "lost 1")
	check(b, "a")
	b = kill("1", "2")
	check(b, "a")
	write(b, "b", "lost 2")
	check(b, "a", "b")
	b = kill("2", "3")
	check(b, "a", "b")
	write(b, "c", "lost 3")
	check(b, "a", "b", "c")
}

// readToEnd returns the committed records of the topic. Its last stable offset must be reached by records that a reader
// sees, markers included.
func readToEnd(ctx context.Context, t *testing.T, b *Broker) (values []string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"t": {0: kgo.NewOffset().AtStart()}}))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListCommittedOffsets(ctx, "t")
	if err != nil {
		t.Fatal(err)
	}
	end, _ := ends.Lookup("t", 0)
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for next := int64(0); next < end.Offset; {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Errorf("reading stands at offset %d, the end is %d: %v", next, end.Offset, err)
			return values
		}
		for it := fs.RecordIter(); !it.Done(); {
			r := it.Next()
			if next = r.Offset + 1; !r.Attrs.IsControl() {
				values = append(values, string(r.Value))
			}
		}
	}
	return values
}
