package kafka

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// What a topic is for.
const (
	UseInput       = "input"
	UseEvents      = "events" // what the re-keying stage writes and the main job reads
	UseChangelog   = "changelog"
	UseDeadLetters = "dead letters"
	UseOutputs     = "outputs"
)

// TopicState says what one topic is and in what it is not as it should be.
type TopicState struct {
	Name   string `json:"name"`
	Use    string `json:"use"` // one of the constants above
	Exists bool   `json:"exists"`
	// Partitions that it has, and those that it should have: as many as the input. 0 where nothing is known.
	Partitions     int `json:"partitions"`
	WantPartitions int `json:"want_partitions"`
	Replicas       int `json:"replicas"` // least number of any partition; 0 if unknown
	// Hidden is why its settings could not be read, empty if they were: the right to describe them, which is not needed
	// to run, is missing. Deviations of settings are then unknown.
	Hidden     string      `json:"hidden,omitempty"`
	Deviations []Deviation `json:"deviations"`
}

// Deviation is one respect in which a topic is not as it should be.
type Deviation struct {
	Setting string `json:"setting"` // a topic's setting such as cleanup.policy, or "exists", "partitions", "replicas"
	Have    string `json:"have"`
	Want    string `json:"want"`
	Fatal   bool   `json:"fatal"` // nothing runs with it; else it is a risk that may be taken knowingly
	Text    string `json:"text"`  // one line: what is wrong, what follows and what to do
}

// Err returns the first deviation with which nothing may run as an error, nil if there is none.
func (t *TopicState) Err() error {
	for _, d := range t.Deviations {
		if d.Fatal {
			return errors.New(d.Text)
		}
	}
	return nil
}

// DescribeTopics compares the topics with what they should be: input, changelog, dead letters, in this order. The error
// says that the brokers cannot be asked; that topics are missing or wrong is no error.
func DescribeTopics(ctx context.Context, o Options) (topics []TopicState, err error) {
	o = o.WithDefaults()
	err = o.withAdmin(ctx, func(adm *kadm.Client) error {
		topics, err = o.describe(ctx, adm)
		return err
	})
	return topics, err
}

// topics lists the topics of which nothing is known yet, the input first.
func (o *Options) topics() []TopicState {
	input := UseInput
	if o.Rekeyed {
		input = UseEvents
	}
	return []TopicState{
		{Name: o.Topic, Use: input},
		{Name: o.ChangelogTopic, Use: UseChangelog},
		{Name: o.DeadLetterTopic, Use: UseDeadLetters},
		{Name: o.OutputTopic, Use: UseOutputs},
	}
}

// describe is DescribeTopics with a client that is connected.
func (o *Options) describe(ctx context.Context, adm *kadm.Client) ([]TopicState, error) {
	topics := o.topics()
	names := make([]string, len(topics))
	for i := range topics {
		names[i] = topics[i].Name
	}
	have, err := adm.ListTopics(ctx, names...)
	if err != nil {
		return nil, o.explain(err)
	}
	for i := range topics {
		if err := o.existing(&topics[i], have[topics[i].Name]); err != nil {
			return nil, err
		}
		topics[i].WantPartitions = topics[0].Partitions
	}
	for i := range topics {
		if err := o.compare(ctx, adm, &topics[i]); err != nil {
			return nil, err
		}
	}
	return topics, nil
}

// compare notes in what a topic is not as it should be.
func (o *Options) compare(ctx context.Context, adm *kadm.Client, t *TopicState) error {
	if !t.Exists {
		t.missing()
		return nil
	}
	switch {
	case t.Use == UseChangelog && o.Stage != "" && t.Partitions < t.WantPartitions:
		t.deviate(true, "partitions", strconv.Itoa(t.Partitions), strconv.Itoa(t.WantPartitions),
			"input topic %s has been given more partitions than changelog topic %s: run zyklus migrate, which adds them", o.Topic, t.Name)
	case t.Use == UseChangelog:
		t.checkState(o)
	}
	if t.Use != UseInput {
		t.checkReplicas(o)
	}
	settings, err := o.settings(ctx, adm, t)
	if err != nil {
		return err
	}
	t.checkSettings(o.wanted(t.Use), settings)
	return nil
}

// existing notes what the brokers say of a topic.
func (o *Options) existing(t *TopicState, detail kadm.TopicDetail) error {
	switch {
	case errors.Is(detail.Err, kerr.UnknownTopicOrPartition):
		return nil
	case refused(detail.Err):
		return o.explain(detail.Err)
	case detail.Err != nil:
		return fmt.Errorf("%s topic %s: %w", t.Use, t.Name, detail.Err)
	}
	t.Exists, t.Partitions = true, len(detail.Partitions)
	for _, p := range detail.Partitions {
		if t.Replicas == 0 || len(p.Replicas) < t.Replicas {
			t.Replicas = len(p.Replicas)
		}
	}
	return nil
}

// checkInput returns an error if the input topic cannot be written to or read.
func (o *Options) checkInput(detail kadm.TopicDetail) error {
	t := TopicState{Name: o.Topic, Use: UseInput}
	if err := o.existing(&t, detail); err != nil {
		return err
	}
	if !t.Exists {
		t.missing()
	}
	return t.Err()
}

// settings reads those of a topic. Each topic is a question of its own, as a right may be missing for one of them.
func (o *Options) settings(ctx context.Context, adm *kadm.Client, t *TopicState) (map[string]string, error) {
	configs, err := adm.DescribeTopicConfigs(ctx, t.Name)
	if err == nil {
		_, err = configs.On(t.Name, func(rc *kadm.ResourceConfig) error { return rc.Err })
	}
	switch {
	case refused(err):
		t.Hidden = lineError{err}.Error()
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("settings of topic %s: %w", t.Name, o.explain(err))
	}
	values := map[string]string{}
	for _, c := range configs[0].Configs {
		values[c.Key] = c.MaybeValue()
	}
	return values, nil
}

func (t *TopicState) deviate(fatal bool, setting, have, want, format string, args ...any) {
	t.Deviations = append(t.Deviations, Deviation{
		Setting: setting, Have: have, Want: want, Fatal: fatal, Text: fmt.Sprintf(format, args...),
	})
}

func (t *TopicState) missing() {
	advice := "run zyklus migrate"
	if t.Use == UseInput {
		advice = "create it, or correct its name in the configuration"
	}
	t.deviate(true, "exists", "false", "true", "%s topic %s does not exist: %s", t.Use, t.Name, advice)
}

// checkState refuses a state that was built with another number of partitions than the input has now.
func (t *TopicState) checkState(o *Options) {
	have, want := t.Partitions, t.WantPartitions
	if have == want || want == 0 {
		return
	}
	text := fmt.Sprintf("%s has %d partitions, its changelog topic %s has %d: the one was created anew with fewer, or the other given more; run zyklus admin rebuild, which begins again from the start of the topic",
		o.Topic, want, t.Name, have)
	if want > have {
		text = o.grown(have, want).Error()
	}
	t.deviate(true, "partitions", strconv.Itoa(have), strconv.Itoa(want), "%s", text)
}

// grown is the error of a topic that has been given more partitions than it had when its state was built.
func (o *Options) grown(before, now int) error {
	switch {
	case o.Stage != "":
		return fmt.Errorf("topic %s has been given more partitions (%d, now %d): run zyklus migrate, which lets the re-keying stage know them, and start again",
			o.Topic, before, now)
	case o.Rekeyed:
		return fmt.Errorf("topic %s has been given more partitions (%d, now %d), so customers are no longer where their state is: take a new group with a new database, and run zyklus migrate; sources are re-keyed from their start",
			o.Topic, before, now)
	}
	return fmt.Errorf("topic %s has been given more partitions (%d, now %d), so customers are no longer where their state is: set key: other for this source, with a new group and a new database, and run zyklus migrate; it is then re-keyed from its start",
		o.Topic, before, now)
}

func (t *TopicState) checkReplicas(o *Options) {
	if want := int(o.Replication); want > 0 && t.Replicas < want {
		t.deviate(false, "replicas", strconv.Itoa(t.Replicas), strconv.Itoa(want),
			"%s topic %s has %d replicas, the configuration says %d: reassign its partitions to more brokers, or lower kafka.replication",
			t.Use, t.Name, t.Replicas, want)
	}
}

// setting is what one setting of a topic should be.
type setting struct {
	key, want string
	enough    func(have string) bool
	fatal     bool
	why       string // what follows otherwise
	unset     bool   // not given to a topic that is created: the brokers' default is right
}

// wanted lists the settings of a topic that is created or checked.
func (o *Options) wanted(use string) []setting {
	room := setting{key: "max.message.bytes", want: strconv.Itoa(maxMessage), enough: atLeast(maxMessage), fatal: true,
		why: "a large checkpoint could not be written"}
	var list []setting
	switch use {
	case UseInput:
		return []setting{
			// The append time is what tells an event of the future from one of the present.
			{key: "message.timestamp.type", want: "LogAppendTime", enough: equal("LogAppendTime"),
				why: "an event from the future is told by when it is read, not by when it came"},
			{key: "cleanup.policy", want: "delete", enough: equal("delete"), unset: true,
				why: "with compact the events of a customer vanish before they are read"},
		}
	case UseEvents:
		list = []setting{
			{key: "cleanup.policy", want: "delete", enough: equal("delete"), fatal: true, why: "events of a customer would vanish before they are read"},
			room,
			{key: "retention.ms", want: milliseconds(eventsRetention), enough: atLeastOrEver(leastEventsRetention.Milliseconds()),
				why: "what the main job has not read in this time is lost to it"},
		}
	case UseChangelog:
		list = []setting{
			// Compacted and never deleted, so retention.ms and retention.bytes do not matter.
			{key: "cleanup.policy", want: "compact", enough: equal("compact"), fatal: true, why: "state would be deleted"},
			room,
			// Only closed segments are compacted.
			{key: "segment.bytes", want: strconv.Itoa(128 << 20), enough: always},
			{key: "min.cleanable.dirty.ratio", want: "0.3", enough: always},
			{key: "delete.retention.ms", want: milliseconds(tombstoneRetention), enough: atLeast(tombstoneRetention.Milliseconds()),
				why: "a restore that takes longer brings deleted customers back"},
			{key: "unclean.leader.election.enable", want: "false", enough: equal("false"), unset: true,
				why: "committed state can be lost with a broker"},
		}
	case UseOutputs:
		list = []setting{{key: "cleanup.policy", want: "delete", enough: equal("delete"), why: "an output would replace an earlier one with its key"}}
	case UseDeadLetters:
		list = []setting{
			{key: "cleanup.policy", want: "delete", enough: equal("delete"), fatal: true, why: "a letter would replace an earlier one of the same customer"},
			room,
			{key: "retention.ms", want: milliseconds(deadLetterRetention), enough: atLeastOrEver(leastLetterRetention.Milliseconds()),
				why: "letters are gone before they are in the database, should that be away"},
		}
	}
	if n := int64(o.MinInsyncReplicas); n > 0 {
		list = append(list, setting{key: "min.insync.replicas", want: strconv.FormatInt(n, 10), enough: atLeast(n),
			why: "a checkpoint can be lost with fewer brokers than the configuration says"})
	}
	return list
}

func equal(want string) func(string) bool { return func(have string) bool { return have == want } }

func always(string) bool { return true }

func atLeast(least int64) func(string) bool {
	return func(have string) bool {
		n, err := strconv.ParseInt(have, 10, 64)
		return err == nil && n >= least
	}
}

// atLeastOrEver is atLeast for limits of which -1 means none.
func atLeastOrEver(least int64) func(string) bool {
	return func(have string) bool { return have == "-1" || atLeast(least)(have) }
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// checkSettings compares those that could be read.
func (t *TopicState) checkSettings(list []setting, have map[string]string) {
	for _, s := range list {
		value, known := have[s.key]
		if !known || s.enough(value) {
			continue
		}
		t.deviate(s.fatal, s.key, value, s.want, "%s topic %s has %s=%s: %s; set it to %s", t.Use, t.Name, s.key, value, s.why, s.want)
	}
	if n, err := strconv.Atoi(have["min.insync.replicas"]); err == nil && t.Use != UseInput && n > t.Replicas {
		t.deviate(true, "min.insync.replicas", strconv.Itoa(n), strconv.Itoa(t.Replicas),
			"%s topic %s has min.insync.replicas=%d and %d replicas: nothing can be written to it; lower the one or raise the other",
			t.Use, t.Name, n, t.Replicas)
	}
}

// Advice returns the deviations with which Zyklus runs, one line each.
func Advice(topics []TopicState) (lines []string) {
	for i := range topics {
		for _, d := range topics[i].Deviations {
			if !d.Fatal {
				lines = append(lines, d.Text)
			}
		}
		if topics[i].Hidden != "" {
			lines = append(lines, fmt.Sprintf("%s topic %s: settings are not checked, for the right to describe its configuration is missing (%s)",
				topics[i].Use, topics[i].Name, topics[i].Hidden))
		}
	}
	return lines
}
