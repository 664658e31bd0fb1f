package twin

import "testing"

// TestEveryFileIsAStatement: a file that nobody runs says nothing.
func TestEveryFileIsAStatement(t *testing.T) {
	entries, err := files.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	if n := len(Statements()); n != len(entries) {
		t.Errorf("%d statements of %d files", n, len(entries))
	}
}
