package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"zyklus/pipeline"
)

// badT0 is when the events of this file begin.
var badT0 = time.Date(2024, 5, 2, 10, 0, 0, 0, time.UTC)

// badRecord is a record that cannot be used.
type badRecord struct {
	name  string
	kind  pipeline.ErrorKind
	cause string // part of it
	key   string
	value []byte // nil is a null value
	at    time.Time
}

// badRecords lists them. %TIME in a value stands for the record's place in time, which is then its at.
func badRecords(now time.Time) []badRecord {
	order := func(properties string) string {
		return `{"type":"track","event":"Order Completed","userId":"bad","messageId":"%TIME","timestamp":"%TIME","properties":{` + properties + `}}`
	}
	at := func(timestamp string) string {
		return `{"type":"track","event":"Order Completed","userId":"bad","timestamp":` + timestamp + `,"properties":{"order_id":"o","revenue":1}}`
	}
	huge := append([]byte(`{"type":"page","userId":"bad","pad":"`), bytes.Repeat([]byte("x"), 5<<20)...)
	huge = append(huge, `"}`...)
	future := now.Add(time.Hour).Truncate(time.Millisecond)
	list := []badRecord{
		{name: "not JSON", kind: pipeline.ErrNotJSON, cause: "byte 0: expected '{'", value: []byte("hello \x00\xff world")},
		{name: "an array", kind: pipeline.ErrNotJSON, cause: "expected '{'", value: []byte(`[1,2]`)},
		{name: "an id that is an object", kind: pipeline.ErrNotJSON, cause: "userId is", value: []byte(`{"type":"page","userId":{},"timestamp":"%TIME"}`)},
		{name: "no UTF-8 in an id", kind: pipeline.ErrNotJSON, cause: "userId is not UTF-8", value: []byte("{\"type\":\"page\",\"userId\":\"\xff\",\"timestamp\":\"%TIME\"}")},
		{name: "truncated", kind: pipeline.ErrTruncated, cause: "ends after byte 63", value: []byte(`{"type":"track","event":"Order Completed","userId":"bad","times`)},
		{name: "unknown event", kind: pipeline.ErrUnknownEvent, cause: `"Coffee Brewed"`, value: []byte(`{"type":"track","event":"Coffee Brewed","userId":"bad","timestamp":"%TIME"}`)},
		{name: "unknown type", kind: pipeline.ErrUnknownEvent, cause: `"alias"`, value: []byte(`{"type":"alias","userId":"bad","timestamp":"%TIME"}`)},
		{name: "no customer", kind: pipeline.ErrNoCustomer, cause: "neither userId nor anonymousId", value: []byte(`{"type":"page","timestamp":"%TIME"}`)},
		{name: "no order id", kind: pipeline.ErrNoOrderID, cause: "order_id", value: []byte(order(`"revenue":10`))},
		{name: "empty order id", kind: pipeline.ErrNoOrderID, cause: "order_id", value: []byte(order(`"order_id":"","revenue":10`))},
		{name: "no amount", kind: pipeline.ErrNoAmount, cause: "revenue", value: []byte(order(`"order_id":"o"`))},
		{name: "negative amount", kind: pipeline.ErrNegativeAmount, cause: `revenue is "-0.01"`, value: []byte(order(`"order_id":"o","revenue":-0.01`))},
		{name: "negative quantity", kind: pipeline.ErrNegativeAmount, cause: "product 0: quantity", value: []byte(order(`"order_id":"o","products":[{"price":2,"quantity":-3}]`))},
		{name: "discount over the order", kind: pipeline.ErrNegativeAmount, cause: "net value is -100 minor units", value: []byte(order(`"order_id":"o","discount":3,"products":[{"price":2}]`))},
		{name: "absurd amount", kind: pipeline.ErrAmountOutOfRange, cause: `revenue "1e300" is too large`, value: []byte(order(`"order_id":"o","revenue":1e300`))},
		{name: "absurd product", kind: pipeline.ErrAmountOutOfRange, cause: "price times quantity", value: []byte(order(`"order_id":"o","products":[{"price":1e9,"quantity":1e9}]`))},
		{name: "amount in words", kind: pipeline.ErrAmountOutOfRange, cause: "is not a decimal number", value: []byte(order(`"order_id":"o","revenue":"12,50"`))},
		{name: "unknown currency", kind: pipeline.ErrUnknownCurrency, cause: `"XQX"`, value: []byte(order(`"order_id":"o","revenue":1,"currency":"XQX"`))},
		{name: "currency without rate", kind: pipeline.ErrCurrencyWithoutRate, cause: "USD to EUR", value: []byte(order(`"order_id":"o","revenue":1,"currency":"USD"`))},
		{name: "1970", kind: pipeline.ErrTimeTooOld, cause: "before the earliest", value: []byte(at(`"1970-01-01T00:00:00Z"`))},
		{name: "1970 as a number", kind: pipeline.ErrTimeTooOld, cause: "before the earliest", value: []byte(at(`0`))},
		{name: "2201", kind: pipeline.ErrTimeInFuture, cause: "after 2200-01-01", value: []byte(at(`"2201-02-03T04:05:06Z"`))},
		{name: "time of no known format", kind: pipeline.ErrTimeFormat, cause: `"02.05.2024 10:00"`, value: []byte(at(`"02.05.2024 10:00"`))},
		{name: "a day that does not exist", kind: pipeline.ErrTimeFormat, cause: `"2024-02-30`, value: []byte(at(`"2024-02-30T00:00:00Z"`))},
		{name: "no time", kind: pipeline.ErrNoTime, cause: "none of timestamp", value: []byte(`{"type":"page","userId":"bad"}`)},
		{name: "future beyond the skew", kind: pipeline.ErrTimeInFuture, cause: "later than the record was appended", key: "bad", at: future,
			value: []byte(at(`"` + future.Format(time.RFC3339Nano) + `"`))},
		{name: "heartbeat of the future", kind: pipeline.ErrTimeInFuture, cause: "later than the record was appended", key: "-", at: future,
			value: []byte(`{"type":"heartbeat","timestamp":"` + future.Format(time.RFC3339Nano) + `"}`)},
		{name: "5 MB", kind: pipeline.ErrTooLarge, cause: fmt.Sprintf("%d bytes, at most 1048576 are read", len(huge)), value: huge},
		{name: "null", kind: pipeline.ErrNullValue, cause: "empty"},
		{name: "the JSON null", kind: pipeline.ErrNullValue, cause: "JSON null", value: []byte(" null\n")},
		{name: "long id", kind: pipeline.ErrIDTooLong, cause: "userId has 257 bytes", value: []byte(`{"type":"page","timestamp":"%TIME","userId":"` + strings.Repeat("i", 257) + `"}`)},
		{name: "refund without its order", kind: pipeline.ErrOrderUnknown, cause: "order", key: "lonely",
			value: []byte(`{"type":"track","event":"Order Refunded","userId":"lonely","timestamp":"%TIME","properties":{"order_id":"never","total":7}}`)},
		{name: "order from before the horizon", kind: pipeline.ErrOrderTooOld, cause: "older than the ledger", key: "loyal",
			at:    time.Date(2022, 1, 2, 0, 0, 0, 0, time.UTC),
			value: []byte(`{"type":"track","event":"Order Completed","userId":"loyal","timestamp":"2022-01-02T00:00:00Z","properties":{"order_id":"second","revenue":1}}`)},
	}
	for i := range list {
		b := &list[i]
		if b.key == "" {
			b.key = fmt.Sprintf("key-%d", i)
		}
		if strings.Contains(string(b.value), "%TIME") {
			b.at = badT0.Add(time.Duration(i)*time.Minute + time.Second)
			b.value = bytes.ReplaceAll(b.value, []byte("%TIME"), []byte(b.at.Format(time.RFC3339)))
		}
	}
	return list
}

func goodOrder(customer string, at time.Time) *kgo.Record {
	return &kgo.Record{Key: []byte(customer), Value: fmt.Appendf(nil,
		`{"type":"track","event":"Order Completed","userId":"%s","messageId":"m-%[1]s","timestamp":"%s","properties":{"order_id":"o-%[1]s","revenue":12.34}}`,
		customer, at.Format(time.RFC3339Nano))}
}

// TestBadInput puts every kind of bad record between good ones.
func TestBadInput(t *testing.T) {
	const partitions = 2
	dir := t.TempDir()
	broker, _ := startBroker(t, filepath.Join(dir, "kafka"))
	engine, _ := startClickHouse(t, filepath.Join(dir, "clickhouse"))
	topicOn(t, broker, "events", partitions, map[string]string{"max.message.bytes": "16777216", "message.timestamp.type": "LogAppendTime"})
	d := deploy(t, "bad", "events", broker, engine, "")
	succeed(t, "migrate", "--config", d.config)
	run := start(t, nil, "run", "--config", d.config)

	cl := kafkaClient(t, broker, kgo.DefaultProduceTopic("events"), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(16<<20))
	list := badRecords(time.Now())
	// Records by partition: good, bad, good. The first order of a customer beyond the horizon comes first of all.
	records := []*kgo.Record{goodOrder("loyal", time.Date(2022, 1, 1, 0, 0, 0, 0, time.UTC))}
	records[0].Partition = int32(len(list)-1) % partitions
	bad := make([]*kgo.Record, len(list))
	for i, b := range list {
		at := badT0.Add(time.Duration(i) * time.Minute)
		bad[i] = &kgo.Record{Key: []byte(b.key), Value: b.value}
		if b.key == "-" {
			bad[i].Key = nil
		}
		for _, r := range []*kgo.Record{goodOrder(fmt.Sprintf("before-%d", i), at), bad[i], goodOrder(fmt.Sprintf("after-%d", i), at.Add(2*time.Second))} {
			r.Partition = int32(i) % partitions
			records = append(records, r)
		}
	}
	guest := goodOrder("guest", badT0) // no person: counted, no dead letter
	produce(t, cl, append(records, guest)...)
	for p := range int32(partitions) {
		r := heartbeat(badT0.Add(24 * time.Hour))
		r.Partition = p
		produce(t, cl, r)
	}
	d.awaitClock(t, partitions, badT0.Add(24*time.Hour))
	eventually(t, 30*time.Second, "the dead letters", func() error {
		if n := one(t, d, "SELECT count() FROM v_dead_letters"); n != fmt.Sprint(len(list)) {
			return fmt.Errorf("%s of %d", n, len(list))
		}
		return nil
	})

	t.Run("table", func(t *testing.T) {
		for i, b := range list {
			r, value := bad[i], b.value
			if room := 1<<20 - len(r.Key); len(value) > room {
				value = value[:room]
			}
			rows := d.mustQuery(t, fmt.Sprintf(`SELECT error, cause, hex(key), hex(value), toUnixTimestamp64Milli(at), abs(received_at - now64(3)) < 600
				FROM v_dead_letters WHERE topic = 'events' AND partition = %d AND position = %d`, r.Partition, r.Offset))
			if len(rows) != 1 {
				t.Errorf("%s: %d rows", b.name, len(rows))
				continue
			}
			got := strings.Split(rows[0], "\t")
			cause := strings.ReplaceAll(got[1], `\'`, "'")
			if got[0] != b.kind.String() || !strings.Contains(strings.ReplaceAll(cause, `\\`, `\`), b.cause) || got[5] != "1" {
				t.Errorf("%s: %s (want %s), cause %q (want %q), received lately: %s", b.name, got[0], b.kind, cause, b.cause, got[5])
			}
			equal(t, b.name+": key", got[2], strings.ToUpper(hex.EncodeToString(r.Key)))
			if got[3] != strings.ToUpper(hex.EncodeToString(value)) {
				t.Errorf("%s: value %.200s", b.name, got[3])
			}
			if !b.at.IsZero() {
				equal(t, b.name+": event time", got[4], fmt.Sprint(b.at.UnixMilli()))
			}
		}
	})
	t.Run("topic", func(t *testing.T) { checkDeadLetterTopic(t, broker, "zyklus-bad-dead-letters", list, bad) })
	t.Run("every kind", func(t *testing.T) {
		seen := map[string]bool{}
		for _, b := range list {
			seen[b.kind.String()] = true
		}
		for _, kind := range pipeline.ErrorKinds() {
			// Of other sources and stages, and of what admin accept-loss leaves behind.
			others := []string{pipeline.ErrMapping.String(), pipeline.ErrNotRekeyed.String(), pipeline.ErrRecordsLost.String()}
			if !seen[kind] && !slices.Contains(others, kind) {
				t.Errorf("no record of this test is a %s", kind)
			}
		}
	})
	t.Run("metrics", func(t *testing.T) {
		want := map[string]int{}
		for _, b := range list {
			want[b.kind.String()]++
		}
		m := run.metrics(t)
		for _, kind := range pipeline.ErrorKinds() {
			equal(t, kind, m[`zyklus_dead_letters_total{error="`+kind+`"}`], strconv.Itoa(want[kind]))
		}
		equal(t, "ignored", m["zyklus_ignored_events_total"], "1")
		equal(t, "refused money", m["zyklus_unmatched_money_minor_units_total"], "800")
	})
	t.Run("good events", func(t *testing.T) {
		equal(t, "orders, value and customers", one(t, d, `SELECT sum(orders), sum(net_value), count(), countIf(orders != 1) FROM v_customers WHERE customer_id NOT IN ('lonely')`),
			fmt.Sprintf("%d\t%.2f\t%[1]d\t0", 2*len(list)+1, 12.34*float64(2*len(list)+1)))
		equal(t, "who refunded nothing", one(t, d, "SELECT orders, net_value, refunded_value FROM v_customers WHERE customer_id = 'lonely'"), "0\t0\t0")
		none(t, d, "customers made of bad records", "SELECT customer_id FROM v_customers WHERE customer_id IN ('bad', 'guest', '')")
	})
	t.Run("time", func(t *testing.T) {
		// The future was not believed; what is within the skew is, and moves time on.
		none(t, d, "clocks", fmt.Sprintf("SELECT * FROM v_checkpoints WHERE clock > fromUnixTimestamp64Milli(%d)", badT0.Add(24*time.Hour).UnixMilli()))
		at := time.Now().Add(2 * time.Minute).Truncate(time.Millisecond)
		for p := range int32(partitions) {
			r := goodOrder(fmt.Sprintf("early-%d", p), at)
			r.Partition = p
			produce(t, cl, r)
		}
		d.awaitClock(t, partitions, at)
		equal(t, "orders within the skew", one(t, d, "SELECT count() FROM v_customers WHERE customer_id LIKE 'early-%' AND orders = 1"), "2")
		equal(t, "dead letters", one(t, d, "SELECT count() FROM v_dead_letters"), fmt.Sprint(len(list)))
	})
	t.Run("goes on", func(t *testing.T) {
		resp, err := http.Get("http://" + run.http(t) + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		equal(t, "readyz", resp.Status+" "+string(body), "200 OK ready\n")
		if code := run.stop(time.Minute); code != 0 {
			t.Errorf("run ended with %d\n%s", code, tail(run.log.String(), 10))
		}
		// Records are data: none of them is worth a line of log.
		for _, word := range []string{"level=WARN", "level=ERROR", "panic", "BUG"} {
			if strings.Contains(run.log.String(), word) {
				t.Errorf("the log holds %s:\n%s", word, tail(run.log.String(), 20))
			}
		}
	})
}

// checkDeadLetterTopic reads the whole topic.
func checkDeadLetterTopic(t *testing.T, broker, topic string, list []badRecord, bad []*kgo.Record) {
	cl := kafkaClient(t, broker, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	letters := map[string][]*kgo.Record{} // by origin
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for n := 0; n < len(list); {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Fatalf("after %d of %d: %v", n, len(list), err)
		}
		fs.EachRecord(func(r *kgo.Record) {
			h := headers(r)
			origin := h["topic"] + "/" + h["partition"] + "/" + h["offset"]
			letters[origin] = append(letters[origin], r)
			n++
		})
	}
	for i, b := range list {
		found := letters[fmt.Sprintf("events/%d/%d", bad[i].Partition, bad[i].Offset)]
		if len(found) != 1 {
			t.Errorf("%s: %d records", b.name, len(found))
			continue
		}
		r, h := found[0], headers(found[0])
		names := slices.Sorted(maps.Keys(h))
		want := []string{"at", "cause", "error", "offset", "partition", "topic"}
		value := b.value
		if room := 1<<20 - len(bad[i].Key); len(value) > room {
			equal(t, b.name+": whole length", h["truncated"], fmt.Sprint(len(value)))
			want, value = append(want, "truncated"), value[:room]
		}
		equal(t, b.name+": headers", strings.Join(names, " "), strings.Join(want, " "))
		equal(t, b.name+": error", h["error"], b.kind.String())
		if !strings.Contains(h["cause"], b.cause) {
			t.Errorf("%s: cause %s", b.name, h["cause"])
		}
		if !bytes.Equal(r.Key, bad[i].Key) || !bytes.Equal(r.Value, value) || r.Partition != bad[i].Partition {
			t.Errorf("%s: key %q, value %.100q, partition %d", b.name, r.Key, r.Value, r.Partition)
		}
		if b.value == nil && r.Value != nil {
			t.Errorf("%s: the null has become a text", b.name)
		}
	}
}

func headers(r *kgo.Record) map[string]string {
	h := map[string]string{}
	for _, rh := range r.Headers {
		h[rh.Key] = string(rh.Value)
	}
	return h
}

func heartbeat(at time.Time) *kgo.Record {
	return &kgo.Record{Value: fmt.Appendf(nil, `{"type":"heartbeat","timestamp":"%s"}`, at.Format(time.RFC3339Nano))}
}

// produce stores records one batch after the other, in their order.
func produce(t testing.TB, cl *kgo.Client, records ...*kgo.Record) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := cl.ProduceSync(ctx, records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// kafkaClient is a client of our own, not the pipeline's. Addresses of several brokers are separated by commas.
func kafkaClient(t testing.TB, broker string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(strings.Split(broker, ",")...), kgo.MetadataMinAge(100 * time.Millisecond)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// topicOn creates a topic as its owner would, with as many replicas as is usual on these brokers.
func topicOn(t testing.TB, broker, topic string, partitions int32, settings map[string]string) {
	t.Helper()
	configs := map[string]*string{}
	for k, v := range settings {
		configs[k] = kadm.StringPtr(v)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cl := kafkaClient(t, broker)
	defer cl.Close()
	if _, err := kadm.NewClient(cl).CreateTopic(ctx, partitions, -1, configs, topic); err != nil {
		t.Fatal(err)
	}
	req := kmsg.NewPtrMetadataRequest()
	asked := kmsg.NewMetadataRequestTopic()
	asked.Topic = &topic
	req.Topics = append(req.Topics, asked)
	for _, b := range cl.SeedBrokers() { // whom others ask is left to chance
		eventually(t, 30*time.Second, "a broker knows the new topic "+topic, func() error {
			answer, err := b.RetriableRequest(ctx, req)
			if err == nil {
				err = kerr.ErrorForCode(answer.(*kmsg.MetadataResponse).Topics[0].ErrorCode)
			}
			return err
		})
	}
}

var httpLine = regexp.MustCompile(`msg=running .*http=http://(\S+)`)

// http waits for the address of health and metrics.
func (p *process) http(t testing.TB) (addr string) {
	t.Helper()
	eventually(t, time.Minute, "the address of metrics", func() error {
		m := httpLine.FindStringSubmatch(p.log.String())
		if m == nil {
			return fmt.Errorf("not in the log")
		}
		addr = m[1]
		return nil
	})
	return addr
}

// metrics returns the values of all metrics by their names with labels.
func (p *process) metrics(t testing.TB) map[string]string {
	t.Helper()
	resp, err := http.Get("http://" + p.http(t) + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]string{}
	for _, line := range strings.Split(string(body), "\n") {
		if i := strings.LastIndexByte(line, ' '); i > 0 && line[0] != '#' {
			m[line[:i]] = line[i+1:]
		}
	}
	return m
}
