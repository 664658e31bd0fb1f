package pipeline_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// forbidden lists the arrows between packages that must not exist: imports of anything below the first by anything
// below the second. Only what is built into the program counts, not tests.
var forbidden = []struct{ from, to, why string }{
	{"zyklus/models", "zyklus/", "models import nothing of ours"},
	{"zyklus/pipeline", "zyklus/pipeline/", "the core knows no technology"},
	{"zyklus/pipeline", "zyklus/operators", "operators implement contracts of the core"},
	{"zyklus/pipeline", "zyklus/sinks", "sinks implement contracts of the core"},
	{"zyklus/pipeline", "github.com/", "the core does no I/O"},
	{"zyklus/pipeline/codec", "zyklus/pipeline/kafka", "formats know no transport"},
	{"zyklus/operators", "zyklus/sinks", "operators know no sink"},
	{"zyklus/operators", "zyklus/pipeline/", "operators know the core only"},
	{"zyklus/sinks", "zyklus/operators", "sinks write any table"},
	{"zyklus/sinks", "zyklus/pipeline/kafka", "sinks know no source"},
}

// allowed are the exceptions: small pure libraries.
var allowed = []string{"github.com/cespare/xxhash/v2"}

type goPackage struct {
	ImportPath, Doc string
	Imports         []string
}

func TestArrows(t *testing.T) {
	for _, p := range packages(t) {
		for _, to := range p.Imports {
			for _, f := range forbidden {
				if p.ImportPath == f.from && strings.HasPrefix(to, f.to) && !exempt(p.ImportPath, to) {
					t.Errorf("%s imports %s: %s", p.ImportPath, to, f.why)
				}
			}
			technology(t, p.ImportPath, to)
		}
		if strings.HasPrefix(p.ImportPath, "zyklus/cmd") {
			continue
		}
		for _, to := range p.Imports {
			if strings.HasPrefix(to, "zyklus/cmd") {
				t.Errorf("%s imports %s: wiring points inwards", p.ImportPath, to)
			}
		}
	}
}

func exempt(from, to string) bool {
	for _, a := range allowed {
		if to == a {
			return true
		}
	}
	return strings.HasPrefix(from, to+"/")
}

// technology holds each client library to the package that is there for it.
func technology(t *testing.T, from, to string) {
	homes := map[string][]string{
		"github.com/twmb/franz-go":             {"zyklus/pipeline/kafka", "zyklus/sinks/embedded", "zyklus/bench/apachekafka"},
		"github.com/ClickHouse/clickhouse-go/": {"zyklus/sinks"},
		"github.com/spf13/":                    {"zyklus/cmd"},
		"cel.dev/":                             {"zyklus/models/lifecycle", "zyklus/pipeline/codec", "zyklus/bench/oracle"},
	}
	for lib, places := range homes {
		if !strings.HasPrefix(to, lib) {
			continue
		}
		at := false
		for _, place := range places {
			at = at || strings.HasPrefix(from, place)
		}
		if !at {
			t.Errorf("%s imports %s, which belongs to %s", from, to, strings.Join(places, ", "))
		}
	}
}

func TestEveryPackageHasADocumentation(t *testing.T) {
	for _, p := range packages(t) {
		if p.Doc == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

func packages(t *testing.T) (list []goPackage) {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Doc,Imports", "zyklus/...").Output()
	if err != nil {
		t.Fatalf("list packages: %v", err)
	}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatalf("read package list: %v", err)
		}
		list = append(list, p)
	}
}
