package config_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"zyklus/cmd/zyklus/internal/config"
)

// schemaOf compiles the schema as an editor would.
func schemaOf(t testing.TB) *jsonschema.Schema {
	t.Helper()
	text, err := json.Marshal(config.Schema())
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("zyklus.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("zyklus.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func validate(t testing.TB, s *jsonschema.Schema, text string) error {
	t.Helper()
	asJSON, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(doc)
}

// TestSchemaAgreesWithLoad: what Load reads is valid, and what is of a wrong form is refused by both.
func TestSchemaAgreesWithLoad(t *testing.T) {
	s := schemaOf(t)
	for _, text := range []string{
		"{}",
		"source:\nkafka: {}\n",
		"source: {topic: events}\nkafka: {brokers: [\"kafka-1:9092\", \"kafka-2:9092\"]}\nclickhouse: {addrs: [\"clickhouse:9000\"], username: zyklus}\n",
		"source: {lateness: 36h, skew: 0s, max_record: 65536, earliest: \"2001-02-03\", clock: events}\n",
		"source: {lateness: 1.5h, skew: 1h30m, max_record: 64 KiB}\n",
		"sources: {shop: {topic: a, lateness: 2d}, web: {key: other}}\nlifecycles: [role5]\nlog: {format: json, level: debug}\n",
		"kafka: {partitions: 12}\nclickhouse: {tls: {enabled: true}, password: \"1234\"}\n",
	} {
		if _, err := config.Load(inFile(t, text), nil, nil); err != nil {
			t.Errorf("Load refuses %q: %v", text, err)
		}
		if err := validate(t, s, text); err != nil {
			t.Errorf("the schema refuses %q: %v", text, err)
		}
	}
	for _, text := range []string{
		"sorce: {topic: x}", "source: {topik: x}", "source: {lateness: 10}", "source: {lateness: soon}", "source: {lateness: 10 m}",
		"source: {max_record: 1.5MiB}", "source: {max_record: -1}", "source: {earliest: \"1.2.2003\"}", "source: {clock: sometimes}",
		"kafka: {partitions: \"8\"}", "kafka: {brokers: kafka}", "kafka: [x]", "clickhouse: {tls: {enabled: \"yes\"}}", "lifecycles: [1]",
		"sources: {Shop: {topic: a}}", "sources: {shop: {topik: a}}", "sources: {shop: {clock: x}}", "group: 12", "[]",
	} {
		if _, err := config.Load(inFile(t, text), nil, nil); err == nil {
			t.Errorf("Load takes %q", text)
		}
		if err := validate(t, s, text); err == nil {
			t.Errorf("the schema takes %q", text)
		}
	}
}

// TestPrintedSettingsAreValid: what config print writes fits the schema, and each default in the schema is valid in it.
func TestPrintedSettingsAreValid(t *testing.T) {
	s := schemaOf(t)
	c, err := config.Load(inFile(t, "sources: {shop: {topic: a}, web: {lateness: 1h}}\nclickhouse: {password: hidden}\n"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := c.Print(&b); err != nil {
		t.Fatal(err)
	}
	if err := validate(t, s, b.String()); err != nil {
		t.Errorf("%v\n%s", err, &b)
	}
	listed := map[string]config.Setting{}
	for _, set := range c.Settings() {
		listed[set.Key] = set
	}
	if got := listed["sources.web.lateness"]; got.Value != "1h" || !strings.HasPrefix(got.Origin, "zyklus.yaml:1:") {
		t.Errorf("%+v", got)
	}
	if got := listed["clickhouse.password"]; got.Value != "[redacted]" {
		t.Errorf("%+v", got)
	}
	if got := listed["kafka.partitions"]; got.Value != 8 || got.Origin != "default" {
		t.Errorf("%+v", got)
	}
}
