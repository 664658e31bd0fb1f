package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"zyklus/bench/simulator"
)

// scatter copies what a feed writes to topics that are not keyed by customer: orders and all the rest apart, record by
// record to the next partition.
type scatter struct {
	feed
	client *kgo.Client
	suffix string // of the topics' names
	next   int
}

const (
	ordersTopic, ordersPartitions = "shop-orders", 2
	webTopic, webPartitions       = "shop-web", 3
)

func (s *scatter) Produce(ctx context.Context, key, value []byte, at time.Time) error {
	s.next++
	r := &kgo.Record{Topic: webTopic + s.suffix, Partition: int32(s.next % webPartitions), Value: bytes.Clone(value)}
	if bytes.Contains(value, []byte(`"Order `)) {
		r.Topic, r.Partition = ordersTopic+s.suffix, int32(s.next%ordersPartitions)
	}
	if err := s.client.ProduceSync(ctx, r).FirstErr(); err != nil {
		return err
	}
	return s.feed.Produce(ctx, key, value, at)
}

func (s *scatter) Heartbeat(ctx context.Context, value []byte) error {
	for topic, n := range map[string]int{ordersTopic: ordersPartitions, webTopic: webPartitions} {
		for p := range n {
			r := &kgo.Record{Topic: topic + s.suffix, Partition: int32(p), Value: bytes.Clone(value)}
			if err := s.client.ProduceSync(ctx, r).FirstErr(); err != nil {
				return err
			}
		}
	}
	return s.feed.Heartbeat(ctx, value)
}

// TestRekeyed runs two sources that are keyed by nothing through the re-keying stage, and kills the process at any
// moment: the rows are those of a run over a topic keyed by customer.
func TestRekeyed(t *testing.T) { onBrokers(t, rekeyed) }

func rekeyed(t *testing.T, broker *part) {
	orders, web := ordersTopic+broker.suffix, webTopic+broker.suffix
	r := &rig{t: t, broker: broker, engine: startPart(t, "clickhouse"), topic: "events" + broker.suffix}
	topicOn(t, r.broker.addr, r.topic, rigPartitions, map[string]string{"message.timestamp.type": "LogAppendTime"})
	topicOn(t, r.broker.addr, orders, ordersPartitions, nil)
	topicOn(t, r.broker.addr, web, webPartitions, nil)
	client := kafkaClient(t, r.broker.addr, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0))
	r.feed = startFeederInto(t, r.broker.addr, r.topic, func(f feed) feed { return &scatter{feed: f, client: client, suffix: broker.suffix} },
		func(c *simulator.Config) { c.Shares.TooLate, c.Customers = 0, 250 })

	d := deploySources(t, r, "scattered", "kafka: {partitions: 5}", "  orders: {topic: "+orders+"}", "  web: {topic: "+web+"}")
	for _, after := range []time.Duration{700 * time.Millisecond, 300 * time.Millisecond, time.Second, 100 * time.Millisecond} {
		p := r.run(d, static("one"))
		time.Sleep(after)
		p.kill()
	}
	p := r.run(d, static("one"))
	p.awaitReady(time.Minute, "after the kills")
	verifies(t, d, 0)
	at := r.feed.finish()
	d.awaitClock(t, 5, at)
	if all := sums(verifies(t, d, 0, "--all")); all.Exact == 0 || all.Exact*5 < all.Customers*4 {
		t.Errorf("verified: %+v", all)
	}
	r.awaitLetters(d)
	if code := p.stop(20 * time.Second); code != 0 {
		t.Errorf("run ended with %d\n%s", code, tail(p.log.String(), 20))
	}
	lags := map[string]int{}
	for _, l := range answer[lagReport](t, "admin", "lag", "--config", d.config).Partitions {
		if lags[l.Source]++; l.Lag != 0 || l.End == 0 {
			t.Errorf("lag: %+v", l)
		}
	}
	if want := map[string]int{orders: ordersPartitions, web: webPartitions, "zyklus-" + d.database + "-events": 5}; !maps.Equal(lags, want) {
		t.Errorf("partitions of %v, want %v", lags, want)
	}
	succeed(t, "migrate", "check", "--config", d.config)
	control := r.control("control", at)
	for _, table := range []struct{ name, key string }{
		{"v_customers", "customer_id"}, {"v_phase_transitions", "lifecycle, customer_id, at"}, {"v_orders", "customer_id, order_id"},
	} {
		sql := fmt.Sprintf("SELECT * EXCEPT (partition) FROM %s ORDER BY %s FORMAT TSVWithNames", table.name, table.key)
		r.compareRows(table.name, strings.Count(table.key, ",")+1, control.database, d.database, control.mustQuery(t, sql), d.mustQuery(t, sql))
	}
	r.checkVersions(d)
	r.checkAccount(d)
}

// deploySources is rig.deploy for several sources.
func deploySources(t testing.TB, r *rig, name, extra string, sources ...string) deployment {
	t.Helper()
	d := deploy(t, name+r.broker.suffix, r.topic, r.broker.addr, r.engine.addr, "sources:\n"+strings.Join(sources, "\n"))
	text, err := os.ReadFile(d.config)
	if err != nil {
		t.Fatal(err)
	}
	if partitions, ok := strings.CutPrefix(extra, "kafka: {"); ok {
		text = bytes.Replace(text, []byte("kafka: {"), []byte("kafka: {"+strings.TrimSuffix(partitions, "}")+", "), 1)
	}
	if err := os.WriteFile(d.config, text, 0o644); err != nil {
		t.Fatal(err)
	}
	if code, out, log := runZyklus(t, nil, "migrate", "--config", d.config); code != 0 {
		t.Fatalf("migrate of %s ended with %d\n%s\n%s", name, code, out, log)
	}
	return d
}

// TestNotKeyedByCustomer: a topic that turns out not to be keyed by customer is refused, with advice.
func TestNotKeyedByCustomer(t *testing.T) {
	broker, _ := startBroker(t, t.TempDir())
	engine, _ := startClickHouse(t, t.TempDir())
	topicOn(t, broker, "events", 3, nil)
	d := deploy(t, "unkeyed", "events", broker, engine, "")
	succeed(t, "migrate", "--config", d.config)
	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for i := range 300 {
		value := fmt.Appendf(nil, `{"type":"page","userId":"customer-%d","messageId":"m%d","timestamp":"2026-01-01T00:00:00Z"}`, i%40, i)
		if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: "events", Partition: int32(i % 3), Value: value}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	p := start(t, nil, "run", "--config", d.config)
	if code := p.wait(30 * time.Second); code != 1 {
		t.Errorf("exit %d", code)
	}
	for _, want := range []string{"topic events is not keyed by customer", "key: other"} {
		if !strings.Contains(p.log.String(), want) {
			t.Errorf("nothing says %q\n%s", want, tail(p.log.String(), 5))
		}
	}
	if strings.Contains(p.log.String(), "customer-") {
		t.Error("the log names a customer")
	}
}
