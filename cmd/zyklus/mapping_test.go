package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"zyklus/pipeline/codec"
)

const (
	paidOrder = `{"kind":"order","created_at":1709296496789,"user":{"id":"u1"},"event_id":"e1","payload":{"order":{"id":"o1",` +
		`"status":"paid","total":119.90,"tax":19.14,"currency":"EUR","items":[{"sku":"a","price":"50.38","quantity":2},{"sku":"g","gift":true}]}}}`
	dollarRefund = `{"kind":"order","created_at":1709296500000,"user":{"id":"u1"},"event_id":"e2","payload":{"order":{"id":"o2",` +
		`"status":"refunded","refund":0.05,"currency":"USD"}}}`
	visit = `{"kind":"page","created_at":1709296496789,"visitor_id":"v\u0000"}`
)

// exampleFile is the mapping of the help text as a file.
func exampleFile(t *testing.T) string {
	t.Helper()
	return file(t, "shop.yaml", strings.ReplaceAll(strings.TrimPrefix(mappingExample, "  "), "\n  ", "\n"))
}

func TestMappingExampleIsRight(t *testing.T) {
	text, err := os.ReadFile(exampleFile(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := codec.ParseMapping("example", text); err != nil {
		t.Fatal(err)
	}
	_, help, _ := cli(t, "mapping", "--help")
	if !strings.Contains(help, mappingExample) || !strings.Contains(help, "order.refunded,") || !strings.Contains(help, "orValue") {
		t.Errorf("help of mapping:\n%s", help)
	}
}

func TestMappingTest(t *testing.T) {
	mapping := exampleFile(t)
	samples := file(t, "samples.ndjson", strings.Join([]string{
		paidOrder, dollarRefund, visit, `{"test":true}`, `{"kind":"tick","until":"2024-03-02"}`, `{"kind":"other"}`, `{"kind":`,
	}, "\n"))
	code, stdout, stderr := cli(t, "mapping", "test", "--mapping", mapping, samples)
	want := `RECORD  TYPE                 TIME                      CUSTOMER                              ORDER                 AMOUNT           LINES
1       order.completed      2024-03-01T12:34:56.789Z  u1                                    o1                    100.76 EUR       1
2       order.refunded       2024-03-01T12:35:00.000Z  u1                                    o2                    0.05 USD
3       touch.page           2024-03-01T12:34:56.789Z  "v\x00" (visitor)
4       ignored
5       heartbeat            2024-03-02T00:00:00.000Z
6       refused              unknown_event: no rule of mapping "shop" matches: record.kind is "other"
7       refused              truncated: ends after byte 8, before a value

7 records: 4 events (1 heartbeat, 1 order.completed, 1 order.refunded, 1 touch.page), 1 ignored, 2 refused (1 truncated, 1 unknown_event)
`
	if code != 1 || stdout != want || stderr != "zyklus: 2 of 7 records are refused: --allow-refused lets them pass\n" {
		t.Errorf("exit %d, %s\n%s", code, stderr, stdout)
	}
	if code, stdout, stderr = cli(t, "mapping", "test", "--mapping", mapping, "--allow-refused", samples); code != 0 || stdout != want || stderr != "" {
		t.Errorf("exit %d, %s\n%s", code, stderr, stdout)
	}
}

func TestMappingTestJSON(t *testing.T) {
	array := file(t, "samples.json", "[\n"+paidOrder+",\n"+dollarRefund+"]\n"+visit)
	code, stdout, stderr := cli(t, "mapping", "test", "--mapping", exampleFile(t), "--output", "json", array)
	want := `{"record":1,"type":"order.completed","time":"2024-03-01T12:34:56.789Z","customer":"u1","known":true,"order":"o1","amount":"100.76","currency":"EUR","lines":[{"product":"d24ec4f1a98c6e5b","quantity":"2","amount":"100.76"}]}
{"record":2,"type":"order.refunded","time":"2024-03-01T12:35:00.000Z","customer":"u1","known":true,"order":"o2","amount":"0.05","currency":"USD"}
{"record":3,"type":"touch.page","time":"2024-03-01T12:34:56.789Z","customer":"v\u0000"}
{"summary":{"events":{"order.completed":1,"order.refunded":1,"touch.page":1},"ignored":0,"records":3,"refused":{}}}
`
	if code != 0 || stdout != want || stderr != "" {
		t.Errorf("exit %d, %s\n%s", code, stderr, stdout)
	}
}

// TestMappingTestFormats feeds standard input, whole records and formats without a mapping.
func TestMappingTestFormats(t *testing.T) {
	whole := `{"key":"k","headers":{"ce_specversion":"1.0","ce_id":"1","ce_source":"/s","ce_type":"order.cancelled","ce_subject":"u1",` +
		`"ce_time":"2024-03-01T12:34:56Z"},"value":{"order_id":"o1"}}`
	for _, c := range []struct {
		stdin string
		args  []string
		want  string
	}{
		{whole, []string{"--format", "cloudevents", "--whole", "-"}, "1       order.cancelled      2024-03-01T12:34:56.000Z  u1  "},
		{`{"type":"page","userId":"u1","timestamp":"2024-03-01"}`, []string{"--preset", "rudderstack", "-"}, "1       touch.page           2024-03-01"},
		{`{"event_name":"refund","user_pseudo_id":"p","event_timestamp":"1714979289999999","ecommerce":{"transaction_id":"T"}}`,
			[]string{"--mapping", "ga4", "--currency", "JPY", "-"}, "p (visitor)                           T                     whole order"},
		{`{"type":"track","event":"Order Completed","userId":"u1","timestamp":"2024-03-01","properties":{"order_id":"o","revenue":7.5}}`,
			[]string{"--format", "segment", "--currency", "KWD", "-"}, "7.500 KWD"},
	} {
		cmd := exec.Command(binary(t), append([]string{"mapping", "test"}, c.args...)...)
		cmd.Env, cmd.Stdin = cleanEnv(), strings.NewReader(c.stdin)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), c.want) {
			t.Errorf("mapping test %s: %v\n%s", strings.Join(c.args, " "), err, out)
		}
	}
}

func TestMappingRefuses(t *testing.T) {
	samples := file(t, "samples.ndjson", visit)
	bad := file(t, "bad.yaml", "mapping: bad\ntime: record.t\ncustomer: record.c\nevents:\n  - when: record.x\n    type: touch.page\n  - type: order.paid\n")
	fails(t, exitUsage, [][]string{
		{"bad.yaml:5:11: events[0].when: a condition must be true or false"},
		{"bad.yaml:7:5: events[1]: when is missing"}, {"bad.yaml:7:11: events[1].type: \"order.paid\" is not an event type: choose one of"},
	}, "mapping", "test", "--mapping", bad, samples)
	fails(t, exitUsage, problem("needs a sample"), "mapping", "test", "--preset", "ga4")
	fails(t, exitUsage, problem("give one of --mapping FILE, --preset NAME and --format NAME"), "mapping", "test", samples)
	fails(t, exitUsage, problem("give one of"), "mapping", "test", "--preset", "ga4", "--format", "segment", samples)
	fails(t, exitUsage, problem(`unknown preset "ga3": choose one of ga4, jitsu`), "mapping", "test", "--preset", "ga3", samples)
	fails(t, exitUsage, problem(`unknown format "avro": choose one of cloudevents,`), "mapping", "test", "--format", "avro", samples)
	fails(t, exitUsage, problem("format mapping needs a mapping"), "mapping", "test", "--format", "mapping", samples)
	fails(t, exitUsage, problem(`mapping "none.yaml" is neither a file nor a preset: zyklus mapping list`), "mapping", "test", "--mapping", "none.yaml", samples)
	fails(t, exitUsage, problem("none.ndjson: no such file: give the path"), "mapping", "test", "--preset", "ga4", "none.ndjson")
	fails(t, exitUsage, problem("holds no record"), "mapping", "test", "--preset", "ga4", file(t, "empty", "\n"))
	fails(t, exitUsage, problem(`reporting currency "euro"`), "mapping", "test", "--preset", "ga4", "--currency", "euro", samples)
	fails(t, exitUsage, problem(`--output "xml" is neither text nor json`), "mapping", "test", "--preset", "ga4", "--output", "xml", samples)
	fails(t, exitUsage, problem("record 1: with --whole a sample is an object"), "mapping", "test", "--preset", "ga4", "--whole", samples)
	fails(t, exitUsage, problem(`unknown preset "ga3"`), "mapping", "show", "ga3")
	fails(t, exitUsage, problem("takes one preset"), "mapping", "show")
	fails(t, exitUsage, problem(`unknown command "tst"`, "did you mean test or list?"), "mapping", "tst")
}

// TestMappingShow holds that what is shown of a preset can be used as a file.
func TestMappingShow(t *testing.T) {
	code, list, _ := cli(t, "mapping", "list")
	if code != 0 {
		t.Errorf("exit %d", code)
	}
	for _, p := range codec.Presets() {
		code, stdout, stderr := cli(t, "mapping", "show", p.Name)
		if code != 0 || stderr != "" || !strings.Contains(list, "\n"+p.Name+" ") {
			t.Errorf("%s: exit %d, %s", p.Name, code, stderr)
		}
		if p.Format != codec.FormatMapping {
			if !strings.Contains(stdout, "# Order Completed -> order.completed\n") {
				t.Errorf("%s is shown as %s", p.Name, stdout)
			}
			continue
		}
		sample := file(t, "sample", "{}")
		code, stdout, _ = cli(t, "mapping", "test", "--output", "json", "--mapping", file(t, "p.yaml", stdout), sample)
		var row struct{ Error string }
		if err := json.NewDecoder(strings.NewReader(stdout)).Decode(&row); err != nil || code != 1 || row.Error != "unknown_event" {
			t.Errorf("%s: exit %d, %v, %s", p.Name, code, err, stdout)
		}
	}
}
