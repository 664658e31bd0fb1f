package clickhouse

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of one Client.
type metrics struct {
	rows    *prometheus.CounterVec   // by table
	inserts *prometheus.CounterVec   // by table
	retries *prometheus.CounterVec   // by class
	seconds *prometheus.HistogramVec // by table, successful attempts
	waiting prometheus.Gauge
}

func newMetrics() *metrics {
	counter := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "zyklus_clickhouse_" + name, Help: help}, []string{label})
	}
	m := &metrics{
		rows:    counter("rows_total", "Rows stored in ClickHouse.", "table"),
		inserts: counter("inserts_total", "Inserts into ClickHouse that succeeded.", "table"),
		retries: counter("retries_total", "Statements made again, by class of error: overload, network, stop (a person must act), unknown.", "class"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "zyklus_clickhouse_insert_seconds", Help: "Duration of successful inserts.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2, 14),
		}, []string{"table"}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "zyklus_clickhouse_waiting_rows", Help: "Rows that wait for the insert in flight to end.",
		}),
	}
	// Series that alerts compare must exist before the first error.
	for _, c := range []class{classOverload, classNetwork, classStop, classUnknown} {
		m.retries.WithLabelValues(string(c))
	}
	return m
}

func (m *metrics) register(reg prometheus.Registerer) error {
	if reg == nil {
		return nil
	}
	for _, c := range []prometheus.Collector{m.rows, m.inserts, m.retries, m.seconds, m.waiting} {
		if err := reg.Register(c); err != nil {
			return fmt.Errorf("register ClickHouse metrics: %w", err)
		}
	}
	return nil
}
