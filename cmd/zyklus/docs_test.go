package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"zyklus/cmd/zyklus/internal/config"
)

// TestConfigReferenceIsCurrent: CONFIG.md is what the code says. `make docs` writes it.
func TestConfigReferenceIsCurrent(t *testing.T) {
	var want strings.Builder
	if err := config.Reference(&want); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("CONFIG.md")
	if err != nil || string(got) != want.String() {
		t.Errorf("CONFIG.md is not what zyklus config reference prints (%v): run make docs", err)
	}
}

// TestDesignNamesFilesThatExist: the file map of pipeline/DESIGN.md leads somewhere.
func TestDesignNamesFilesThatExist(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "pipeline", "DESIGN.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("`([a-z_/]+(?:\\.go|/|\\.md|\\*\\.go))`").FindAllStringSubmatch(string(text), -1) {
		found := false
		for _, base := range []string{filepath.Join("..", "..", "pipeline"), filepath.Join("..", "..")} {
			matches, err := filepath.Glob(filepath.Join(base, m[1]))
			found = found || err == nil && len(matches) > 0
		}
		if !found {
			t.Errorf("%s does not exist", m[1])
		}
	}
}

// TestTutorial runs the sample and the mapping of TUTORIAL.md through the real command.
func TestTutorial(t *testing.T) {
	text, err := os.ReadFile("TUTORIAL.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, m := range regexp.MustCompile(`(?s)cat > (\S+) <<'END'\n(.*?)END\n`).FindAllStringSubmatch(string(text), -1) {
		if err := os.WriteFile(filepath.Join(dir, m[1]), []byte(m[2]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	code, out, log := runZyklus(t, nil, "mapping", "test", "--mapping", filepath.Join(dir, "shop.yaml"), filepath.Join(dir, "sample.ndjson"))
	if code != 1 || !strings.Contains(out, "8 records: 6 events (4 order.completed, 1 order.refunded, 1 touch.page), 1 ignored, 1 refused (1 no_customer)") {
		t.Errorf("exit %d\n%s%s", code, out, log)
	}
	t.Chdir(dir)
	if out := succeed(t, "config", "validate", "zyklus.yaml"); !strings.Contains(out, "is valid") {
		t.Error(out)
	}
}
