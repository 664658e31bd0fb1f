package embedded

import (
	"os"
	"path/filepath"
	"testing"
)

func TestSweepDropped(t *testing.T) {
	dir := t.TempDir()
	kept, gone := "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"
	for _, uuid := range []string{kept, gone} {
		path := filepath.Join(dir, "store", uuid[:3], uuid, "all_1_1_0")
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	marks := filepath.Join(dir, "metadata_dropped")
	if err := os.MkdirAll(marks, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"d%2Eb.t." + gone + ".sql", "strange.sql", "d.t.11111111-x.sql", "d.t...sql"} {
		if err := os.WriteFile(filepath.Join(marks, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := sweepDropped(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "store", kept[:3], kept, "all_1_1_0")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "store", gone[:3], gone)); !os.IsNotExist(err) {
		t.Fatal("the dropped table is still there", err)
	}
	if left, err := os.ReadDir(marks); err != nil || len(left) != 3 {
		t.Fatal(left, err)
	}
	if err := sweepDropped(filepath.Join(dir, "none")); err != nil {
		t.Fatal(err)
	}
}
