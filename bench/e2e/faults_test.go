package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sourcegraph/conc"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The course of each benchmark of faults.
const (
	faultRate   = 300 // orders per second
	faultBefore = 5 * time.Second
	faultAfter  = 25 * time.Second // at least, and until every row can be read
	faultGiveUp = 3 * time.Minute
	faultPoll   = 50 * time.Millisecond
)

// faultSite is a site with pipelines: the first always runs, the second where a fault needs it.
type faultSite struct {
	*site
	first, second *child
}

// BenchmarkFaults measures what each kind of fault costs in freshness: from the broker's word that it has an order until
// a query that is made again and again finds its row. The wall clock moves time, checkpoints come every second.
func BenchmarkFaults(b *testing.B) {
	binary := build(b)
	static := []string{"ZYKLUS_KAFKA_INSTANCE_ID=first"}
	for _, fault := range []struct {
		name   string
		env    []string // of the first pipeline
		second bool     // a second one runs before the fault
		happen func(s *faultSite)
	}{
		{"none", nil, false, func(*faultSite) {}},
		{"restart", nil, false, func(s *faultSite) { s.first.stop(); s.first.start() }},
		{"restart-static", static, false, func(s *faultSite) { s.first.stop(); s.first.start() }},
		{"killed-static", static, false, func(s *faultSite) { s.first.kill(); s.first.start() }},
		{"killed-of-two", nil, true, func(s *faultSite) { s.second.kill() }},
		{"joins", nil, false, func(s *faultSite) { s.second.start() }},
		{"leaves", nil, true, func(s *faultSite) { s.second.stop() }},
		{"clickhouse-killed", nil, false, func(s *faultSite) { s.engine.kill(); s.engine.start() }},
		{"clickhouse-away-10s", nil, false, func(s *faultSite) { s.engine.kill(); time.Sleep(10 * time.Second); s.engine.start() }},
		{"broker-killed", nil, false, func(s *faultSite) { s.broker.kill(); s.broker.start() }},
	} {
		b.Run(fault.name, func(b *testing.B) {
			s := &faultSite{site: newSite(b, binary)}
			s.first, s.second = s.pipeline("faults", "wall", fault.env...), s.pipeline("faults", "wall")
			s.first.start()
			s.first.ready()
			if fault.second {
				s.second.start()
				s.second.ready()
			}
			p := newProbe(b, s.site)
			p.begin()
			time.Sleep(faultBefore)
			fault.happen(s)
			p.finish()
		})
	}
}

// probe writes orders and looks for their rows.
type probe struct {
	b      *testing.B
	s      *site
	client *kgo.Client
	wg     conc.WaitGroup
	ended  context.Context
	end    context.CancelFunc

	mu       sync.Mutex
	appended map[string]time.Time // orders whose rows have not been seen
	took     []time.Duration
}

func newProbe(b *testing.B, s *site) *probe {
	client, err := kgo.NewClient(kgo.SeedBrokers(s.broker.addr), kgo.DefaultProduceTopic("events"), kgo.ProducerLinger(0), kgo.MetadataMinAge(time.Second))
	if err != nil {
		b.Fatal(err)
	}
	p := &probe{b: b, s: s, client: client, appended: map[string]time.Time{}}
	p.ended, p.end = context.WithCancel(context.Background())
	return p
}

func (p *probe) begin() {
	p.wg.Go(p.write)
	p.wg.Go(p.look)
}

// finish goes on for a while, waits for every row, and reports.
func (p *probe) finish() {
	time.Sleep(faultAfter)
	p.end()
	p.wg.Wait()
	p.client.Close()
	slices.Sort(p.took)
	if len(p.took) == 0 {
		p.b.Fatal("no row was seen")
	}
	at := func(q float64) float64 { return p.took[int(q*float64(len(p.took)-1))].Seconds() }
	p.b.ReportMetric(at(0.5), "p50-s")
	p.b.ReportMetric(at(0.99), "p99-s")
	p.b.ReportMetric(at(1), "max-s")
	p.b.ReportMetric(float64(len(p.took)), "orders")
	p.b.ReportMetric(float64(len(p.appended)), "not-seen")
	p.b.ReportMetric(0, "ns/op")
}

// write produces orders until the end, and returns when the broker has all of them.
func (p *probe) write() {
	began := time.Now()
	for n := 0; p.ended.Err() == nil; time.Sleep(time.Millisecond) {
		for ; n < int(time.Since(began).Seconds()*faultRate); n++ {
			id, key, now := fmt.Sprintf("o%07d", n), fmt.Sprintf("c%05d", n*7919%20000), time.Now()
			p.client.Produce(context.Background(), &kgo.Record{Key: []byte(key), Value: []byte(order(id, key, now))}, func(_ *kgo.Record, err error) {
				if err != nil {
					p.b.Error(err)
					return
				}
				p.mu.Lock()
				defer p.mu.Unlock()
				p.appended[id] = time.Now()
			})
		}
	}
	if err := p.client.Flush(context.Background()); err != nil {
		p.b.Error(err)
	}
}

// look asks for rows until the end, and then until all are seen.
func (p *probe) look() {
	giveUp := time.Time{}
	for ; ; time.Sleep(faultPoll) {
		open := p.seen()
		if p.ended.Err() == nil {
			continue
		}
		if giveUp.IsZero() {
			giveUp = time.Now().Add(faultGiveUp)
		}
		if open == 0 && p.client.BufferedProduceRecords() == 0 || time.Now().After(giveUp) {
			return
		}
	}
}

// seen makes one query and returns how many rows are still looked for. An engine that is away shows nothing.
func (p *probe) seen() (open int) {
	p.mu.Lock()
	ids := make([]string, 0, len(p.appended))
	for id := range p.appended {
		ids = append(ids, id)
	}
	p.mu.Unlock()
	if len(ids) == 0 {
		return 0
	}
	rows, err := p.s.query(fmt.Sprintf("SELECT order_id FROM faults.orders WHERE order_id IN ('%s')", strings.Join(ids, "','")))
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range rows {
		if at, ok := p.appended[id]; ok && err == nil {
			p.took = append(p.took, now.Sub(at))
			delete(p.appended, id)
		}
	}
	return len(p.appended)
}
