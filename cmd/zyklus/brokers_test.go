package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"zyklus/bench/apachekafka"
)

// onBrokers runs a test with the embedded broker, and with three brokers of Apache Kafka where they can be had.
func onBrokers(t *testing.T, test func(t *testing.T, broker *part)) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs real processes")
	}
	t.Run("embedded", func(t *testing.T) { test(t, startPart(t, "broker")) })
	t.Run("apache", func(t *testing.T) { test(t, startRealBrokers(t)) })
}

// realBrokers is the one cluster of real brokers of this test binary. Each rig on it has names of its own.
type realBrokers struct {
	cluster *apachekafka.Cluster
	dir     string
	err     error
	once    sync.Once
	rigs    int
	next    int // broker that killNext kills
}

// theRealBrokers is a global because a test binary has no other place that lives as long as itself.
var theRealBrokers realBrokers

// startRealBrokers returns the cluster, with all of its brokers running. The first call starts it.
func startRealBrokers(t testing.TB) *part {
	t.Helper()
	if testing.Short() {
		t.Skip("runs real processes")
	}
	apachekafka.Need(t)
	b := &theRealBrokers
	b.once.Do(func() {
		began := time.Now()
		if b.dir, b.err = os.MkdirTemp("", "zyklus-test-kafka-"); b.err != nil { //nolint:usetesting // it lives as long as the test binary
			return
		}
		b.cluster, b.err = apachekafka.Start(context.Background(), apachekafka.Config{Brokers: 3, Dir: b.dir})
		t.Logf("three brokers took %v to start", time.Since(began).Round(time.Millisecond))
	})
	if b.err != nil {
		t.Fatal(b.err)
	}
	b.start(t) // a test before may have left some dead
	b.rigs++
	return &part{t: t, kind: "apache", addr: strings.Join(b.cluster.Addrs(), ","), real: b, suffix: fmt.Sprintf("_%d", b.rigs)}
}

// stopRealBrokers is called at the end of the test binary.
func stopRealBrokers() {
	if b := &theRealBrokers; b.cluster != nil {
		b.cluster.Close()
		_ = os.RemoveAll(b.dir)
	}
}

// start starts all brokers that do not run.
func (b *realBrokers) start(t testing.TB) {
	t.Helper()
	if err := b.cluster.StartAll(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// kill ends one broker with SIGKILL.
func (b *realBrokers) kill(t testing.TB, i int) {
	t.Helper()
	if err := b.cluster.Kill(i); err != nil {
		t.Fatal(err)
	}
}

// killNext ends one broker, another one each time.
func (b *realBrokers) killNext(t testing.TB) {
	t.Helper()
	b.kill(t, b.next)
	b.next = (b.next + 1) % len(b.cluster.Addrs())
}

// killAll ends all brokers.
func (b *realBrokers) killAll(t testing.TB) {
	t.Helper()
	for i := range b.cluster.Addrs() {
		b.kill(t, i)
	}
}
