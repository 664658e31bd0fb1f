package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"zyklus/pipeline/kafka"
)

// source writes to topics by hand, one event an hour of one order each, and knows how far it has come.
type source struct {
	t      *testing.T
	broker string
	client *kgo.Client
	topics map[string]int // partitions
	orders int
	at     time.Time
}

func newSource(t *testing.T, broker string, topics map[string]int) *source {
	t.Helper()
	s := &source{t: t, broker: broker, topics: topics, at: time.Date(2024, 3, 1, 0, 0, 0, 0, time.UTC)}
	for topic, n := range topics {
		topicOn(t, broker, topic, int32(n), nil)
	}
	s.reopen()
	return s
}

// reopen takes a new client: one goes on with no topic that was created anew.
func (s *source) reopen() {
	s.client = kafkaClient(s.t, s.broker, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0))
}

func (s *source) write(topic string, partition int, value string) (offset int64) {
	s.t.Helper()
	r := &kgo.Record{Topic: topic, Partition: int32(partition), Value: []byte(value)}
	if err := s.client.ProduceSync(context.Background(), r).FirstErr(); err != nil {
		s.t.Fatal(err)
	}
	return r.Offset
}

// sell writes n orders of customers by partition, and a heartbeat in every partition.
func (s *source) sell(topic string, n int) {
	s.t.Helper()
	for range n {
		s.at, s.orders = s.at.Add(time.Hour), s.orders+1
		p := s.orders % s.topics[topic]
		s.write(topic, p, fmt.Sprintf(`{"type":"track","event":"Order Completed","userId":"c-%d-%d","messageId":"m%d","timestamp":%q,"properties":{"order_id":"o%[3]d","revenue":10,"total":10}}`,
			p, s.orders/2%5, s.orders, s.at.Format(time.RFC3339)))
	}
	s.beat()
}

func (s *source) beat() {
	s.t.Helper()
	s.at = s.at.Add(time.Hour)
	for topic, n := range s.topics {
		for p := range n {
			s.write(topic, p, fmt.Sprintf(`{"type":"heartbeat","timestamp":%q}`, s.at.Format(time.RFC3339)))
		}
	}
}

// truncate deletes all that a topic holds.
func (s *source) truncate(topic string) {
	s.t.Helper()
	adm := kadm.NewClient(kafkaClient(s.t, s.broker))
	ends, err := adm.ListEndOffsets(s.t.Context(), topic)
	if err == nil {
		_, err = adm.DeleteRecords(s.t.Context(), ends.Offsets())
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *source) remove(topic string) {
	s.t.Helper()
	if _, err := kadm.NewClient(kafkaClient(s.t, s.broker)).DeleteTopic(s.t.Context(), topic); err != nil {
		s.t.Fatal(err)
	}
}

// recreate deletes a topic and creates it again.
func (s *source) recreate(topic string) {
	s.t.Helper()
	s.remove(topic)
	topicOn(s.t, s.broker, topic, int32(s.topics[topic]), nil)
	s.reopen()
}

// through runs a deployment until it has come as far as its source.
func (s *source) through(d deployment, partitions int, during func(p *process)) {
	s.t.Helper()
	p := start(s.t, []string{"ZYKLUS_KAFKA_CHECKPOINT_INTERVAL=100ms", "ZYKLUS_KAFKA_REKEY_INTERVAL=100ms"}, "run", "--config", d.config)
	sql := fmt.Sprintf("SELECT count() FROM v_checkpoints WHERE clock >= fromUnixTimestamp64Milli(%d)", s.at.UnixMilli())
	eventually(s.t, time.Minute, d.database+" has all rows", func() error {
		_ = p.alive()
		lines, err := d.query(sql)
		if err == nil && lines[0] != fmt.Sprint(partitions) {
			err = fmt.Errorf("%v of %d partitions", lines, partitions)
		}
		return err
	})
	if during != nil {
		during(p)
	}
	if code := p.stop(30 * time.Second); code != 0 {
		s.t.Errorf("run ended with %d\n%s", code, tail(p.log.String(), 10))
	}
}

// refused runs a deployment that must end with an error that names the command.
func (s *source) refused(d deployment, says string) {
	s.t.Helper()
	p := start(s.t, nil, "run", "--config", d.config)
	if code := p.wait(time.Minute); code != 1 || !strings.Contains(p.log.String(), says) || !strings.Contains(p.log.String(), "zyklus admin accept-loss") {
		s.t.Errorf("run ended with %d\n%s", code, tail(p.log.String(), 5))
	}
}

const allRows = "SELECT customer_id, orders, net_value, role5_phase FROM v_customers ORDER BY customer_id"

// sum is what a deployment knows of orders.
func (s *source) sum(d deployment) string {
	s.t.Helper()
	return one(s.t, d, "SELECT count(), toInt64(sum(value)) FROM v_orders")
}

// TestAcceptLoss: records are deleted before they were read, then the topic is created anew. Each time the deployment
// refuses, the loss is accepted, and everything that was and is there counts once.
func TestAcceptLoss(t *testing.T) { onBrokers(t, acceptLoss) }

func acceptLoss(t *testing.T, broker *part) {
	engine, _ := startClickHouse(t, t.TempDir())
	events := "events" + broker.suffix
	s := newSource(t, broker.addr, map[string]int{events: 2})
	d := deploy(t, "kept"+broker.suffix, events, broker.addr, engine, "")
	succeed(t, "migrate", "--config", d.config)
	s.sell(events, 60)
	s.through(d, 2, func(*process) {
		fails(t, 1, problem("group "+d.database+" has 1 members", "stop all instances"), "admin", "accept-loss", "--config", d.config, "--yes")
	})
	equal(t, "orders and value", s.sum(d), "60\t600")
	if out := succeed(t, "admin", "accept-loss", "--config", d.config, "--yes"); !strings.Contains(out, "nothing is lost") {
		t.Errorf("without a loss: %s", out)
	}

	s.sell(events, 40) // 20 orders and a heartbeat in each partition
	s.truncate(events)
	s.sell(events, 10)
	s.refused(d, "has lost the records from offset 31 to 51 before they were read")
	if l := answer[lagReport](t, "admin", "lag", "--config", d.config); len(l.Notices) != 2 || !strings.Contains(l.Notices[0], "zyklus admin accept-loss") {
		t.Errorf("lag says %q", l.Notices)
	}
	dry := answer[lossReport](t, "admin", "accept-loss", "--config", d.config, "--dry-run")
	first := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
	if len(dry.Losses) != 2 || dry.Done || dry.Losses[0].Records != 21 || dry.Losses[0].Kind != kafka.LossDeleted || dry.Losses[1].Next != 52 ||
		!strings.HasPrefix(dry.Losses[0].After, "2024-03-03T13:00:00") || dry.Losses[0].Before < first {
		t.Errorf("%+v", dry)
	}
	before := d.mustQuery(t, allRows)
	code, out, log := cli(t, "admin", "accept-loss", "--config", d.config)
	if code != 2 || !strings.Contains(out, "deleted") || !strings.Contains(log, "nothing was changed: repeat with --yes") {
		t.Errorf("exit %d\n%s%s", code, out, log)
	}
	fails(t, 2, problem("exclude each other"), "admin", "accept-loss", "--config", d.config, "--yes", "--dry-run")
	fails(t, 2, problem("--from", `"begin"`), "admin", "accept-loss", "--config", d.config, "--from", "begin")
	s.refused(d, "has lost the records") // nothing was changed
	if done := answer[lossReport](t, "admin", "accept-loss", "--config", d.config, "--yes"); !done.Done || !slices.Equal(done.Losses, dry.Losses) {
		t.Errorf("%+v, not %+v", done, dry)
	}
	diffLines(t, "customers before and after", before, d.mustQuery(t, allRows))
	if again := answer[lossReport](t, "admin", "accept-loss", "--config", d.config, "--yes"); len(again.Losses) > 0 || again.Done {
		t.Errorf("again: %+v", again)
	}
	s.through(d, 2, func(*process) { s.awaitLost(d, 2) })
	equal(t, "orders and value", s.sum(d), "70\t700")

	s.topics[events] = 3
	s.recreate(events)
	fails(t, 1, problem("more partitions", "(2, now 3)", "new group"), "admin", "accept-loss", "--config", d.config, "--yes")
	s.topics[events] = 1
	s.recreate(events)
	fails(t, 1, problem("anew with fewer", "admin rebuild"), "admin", "accept-loss", "--config", d.config, "--yes")
	s.topics[events] = 2
	s.recreate(events)
	lost := answer[lossReport](t, "admin", "accept-loss", "--config", d.config, "--dry-run").Losses[0].Position
	for s.write(events, 0, "{") < lost { // one of them where the state stood
	}
	for s.orders < 400 { // more than the state has read: no offset tells
		s.sell(events, 50)
	}
	fails(t, 1, problem("partition 0 was built up to offset", "the topic was created anew", "zyklus admin accept-loss"), "admin", "verify", "--config", d.config)
	s.refused(d, "the topic was created anew")
	anew := answer[lossReport](t, "admin", "accept-loss", "--config", d.config, "--yes")
	if len(anew.Losses) != 2 || anew.Losses[0].Kind != kafka.LossAnew || anew.Losses[0].Next != 0 || anew.Losses[0].Records != -1 {
		t.Errorf("%+v", anew)
	}
	s.through(d, 2, func(*process) {
		s.awaitLost(d, 4)
		eventually(t, 30*time.Second, "a dead letter at the offset of the loss", func() error {
			lines, err := d.query(fmt.Sprintf("SELECT error FROM v_dead_letters WHERE topic = '%s' AND partition = 0 AND position = %d", events, lost))
			if err == nil && fmt.Sprint(lines) != "[truncated]" {
				err = fmt.Errorf("%q", lines)
			}
			return err
		})
	})
	s.awaitLost(d, 4)
	place := one(t, d, "SELECT concat(topic, '/', toString(partition), '/', toString(position)) FROM v_dead_letters WHERE error = 'records_lost' ORDER BY ALL LIMIT 1")
	if out := succeed(t, "deadletters", "show", place, "--config", d.config); !strings.Contains(out, "accepted: the partition") {
		t.Errorf("%s is %s", place, out)
	}
	n := 70 + s.orders - 110
	equal(t, "orders and value", s.sum(d), fmt.Sprintf("%d\t%d", n, 10*n))
	if all := sums(verifies(t, d, exitUnsure, "--all")); all.Unknown["before_the_topic"] != 10 {
		t.Errorf("the state of ten customers is older than their topic: %+v", all)
	}
}

// awaitLost waits for the traces of losses in the table of dead letters.
func (s *source) awaitLost(d deployment, n int) {
	s.t.Helper()
	eventually(s.t, 30*time.Second, "dead letters of lost records", func() error {
		lines, err := d.query("SELECT topic, partition, position, cause FROM v_dead_letters WHERE error = 'records_lost' ORDER BY ALL")
		if err == nil && (len(lines) != n || !strings.Contains(lines[0], "accepted: the partition ")) {
			err = fmt.Errorf("%d of %d: %q", len(lines), n, lines)
		}
		return err
	})
}

// TestAcceptLossOfSources: the same where sources are re-keyed, of their topics and of the topic of events.
func TestAcceptLossOfSources(t *testing.T) { onBrokers(t, acceptLossOfSources) }

func acceptLossOfSources(t *testing.T, broker *part) {
	orders, web := ordersTopic+broker.suffix, webTopic+broker.suffix
	s := newSource(t, broker.addr, map[string]int{orders: 2, web: 1})
	r := &rig{t: t, broker: broker, engine: startPart(t, "clickhouse"), topic: "events" + broker.suffix}
	d := deploySources(t, r, "sources", "kafka: {partitions: 3}", "  orders: {topic: "+orders+"}", "  web: {topic: "+web+"}")
	s.sell(orders, 30)
	s.through(d, 3, nil)

	s.sell(orders, 20)
	s.truncate(orders)
	s.recreate(web)
	s.sell(orders, 10)
	s.refused(d, "zyklus: shop-") // which of them is seen first is left to chance
	if l := answer[lagReport](t, "admin", "lag", "--config", d.config); len(l.Notices) != 3 {
		t.Errorf("lag says %q", l.Notices)
	}
	done := answer[lossReport](t, "admin", "accept-loss", "--config", d.config, "--yes")
	if len(done.Losses) != 3 || done.Losses[0].Source != orders || done.Losses[0].Kind != kafka.LossDeleted || done.Losses[2].Source != web || done.Losses[2].Kind != kafka.LossAnew {
		t.Errorf("%+v", done)
	}
	s.through(d, 3, func(*process) { s.awaitLost(d, 3) })
	equal(t, "orders and value", s.sum(d), "40\t400")

	events := "zyklus-" + d.database + "-events"
	s.remove(events)
	succeed(t, "migrate", "--config", d.config)
	s.sell(orders, 10)
	s.refused(d, events+" partition ")
	if done := answer[lossReport](t, "admin", "accept-loss", "--config", d.config, "--yes"); len(done.Losses) != 3 || done.Losses[0].Source != events {
		t.Errorf("%+v", done)
	}
	s.sell(orders, 10)
	s.through(d, 3, func(*process) { s.awaitLost(d, 6) })
	equal(t, "orders and value", s.sum(d), "60\t600")
}
