package embedded

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// BrokerOptions configures StartBroker and ServeBroker.
type BrokerOptions struct {
	// Addr is the address "host:port"; the default is 127.0.0.1 and a port the
	// system chooses. Clients are told this host, so that it must be one they
	// can reach.
	Addr string
	// DataDir makes topics, records, group offsets and producers' states
	// durable: they survive a kill of the process. If it is empty everything is
	// kept in memory, which then grows with every record.
	DataDir string
	// SyncWrites makes every record survive a power loss too, at the cost of
	// one fsync for each batch.
	SyncWrites bool
	// AutoCreateTopics lets clients create topics by asking for them.
	AutoCreateTopics bool
	// Partitions is the number of partitions of topics created without one. The
	// default is 10.
	Partitions int
	// Topics are created if they do not exist yet, each with its number of
	// partitions.
	Topics map[string]int32
	// Configs are broker configurations, over those of this package: heartbeats
	// of consumer groups every 200 ms, so that they rebalance fast; log
	// cleaning, which is compaction and retention, every minute. Cleaning reads
	// every compacted topic as a whole and stops all else meanwhile.
	Configs map[string]string
	// Log, if set, gets the broker's warnings, line by line.
	Log func(line string)
	// Stdout is where ServeBroker's READY line goes; the default is os.Stdout.
	Stdout io.Writer
}

// Broker is a Kafka broker: one node that speaks the protocol of Kafka with
// groups (classic and KIP-848), transactions and compaction.
type Broker struct {
	cluster *kfake.Cluster
	addr    string
	// unlock lets others use the data directory.
	unlock func()
	// stop ends the cleaner, which closes stopped.
	stop    func()
	stopped chan struct{}
}

// StartBroker starts a broker within this process.
func StartBroker(opts BrokerOptions) (*Broker, error) {
	addr, configs := firstOf(opts.Addr, "127.0.0.1:0"), brokerConfigs(opts.Configs)
	interval, err := cleanInterval(configs)
	if err != nil {
		return nil, fmt.Errorf("embedded broker: %w", err)
	}
	unlock := func() {}
	if opts.DataDir != "" {
		if unlock, err = lockDir(context.Background(), opts.DataDir); err != nil {
			return nil, fmt.Errorf("embedded broker on %s: %w", addr, err)
		}
	}
	b, err := startBroker(opts, addr, configs)
	if err != nil {
		unlock()
		return nil, err
	}
	b.unlock = unlock
	ctx, stop := context.WithCancel(context.Background())
	b.stop = stop
	go b.clean(ctx, interval)
	return b, nil
}

// startBroker starts a broker on a directory that is ours.
func startBroker(opts BrokerOptions, addr string, configs map[string]string) (*Broker, error) {
	if err := mendIndexes(opts.DataDir); err != nil {
		return nil, fmt.Errorf("embedded broker on %s: recover from the last end: %w", addr, err)
	}
	var door *gate
	// The port is part of the address: kfake would choose both itself.
	listen := kfake.ListenFn(func(network, _ string) (_ net.Listener, err error) {
		door, err = newGate(network, addr)
		return door, err
	})
	cluster, err := kfake.NewCluster(append(opts.kfake(configs), listen)...)
	if err != nil {
		return nil, fmt.Errorf("embedded broker on %s: %w", addr, err)
	}
	defer door.open()
	if opts.DataDir != "" {
		if err := abortOpen(door); err != nil {
			cluster.Close()
			return nil, fmt.Errorf("embedded broker on %s: recover from the last end: %w", addr, err)
		}
	}
	for _, topic := range slices.Sorted(maps.Keys(opts.Topics)) {
		if cluster.TopicInfo(topic) != nil {
			continue
		}
		settings := map[string]string{"message.timestamp.type": "LogAppendTime"}
		if err := cluster.CreateTopic(topic, opts.Topics[topic], settings); err != nil {
			cluster.Close()
			return nil, fmt.Errorf("embedded broker on %s: create topic %s: %w", addr, topic, err)
		}
	}
	return &Broker{cluster: cluster, addr: cluster.ListenAddrs()[0], stopped: make(chan struct{})}, nil
}

// kfake translates the options.
func (opts BrokerOptions) kfake(configs map[string]string) []kfake.Opt {
	kopts := []kfake.Opt{kfake.NumBrokers(1), kfake.ClusterID("zyklus"), kfake.BrokerConfigs(configs)}
	if opts.DataDir != "" {
		kopts = append(kopts, kfake.DataDir(opts.DataDir))
	}
	if opts.SyncWrites {
		kopts = append(kopts, kfake.SyncWrites())
	}
	if opts.AutoCreateTopics {
		kopts = append(kopts, kfake.AllowAutoTopicCreation())
	}
	if opts.Partitions > 0 {
		kopts = append(kopts, kfake.DefaultNumPartitions(opts.Partitions))
	}
	if opts.Log != nil {
		kopts = append(kopts, kfake.WithLogger(kfake.BasicLogger(&lineWriter{line: opts.Log}, kfake.LogLevelWarn)))
	}
	return kopts
}

// clean compacts topics and applies their retention until ctx ends. kfake would
// do so itself, but forgets to after it was started on a directory with topics.
func (b *Broker) clean(ctx context.Context, interval time.Duration) {
	defer close(b.stopped)
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			b.cluster.Compact()
		}
	}
}

// cleanInterval reads the interval of the log cleaner.
func cleanInterval(configs map[string]string) (time.Duration, error) {
	const name = "log.cleaner.backoff.ms"
	ms, err := strconv.ParseUint(configs[name], 10, 31)
	if err != nil || ms == 0 {
		return 0, fmt.Errorf("configuration %s: %q is no number of milliseconds", name, configs[name])
	}
	return time.Duration(ms) * time.Millisecond, nil
}

// brokerConfigs puts the given configurations over the defaults.
func brokerConfigs(given map[string]string) map[string]string {
	configs := map[string]string{
		"group.consumer.heartbeat.interval.ms": "200",
		"log.cleaner.backoff.ms":               "60000",
	}
	maps.Copy(configs, given)
	return configs
}

// Addr is the address "host:port" of the broker.
func (b *Broker) Addr() string { return b.addr }

// Cluster is the broker itself, for tests that inject faults, move leaders or
// force compaction.
func (b *Broker) Cluster() *kfake.Cluster { return b.cluster }

// Close stops the broker and writes its state to DataDir. A second Close does
// nothing.
func (b *Broker) Close() {
	b.stop()
	<-b.stopped
	b.cluster.Close()
	b.unlock()
}

// ServeBroker runs a broker in this process, which should do nothing else. It
// prints one line "READY host:port" and returns nil after ctx ends, after
// SIGTERM or SIGINT, or, under a supervisor, after the end of standard input.
func ServeBroker(ctx context.Context, opts BrokerOptions) error {
	ctx, stop := untilStopped(ctx)
	defer stop()
	if opts.Log == nil {
		opts.Log = func(line string) { _, _ = fmt.Fprintln(os.Stderr, line) }
	}
	b, err := StartBroker(opts)
	if err != nil {
		return err
	}
	defer b.Close()
	if err := announce(opts.Stdout, b.Addr()); err != nil {
		return fmt.Errorf("embedded broker: %w", err)
	}
	<-ctx.Done()
	return nil
}
