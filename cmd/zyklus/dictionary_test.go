package main

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"zyklus/sinks/clickhouse"
)

// noQuantity are the names of whole numbers that say which, not how many.
var noQuantity = regexp.MustCompile(`^(partition|position|lineage|number|version|(artefact|lifecycle)_version|(.*_)?cycle)$`)

// TestDictionary holds that nothing is undescribed: each column of each table and view says what it is, each quantity its
// unit, each fact about a customer its names and its section.
func TestDictionary(t *testing.T) {
	var d clickhouse.Dictionary
	if err := json.Unmarshal([]byte(succeed(t, "dictionary", "--output", "json")), &d); err != nil {
		t.Fatal(err)
	}
	var names, features []string
	for _, r := range d.Relations {
		names = append(names, r.Name)
		if r.Comment == "" || len(r.Key) == 0 {
			t.Errorf("%s has no comment or no key", r.Name)
		}
		for _, e := range r.Entries {
			where := r.Name + "." + e.Name
			if e.Comment == "" || e.Section == "" {
				t.Errorf("%s has no comment or no section", where)
			}
			number := regexp.MustCompile(`Int32|Int64|Float64|Decimal`).MatchString(e.Type)
			if number && !noQuantity.MatchString(e.Name) && e.Unit == "" {
				t.Errorf("%s (%s) is a quantity without unit", where, e.Type)
			}
			if r.Name == "customers" && e.Section != "pipeline" && (e.LabelEn == "" || e.LabelDe == "") {
				t.Errorf("%s has no label in one of the languages", where)
			}
			if r.Name == "customers" && e.Feature != "" {
				features = append(features, e.Feature)
			}
			if strings.HasSuffix(e.Name, "_phase") && r.Name == "customers" && len(e.Values) < 2 {
				t.Errorf("%s does not list its phases", where)
			}
		}
	}
	for _, want := range []string{"customers", "v_customers", "customer_days", "v_customer_days", "orders", "phase_transitions", "checkpoints", "v_dead_letters"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is missing among %v", want, names)
		}
	}
	if len(features) < 15 || !slices.Contains(features, "net_value_minor") {
		t.Errorf("features are %v", features)
	}
	markdown, text := succeed(t, "dictionary", "--output", "markdown"), succeed(t, "dictionary")
	for _, r := range d.Relations {
		if !strings.Contains(markdown, "\n## "+r.Name+"\n") {
			t.Errorf("no heading %s", r.Name)
		}
		for _, e := range r.Entries {
			if !strings.Contains(text, r.Name+"."+e.Name+" ") {
				t.Errorf("no line %s.%s", r.Name, e.Name)
			}
		}
	}
	for _, line := range strings.Split(markdown, "\n") {
		if cells := strings.Count(strings.ReplaceAll(line, `\|`, ""), "|"); strings.HasPrefix(line, "|") && cells != 9 {
			t.Errorf("a row of %d bars: %s", cells, line)
		}
	}
	if code, _, stderr := runZyklus(t, nil, "dictionary", "--output", "xml"); code != exitUsage || !strings.Contains(stderr, "use text, markdown or json") {
		t.Errorf("unknown output: %d, %s", code, stderr)
	}
}
