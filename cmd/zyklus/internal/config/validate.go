package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"zyklus/models/lifecycle"
	"zyklus/pipeline/codec"
)

// Validate reports everything that is wrong with c, one problem a line. Load has done so already; it is for settings that
// are changed afterwards.
func (c Config) Validate() error { return errors.Join(c.problems()...) }

// checker collects what is wrong with the values of a Config.
type checker struct {
	origins  origins
	problems []error
}

// that notes a problem with a setting unless ok.
func (k *checker) that(ok bool, key, format string, args ...any) {
	if !ok {
		k.problems = append(k.problems, problem(cmp.Or(k.origins[key], "default"), key, format, args...))
	}
}

func (c Config) problems() []error {
	k := &checker{origins: c.origins}
	c.checkSources(k)
	c.Kafka.check(k)
	c.ClickHouse.check(k)
	c.checkScores(k)
	k.that(len(c.Group) <= 200 && isTopic(c.Group), "group", "%q must be 1 to 200 letters, digits, '.', '_' or '-', for it is part of the names of topics", c.Group)
	k.address("http.addr", c.HTTP.Addr)
	// Fields with few values are checked again: Validate is also for a Config that was made in code.
	for _, f := range fields(&c) {
		if text, ok := f.value.(*string); ok && f.oneOf != nil {
			k.that(slices.Contains(f.oneOf, *text), f.key, "%q is not one of %s", *text, strings.Join(f.oneOf, ", "))
		}
	}
	return k.problems
}

// checkSources checks the sources that are read; of several, what they have in common was checked with each.
func (c Config) checkSources(k *checker) {
	if len(c.Sources) == 0 {
		c.Source.check(k, "source")
	}
	topics := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(c.Sources)) {
		s, key := c.Sources[name], sourcesKey+"."+name
		k.that(sourceName.MatchString(name), key, "must be named by 1 to 32 of a-z, 0-9 and '_', beginning with a letter")
		s.check(k, key)
		other := topics[s.Topic]
		k.that(other == "", key+".topic", "%s is read by %s already", s.Topic, other)
		topics[s.Topic] = key
	}
}

func (s Source) check(k *checker, key string) {
	k.that(isTopic(s.Topic), key+".topic", "%q is no name of a topic: 1 to 249 letters, digits, '.', '_' or '-'", s.Topic)
	k.that(s.Lateness >= 0 && s.Lateness <= 30*24*time.Hour, key+".lateness", "%s is not from 0s to 30d", formatDuration(s.Lateness))
	k.that(s.Skew >= 0 && s.Skew <= 24*time.Hour, key+".skew", "%s is not from 0s to 24h", formatDuration(s.Skew))
	k.that(s.MaxRecord >= 1<<10 && s.MaxRecord <= 1<<30, key+".max_record", "%s is not from 1KiB to 1GiB", s.MaxRecord)
	first, last := time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
	k.that(!s.Earliest.Before(first) && s.Earliest.Before(last), key+".earliest", "%s is not from 1990-01-01 to 2199-12-31", s.Earliest)
	k.that((s.Format == "mapping") == (s.Mapping != ""), key+".mapping", "goes with format: mapping, and only with it")
	limits, err := s.Stalls()
	k.that(err == nil, key+".stall_families", "%v", err)
	for name, limit := range limits {
		k.that(limit >= 10*time.Second && limit <= 30*24*time.Hour, key+".stall_after", "%s of %q is not from 10s to 30d", formatDuration(limit), name)
	}
	k.that(!s.Required || len(limits) > 0 || err != nil, key+".required", "needs stall_after or stall_families: after which silence is the source stalled?")
	k.that(s.Clock == "wall" || len(limits) == 0, key+".stall_after", "needs clock: wall; with events alone, time stands still without them anyway")
}

func (b Kafka) check(k *checker) {
	k.embedded(b.Embedded, "kafka.brokers", "kafka.embedded")
	k.addresses("kafka.brokers", b.Brokers)
	k.address("kafka.listen", b.Listen)
	k.that(!b.Embedded || b.Data != "", "kafka.data", "is empty: the embedded broker needs a directory")
	k.that(b.Partitions >= 1 && b.Partitions <= 10_000, "kafka.partitions", "%d is not from 1 to 10000", b.Partitions)
	k.that(b.Replication >= 0 && b.Replication <= 32, "kafka.replication", "%d is not from 0 (the brokers' default) to 32", b.Replication)
	k.that(b.MinInsyncReplicas >= 0 && (b.Replication == 0 || b.MinInsyncReplicas <= b.Replication) && b.MinInsyncReplicas <= 32,
		"kafka.min_insync_replicas", "%d is not from 0 (the brokers' default) to kafka.replication", b.MinInsyncReplicas)
	k.that(!b.Embedded || !b.TLS.Enabled, "kafka.tls.enabled", "is true, but the embedded broker has none: remove it")
	k.that(!b.Embedded || b.SASL.Mechanism == "none", "kafka.sasl.mechanism", "is %s, but nobody signs in to the embedded broker: remove it", b.SASL.Mechanism)
	b.TLS.check(k, "kafka")
	b.SASL.check(k)
	k.that(b.CheckpointInterval >= 10*time.Millisecond && b.CheckpointInterval <= time.Minute,
		"kafka.checkpoint_interval", "%s is not from 10ms to 1m", formatDuration(b.CheckpointInterval))
}

func (c ClickHouse) check(k *checker) {
	k.that(c.MaxPending >= 1<<20 && c.MaxPending <= 1<<40, "clickhouse.max_pending", "%s is not from 1MiB to 1TiB", c.MaxPending)
	k.that(c.InsertTimeout >= time.Second && c.InsertTimeout <= time.Hour, "clickhouse.insert_timeout", "%s is not from 1s to 1h", formatDuration(c.InsertTimeout))
	k.embedded(c.Embedded, "clickhouse.addrs", "clickhouse.embedded")
	k.addresses("clickhouse.addrs", c.Addrs)
	k.address("clickhouse.listen", c.Listen)
	if c.Native != NativeOff {
		k.address("clickhouse.native_listen", c.Native)
	}
	k.that(!c.Embedded || c.Data != "", "clickhouse.data", "is empty: the embedded engine needs a directory")
	k.that(!c.Embedded || c.Protocol == "http" || c.Native != NativeOff, "clickhouse.protocol", "is %s, but clickhouse.native_listen is off: change one of them", c.Protocol)
	k.that(!c.Embedded || !c.TLS.Enabled, "clickhouse.tls.enabled", "is true, but the embedded engine has none: remove it")
	c.TLS.check(k, "clickhouse")
	k.that(identifier.MatchString(c.Database), "clickhouse.database", "%q is not a plain name: letters, digits and '_', not beginning with a digit", c.Database)
	k.that(c.Username != "", "clickhouse.username", "is empty")
	if c.Embedded {
		k.file("clickhouse.library", c.Library)
	}
}

// checkScores checks what decides the content of rows.
func (c Config) checkScores(k *checker) {
	if _, known := codec.KnownCurrency(c.Currency); !known {
		k.that(false, "currency", "%q is not a code of ISO 4217 in upper case, such as EUR", c.Currency)
	}
	if _, err := c.Location(); err != nil {
		k.that(false, "time_zone", "%v", err)
	}
	k.file("artefact", c.Artefact)
	k.file("rates.file", c.Rates.File)
	k.that(c.Rates.MaxAge >= 24*time.Hour && c.Rates.MaxAge <= 3660*24*time.Hour && c.Rates.MaxAge%(24*time.Hour) == 0,
		"rates.max_age", "%s is not from 1d to 3660d in whole days", formatDuration(c.Rates.MaxAge))
	k.that(len(c.Lifecycles) > 0, "lifecycles", "is empty: name at least one; presets are %s", strings.Join(lifecycle.Presets(), ", "))
	for i, name := range c.Lifecycles {
		switch {
		case slices.Contains(c.Lifecycles[:i], name):
			k.that(false, "lifecycles", "names %q twice", name)
		case IsFile(name):
			k.file("lifecycles", name)
		case !slices.Contains(lifecycle.Presets(), name):
			k.that(false, "lifecycles", "%q is no preset%s Presets are %s; a path of a document has a '/' or ends in .yaml",
				name, cmp.Or(didYouMean(name, "", lifecycle.Presets()), "."), strings.Join(lifecycle.Presets(), ", "))
		}
	}
}

// IsFile reports whether an entry of Config.Lifecycles is a path, not the name of a preset.
func IsFile(name string) bool {
	return strings.ContainsAny(name, `/\`) || strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml")
}

var (
	topic      = regexp.MustCompile(`^[A-Za-z0-9._-]{1,249}$`)
	identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

func isTopic(name string) bool { return topic.MatchString(name) && name != "." && name != ".." }

// embedded refuses the address of a server beside an embedded part: which is meant?
func (k *checker) embedded(embedded bool, addrs, key string) {
	k.that(!embedded || !k.origins.given(addrs), addrs, "is given (%s) and %s is true (%s): keep one of them",
		k.origins[addrs], key, cmp.Or(k.origins[key], "default"))
}

func (k *checker) addresses(key string, list []string) {
	k.that(len(list) > 0, key, "is empty: give at least one host:port")
	for _, addr := range list {
		if err := checkAddress(addr); err != nil {
			k.that(false, key, "%v", err)
		} else if host, port, _ := net.SplitHostPort(addr); host == "" || port == "0" {
			k.that(false, key, "%q is no server's address: give host and port", addr)
		}
	}
}

// address checks where to listen.
func (k *checker) address(key, addr string) {
	if err := checkAddress(addr); err != nil {
		k.that(false, key, "%v", err)
	}
}

func checkAddress(addr string) error {
	if strings.Contains(addr, "://") {
		return fmt.Errorf("%q must be host:port without a scheme", addr)
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is not host:port", addr)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q has the port %q, which is not a number from 0 to 65535", addr, port)
	}
	return nil
}

// file checks that a file, if one is named, can be read.
func (k *checker) file(key, path string) {
	if path == "" {
		return
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		k.that(false, key, "%q does not exist (paths are relative to the working directory)", path)
	case err != nil:
		k.that(false, key, "%v", err)
	case info.IsDir():
		k.that(false, key, "%q is a directory", path)
	}
}
