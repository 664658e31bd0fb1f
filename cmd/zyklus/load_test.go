package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const loadPartitions = 4

// loadRig is a broker with one topic for each load.
type loadRig struct {
	t      *testing.T
	broker string
	dir    string
}

func newLoadRig(t *testing.T) *loadRig {
	t.Helper()
	if testing.Short() {
		t.Skip("runs real processes")
	}
	broker, _ := startBroker(t, filepath.Join(t.TempDir(), "kafka"))
	return &loadRig{t, broker, t.TempDir()}
}

func (r *loadRig) file(name string, text []byte) string {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.WriteFile(path, text, 0o644); err != nil {
		r.t.Fatal(err)
	}
	return path
}

// load runs a load into a topic.
func (r *loadRig) load(topic string, args ...string) (code int, stdout, stderr string) {
	r.t.Helper()
	return runZyklus(r.t, nil, r.args(topic, args...)...)
}

func (r *loadRig) args(topic string, args ...string) []string {
	return append([]string{"load", "--brokers", r.broker, "--topic", topic, "--clock", "events", "--set", "log.format=text"}, args...)
}

// loaded is load where it must succeed.
func (r *loadRig) loaded(topic string, args ...string) (stdout string) {
	r.t.Helper()
	code, stdout, stderr := r.load(topic, args...)
	if code != 0 {
		r.t.Fatalf("load %s: exit %d\n%s%s", strings.Join(args, " "), code, stdout, stderr)
	}
	return stdout
}

// committed returns the records of a topic that a reader sees, each as "key value", by partition.
func (r *loadRig) committed(topic string) (partitions [loadPartitions][]string) {
	r.t.Helper()
	cl := kafkaClient(r.t, r.broker, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	defer cl.Close()
	ends, left := [loadPartitions]int64{}, 0
	for p := range ends {
		ends[p] = endOf(r.t, cl, topic, int32(p))
		left += int(ends[p])
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for at := [loadPartitions]int64{}; at != ends; {
		fetches := cl.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			r.t.Fatalf("read %s: at %v of %v: %v", topic, at, ends, err)
		}
		fetches.EachRecord(func(rec *kgo.Record) {
			at[rec.Partition] = rec.Offset + 1
			if !rec.Attrs.IsControl() {
				partitions[rec.Partition] = append(partitions[rec.Partition], string(rec.Key)+" "+string(rec.Value))
			}
		})
	}
	return partitions
}

// endOf returns where what a reader sees of a partition ends.
func endOf(t testing.TB, cl *kgo.Client, topic string, partition int32) int64 {
	t.Helper()
	ends, err := kadm.NewClient(cl).ListCommittedOffsets(context.Background(), topic)
	end, _ := ends.Lookup(topic, partition)
	if err := errors.Join(err, end.Err); err != nil {
		t.Fatal(err)
	}
	return end.Offset
}

func beats(at string) (list []string) {
	for range loadPartitions {
		list = append(list, ` {"type":"heartbeat","timestamp":"`+at+`"}`)
	}
	return list
}

// holds checks what a topic holds, whatever the partition.
func (r *loadRig) holds(topic string, want ...string) {
	r.t.Helper()
	var got []string
	for _, records := range r.committed(topic) {
		got = append(got, records...)
	}
	slices.Sort(got)
	want = slices.Sorted(slices.Values(want))
	if !slices.Equal(got, want) {
		r.t.Errorf("topic %s holds %d records, want %d\n%s\nwant\n%s", topic, len(got), len(want),
			strings.Join(got[:min(len(got), 12)], "\n"), strings.Join(want[:min(len(want), 12)], "\n"))
	}
}

// topic creates one.
func (r *loadRig) topic(name string) string {
	r.t.Helper()
	topicOn(r.t, r.broker, name, loadPartitions, nil)
	return name
}

// page is a view without an id of its own: if it were there twice it would count twice.
func page(customer string, at time.Time) string {
	return fmt.Sprintf(`{"type":"page","userId":%q,"timestamp":%q,"name":"start"}`, customer, at.Format(time.RFC3339))
}

var loadT0 = time.Date(2024, 3, 1, 0, 0, 0, 0, time.UTC)

// pages returns n views of ten customers, a minute apart, as lines and as records of the topic.
func pages(n int) (lines, records []string) {
	for i := range n {
		customer := fmt.Sprintf("c%d", i%10)
		line := page(customer, loadT0.Add(time.Duration(i)*time.Minute))
		lines, records = append(lines, line), append(records, customer+" "+line)
	}
	return lines, records
}

func minute(i int) string {
	return loadT0.Add(time.Duration(i) * time.Minute).Format("2006-01-02T15:04:05.000Z")
}

func zipped(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := io.WriteString(w, text)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zstded(t *testing.T, text string) []byte {
	t.Helper()
	e, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	return e.EncodeAll([]byte(text), nil)
}

const shopMapping = `mapping: shop
time: record.day
customer: record.who
events:
  - when: record["order no"] != null
    type: order.completed
    order_id: record["order no"]
    amount: record.total
`

const shopRows = "\ufefforder no;who;day;total\r\n" +
	"1;anna;2024-01-05;12.50\r\n" +
	"2;\"bo \"\"b\"\"\";2024-01-05;\"7.25\"\r\n" +
	"3;cy;yesterday;1\r\n" +
	"4;dora;2024-01-06\r\n" +
	"5;guest;2024-01-06;3\r\n" +
	"6;\"eve;2024-01-06;1\r\n" +
	"7;m\xfcller;2024-01-06;3\r\n" +
	"8;anna;2024-01-07;20"

// TestLoadFormats loads files of all kinds.
func TestLoadFormats(t *testing.T) {
	r := newLoadRig(t)
	t.Run("csv", func(t *testing.T) {
		topic, refused := r.topic("rows"), filepath.Join(r.dir, "refused.ndjson")
		args := []string{r.file("shop.csv", []byte(shopRows)), "--format", "mapping", "--mapping", r.file("shop.yaml", []byte(shopMapping)), "--refused", refused}
		sure := []string{
			`anna {"order no":"1","who":"anna","day":"2024-01-05","total":"12.50"}`,
			`bo "b" {"order no":"2","who":"bo \"b\"","day":"2024-01-05","total":"7.25"}`,
			`anna {"order no":"8","who":"anna","day":"2024-01-07","total":"20"}`,
		}
		text := r.loaded(topic, append(args, "--dry-run")...)
		for _, want := range []string{"would load 3 events (3 order.completed) of 8 records into rows", "customers: 2\n", "from 2024-01-05T00:00:00Z to 2024-01-07T00:00:00Z"} {
			if !strings.Contains(text, want) {
				t.Errorf("a dry run does not say %q:\n%s", want, text)
			}
		}
		r.holds(topic)
		text = r.loaded(topic, args...)
		for _, want := range []string{"loaded 3 events into rows, time advanced to 2024-01-07T00:00:00Z\n", "ignored: 1 records\n",
			"refused: 4 records (1 bad_quotes, 1 not_utf8, 1 time_format, 1 wrong_number_of_cells)\n", "\n  line 4: time_format: ", "\n  line 5: wrong_number_of_cells: 3 cells, the header has 4\n"} {
			if !strings.Contains(text, want) {
				t.Errorf("load does not say %q:\n%s", want, text)
			}
		}
		r.holds(topic, append(beats("2024-01-07T00:00:00.000Z"), sure...)...)
		var got []string
		for line := range strings.Lines(readFile(t, refused)) {
			var row struct {
				Line     int
				Original string
				Base64   []byte `json:"original_base64"`
			}
			if err := json.Unmarshal([]byte(line), &row); err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprintf("%d %s%s", row.Line, row.Original, row.Base64))
		}
		equal(t, "originals of refused rows", strings.Join(got, "|"), "4 3;cy;yesterday;1|5 4;dora;2024-01-06|7 6;\"eve;2024-01-06;1|8 7;m\xfcller;2024-01-06;3")

		topic = r.topic("rows-sent")
		r.loaded(topic, append(args, "--send-refused", "--no-advance")...)
		r.holds(topic, append(sure, ` {"order no":"3","who":"cy","day":"yesterday","total":"1"}`, ` {"order no":"4","who":"dora","day":"2024-01-06"}`,
			` 6;"eve;2024-01-06;1`, " {\"order no\":\"7\",\"who\":\"m\xfcller\",\"day\":\"2024-01-06\",\"total\":\"3\"}")...)
	})
	lines, records := pages(3000)
	text := strings.Join(lines, "\n") + "\n"
	want := append(beats(minute(2999)), records...)
	t.Run("packed", func(t *testing.T) {
		for name, bytes := range map[string][]byte{
			"pages.ndjson.gz": zipped(t, text), "pages.jsonl.zst": zstded(t, text), "pages.json": []byte("[" + strings.Join(lines, ",\n") + "]"),
		} {
			topic := r.topic(name)
			r.loaded(topic, r.file(name, bytes))
			r.holds(topic, want...)
		}
	})
	t.Run("several, and standard input", func(t *testing.T) {
		topic := r.topic("several")
		one, two := strings.Join(lines[:1000], "\n"), strings.Join(lines[2000:], "\n")
		p := startFed(t, strings.NewReader(strings.Join(lines[1000:2000], "\n")), r.args(topic, r.file("one.ndjson.gz", zipped(t, one)), "-", r.file("two.ndjson", []byte(two)),
			"--file-format", "ndjson", "--output", "json")...)
		if code := p.wait(time.Minute); code != 0 {
			t.Fatalf("exit %d\n%s", code, p.log.String())
		}
		r.holds(topic, want...)
		var sum struct{ Records, Loaded, Events int64 }
		if err := json.Unmarshal([]byte(p.out.String()), &sum); err != nil || sum.Records != 3000 || sum.Loaded != 3000 || sum.Events != 3000 {
			t.Errorf("%v %+v\n%s", err, sum, p.out.String())
		}
	})
	t.Run("preset", func(t *testing.T) { // the first event waits behind the refused rows
		topic := r.topic("preset")
		text := r.loaded(topic, r.file("orders.csv", zstded(t, "customer_id,date,quantity,value\n1,1997-01-02,1,2.00\n1,soon,1,2.00\n2,1997-01-01,1,3.00\n3\n")), "--preset", "cdnow")
		if !strings.Contains(text, "loaded 2 events into preset, time advanced to 1997-01-02T00:00:00Z\n") || !strings.Contains(text, "refused: 2 records (2 bad_row)\n  line 3: ") {
			t.Error(text)
		}
	})
	t.Run("nothing", func(t *testing.T) {
		code, out, log := r.load("rows", r.file("bad.ndjson", []byte("{}\n")))
		if code != 1 || out != "" || !strings.Contains(log, "no event to load") || !strings.Contains(log, "line 1: unknown_event") {
			t.Errorf("exit %d\n%s%s", code, out, log)
		}
	})
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// startFed is start with a standard input.
func startFed(t testing.TB, stdin io.Reader, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(binary(t), args...), exited: make(chan struct{})}
	p.cmd.Env, p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = cleanEnv(), stdin, &p.out, &p.log
	p.cmd.WaitDelay = time.Second // for a stdin that goes on
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(p.kill)
	return p
}

// TestLoadAgain: what was loaded is not loaded twice unless that is asked for.
func TestLoadAgain(t *testing.T) {
	r := newLoadRig(t)
	lines, records := pages(30)
	text := func(n int) []byte { return []byte(strings.Join(lines[:n], "\n") + "\n") }
	topic, path := r.topic("again"), r.file("again.ndjson", text(10))
	r.loaded(topic, path)
	want := append(beats(minute(9)), records[:10]...)
	refused := func(words ...string) {
		t.Helper()
		code, out, log := r.load(topic, words[0], path)
		if code != 2 || out != "" {
			t.Errorf("exit %d\n%s%s", code, out, log)
		}
		for _, w := range words[1:] {
			if !strings.Contains(log, w) {
				t.Errorf("nothing says %q\n%s", w, log)
			}
		}
		r.holds(topic, want...)
	}
	refused("--no-advance=false", "were loaded into again", "(10 records)", "--resume", "--restart")
	if text := r.loaded(topic, path, "--resume"); !strings.Contains(text, "all 10 records are in again already") {
		t.Error(text)
	}
	r.holds(topic, want...)

	r.file("again.ndjson", text(25))
	if text := r.loaded(topic, path, "--resume"); !strings.Contains(text, "loaded 15 events into again after the 10 that were there") {
		t.Error(text)
	}
	want = append(append(beats(minute(24)), beats(minute(9))...), records[:25]...)
	r.holds(topic, want...)

	r.file("again.ndjson", bytes.Replace(text(25), []byte("c1"), []byte("c7"), 1))
	refused("--resume", "differ from the 25 records", "--restart")
	r.file("again.ndjson", text(20))
	refused("--resume", "hold 20 records, but 25 were loaded", "--restart")

	r.loaded(topic, path, "--restart", "--advance-to", "2024-03-02")
	want = append(append(want, beats("2024-03-02T00:00:00.000Z")...), records[:20]...)
	r.holds(topic, want...)
}

// TestLoadBroken: a file that is cut off is loaded as far as it goes, and the whole one afterwards from there.
func TestLoadBroken(t *testing.T) {
	r := newLoadRig(t)
	lines, records := pages(20_000)
	whole := zipped(t, strings.Join(lines, "\n"))
	topic, path := r.topic("broken"), r.file("broken.ndjson.gz", whole[:len(whole)/2])
	code, out, log := r.load(topic, path)
	if code != 1 || out != "" {
		t.Errorf("exit %d\n%s", code, out)
	}
	for _, want := range []string{"broken.ndjson.gz: line ", "the compressed data is damaged or cut off", "records are in broken", "--resume"} {
		if !strings.Contains(log, want) {
			t.Errorf("nothing says %q\n%s", want, log)
		}
	}
	n := 0
	for _, p := range r.committed(topic) {
		n += len(p)
	}
	if n < 1000 || n > 15_000 {
		t.Errorf("%d records of half a file", n)
	}
	r.holds(topic, records[:n]...)
	r.file("broken.ndjson.gz", whole)
	r.loaded(topic, path, "--resume")
	r.holds(topic, append(beats(minute(19_999)), records...)...)
}

// TestLoadSorted: events in any order, of several files, sorted in the topic.
func TestLoadSorted(t *testing.T) {
	r := newLoadRig(t)
	lines, records := pages(5000)
	shuffled := slices.Clone(lines)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	one := r.file("one.ndjson", []byte(strings.Join(shuffled[:2000], "\n")))
	two := r.file("two.ndjson", []byte(strings.Join(shuffled[2000:], "\n")))
	topic := r.topic("unsorted")
	if text := r.loaded(topic, one, two); !strings.Contains(text, "events come later than the lateness of 10m0s allows, the latest by ") || !strings.Contains(text, "--sort") {
		t.Error(text)
	}
	topic = r.topic("sorted")
	if text := r.loaded(topic, one, two, "--sort", "--no-advance"); strings.Contains(text, "late") {
		t.Error(text)
	}
	r.holds(topic, records...)
	at := map[string]int{}
	for i, record := range records {
		at[record] = i
	}
	for p, got := range r.committed(topic) {
		if !slices.IsSortedFunc(got, func(a, b string) int { return at[a] - at[b] }) {
			t.Errorf("partition %d is not in the order of time", p)
		}
	}
	if left, err := filepath.Glob(filepath.Join(os.TempDir(), "zyklus-load-*")); err != nil || len(left) > 0 {
		t.Errorf("temporary files are left: %v %v", left, err)
	}
}

// paced gives out a text with pauses, so that it takes some seconds; it is for pipes.
type paced struct {
	text []byte
	step int
}

func (p *paced) Read(b []byte) (int, error) {
	if len(p.text) == 0 {
		return 0, io.EOF
	}
	time.Sleep(10 * time.Millisecond)
	n := copy(b, p.text[:min(p.step, len(p.text))])
	p.text = p.text[n:]
	return n, nil
}

// TestLoadInterrupted ends a load by Ctrl-C while it waits for more of its input.
func TestLoadInterrupted(t *testing.T) {
	r := newLoadRig(t)
	lines, records := pages(2000)
	topic := r.topic("interrupted")
	text := strings.Join(lines, "\n")
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	if _, err := io.WriteString(out, text[:50_000]); err != nil {
		t.Fatal(err)
	}
	args := r.args(topic, "-", "--file-format", "ndjson", "--resume")
	p := startFed(t, in, args...)
	_ = in.Close()
	eventually(t, 30*time.Second, "records are committed", func() error {
		if n := endOf(t, kafkaClient(t, r.broker), topic, 0); n == 0 {
			return errors.New("none")
		}
		return nil
	})
	_ = p.cmd.Process.Signal(syscall.SIGINT)
	if code := p.wait(20 * time.Second); code != 130 || !strings.Contains(p.log.String(), "records are in interrupted: the same command with --resume goes on") {
		t.Errorf("exit %d\n%s", code, p.log.String())
	}
	p = startFed(t, strings.NewReader(text), args...)
	if code := p.wait(time.Minute); code != 0 {
		t.Errorf("exit %d\n%s", code, p.log.String())
	}
	r.holds(topic, append(beats(minute(1999)), records...)...)
}

// TestLoadKilled kills a load at any moment and goes on: topic and tables are those of a load that nothing happened to.
func TestLoadKilled(t *testing.T) {
	r := newLoadRig(t)
	engine, _ := startClickHouse(t, filepath.Join(r.dir, "clickhouse"))
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	rows := strings.Builder{}
	rows.WriteString("kind,order,customer,day,total\n")
	const days, perDay = 300, 200
	for i := range days * perDay {
		kind, customer := "view", random.IntN(500)
		if i%7 == 0 {
			kind = "order"
		}
		fmt.Fprintf(&rows, "%s,o%d,\"customer, %d\",%s,%d.%02d\n", kind, i, customer, loadT0.Add(time.Duration(i)*24*time.Hour/perDay).Format(time.RFC3339), i%90, i%100)
	}
	mapping := r.file("mapping.yaml", []byte(strings.Replace(strings.ReplaceAll(strings.ReplaceAll(shopMapping, `record["order no"] != null`, `record.kind == "order"`),
		`record["order no"]`, "record.order"), "record.who", "record.customer", 1)+"  - type: touch.page\n    when: record.kind == \"view\"\n"))
	deployed := func(name string) deployment {
		d := deploy(t, name, r.topic(name), r.broker, engine, "")
		text := strings.Replace(readFile(t, d.config), "clock: events", "clock: events, format: mapping, name: shop, mapping: "+mapping, 1)
		if err := os.WriteFile(d.config, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		succeed(t, "migrate", "--config", d.config)
		return d
	}
	disturbed, control := deployed("disturbed"), deployed("control")
	succeed(t, "load", r.file("rows.csv", []byte(rows.String())), "--config", control.config)
	args := []string{"load", "-", "--file-format", "csv", "--config", disturbed.config, "--resume"}
	kills := 0
	for ; kills < 5; kills++ {
		p := startFed(t, &paced{[]byte(rows.String()), 12_000}, args...)
		time.Sleep(time.Second + time.Duration(random.Int64N(int64(1500*time.Millisecond))))
		p.kill()
	}
	p := startFed(t, strings.NewReader(rows.String()), args...)
	if code := p.wait(time.Minute); code != 0 || !strings.Contains(p.log.String(), "going on with an earlier load") {
		t.Fatalf("exit %d\n%s", code, p.log.String())
	}
	want, got := r.committed("control"), r.committed("disturbed")
	for i := range want {
		if !slices.Equal(got[i], want[i]) {
			t.Errorf("partition %d holds %d records, want %d, in the same order", i, len(got[i]), len(want[i]))
		}
	}
	at := loadT0.Add(days*24*time.Hour - 24*time.Hour/perDay)
	var tables [2]string
	for i, d := range []deployment{disturbed, control} {
		run := start(t, nil, "run", "--config", d.config)
		d.awaitClock(t, loadPartitions, at.Truncate(time.Second))
		if code := run.stop(time.Minute); code != 0 {
			t.Errorf("run ended with %d", code)
		}
		equal(t, "orders of "+d.database, one(t, d, "SELECT sum(orders) FROM v_customers"), fmt.Sprint((days*perDay+6)/7))
		for _, sql := range []string{"v_customers ORDER BY customer_id", "v_phase_transitions ORDER BY lifecycle, customer_id, at", "v_orders ORDER BY customer_id, order_id"} {
			tables[i] += strings.Join(d.mustQuery(t, "SELECT * FROM "+sql), "\n") + "\n"
		}
	}
	if tables[0] != tables[1] {
		t.Errorf("the tables differ: %d and %d bytes", len(tables[0]), len(tables[1]))
	}
}

// repeated is a stream of a text again and again.
func repeated(text string, times int) io.Reader {
	readers := make([]io.Reader, times)
	for i := range readers {
		readers[i] = strings.NewReader(text)
	}
	return io.MultiReader(readers...)
}

// TestLoadMemory reads a gigabyte in little memory.
func TestLoadMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("reads a gigabyte")
	}
	lines, _ := pages(10_000)
	text := strings.Join(lines, "\n") + "\n"
	for _, c := range []struct {
		bytes, limit int
		args         []string
	}{{1 << 30, 192 << 20, nil}, {512 << 20, 384 << 20, []string{"--sort"}}} {
		p := startFed(t, repeated(text, c.bytes/len(text)), append([]string{"load", "-", "--file-format", "ndjson", "--dry-run"}, c.args...)...)
		peak := p.peakMemory()
		if code := p.wait(3 * time.Minute); code != 0 {
			t.Fatalf("exit %d\n%s", code, p.log.String())
		}
		if !strings.Contains(p.out.String(), fmt.Sprintf("of %d records", c.bytes/len(text)*len(lines))) {
			t.Error(p.out.String())
		}
		t.Logf("%d MiB read by load %v in %d MiB of memory", c.bytes>>20, c.args, peak>>20)
		if peak == 0 || peak > c.limit {
			t.Errorf("%v: %d MiB of memory", c.args, peak>>20)
		}
	}
}

// peakMemory returns how many bytes the process held at most until it ended. (What a parent is told of a child's memory in
// the end counts what the parent itself held when the child began.)
func (p *process) peakMemory() (peak int) {
	p.t.Helper()
	path := fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid)
	if _, err := os.Stat(path); err != nil {
		p.t.Skip("needs /proc")
	}
	for begin := time.Now(); time.Since(begin) < 3*time.Minute; time.Sleep(10 * time.Millisecond) {
		text, err := os.ReadFile(path)
		_, rest, found := strings.Cut(string(text), "VmHWM:")
		if err != nil || !found {
			break // it has ended
		}
		kilobytes, err := strconv.Atoi(strings.Fields(rest)[0])
		if err != nil {
			p.t.Fatal(err)
		}
		peak = kilobytes << 10
	}
	return peak
}
