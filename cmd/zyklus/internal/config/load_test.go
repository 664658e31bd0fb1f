package config_test

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"zyklus/cmd/zyklus/internal/config"
	"zyklus/models/lifecycle"
	"zyklus/pipeline/codec"
)

// inFile runs the test in a new directory that holds the text as zyklus.yaml.
func inFile(t *testing.T, text string) (path string) {
	t.Helper()
	t.Chdir(t.TempDir())
	if err := os.WriteFile("zyklus.yaml", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return "zyklus.yaml"
}

// flags parses a command line.
func flags(t *testing.T, args ...string) *config.Flags {
	t.Helper()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	f := config.RegisterFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestDefaultsAreValid(t *testing.T) {
	c, err := config.Load("", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Group != "zyklus" || c.Source.Topic != "events" || c.Source.Name != "events" || c.Source.Lateness != 10*time.Minute ||
		c.Source.MaxRecord != 1<<20 || c.Source.Earliest.String() != "1990-01-01" || c.Kafka.Partitions != 8 ||
		c.ClickHouse.Addrs[0] != "127.0.0.1:9000" || c.Currency != "EUR" || c.Lifecycles[0] != "role5" {
		t.Errorf("unexpected defaults: %+v", c)
	}
	if !reflect.DeepEqual(c.Source.IgnoredIDs, codec.DefaultIgnoredIDs()) {
		t.Errorf("ignored ids: %q", c.Source.IgnoredIDs)
	}
	if err := config.Default().Validate(); err != nil {
		t.Error(err)
	}
}

func TestLaterSourcesWin(t *testing.T) {
	path := inFile(t, `
group: from-file
source:
  topic: from-file
  lateness: 2h
  max_record: 2097152
kafka:
  # nothing but a comment is an empty section
clickhouse:
  password: "from-file"
`)
	env := []string{"HOME=/", "ZYKLUS_GROUP=from-env", "ZYKLUS_SOURCE_TOPIC=from-env", "ZYKLUS_KAFKA_BROKERS=a:1, b:2,",
		"ZYKLUS_CLICKHOUSE_PASSWORD=from-env", "ZYKLUS_CURRENCY="}
	c, err := config.Load(path, env, flags(t, "--topic", "from-flag", "--set", "source.skew=1d", "--set=log.level=warn"))
	if err != nil {
		t.Fatal(err)
	}
	got := []any{c.Group, c.Source.Topic, c.Source.Name, c.Source.Lateness, c.Source.Skew, c.Source.MaxRecord.String(),
		c.Kafka.Brokers, c.ClickHouse.Password.Reveal(), c.Currency, c.Log.Level}
	want := []any{"from-env", "from-flag", "from-flag", 2 * time.Hour, 24 * time.Hour, "2MiB",
		[]string{"a:1", "b:2"}, "from-env", "EUR", "warn"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestDerivedDefaults(t *testing.T) {
	f := func(yaml, protocol, addr string) {
		t.Helper()
		c, err := config.Load(inFile(t, yaml), nil, nil)
		if err != nil {
			t.Error(err)
		} else if c.ClickHouse.Protocol != protocol || c.ClickHouse.Addrs[0] != addr {
			t.Errorf("%q: got %s %s", yaml, c.ClickHouse.Protocol, c.ClickHouse.Addrs)
		}
	}
	f("clickhouse: {tls: {enabled: true}}", "native", "127.0.0.1:9440")
	f("clickhouse: {protocol: http}", "http", "127.0.0.1:8123")
	f("clickhouse: {protocol: http, tls: {enabled: true}}", "http", "127.0.0.1:8443")
	f("clickhouse: {embedded: true}", "http", "127.0.0.1:8123")
	f("clickhouse: {embedded: true, protocol: native}", "native", "127.0.0.1:9000")
	f("clickhouse: {addrs: ['[::1]:9001']}", "native", "[::1]:9001")
}

// Each is refused with exactly these lines.
func TestProblems(t *testing.T) {
	f := func(yaml string, env []string, args []string, want ...string) {
		t.Helper()
		_, err := config.Load(inFile(t, yaml), env, flags(t, args...))
		if err == nil {
			t.Errorf("%q: no error, want\n%s", yaml, strings.Join(want, "\n"))
		} else if got := err.Error(); got != strings.Join(want, "\n") {
			t.Errorf("%q: got\n%s\nwant\n%s", yaml, got, strings.Join(want, "\n"))
		}
	}

	// All at once, from all sources.
	f(`
souce: {}
source:
  latenes: 10m
  clock: evnts
  skew: 5
  max_record: huge
kafka:
  partitions: 0
  brokers: localhost
  topic: x
lifecycles: [role5, rol5, ./own.yaml, role5, 7]
`, []string{"ZYKLUS_SOURCE_SKEW=-1m", "ZYKLUS_KAFKA_BROKER=a:1", "ZYKLUS_CURRENCY=eur"},
		[]string{"--set", "kafka.partition=3", "--set", "time_zone=Europe/Bonn", "--brokers", "kafka://a:9092,b", "--set", "clickhouse.password=s3cret"},
		`zyklus.yaml:2:1: unknown key "souce", did you mean source?`,
		`zyklus.yaml:4:3: unknown key "source.latenes", did you mean source.lateness?`,
		`zyklus.yaml:5:10: source.clock "evnts" is not one of wall, events, did you mean events?`,
		`zyklus.yaml:6:9: source.skew is a number: want a number with a unit, such as 10m`,
		`zyklus.yaml:7:15: source.max_record "huge" is not a size: write a whole number with a unit, B, KiB, MiB, GiB, kB, MB or GB, such as 1MiB`,
		`zyklus.yaml:10:12: kafka.brokers is a text: want a list, such as [one, two]`,
		`zyklus.yaml:11:3: unknown key "kafka.topic", did you mean source.topic?`,
		`zyklus.yaml:12:46: lifecycles holds a number: want texts, in quotes where they look like something else`,
		`ZYKLUS_KAFKA_BROKER: unknown variable, did you mean ZYKLUS_KAFKA_BROKERS?`,
		`--set: unknown key "kafka.partition", did you mean kafka.partitions?`,
		`--set: clickhouse.password is a secret, and flags are seen by all users of the machine: use ZYKLUS_CLICKHOUSE_PASSWORD, ZYKLUS_CLICKHOUSE_PASSWORD_FILE or the file`,
		`ZYKLUS_SOURCE_SKEW: source.skew -1m is not from 0s to 24h`,
		`--brokers: kafka.brokers "kafka://a:9092" must be host:port without a scheme`,
		`--brokers: kafka.brokers "b" is not host:port`,
		`zyklus.yaml:9:15: kafka.partitions 0 is not from 1 to 10000`,
		`ZYKLUS_CURRENCY: currency "eur" is not a code of ISO 4217 in upper case, such as EUR`,
		`--set: time_zone "Europe/Bonn" is no known time zone: give an IANA name such as Europe/Berlin`,
		`zyklus.yaml:12:13: lifecycles "rol5" is no preset, did you mean role5? Presets are `+strings.Join(lifecycle.Presets(), ", ")+`; a path of a document has a '/' or ends in .yaml`,
		`zyklus.yaml:12:13: lifecycles "./own.yaml" does not exist (paths are relative to the working directory)`,
		`zyklus.yaml:12:13: lifecycles names "role5" twice`,
	)

	// The shape of the file.
	f("[]", nil, nil, `zyklus.yaml:1:1: the file is a list: want keys with values, such as "key: value"`)
	f("kafka: 7", nil, nil, `zyklus.yaml:1:8: kafka is a number: want keys with values, such as "key: value"`)
	f("clickhouse: {password: \xff}", nil, nil, `zyklus.yaml: is not UTF-8 text: is it a configuration?`)
	f("a\x00b: 1", nil, nil, `zyklus.yaml:1:1: unknown key "a\x00b"`)
	f("group: a\ngroup: b", nil, nil, `zyklus.yaml:2:1: "group" is given twice`)
	f("group:\n", nil, nil, `zyklus.yaml:1:1: group has no value: write one, or remove the line for the default`)
	f("group: a\n---\ngroup: b", nil, nil, `zyklus.yaml:3:6: a second YAML document begins: a configuration is one`)
	f("group: &a x\ncurrency: *a", nil, nil,
		`zyklus.yaml:1:8: group is an anchor, alias or tag, which are not supported: want a text, in quotes if it looks like something else`,
		`zyklus.yaml:2:11: currency is an anchor, alias or tag, which are not supported: want a text, in quotes if it looks like something else`)
	f("clickhouse: {tls: true, password: 0123}\nkafka: {tls: {enabled: yes}}", nil, nil,
		`zyklus.yaml:1:19: clickhouse.tls is true or false: want keys with values, such as "key: value"`,
		`zyklus.yaml:1:35: clickhouse.password is a number: want a text, in quotes if it looks like something else`,
		`zyklus.yaml:2:24: kafka.tls.enabled is a text: want true or false`)
	f("clickhouse: {password: \"a\\nb\"}", nil, nil, `zyklus.yaml:1:24: clickhouse.password holds a line break or another control character`)

	// Settings that contradict each other.
	f("kafka: {embedded: true, brokers: ['a:1']}\nclickhouse: {embedded: true, protocol: native, tls: {enabled: true}, data: '', native_listen: off}",
		nil, []string{"--clickhouse-addr=c:9000"},
		`zyklus.yaml:1:34: kafka.brokers is given (zyklus.yaml:1:34) and kafka.embedded is true (zyklus.yaml:1:19): keep one of them`,
		`--clickhouse-addr: clickhouse.addrs is given (--clickhouse-addr) and clickhouse.embedded is true (zyklus.yaml:2:24): keep one of them`,
		`zyklus.yaml:2:76: clickhouse.data is empty: the embedded engine needs a directory`,
		`zyklus.yaml:2:40: clickhouse.protocol is native, but clickhouse.native_listen is off: change one of them`,
		`zyklus.yaml:2:63: clickhouse.tls.enabled is true, but the embedded engine has none: remove it`)
}

func TestFilesThatCannotBeRead(t *testing.T) {
	t.Chdir(t.TempDir())
	f := func(path, want string) {
		t.Helper()
		if _, err := config.Load(path, nil, nil); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v", path, err)
		}
	}
	f("absent.yaml", "absent.yaml: no such file: give the path of the configuration with --config")
	f(".", "is a directory")
	if err := os.WriteFile("big.yaml", bytes.Repeat([]byte("# big\n"), 100_000), 0o600); err != nil {
		t.Fatal(err)
	}
	f("big.yaml", "greater than 256KiB")
}

func TestEnvironmentOfOthersIsIgnored(t *testing.T) {
	_, err := config.Load("", []string{"ZYKLUS_CONFIG=x", "ZYKLUS_SHARED=x", "ZYKLUS_STOP_WITH_STDIN=1", "ZYKLUSX=1",
		// What Kubernetes sets for services named zyklus and zyklus-http.
		"ZYKLUS_SERVICE_HOST=10.0.0.1", "ZYKLUS_SERVICE_PORT=80", "ZYKLUS_SERVICE_PORT_METRICS=80", "ZYKLUS_PORT=tcp://10.0.0.1:80",
		"ZYKLUS_PORT_80_TCP=tcp://10.0.0.1:80", "ZYKLUS_PORT_80_TCP_ADDR=10.0.0.1", "ZYKLUS_PORT_80_TCP_PORT=80", "ZYKLUS_PORT_80_TCP_PROTO=tcp",
		"ZYKLUS_HTTP_SERVICE_HOST=10.0.0.1", "ZYKLUS_HTTP_PORT_80_TCP_ADDR=10.0.0.1", "ZYKLUS_HTTP_PORT=tcp://10.0.0.1:80",
	}, nil)
	if err != nil {
		t.Error(err)
	}
	if _, err = config.Load("", []string{"ZYKLUS_HTTP_PORT=80"}, nil); err == nil {
		t.Error("ZYKLUS_HTTP_PORT=80 was ignored")
	}
}

func TestLibraryHasItsOwnVariable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "libchdb.so")
	c, err := config.Load("", []string{"ZYKLUS_LIBCHDB=" + path}, nil)
	if err != nil || c.ClickHouse.Library != path {
		t.Errorf("got %q, %v", c.ClickHouse.Library, err)
	}
	f := &config.Flags{}
	f.Set("clickhouse.embedded", "true")
	if _, err = config.Load("", []string{"ZYKLUS_LIBCHDB=" + path}, f); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("got %v", err)
	}
}

func TestFlags(t *testing.T) {
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	config.RegisterFlags(fs, "brokers", "topic")
	names := ""
	fs.VisitAll(func(f *pflag.Flag) { names += f.Name + " " })
	if names != "brokers set topic " {
		t.Errorf("flags %q", names)
	}
	if usage := fs.FlagUsages(); !strings.Contains(usage, "(kafka.brokers) (default 127.0.0.1:9092)") {
		t.Errorf("usage:\n%s", usage)
	}
	for _, args := range [][]string{{"--set", "group"}, {"--topic", "a", "--topic", "b"}} {
		fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
		config.RegisterFlags(fs)
		if err := fs.Parse(args); err == nil {
			t.Errorf("%q was accepted", args)
		}
	}
}

func TestPrintIsReadAgain(t *testing.T) {
	path := inFile(t, "group: 'true'\nsource: {earliest: '2015-12-31', ignored_ids: ['#', 'a\"b', 'c, d']}\nclickhouse: {password: s3cret}\n")
	c, err := config.Load(path, []string{"ZYKLUS_KAFKA_PARTITIONS=3"}, flags(t, "--http-addr", ":0"))
	if err != nil {
		t.Fatal(err)
	}
	var first, second bytes.Buffer
	if err := c.Print(&first); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`group: "true" `, "# zyklus.yaml:1:8", "# ZYKLUS_KAFKA_PARTITIONS", "# --http-addr", `password: "[redacted]"`} {
		if !strings.Contains(first.String(), want) {
			t.Errorf("%q is missing in\n%s", want, &first)
		}
	}
	if c, err = config.Load(inFile(t, first.String()), nil, nil); err != nil {
		t.Fatalf("%v in\n%s", err, &first)
	}
	_ = c.Print(&second)
	if a, b := withoutComments(first.String()), withoutComments(second.String()); a != b {
		t.Errorf("printed\n%s\nread and printed again\n%s", a, b)
	}
}

// withoutComments cuts the origins off.
func withoutComments(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if i := strings.LastIndex(line, " # "); i > 0 {
			line = strings.TrimRight(line[:i], " ")
		}
		b.WriteString(strings.TrimSpace(line) + "\n")
	}
	return b.String()
}

func TestReferenceNamesEverySetting(t *testing.T) {
	var b bytes.Buffer
	if err := config.Reference(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"### `group`\n\nconsumer group", "default `zyklus`\n", "environment `ZYKLUS_SOURCE_MAX_RECORD`", "flag `--libchdb`", "one of `wall`, `events`", "ZYKLUS_LIBCHDB"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, &b)
		}
	}
	if strings.Contains(b.String(), "\n\n.\n") {
		t.Error("a setting has no doc")
	}
	for _, key := range config.Keys() {
		if strings.Count(b.String(), "\n### `"+key+"`\n") != 1 {
			t.Errorf("%s is not there once", key)
		}
	}
	if n := strings.Count(b.String(), "\n## General\n"); n != 1 {
		t.Errorf("%d sections of general settings", n)
	}
}

func TestLogger(t *testing.T) {
	f := func(format string, terminal bool, want string) {
		t.Helper()
		var b bytes.Buffer
		log := config.Log{Format: format, Level: "warn"}.Logger(&b, terminal)
		log.Info("hidden")
		log.Warn("shown", "password", config.NewSecret("s3cret"))
		if got := b.String(); !strings.Contains(got, want) || strings.Contains(got, "hidden") || strings.Contains(got, "s3cret") {
			t.Errorf("%s on terminal %v: %s", format, terminal, got)
		}
	}
	f("auto", true, "msg=shown")
	f("auto", false, `"msg":"shown"`)
	f("text", false, "msg=shown")
	f("json", true, `"password":"[redacted]"`)
}
