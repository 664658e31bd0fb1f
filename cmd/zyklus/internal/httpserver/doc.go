// Package httpserver serves what operators of a process ask it: /healthz (does it run?), /readyz (does it do its work?)
// and /metrics.
//
// Liveness and readiness differ on purpose: a process that waits for Kafka or ClickHouse is not ready, but starting it
// anew would not help, so it stays healthy.
package httpserver
