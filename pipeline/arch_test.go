package pipeline_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"zyklus/models"
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
	{"zyklus/bench/oracle", "zyklus/operators", "the oracle shares no code with what it judges"},
	{"zyklus/bench/oracle", "zyklus/pipeline/", "the oracle shares no code with what it judges"},
	{"zyklus/bench/oracle", "zyklus/sinks", "the oracle shares no code with what it judges"},
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

// oracleUses is all that the oracle takes of the packages whose work it judges: an event, rows, and the parameters of models.
var oracleUses = map[string]string{
	"pipeline":  "Event Line Batch Rows Table Type Type.* Kind Kind.*",
	"models":    "Artefact CategoryShare BuiltIn",
	"lifecycle": "Document Parameter Kind Number Bool Text Parse Preset",
}

// TestOracleStandsAlone holds the oracle to that list, and to computing what the artefact's types would compute for
// operators: but for the formula of the purchase model it calls none of their methods.
func TestOracleStandsAlone(t *testing.T) {
	methods := map[string]bool{}
	for _, of := range []any{&models.Artefact{}, &models.CategoryModel{}, &models.RiskBands{}} {
		for i, typ := 0, reflect.TypeOf(of); i < typ.NumMethod(); i++ {
			methods[typ.Method(i).Name] = true
		}
	}
	files, err := filepath.Glob("../bench/oracle/*.go")
	if err != nil || len(files) == 0 || len(methods) < 5 {
		t.Fatalf("%d files, %d methods, %v", len(files), len(methods), err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, _ := s.X.(*ast.Ident)
			switch {
			case x != nil && oracleUses[x.Name] != "":
				if !regexp.MustCompile("^(" + strings.ReplaceAll(oracleUses[x.Name], " ", "|") + ")$").MatchString(s.Sel.Name) {
					t.Errorf("%s uses %s.%s: the oracle computes by itself", file, x.Name, s.Sel.Name)
				}
			case methods[s.Sel.Name]:
				t.Errorf("%s calls %s of an artefact: the oracle computes by itself", file, s.Sel.Name)
			}
			return true
		})
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
