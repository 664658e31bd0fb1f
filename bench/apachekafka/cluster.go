//go:build unix

package apachekafka

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sourcegraph/conc/pool"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Config says which cluster to start.
type Config struct {
	Brokers int    // 1 or 3; default 1
	Dir     string // for data and logs, one directory per broker; it must be empty or missing
	// Settings of all brokers, by their names in server.properties. They replace those of this package.
	Settings map[string]string
}

// Cluster is a running cluster. Brokers have the indices 0 to n-1, which are their node ids, too. Its methods are not
// safe for concurrent use.
type Cluster struct {
	brokers []*broker
	admin   *kadm.Client
}

// startTime bounds the start of brokers, on a machine that has other things to do as well.
const startTime = 2 * time.Minute

// Start fetches Kafka if this machine does not have it yet, and starts a cluster: all its brokers are known to each
// other when it returns. Topics have as many replicas as there are brokers unless they say otherwise, of which two must
// have a record before it is acknowledged; brokers create no topics by themselves. A broker that is gone is noticed
// after some seconds.
func Start(ctx context.Context, cfg Config) (_ *Cluster, err error) {
	n := max(cfg.Brokers, 1)
	if n != 1 && n != 3 {
		return nil, fmt.Errorf("apache kafka: a cluster has 1 or 3 brokers, not %d", n)
	}
	if cfg.Dir == "" {
		return nil, errors.New("apache kafka: no directory is given")
	}
	jars, err := library(ctx)
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(2 * n)
	if err != nil {
		return nil, fmt.Errorf("apache kafka: %w", err)
	}
	c := &Cluster{}
	for i := range n {
		dir := filepath.Join(cfg.Dir, "broker-"+strconv.Itoa(i))
		c.brokers = append(c.brokers, &broker{id: i, dir: dir, jars: jars, client: ports[2*i], controller: ports[2*i+1]})
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs()...), kgo.MetadataMinAge(50*time.Millisecond), kgo.RequestRetries(1))
	if err != nil {
		return nil, fmt.Errorf("apache kafka: %w", err)
	}
	c.admin = kadm.NewClient(cl)
	if err := c.format(ctx, c.settings(cfg.Settings)); err != nil {
		c.Close()
		return nil, fmt.Errorf("apache kafka: %w", err)
	}
	if err := c.StartAll(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// settings are those that all brokers have, the ones given last: of two with one name the last holds.
func (c *Cluster) settings(more map[string]string) []string {
	var voters []string
	for _, b := range c.brokers {
		voters = append(voters, fmt.Sprintf("%d@127.0.0.1:%d", b.id, b.controller))
	}
	n, insync := len(c.brokers), min(2, len(c.brokers))
	list := []string{
		"controller.quorum.voters=" + strings.Join(voters, ","),
		"auto.create.topics.enable=false",
		fmt.Sprintf("default.replication.factor=%d", n),
		fmt.Sprintf("min.insync.replicas=%d", insync),
		fmt.Sprintf("offsets.topic.replication.factor=%d", n),
		"offsets.topic.num.partitions=6",
		fmt.Sprintf("transaction.state.log.replication.factor=%d", n),
		fmt.Sprintf("transaction.state.log.min.isr=%d", insync),
		"transaction.state.log.num.partitions=6",
		"transaction.abort.timed.out.transaction.cleanup.interval.ms=1000",
		"group.initial.rebalance.delay.ms=0",
		"group.consumer.heartbeat.interval.ms=1000",
		"group.consumer.min.heartbeat.interval.ms=100", // bounds of what a group may be given
		"group.consumer.min.session.timeout.ms=1000",
		"broker.session.timeout.ms=4000",
		"broker.heartbeat.interval.ms=500",
		"replica.lag.time.max.ms=4000",
		"num.network.threads=2",
		"num.io.threads=4",
		"num.recovery.threads.per.data.dir=1",
		"log.cleaner.dedupe.buffer.size=4194304",
	}
	for key, value := range more {
		list = append(list, key+"="+value)
	}
	return list
}

// format prepares the data directories of all brokers.
func (c *Cluster) format(ctx context.Context, settings []string) error {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	id[0] &= 0x7f        // a name that begins with a dash would be taken for an option
	tasks := pool.New().WithContext(ctx)
	for _, b := range c.brokers {
		tasks.Go(func(ctx context.Context) error {
			return b.format(ctx, base64.RawURLEncoding.EncodeToString(id), settings)
		})
	}
	return tasks.Wait()
}

// freePorts returns ports of the loopback interface that nobody listens on. They are below the range from which systems
// take the ports of outgoing connections: one of those could else hold the port of a broker that is down.
func freePorts(n int) (ports []int, err error) {
	for tries := 0; len(ports) < n; tries++ {
		port := 10_000 + mathrand.IntN(20_000)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			if tries > 1000 {
				return nil, fmt.Errorf("find free ports: %w", err)
			}
			continue
		}
		_ = l.Close()
		if !slices.Contains(ports, port) {
			ports = append(ports, port)
		}
	}
	return ports, nil
}

// Addrs returns the addresses host:port of all brokers, running or not.
func (c *Cluster) Addrs() (addrs []string) {
	for _, b := range c.brokers {
		addrs = append(addrs, b.addr())
	}
	return addrs
}

// Kill ends broker i with SIGKILL.
func (c *Cluster) Kill(i int) error { return c.brokers[i].kill() }

// Stop ends broker i in order, with SIGTERM: others lead its partitions before it goes. If ctx ends before, the broker
// is killed.
func (c *Cluster) Stop(ctx context.Context, i int) error { return c.brokers[i].stop(ctx) }

// Freeze stops broker i with SIGSTOP: its connections stay, but nothing answers.
func (c *Cluster) Freeze(i int) error { return c.brokers[i].freeze() }

// Thaw lets a frozen broker go on. It does not wait until the others know it again.
func (c *Cluster) Thaw(i int) error { return c.brokers[i].thaw() }

// Start starts broker i again on its data and its ports, or thaws it, and waits until the cluster knows it.
func (c *Cluster) Start(ctx context.Context, i int) error {
	if err := c.brokers[i].start(); err != nil {
		return err
	}
	return c.await(ctx, i)
}

// StartAll starts all brokers that do not run, thaws those that are frozen, and waits until the cluster knows them all.
func (c *Cluster) StartAll(ctx context.Context) error {
	all := make([]int, len(c.brokers))
	for i, b := range c.brokers {
		if err := b.start(); err != nil {
			return err
		}
		all[i] = i
	}
	return c.await(ctx, all...)
}

// await waits until the cluster has brokers among those that serve.
func (c *Cluster) await(ctx context.Context, want ...int) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		missing, err := c.missing(ctx, want)
		if err == nil && len(missing) == 0 {
			return nil
		}
		for _, i := range want {
			if b := c.brokers[i]; !b.running() {
				return fmt.Errorf("apache kafka: broker %d has ended by itself%s", i, b.lastWords())
			}
		}
		if end := pause(ctx); end != nil {
			return fmt.Errorf("apache kafka: the cluster does not have brokers %v: %w%s", missing, errors.Join(end, err), c.brokers[want[0]].lastWords())
		}
	}
}

// missing returns which brokers are not among those that serve.
func (c *Cluster) missing(ctx context.Context, want []int) (missing []int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	known, err := c.admin.ListBrokers(ctx)
	if err != nil {
		return want, err
	}
	for _, i := range want {
		if !slices.Contains(known.NodeIDs(), int32(i)) {
			missing = append(missing, i)
		}
	}
	return missing, nil
}

// Close kills all brokers that run. Their data stays.
func (c *Cluster) Close() {
	c.admin.Close()
	for _, b := range c.brokers {
		if b.running() {
			_ = b.kill()
		}
	}
}
