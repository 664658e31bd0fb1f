package kafka

import (
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Options say which Kafka to use and how. The zero value of a field stands for its default.
type Options struct {
	Brokers  []string // host:port of any brokers of the cluster
	ClientID string   // name in the brokers' logs and quotas; default zyklus
	Group    string   // consumer group; part of transactional ids and of the names of internal topics
	Topic    string   // events of customers, keyed by customer

	ChangelogTopic  string // default zyklus-<group>-changelog
	DeadLetterTopic string // default zyklus-<group>-dead-letters
	OutputTopic     string // CloudEvents about what the pipeline found; default zyklus-<group>-outputs

	// Stage names what this Runner does beside the main job; it is part of the names of its metrics.
	Stage string
	// Rekeyed says that Topic is what the re-keying stage writes: events for pipeline.RekeyedReader, and the markers that
	// alone say how far time has come.
	Rekeyed bool
	// CheckKeys refuses to go on once events of one customer are found in two partitions: the topic is not keyed by
	// customer, and state would be split silently.
	CheckKeys bool
	// Stall says when the source counts as stalled, and what follows.
	Stall Stall

	// InstanceID makes the process a static member of the group: it keeps its partitions over a restart that is
	// shorter than the session timeout (45 s), and does not leave the group when it stops. It must be unique in the
	// group and stay the same over restarts, like the name of a stateful set's pod.
	InstanceID string
	// GroupProtocol is ProtocolClassic (default) or ProtocolConsumer. By the latter, the session timeout is the brokers'
	// (group.consumer.session.timeout.ms), and a static member that was killed is taken back only after it, or after
	// Admin.Leave.
	GroupProtocol string

	CheckpointInterval time.Duration // default 1 s; all partitions checkpoint together, at multiples of it
	MaxPoll            int           // records taken from the client at once, and bound of a session's inbox; default 2,000
	FetchMaxBytes      int32         // compressed bytes per fetch and broker; default 16 MiB
	BatchRows          int           // rows per write to the Sink; default 50,000
	// MaxPending is how many bytes of daily rows all partitions of the process may keep for the Sink while it does not take
	// them. Beyond, nothing more is read until it has. Default 1 GiB.
	MaxPending        int64
	Restores          int           // partitions restored at the same time; default 4
	SinkGrace         time.Duration // how long a stopping process waits for the Sink to take the last rows; default 5 s
	Replication       int16         // replicas of the topics that EnsureTopics creates; default: that of the broker
	MinInsyncReplicas int16         // replicas that must have a checkpoint before it counts; default: that of the broker

	Security Security // TLS and SASL; default: neither

	// Waiting makes the first contact wait for brokers that are away: it is told why, each time that they have been asked in
	// vain, and nil once they have answered. It may be called by several goroutines. Without it, that no broker answers is an
	// error.
	Waiting func(why error)

	// Client is added to the options of every client, last, for tests.
	Client []kgo.Opt
}

// Limits that are no options.
const (
	maxMessage  = 2 << 20     // bytes of one batch in internal topics; a customer's record is at most 256 KiB
	maxLetter   = 1 << 20     // bytes of key and value that a dead letter keeps
	inboxBytes  = 4 << 20     // bytes of records waiting in a session's inbox before it counts as full
	revokeGrace = time.Second // for the Sink to take the last rows of a revoked partition
	// fetchWait is how long a broker holds a fetch that finds nothing. A partition that is added or resumed meanwhile
	// waits for that fetch.
	fetchWait   = 250 * time.Millisecond
	dialTimeout = 5 * time.Second // for one connection, with its TLS handshake
	// A broker that hangs keeps its connections: only these tell that it is gone. With the library's 10 s each, one stands
	// in the way of a commit for over 40 s, with several requests after each other that wait for it.
	answerTimeout = 5 * time.Second  // for an answer, beyond the time that the request itself allows the broker
	storeTimeout  = 5 * time.Second  // that the broker may take to have records on all replicas
	commitTimeout = 45 * time.Second // for one transaction; shorter than the broker's patience, txnTimeout
	// lastCommitTimeout is for a transaction once the partition is to be given up. What it does not hold is read again.
	lastCommitTimeout = 5 * time.Second
	leaveTimeout      = 2 * time.Second // for telling a group that a member is gone: else its session ends
	txnTimeout        = 60 * time.Second
)

// WithDefaults returns o with the default for every field that is not set.
func (o Options) WithDefaults() Options {
	set(&o.ClientID, "zyklus")
	set(&o.ChangelogTopic, "zyklus-"+o.Group+"-changelog")
	set(&o.DeadLetterTopic, "zyklus-"+o.Group+"-dead-letters")
	set(&o.OutputTopic, "zyklus-"+o.Group+"-outputs")
	set(&o.GroupProtocol, ProtocolClassic)
	set(&o.CheckpointInterval, time.Second)
	set(&o.MaxPoll, 2000)
	set(&o.FetchMaxBytes, 16<<20)
	set(&o.BatchRows, 50_000)
	set(&o.MaxPending, 1<<30)
	set(&o.Restores, 4)
	set(&o.SinkGrace, 5*time.Second)
	set(&o.Replication, -1)
	return o
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate reports all that is wrong with o, after defaults.
func (o Options) Validate() error {
	o = o.WithDefaults()
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("kafka: "+format, args...))
		}
	}
	check(len(o.Brokers) > 0, "no brokers are given")
	check(o.Group != "", "no group is given")
	check(o.Topic != "", "no input topic is given")
	check(o.Topic != o.ChangelogTopic && o.Topic != o.DeadLetterTopic && o.ChangelogTopic != o.DeadLetterTopic,
		"input, changelog and dead letters need different topics (%s, %s, %s)", o.Topic, o.ChangelogTopic, o.DeadLetterTopic)
	check(o.GroupProtocol == ProtocolClassic || o.GroupProtocol == ProtocolConsumer,
		"group protocol %q is neither %s nor %s", o.GroupProtocol, ProtocolClassic, ProtocolConsumer)
	check(o.CheckpointInterval >= 10*time.Millisecond && o.CheckpointInterval <= time.Minute,
		"checkpoint interval %v is not between 10ms and 1m", o.CheckpointInterval)
	check(o.MaxPoll > 0, "max poll %d is not positive", o.MaxPoll)
	check(o.FetchMaxBytes >= 64<<10, "fetch max bytes %d is below 64 KiB", o.FetchMaxBytes)
	check(o.BatchRows > 0, "batch rows %d is not positive", o.BatchRows)
	check(o.MaxPending > 0, "max pending %d is not positive", o.MaxPending)
	check(o.Restores > 0, "restores %d is not positive", o.Restores)
	check(o.SinkGrace > 0 && o.SinkGrace <= time.Minute, "sink grace %v is not between 0 and 1m", o.SinkGrace)
	check(o.MinInsyncReplicas >= 0 && (o.Replication < 0 || o.MinInsyncReplicas <= o.Replication),
		"min.insync.replicas %d is more than the %d replicas of a topic: nothing could be written", o.MinInsyncReplicas, o.Replication)
	if err := o.Security.SASL.validate(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// transactionalID names the producer of a partition. Whoever owns the partition uses it, so that a new owner fences
// the old one.
func (o *Options) transactionalID(partition int32) string {
	return fmt.Sprintf("%s/%s/%d", o.Group, o.Topic, partition)
}
