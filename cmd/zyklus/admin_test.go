package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/twmb/franz-go/pkg/kadm"

	"zyklus/cmd/zyklus/internal/config"
	"zyklus/pipeline"
)

// answer runs zyklus, which must succeed, and decodes what it prints as JSON.
func answer[T any](t *testing.T, args ...string) (v T) {
	t.Helper()
	code, out, log := cli(t, append(args, "--output", "json")...)
	if code != 0 {
		t.Fatalf("zyklus %s: exit %d\n%s%s", strings.Join(args, " "), code, out, log)
	}
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("zyklus %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return v
}

// TestCommandsForOperators is about what is said before anything is connected to.
func TestCommandsForOperators(t *testing.T) {
	t.Run("help", func(t *testing.T) {
		for command, words := range map[string][]string{
			"admin":              {"lag", "top", "state", "verify", "republish", "rebuild", "Exit codes"},
			"admin lag":          {"POSITION", "WATERMARK", "--output", "jq"},
			"admin top":          {"--once", "--heavy", "--instance", "OWNER"},
			"admin state get":    {"CUSTOMER", "--partition", "Exit code 1"},
			"admin republish":    {"--parallel", "--from-partition", "--customer", "phase_transitions", "rebuild"},
			"admin verify":       {"--share", "--customer", "--all", "--partitions", "TOTALS ONLY", "NOT VERIFIABLE", "Exit codes"},
			"admin rebuild":      {"--yes", "--clean", "--accept-loss", "Stop all instances"},
			"deadletters":        {"list", "show", "replay", "Exit codes"},
			"deadletters list":   {"--since", "--error", "--source", "--limit"},
			"deadletters replay": {"--dry-run", "--to", "zyklus-replay-of", "known by their ids"},
			"migrate check":      {"Exit code 0", "1 if there is"},
			"migrate status":     {"would do", "Exit code 0", "--output"},
			"config validate":    {"Exit code 0", "2 if not"},
			"config schema":      {"2020-12", "yaml-language-server"},
			"docs":               {"man", "markdown", "completion"},
		} {
			code, stdout, stderr := cli(t, append(strings.Fields(command), "--help")...)
			if code != 0 || stderr != "" {
				t.Errorf("help of %q: exit %d\n%s", command, code, stderr)
			}
			for _, word := range words {
				if !strings.Contains(stdout, word) {
					t.Errorf("help of %q says nothing of %s", command, word)
				}
			}
		}
	})
	t.Run("usage", func(t *testing.T) {
		fails(t, 2, problem("zyklus admin state get", "CUSTOMER"), "admin", "state", "get")
		fails(t, 2, problem("--output", `"xml"`, "text nor json"), "admin", "lag", "--output", "xml")
		fails(t, 2, problem("--partitions", `"2-x"`), "admin", "republish", "--partitions", "0,2-x")
		fails(t, 2, problem("--parallel"), "admin", "republish", "--parallel", "0")
		fails(t, 2, problem("--heavy"), "admin", "top", "--heavy", "-1")
		fails(t, 2, problem(`"events/1"`, "TOPIC/PARTITION/OFFSET"), "deadletters", "show", "events/1")
		fails(t, 2, problem(`"events/1/-1"`), "deadletters", "replay", "--record", "events/1/-1")
		fails(t, 2, problem(`unknown command "lagg"`, "lag"), "admin", "lagg")
	})
	t.Run("configuration", func(t *testing.T) {
		good := file(t, "good.yaml", "sources: {shop: {topic: shop-events}}\nclickhouse: {password: "+secret+"}\n")
		if _, out, _ := cli(t, "config", "validate", good); out != good+" is valid\n" {
			t.Errorf("%q", out)
		}
		bad := file(t, "bad.yaml", "sorce: {}\nkafka: {partitions: none}\n")
		fails(t, 2, [][]string{{bad + ":1:1", "sorce"}, {bad + ":2:21", "kafka.partitions"}}, "config", "validate", bad)
		lifecycle := file(t, "own.yaml", "id: own\n")
		code, _, log := cli(t, "config", "validate", "--set", "lifecycles="+lifecycle)
		if code != 2 || !strings.Contains(log, lifecycle) {
			t.Errorf("a lifecycle that does not compile: exit %d\n%s", code, log)
		}
		code, printed, _ := cli(t, "config", "print", "--config", good)
		again := file(t, "again.yaml", printed)
		if code2, _, log := cli(t, "config", "validate", again); code != 0 || code2 != 0 {
			t.Errorf("what is printed cannot be read: %d %d %s", code, code2, log)
		}
		settings := answer[[]config.Setting](t, "config", "print", "--config", good)
		i := slices.IndexFunc(settings, func(s config.Setting) bool { return s.Key == "sources.shop.topic" })
		if i < 0 || settings[i].Value != "shop-events" || settings[i].Origin != good+":1:25" {
			t.Errorf("%+v", settings)
		}
		if _, schema, _ := cli(t, "config", "schema"); !strings.Contains(schema, `"$schema": "https://json-schema.org/draft/2020-12/schema"`) {
			t.Errorf("schema: %s", schema)
		}
	})
	t.Run("examples", func(t *testing.T) {
		_, rest, _ := strings.Cut(runCommand().Long, "A minimal zyklus.yaml:\n\n")
		example, _, _ := strings.Cut(rest, "\n\n")
		_, text, _ := cli(t, "config", "schema")
		schema := compileSchema(t, text)
		deployed, err := os.ReadFile(deploy(t, "some", "events", "127.0.0.1:1", "127.0.0.1:2", "currency: USD").config)
		if err != nil {
			t.Fatal(err)
		}
		_, printed, _ := cli(t, "config", "print")
		for name, yaml := range map[string]string{"in run --help": example, "of tests": string(deployed), "printed": printed} {
			if len(yaml) < 100 {
				t.Errorf("the configuration %s is %q", name, yaml)
			}
			if code, _, log := cli(t, "config", "validate", file(t, "example.yaml", yaml)); code != 0 {
				t.Errorf("the configuration %s is not valid: %s\n%s", name, log, yaml)
			}
			if err := schema.Validate(fromYAML(t, yaml)); err != nil {
				t.Errorf("the configuration %s does not fit the schema: %v\n%s", name, err, yaml)
			}
		}
		if schema.Validate(fromYAML(t, strings.Replace(example, "topic:", "topik:", 1))) == nil {
			t.Error("the schema takes a key that does not exist")
		}
	})
	t.Run("docs", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "man")
		succeed(t, "docs", "man", dir)
		text, err := os.ReadFile(filepath.Join(dir, "zyklus-admin-rebuild.1"))
		if err != nil || !strings.Contains(string(text), "accept-loss") {
			t.Errorf("%v\n%s", err, text)
		}
		succeed(t, "docs", "markdown", dir)
		if _, err := os.Stat(filepath.Join(dir, "zyklus_admin_state_get.md")); err != nil {
			t.Error(err)
		}
	})
	t.Run("completion", func(t *testing.T) {
		for line, want := range map[string]string{
			"admin lag --output ": "text json", "run --clock ": "wall events", "deadletters list --error ": "not_json", "run --set ": "source.lateness=",
		} {
			_, out, _ := runZyklus(t, nil, append([]string{"__complete"}, strings.Split(line, " ")...)...)
			for word := range strings.FieldsSeq(want) {
				if !slices.Contains(strings.Split(out, "\n"), word) {
					t.Errorf("%q is not completed with %s:\n%s", line, word, out)
				}
			}
		}
	})
}

// compileSchema reads a JSON Schema.
func compileSchema(t *testing.T, text string) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("zyklus.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("zyklus.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func fromYAML(t *testing.T, text string) any {
	t.Helper()
	asJSON, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestReadmesNameWhatIs: settings and commands that texts for readers mention exist.
func TestReadmesNameWhatIs(t *testing.T) {
	keys := config.Keys()
	sections := map[string]bool{}
	for _, k := range keys {
		section, _, _ := strings.Cut(k, ".")
		sections[section] = true
	}
	quoted := regexp.MustCompile("`([a-z_]+\\.[a-z_.]+)`")
	command := regexp.MustCompile(`(?m)zyklus ((?:[a-z]+ ?)+)`)
	for _, name := range []string{"README.md", "bench/README.md", "cmd/zyklus/TUTORIAL.md", "cmd/zyklus/CONFIG.md", "pipeline/DESIGN.md"} {
		text, err := os.ReadFile(filepath.Join("..", "..", name))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range quoted.FindAllStringSubmatch(string(text), -1) {
			section, _, _ := strings.Cut(m[1], ".")
			if sections[section] && !slices.Contains(keys, m[1]) && !strings.HasSuffix(m[1], ".go") {
				t.Errorf("%s names the setting %s, which does not exist", name, m[1])
			}
		}
		for _, code := range regexp.MustCompile("(?s)```.*?```|`[^`]*`").FindAllString(string(text), -1) {
			for _, m := range command.FindAllStringSubmatch(code, -1) {
				found, _, err := rootCommand().Find(strings.Fields(m[1])[:1])
				if err != nil || found.Name() == "zyklus" {
					t.Errorf("%s names zyklus %s, which does not exist", name, m[1])
				}
			}
		}
	}
}

// TestLookingIntoADeployment: what the commands tell of a running deployment, and republishing beside it, while events
// come.
func TestLookingIntoADeployment(t *testing.T) {
	r := newRig(t)
	d := r.deploy("looked")
	p := r.run(d)
	r.await(p, d, r.feed.reached(), "at the beginning")

	t.Run("republish while it runs", func(t *testing.T) {
		before := whole(t, one(t, d, "SELECT count() FROM v_customers"))
		d.mustQuery(t, "TRUNCATE TABLE customers")
		list := answer[[]republished](t, "admin", "republish", "--config", d.config, "--parallel", "2")
		sum := int64(0)
		for _, p := range list {
			sum += p.Customers
		}
		if len(list) != rigPartitions || sum < before {
			t.Errorf("%d customers were there, republished were %+v", before, list)
		}
		if now := whole(t, one(t, d, "SELECT count() FROM v_customers")); now < before {
			t.Errorf("%d customers were there, %d are", before, now)
		}
	})
	t.Run("top", func(t *testing.T) {
		f := answer[topFrame](t, "admin", "top", "--config", d.config, "--instance", p.served(), "--heavy", "3")
		i := f.Instances[0]
		if i.Error != "" || i.Events == nil || *i.Events <= 0 || i.Customers == 0 || i.Timers == 0 || len(f.Partitions) != rigPartitions {
			t.Errorf("%+v", f)
		}
		for _, part := range f.Partitions {
			if part.Owner != p.served() {
				t.Errorf("partition %d is owned by %q", part.Partition, part.Owner)
			}
		}
		if len(f.Heavy) < 3 || f.Heavy[0].Bytes < f.Heavy[len(f.Heavy)-1].Bytes {
			t.Errorf("heavy customers: %+v", f.Heavy)
		}
		if code, out, log := cli(t, "admin", "top", "--config", d.config, "--once", "--instance", nobody(t)); code != 1 ||
			!strings.Contains(log, "no instance has answered") || !strings.Contains(out, "connection refused") {
			t.Errorf("without an instance: exit %d\n%s%s", code, out, log)
		}
	})

	at := r.feed.finish()
	r.await(p, d, at, "at the end")
	r.awaitLetters(d)
	t.Run("lag", func(t *testing.T) { r.checkLag(t, d, at) })
	t.Run("state", func(t *testing.T) { r.checkState(t, d) })
	t.Run("heavy", func(t *testing.T) {
		f := answer[topFrame](t, "admin", "top", "--config", d.config, "--instance", p.served(), "--heavy", "1")
		for _, h := range f.Heavy {
			s := answer[[]customerState](t, "admin", "state", "get", h.Customer, "--config", d.config)[0]
			if h.Bytes != s.Customer.Bytes[0].Bytes || h.Open != len(s.Customer.Open) || h.Partition != s.Partition.Partition {
				t.Errorf("%+v, state says %+v", h, s.Customer.Bytes)
			}
		}
		equal(t, "customers with more orders than the heavy ones", one(t, d, fmt.Sprintf("SELECT count() FROM v_customers WHERE orders > %d + 5",
			max(f.Heavy[0].Orders, f.Heavy[len(f.Heavy)-1].Orders))), "0") // orders that are not settled count for the row alone
	})
	t.Run("migrate", func(t *testing.T) {
		succeed(t, "migrate", "check", "--config", d.config)
		d.mustQuery(t, "DROP VIEW v_orders")
		fails(t, 1, problem("1 differences", "zyklus migrate up"), "migrate", "check", "--config", d.config)
		if m := answer[migration](t, "migrate", "status", "--config", d.config); len(m.ToDo) != 1 || m.ToDo[0].Name != "create view v_orders" ||
			len(m.Applied) < 5 || len(m.Topics) != 4 || m.Topics[1].Partitions != rigPartitions || m.Refused != "" {
			t.Errorf("%+v", m)
		}
		succeed(t, "migrate", "up", "--config", d.config)
		succeed(t, "migrate", "check", "--config", d.config)
	})
	control := r.control("control", at)
	r.compare(control, d)
	t.Run("republish afterwards", func(t *testing.T) {
		if code := p.stop(20 * time.Second); code != 0 {
			t.Errorf("the pipeline ended with %d", code)
		}
		d.mustQuery(t, "TRUNCATE TABLE customers")
		out := succeed(t, "admin", "republish", "--config", d.config, "--partitions", "0,1")
		if !strings.Contains(out, "phase_transitions") {
			t.Errorf("it does not say what cannot come back:\n%s", out)
		}
		succeed(t, "admin", "republish", "--config", d.config, "--from-partition", "2")
		r.compare(control, d)
	})
	t.Run("dead letters", func(t *testing.T) { r.checkDeadLetters(t, d) })
}

func (r *rig) checkLag(t *testing.T, d deployment, at time.Time) {
	t.Helper()
	var l lagReport
	eventually(t, 20*time.Second, "no lag", func() error {
		l = answer[lagReport](t, "admin", "lag", "--config", d.config)
		for _, p := range l.Partitions {
			if p.Lag != 0 || p.Committed != p.Stored || p.GroupOffset != p.End {
				return fmt.Errorf("%+v", p)
			}
		}
		return nil
	})
	if len(l.Partitions) != rigPartitions || len(l.Notices) > 0 || l.Group != "looked" {
		t.Errorf("%+v", l)
	}
	for i, p := range l.Partitions {
		want := one(t, d, fmt.Sprintf("SELECT clock, watermark FROM v_checkpoints WHERE partition = %d", i))
		clock, watermark := strings.NewReplacer("T", " ", "Z", "").Replace(p.Clock), strings.NewReplacer("T", " ", "Z", "").Replace(p.Watermark)
		if clock+"\t"+watermark != want || p.End == 0 || p.Position != p.End {
			t.Errorf("partition %d: %+v, table says %s", i, p, want)
		}
	}
	other := answer[lagReport](t, "admin", "lag", "--config", d.config, "--set", "time_zone=Europe/Berlin")
	if len(other.Notices) != rigPartitions || !strings.Contains(other.Notices[0], "another time zone") {
		t.Errorf("under another time zone: %+v", other.Notices)
	}
	down := deploy(t, "looked", r.topic, r.broker.addr, nobody(t), "")
	if l := answer[lagReport](t, "admin", "lag", "--config", down.config); len(l.Partitions) != rigPartitions || len(l.Notices) != 1 {
		t.Errorf("without ClickHouse: %+v", l)
	}
}

// checkState compares states with the rows of customers.
func (r *rig) checkState(t *testing.T, d deployment) {
	t.Helper()
	const columns = "customer_id, partition, orders, toInt64(net_value * 100), role5_phase, role5_cycle, known, formatDateTime(last_seen_at, '%FT%T', 'UTC')"
	lines := d.mustQuery(t, "SELECT "+columns+" FROM v_customers ORDER BY orders DESC, customer_id LIMIT 1")
	lines = append(lines, d.mustQuery(t, "SELECT "+columns+" FROM v_customers WHERE orders = 0 ORDER BY customer_id LIMIT 1")...)
	for i, line := range lines {
		c := strings.Split(line, "\t")
		args := []string{"admin", "state", "get", c[0], "--config", d.config}
		if i > 0 {
			args = append(args, "--partition", c[1])
		}
		found := answer[[]customerState](t, args...)
		if len(found) != 1 {
			t.Fatalf("%s is in %d partitions", c[0], len(found))
		}
		s, values := found[0].Customer, map[string]any{}
		for _, part := range s.Sections {
			for _, f := range part.Fields {
				values[f.Name] = f.Value
			}
		}
		seen, _, _ := strings.Cut(fmt.Sprint(values["last_seen_at"]), ".")
		got := fmt.Sprintf("%s\t%d\t%d\t%d\t%s\t%d\t%v\t%s", s.Customer, found[0].Partition.Partition, s.Totals.Orders, s.Totals.Net, s.Phases[0].Phase, s.Phases[0].Cycle, values["known"], seen)
		equal(t, "state and row", strings.NewReplacer("\ttrue\t", "\t1\t", "\tfalse\t", "\t0\t").Replace(got), line)
		if (len(s.Deadlines) > 0) != (s.Totals.Orders > 0) || len(s.Bytes) < 4 { // only orders bring something by time alone
			t.Errorf("deadlines %+v, bytes %+v", s.Deadlines, s.Bytes)
		}
		code, text, log := cli(t, "admin", "state", "get", c[0], "--config", d.config)
		if code != 0 || !strings.Contains(text, c[0]) || strings.Contains(log, c[0]) {
			t.Errorf("exit %d, log:\n%s\ntext:\n%s", code, log, text)
		}
		if i == 0 {
			t.Log("\n" + text)
		}
	}
	fails(t, 1, problem("no such customer"), "admin", "state", "get", "nobody-at-all", "--config", d.config)
	fails(t, 1, problem("another time zone"), "admin", "state", "get", strings.Split(lines[0], "\t")[0], "--config", d.config, "--set", "time_zone=Europe/Berlin")
	fails(t, 2, problem("no partition 9", "0 to 3"), "admin", "state", "get", "x", "--partition", "9", "--config", d.config)
}

// checkDeadLetters lists, shows and replays. Nothing else runs.
func (r *rig) checkDeadLetters(t *testing.T, d deployment) {
	t.Helper()
	all := answer[[]letter](t, "deadletters", "list", "--config", d.config, "--limit", "0")
	if n := whole(t, one(t, d, "SELECT count() FROM v_dead_letters")); int64(len(all)) != n || n == 0 {
		t.Errorf("%d are listed of %d", len(all), n)
	}
	if some := answer[[]letter](t, "deadletters", "list", "--config", d.config, "--since", "1h", "--error", "not_json", "--source", r.topic, "--limit", "2"); len(some) != 2 || some[0].Error != "not_json" {
		t.Errorf("%+v", some)
	}
	if none := answer[[]letter](t, "deadletters", "list", "--config", d.config, "--source", "elsewhere"); len(none) != 0 {
		t.Errorf("%+v", none)
	}
	fails(t, 2, problem("--error", "not_jason", "not_json"), "deadletters", "list", "--config", d.config, "--error", "not_jason")
	fails(t, 2, problem("--since", "soon"), "deadletters", "list", "--config", d.config, "--since", "soon")
	for _, kind := range []string{"not_json", "order_unknown"} {
		i := slices.IndexFunc(all, func(l letter) bool { return l.Error == kind })
		shown := answer[letter](t, "deadletters", "show", all[i].ID, "--config", d.config)
		if shown.Value == "" || uint64(len(shown.Value)) != all[i].Size || shown.Cause != all[i].Cause || shown.Key != all[i].Key {
			t.Errorf("%+v, listed %+v", shown, all[i])
		}
	}
	fails(t, 1, problem("events/0/999999999", "14 days"), "deadletters", "show", "events/0/999999999", "--config", d.config)

	_, ends := readCommitted(t, r.broker.addr, r.topic, nil)
	dry := answer[replayed](t, "deadletters", "replay", "--config", d.config, "--error", "order_unknown", "--dry-run")
	if _, now := readCommitted(t, r.broker.addr, r.topic, ends); len(dry.Sent) == 0 || fmt.Sprint(now) != fmt.Sprint(ends) {
		t.Errorf("a dry run has sent: %v %v", ends, now)
	}
	sent := answer[replayed](t, "deadletters", "replay", "--config", d.config, "--error", "order_unknown")
	records, _ := readCommitted(t, r.broker.addr, r.topic, ends)
	if fmt.Sprint(sent.Sent) != fmt.Sprint(dry.Sent) || len(records) != len(sent.Sent) {
		t.Errorf("%d would be sent, %d were, %d are there", len(dry.Sent), len(sent.Sent), len(records))
	}
	for _, rec := range records {
		of := string(rec.Headers[0].Value)
		var partition int32
		_, _ = fmt.Sscanf(of, r.topic+"/%d/", &partition)
		i := slices.IndexFunc(all, func(l letter) bool { return l.ID == of })
		if rec.Headers[0].Key != "zyklus-replay-of" || i < 0 || string(rec.Key) != all[i].Key || uint64(len(rec.Value)) != all[i].Size || rec.Partition != partition {
			t.Errorf("%s in partition %d: %v", rec.Value, rec.Partition, rec.Headers)
		}
	}
	code, out, log := cli(t, "deadletters", "replay", "--config", d.config, "--error", "null_value")
	if code != 1 || !strings.Contains(out, "no value") || !strings.Contains(log, "cannot be replayed") {
		t.Errorf("exit %d\n%s%s", code, out, log)
	}
	d.mustQuery(t, "INSERT INTO dead_letters (topic, partition, position, error, key, value, received_at, version) VALUES ('events', 0, 7777777, 'too_large', 'key', concat(repeat('x', 1000000), repeat('x', 48573)), now64(3), 1)")
	if cut := answer[letter](t, "deadletters", "show", "events/0/7777777", "--config", d.config); !cut.Cut || cut.Size != 1048573 {
		t.Errorf("a value that was cut: %t, %d bytes", cut.Cut, cut.Size)
	}
	if code, out, _ := cli(t, "deadletters", "replay", "--config", d.config, "--record", "events/0/7777777"); code != 1 || !strings.Contains(out, "was cut") {
		t.Errorf("a value that was cut: exit %d\n%s", code, out)
	}
	fails(t, 1, problem("zyklus-looked-changelog", "different topics"), "deadletters", "replay", "--config", d.config, "--error", "not_json", "--to", "zyklus-looked-changelog")
}

// TestRebuild: the changelog is lost, the pipeline refuses and names the command, and after a rebuild all tables equal
// those of a run that nothing happened to.
func TestRebuild(t *testing.T) {
	r := newRig(t)
	d := r.deploy("lost")
	p := r.run(d)
	r.await(p, d, r.feed.reached(), "at the beginning")
	time.Sleep(time.Second) // some more history
	fails(t, 1, problem("group lost has 1 members", "stop all instances"), "admin", "rebuild", "--config", d.config, "--yes")
	at := r.feed.finish()
	r.await(p, d, at, "before the loss")
	if code := p.stop(20 * time.Second); code != 0 {
		t.Errorf("the pipeline ended with %d", code)
	}
	fails(t, 1, problem("no rebuild is on record"), "admin", "rebuild", "--config", d.config, "--clean", "--yes")
	adm := kadm.NewClient(kafkaClient(t, r.broker.addr))
	if _, err := adm.DeleteTopic(context.Background(), "zyklus-lost-changelog"); err != nil {
		t.Fatal(err)
	}
	succeed(t, "migrate", "--config", d.config)
	refused := r.run(d)
	if code := refused.wait(time.Minute); code != 1 || !strings.Contains(refused.log.String(), "run zyklus admin rebuild") {
		t.Errorf("the pipeline ended with %d\n%s", code, tail(refused.log.String(), 5))
	}
	if l := answer[lagReport](t, "admin", "lag", "--config", d.config); len(l.Notices) == 0 || !strings.Contains(l.Notices[0], "admin rebuild") {
		t.Errorf("lag says nothing of the loss: %+v", l)
	}
	code, out, log := cli(t, "admin", "rebuild", "--config", d.config)
	if code != 2 || !strings.Contains(out, "would begin lineage 2") || !strings.Contains(log, "--yes") {
		t.Errorf("exit %d\n%s%s", code, out, log)
	}
	if l := answer[lagReport](t, "admin", "lag", "--config", d.config); l.Partitions[0].Position != 0 || l.Partitions[0].Committed != "" {
		t.Errorf("something was changed without --yes: %+v", l.Partitions[0])
	}
	// Rows that the new lineage will not have: as if history had been another.
	d.mustQuery(t, "INSERT INTO customers (customer_id, version) VALUES ('of-another-history', 1099511627777)")
	succeed(t, "admin", "rebuild", "--config", d.config, "--yes")
	if _, err := adm.DeleteTopic(context.Background(), "zyklus-lost-changelog"); err != nil { // as a crash in between would leave it
		t.Fatal(err)
	}
	if plan := answer[rebuildPlan](t, "admin", "rebuild", "--config", d.config, "--yes"); plan.Lineage != 3 || !plan.Done || len(plan.Lost) > 0 {
		t.Errorf("%+v", plan)
	}
	if settings := topicSettings(t, adm, "zyklus-lost-changelog"); settings["cleanup.policy"] != "compact" || settings["segment.bytes"] != "134217728" {
		t.Errorf("settings of the new changelog: %v", settings)
	}
	fails(t, 1, problem("lineage 3 is not complete", "partition 0 has not begun"), "admin", "rebuild", "--config", d.config, "--clean", "--yes")
	p = r.run(d)
	eventually(t, time.Minute, "lag says that the lineage is complete", func() error {
		_ = p.alive()
		if l := answer[lagReport](t, "admin", "lag", "--config", d.config); len(l.Notices) == 0 || !strings.Contains(l.Notices[0], "lineage 3 is complete") {
			return fmt.Errorf("%+v", l.Notices)
		}
		return nil
	})
	r.await(p, d, at, "after the rebuild")
	if code, out, _ := cli(t, "admin", "rebuild", "--config", d.config, "--clean"); code != 2 || !strings.Contains(out, "customers") {
		t.Errorf("exit %d\n%s", code, out)
	}
	letters := one(t, d, "SELECT count() FROM dead_letters FINAL")
	c := answer[cleaned](t, "admin", "rebuild", "--config", d.config, "--clean", "--yes")
	if !c.Done || c.Lineage != 3 || c.Tables[1].Table != "customers" || c.Tables[1].Rows != 1 {
		t.Errorf("%+v", c)
	}
	none(t, d, "rows of older lineages", fmt.Sprintf("SELECT 1 FROM customers WHERE version < %d UNION ALL SELECT 1 FROM phase_transitions WHERE version < %[1]d UNION ALL SELECT 1 FROM orders WHERE version < %[1]d UNION ALL SELECT 1 FROM customer_days WHERE version < %[1]d", pipeline.Version(3, 0)))
	equal(t, "dead letters, whose versions are not those of checkpoints", one(t, d, "SELECT count() FROM dead_letters FINAL"), letters)
	if l := answer[lagReport](t, "admin", "lag", "--config", d.config); len(l.Notices) > 0 {
		t.Errorf("%+v", l.Notices)
	}
	if code := p.stop(20 * time.Second); code != 0 {
		t.Errorf("the pipeline ended with %d", code)
	}
	control := r.control("control", at)
	for _, table := range []string{"v_customers", "v_customer_days", "v_orders", "v_phase_transitions"} {
		sql := "SELECT * FROM " + table + " ORDER BY ALL"
		diffLines(t, table+" of the control run and after the rebuild", control.mustQuery(t, sql), d.mustQuery(t, sql))
	}
	r.checkAccount(d)
}

// topicSettings are those of a topic that are not its broker's defaults.
func topicSettings(t *testing.T, adm *kadm.Client, topic string) map[string]string {
	t.Helper()
	configs, err := adm.DescribeTopicConfigs(context.Background(), topic)
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	for _, c := range configs[0].Configs {
		settings[c.Key] = c.MaybeValue()
	}
	return settings
}
