package config_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"zyklus/cmd/zyklus/internal/config"
)

// FuzzLoad: no text panics or hangs; each problem is one line that is not empty; what is accepted prints to something
// that is accepted with the same values.
func FuzzLoad(f *testing.F) {
	var all bytes.Buffer
	if err := config.Default().Print(&all); err != nil {
		f.Fatal(err)
	}
	for _, text := range []string{all.String(), "", "#", "a: b", "kafka: {brokers: [a:1, 'b:2']}", "source:\n  lateness: 10d\n",
		"group: |\n  text\n", "group: >-\n  text\n", "? group\n: a", "<<: *a", "a: &a [*a]", "!!str group: a", "\"group\": \"\\u0041\"", "- a\n- b", "---\n---\n"} {
		f.Add([]byte(text))
	}
	dir := f.TempDir()
	path := filepath.Join(dir, "zyklus.yaml")
	load := func(t *testing.T, text []byte) (config.Config, error) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return config.Load(path, nil, nil)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := load(t, text)
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if strings.TrimSpace(line) == "" {
					t.Errorf("an empty line in %q", err)
				}
			}
			return
		}
		var first, second bytes.Buffer
		if err := c.Print(&first); err != nil {
			t.Fatal(err)
		}
		c, err = load(t, first.Bytes())
		if err != nil {
			t.Fatalf("%v\nin what was printed:\n%s", err, &first)
		}
		_ = c.Print(&second)
		if withoutComments(first.String()) != withoutComments(second.String()) {
			t.Errorf("printed\n%s\nread and printed again\n%s", &first, &second)
		}
	})
}
