package embedded

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// FuzzBrokerRecovery starts a broker on what a fall of the whole machine leaves: one of the files that only grow, which are
// the partition's records, its index and the journals of producers and groups, ends early, and in bytes that were never
// written. What is committed and still there is read, in order and up to its end; nothing else is; and the producer goes on.
func FuzzBrokerRecovery(f *testing.F) {
	left, files := killedBroker(f)
	for i := range files {
		f.Add(uint8(i), uint16(0), []byte{})
		f.Add(uint8(i), uint16(indexEntry), []byte{})
		f.Add(uint8(i), uint16(40), []byte("\x00\x00\x00\x00"))
		f.Add(uint8(i), uint16(65535), []byte{})
	}
	f.Fuzz(func(t *testing.T, file uint8, cut uint16, tail []byte) {
		dir := filepath.Join(t.TempDir(), "data")
		if err := os.CopyFS(dir, os.DirFS(left)); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, files[int(file)%len(files)])
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text[:len(text)-min(int(cut), len(text))], tail[:min(len(tail), 1000)]...)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := StartBroker(BrokerOptions{DataDir: dir})
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Fatalf("refuses in more than a line: %q", err)
			}
			return
		}
		defer b.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		before := readToEnd(ctx, t, b)
		if whole := []string{"a", "b"}; len(before) > 2 || !slices.Equal(before, whole[:len(before)]) {
			t.Fatalf("committed records %q", before)
		}
		if err := commitOne(ctx, b, "c", true); err != nil {
			t.Fatal(err)
		}
		if after := readToEnd(ctx, t, b); !slices.Equal(after, append(before, "c")) {
			t.Fatalf("committed records %q, then %q", before, after)
		}
	})
}

// killedBroker returns the directory of a broker that was killed with two transactions committed and one open, and the
// files in it that only grow.
func killedBroker(f *testing.F) (dir string, files []string) {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), time.Minute)
	defer cancel()
	live, left := filepath.Join(f.TempDir(), "live"), filepath.Join(f.TempDir(), "left")
	b, err := StartBroker(BrokerOptions{DataDir: live})
	if err != nil {
		f.Fatal(err)
	}
	defer b.Close()
	adm, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()))
	if err != nil {
		f.Fatal(err)
	}
	defer adm.Close()
	if _, err := kadm.NewClient(adm).CreateTopic(ctx, 1, 1, nil, "t"); err != nil {
		f.Fatal(err)
	}
	for _, value := range []string{"a", "b", "lost"} {
		if err := commitOne(ctx, b, value, value != "lost"); err != nil {
			f.Fatal(err)
		}
	}
	var offsets kadm.Offsets
	offsets.Add(kadm.Offset{Topic: "t", At: 1})
	if err := kadm.NewClient(adm).CommitAllOffsets(ctx, "g", offsets); err != nil {
		f.Fatal(err)
	}
	if err := os.CopyFS(left, os.DirFS(live)); err != nil {
		f.Fatal(err)
	}
	err = filepath.WalkDir(left, func(path string, d fs.DirEntry, err error) error {
		if err == nil && slices.Contains([]string{".dat", ".idx", ".log"}, filepath.Ext(path)) {
			name, _ := filepath.Rel(left, path)
			files = append(files, name)
		}
		return err
	})
	if err != nil || len(files) < 3 {
		f.Fatal(files, err)
	}
	return left, files
}

// commitOne writes a record in a transaction, which it ends or leaves open.
func commitOne(ctx context.Context, b *Broker, value string, end bool) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.TransactionalID("one"), kgo.DefaultProduceTopic("t"))
	if err != nil {
		return err
	}
	defer cl.Close()
	if err := cl.BeginTransaction(); err != nil {
		return err
	}
	if err := cl.ProduceSync(ctx, kgo.StringRecord(value)).FirstErr(); err != nil {
		return fmt.Errorf("produce %s: %w", value, err)
	}
	if !end {
		return nil
	}
	return cl.EndTransaction(ctx, kgo.TryCommit)
}
