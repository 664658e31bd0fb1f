package config

import (
	"fmt"
	"io"
	"log/slog"
	"time"

	"zyklus/pipeline/codec"
)

// Config holds all settings. The tags are the one declaration of each: yaml is its key, default its default as one
// would write it in the environment, oneof its only values, flag the name of its own flag, doc its meaning.
type Config struct {
	Group        string     `yaml:"group" flag:"group" default:"zyklus" doc:"consumer group; part of transactional ids and of the names of internal topics, so that another group is another deployment"`
	Source       Source     `yaml:"source"`
	Sources      Sources    `yaml:"sources"`
	Kafka        Kafka      `yaml:"kafka"`
	ClickHouse   ClickHouse `yaml:"clickhouse"`
	Currency     string     `yaml:"currency" default:"EUR" doc:"reporting currency, a code of ISO 4217; all amounts are in its minor units"`
	Rates        Rates      `yaml:"rates"`
	TimeZone     string     `yaml:"time_zone" default:"UTC" doc:"time zone of business days, an IANA name such as Europe/Berlin"`
	CustomerDays bool       `yaml:"customer_days" default:"true" doc:"keep the row of each business day on which something changed, so that any past day can be asked; makes a replay of history dearer"`
	Lifecycles   []string   `yaml:"lifecycles" default:"role5" doc:"lifecycles that are kept in parallel: names of presets, or paths of YAML documents"`
	Artefact     string     `yaml:"artefact" doc:"file of fitted model parameters; empty for the built-in version 0"`
	HTTP         HTTP       `yaml:"http"`
	Log          Log        `yaml:"log"`

	origins origins
}

// Source says where events come from and which are believed.
type Source struct {
	Topic      string        `yaml:"topic" flag:"topic" default:"events" doc:"topic of customers' events; of a source in sources, default: its name there"`
	Name       string        `yaml:"name" doc:"name within which event ids are unique; another name makes every event a new one; default: the topic"`
	Format     string        `yaml:"format" flag:"format" default:"segment" oneof:"segment,cloudevents,mapping" doc:"what the records are: JSON of Segment, RudderStack and Jitsu; CloudEvents 1.0; or any JSON, by a mapping"`
	Mapping    string        `yaml:"mapping" flag:"mapping" doc:"mapping from the records to events, where the format is mapping: a file, or the name of a preset (zyklus mapping list)"`
	Key        string        `yaml:"key" default:"customer" oneof:"customer,other" doc:"what the records are keyed by: the customer, or anything else, so that they are re-keyed first"`
	Clock      string        `yaml:"clock" flag:"clock" default:"wall" oneof:"wall,events" doc:"what moves time on: wall for live events; events for history and simulation, where events and heartbeats alone do"`
	Lateness   time.Duration `yaml:"lateness" default:"10m" doc:"how late an event may come and still count as if in order; open events are kept in memory so long"`
	Skew       time.Duration `yaml:"skew" default:"5m" doc:"how far an event's time may be ahead of its broker's; later ones never move time"`
	MaxRecord  Size          `yaml:"max_record" default:"1MiB" doc:"greatest size of an event; greater ones are dead letters"`
	Earliest   Date          `yaml:"earliest" default:"1990-01-01" doc:"first day of believable events; earlier ones are dead letters"`
	IgnoredIDs []string      `yaml:"ignored_ids" doc:"customer ids that are no persons, in any case of letters; replaces the built-in list"`
	StallAfter time.Duration `yaml:"stall_after" default:"0s" doc:"how long the source as a whole may be silent before it counts as stalled; 0s for ever"`
	Families   []string      `yaml:"stall_families" doc:"the same for families of its events, such as orders=6h; families are orders, products, web, identity"`
	Required   bool          `yaml:"required" doc:"while the source, or one of those families, is stalled, time stands still: nobody churns because a source is broken"`
}

// Sources are several sources by name. What one does not say is as in Config.Source.
type Sources map[string]*Source

// Kafka says which broker holds the topics.
type Kafka struct {
	Brokers            []string      `yaml:"brokers" flag:"brokers" default:"127.0.0.1:9092" doc:"host:port of any brokers of the cluster"`
	TLS                TLS           `yaml:"tls"`
	SASL               SASL          `yaml:"sasl"`
	Embedded           bool          `yaml:"embedded" doc:"run a broker of our own in this process, for trials and tests"`
	Listen             string        `yaml:"listen" default:"127.0.0.1:9092" doc:"where the embedded broker listens; port 0 takes a free one"`
	Data               string        `yaml:"data" default:".zyklus/kafka" doc:"directory of the embedded broker"`
	Partitions         int           `yaml:"partitions" default:"8" doc:"partitions of topics that zyklus creates; an existing topic keeps its own"`
	Replication        int           `yaml:"replication" default:"0" doc:"replicas of topics that zyklus creates; 0 for the brokers' default"`
	MinInsyncReplicas  int           `yaml:"min_insync_replicas" default:"0" doc:"replicas that must hold a checkpoint before it counts (min.insync.replicas of topics that zyklus creates); 0 for the brokers' default. 2 of 3 replicas lose nothing with one broker"`
	InstanceID         string        `yaml:"instance_id" doc:"makes this process a static member of the group, which keeps its partitions over a restart of less than 45 s; must be unique in it and the same after a restart, such as a pod's name in a stateful set"`
	GroupProtocol      string        `yaml:"group_protocol" default:"classic" oneof:"classic,consumer" doc:"how instances come to their partitions: one of them divides them, or the brokers do (consumer: KIP-848, Kafka 4.0 and later, better 4.3). With consumer the brokers say how long a vanished instance is waited for (group.consumer.session.timeout.ms), and a static member that was killed comes back only after that"`
	CheckpointInterval time.Duration `yaml:"checkpoint_interval" default:"1s" doc:"time between checkpoints: rows are at most so much older than the events"`
	RekeyInterval      time.Duration `yaml:"rekey_interval" default:"200ms" doc:"time between the transactions that re-key events, where sources are not keyed by customer; adds to the age of rows"`
}

// ClickHouse says where rows go.
type ClickHouse struct {
	Addrs    []string `yaml:"addrs" flag:"clickhouse-addr" doc:"host:port of the servers, tried in order; default: 127.0.0.1 with the protocol's port"`
	Protocol string   `yaml:"protocol" default:"native" oneof:"native,http" doc:"native (port 9000, TLS 9440) or http (8123, TLS 8443); to an embedded engine http by default"`
	Database string   `yaml:"database" default:"zyklus" doc:"database of all tables and views; created if need be"`
	Username string   `yaml:"username" default:"default" doc:"user of the database"`
	Password Secret   `yaml:"password" doc:"password of the user"`
	Embedded bool     `yaml:"embedded" doc:"run an engine of our own in a process beside this one, for trials and tests"`
	Listen   string   `yaml:"listen" default:"127.0.0.1:8123" doc:"where the embedded engine listens for http; port 0 takes a free one"`
	Native   string   `yaml:"native_listen" default:"127.0.0.1:0" doc:"where the embedded engine listens for the native protocol; port 0 takes a free one, off is nowhere"`
	Data     string   `yaml:"data" default:".zyklus/clickhouse" doc:"directory of the embedded engine"`
	Library  string   `yaml:"library" env:"ZYKLUS_LIBCHDB" flag:"libchdb" doc:"path of an existing libchdb for the embedded engine; empty: fetched with npm into the user's cache"`

	MaxPending    Size          `yaml:"max_pending" default:"1GiB" doc:"how much memory daily rows may take in this process while they wait for ClickHouse; beyond it no events are read until it has taken them. Nothing is lost either way"`
	InsertTimeout time.Duration `yaml:"insert_timeout" default:"1m" doc:"how long one insert may take before it is made again; must be more than the slowest one takes"`

	Compression string `yaml:"compression" default:"lz4" oneof:"lz4,zstd,none" doc:"of inserts: lz4, zstd (fewer bytes, more CPU) or none; an embedded engine gets none by default"`
	TLS         TLS    `yaml:"tls"`
}

// Rates say how amounts in other currencies become amounts in the reporting currency.
type Rates struct {
	File   string        `yaml:"file" doc:"CSV of date,currency,rate: units of the reporting currency for one of the currency on that day; read at start. Without it, orders in other currencies are dead letters"`
	MaxAge time.Duration `yaml:"max_age" default:"7d" doc:"how much older than an order its rate may be, in whole days: weekends and holidays have none"`
}

// HTTP says where health and metrics are served.
type HTTP struct {
	Addr string `yaml:"addr" flag:"http-addr" default:"127.0.0.1:9464" doc:"where /healthz, /readyz and /metrics are served; :9464 for all interfaces, port 0 takes a free one"`
}

// Log says how to log.
type Log struct {
	Format string `yaml:"format" default:"auto" oneof:"auto,text,json" doc:"text, json, or auto: text on a terminal, else json"`
	Level  string `yaml:"level" flag:"log-level" default:"info" oneof:"debug,info,warn,error" doc:"least level that is logged"`
}

// Default returns the settings that hold where none is given.
func Default() Config {
	var c Config
	for _, f := range fields(&c) {
		if f.preset == "" {
			continue
		}
		if err := f.set(f.preset); err != nil {
			panic("BUG: default of " + f.key + ": " + err.Error())
		}
	}
	c.Source.IgnoredIDs = codec.DefaultIgnoredIDs()
	return c.complete()
}

// complete derives the defaults that depend on other settings.
func (c Config) complete() Config {
	c.completeSources()
	if c.ClickHouse.Embedded && !c.origins.given("clickhouse.protocol") {
		c.ClickHouse.Protocol = "http"
	}
	if c.ClickHouse.Embedded && !c.origins.given("clickhouse.compression") {
		c.ClickHouse.Compression = "none" // on one machine it costs more than it saves
	}
	if len(c.ClickHouse.Addrs) == 0 {
		c.ClickHouse.Addrs = []string{"127.0.0.1:" + c.ClickHouse.port()}
	}
	return c
}

// NativeOff as ClickHouse.Native keeps the embedded engine from speaking the native protocol.
const NativeOff = "off"

// port is ClickHouse's usual one for the protocol.
func (c ClickHouse) port() string {
	switch {
	case c.Protocol == "http" && c.TLS.Enabled:
		return "8443"
	case c.Protocol == "http":
		return "8123"
	case c.TLS.Enabled:
		return "9440"
	default:
		return "9000"
	}
}

// Location returns the business time zone.
func (c Config) Location() (*time.Location, error) {
	if c.TimeZone == "" || c.TimeZone == "Local" {
		return nil, fmt.Errorf("%q would differ from machine to machine: give an IANA name such as Europe/Berlin", c.TimeZone)
	}
	zone, err := time.LoadLocation(c.TimeZone)
	if err != nil {
		return nil, fmt.Errorf("%q is no known time zone: give an IANA name such as Europe/Berlin", c.TimeZone)
	}
	return zone, nil
}

// Logger returns the logger that the settings ask for; terminal says whether w is one.
func (l Log) Logger(w io.Writer, terminal bool) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.Level)); err != nil {
		panic("BUG: log level was not validated: " + err.Error())
	}
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindDuration { // JSON would have it in nanoseconds
			a.Value = slog.StringValue(a.Value.Duration().String())
		}
		return a
	}}
	if l.Format == "text" || l.Format == "auto" && terminal {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}
