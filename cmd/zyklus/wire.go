package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"zyklus/cmd/zyklus/internal/config"
	"zyklus/models"
	"zyklus/models/lifecycle"
	"zyklus/operators"
	"zyklus/pipeline"
	"zyklus/pipeline/codec"
	"zyklus/pipeline/kafka"
	"zyklus/sinks/clickhouse"
)

// newJob wires operators, lifecycles and artefact together as the configuration says.
func newJob(cfg *config.Config) (*pipeline.Job, error) {
	zone, err := cfg.Location()
	if err != nil {
		return nil, usageError{fmt.Errorf("time_zone: %w", err)}
	}
	artefact, err := loadArtefact(cfg.Artefact)
	if err != nil {
		return nil, usageError{err}
	}
	documents, err := loadLifecycles(cfg.Lifecycles)
	if err != nil {
		return nil, usageError{err}
	}
	rates, err := loadRates(cfg)
	if err != nil {
		return nil, usageError{err}
	}
	job, err := pipeline.NewJob(pipeline.Options{
		Operators: operators.All(), Lifecycles: documents, Artefact: artefact, Rates: rates, Days: cfg.CustomerDays,
		Calendar: pipeline.NewCalendar(zone), Lateness: cfg.Lateness(), Rekeyed: cfg.Rekeyed(),
		Skew: cfg.Inputs()[0].Skew, WallClock: cfg.Inputs()[0].Clock == "wall", Held: cfg.Inputs()[0].Required && !cfg.Rekeyed(),
	})
	if err != nil {
		return nil, usageError{err}
	}
	return job, nil
}

func loadArtefact(path string) (models.Artefact, error) {
	if path == "" {
		return models.BuiltIn(), nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return models.Artefact{}, fmt.Errorf("artefact: %w", err)
	}
	a, err := models.ParseArtefact(text)
	if err != nil {
		return a, fmt.Errorf("artefact %s: %w", path, err)
	}
	return a, nil
}

// loadLifecycles reads presets by their names and everything else as files. All problems are reported.
func loadLifecycles(names []string) (documents []*lifecycle.Document, err error) {
	var problems []error
	for _, name := range names {
		read := lifecycle.Preset
		if !slices.Contains(lifecycle.Presets(), name) {
			read = os.ReadFile
		}
		text, err := read(name)
		if err != nil {
			problems = append(problems, fmt.Errorf("lifecycle %q is neither a preset (%s) nor a file: %w",
				name, strings.Join(lifecycle.Presets(), ", "), err))
			continue
		}
		doc, err := lifecycle.Parse(text)
		if err != nil {
			problems = append(problems, fmt.Errorf("lifecycle %s: %w", name, err))
			continue
		}
		documents = append(documents, doc)
	}
	return documents, errors.Join(problems...)
}

// decoders returns what makes the decoders of a source, each for one goroutine, having checked that it can. The mapping is
// read and compiled once.
func decoders(cfg *config.Config, source *config.Source) (func() kafka.Decoder, error) {
	format, options := source.Format, codec.Options{
		Source: source.Name, Currency: cfg.Currency, Convert: cfg.Rates.File != "", MinTime: source.Earliest.UnixMilli(),
		MaxBytes: int(source.MaxRecord), IgnoredIDs: source.IgnoredIDs,
	}
	var err error
	if source.Mapping != "" {
		if format, options.Mapping, err = openMapping(source.Mapping); err != nil {
			return nil, usageError{fmt.Errorf("source %s: %w", source.Name, err)}
		}
	}
	if _, err = newDecoder(format, options); err != nil {
		return nil, usageError{fmt.Errorf("source %s: %w", source.Name, err)}
	}
	return func() kafka.Decoder {
		d, err := newDecoder(format, options)
		if err != nil {
			panic("BUG: decoder options were checked: " + err.Error())
		}
		return d
	}, nil
}

// newDecoder returns a decoder of a format that also takes the heartbeats of load and simulate.
func newDecoder(format string, options codec.Options) (kafka.Decoder, error) {
	d, err := codec.New(format, options)
	if err != nil || format == codec.FormatSegment {
		return d, err
	}
	options.Mapping = nil
	heartbeats, err := codec.NewSegment(options)
	if err != nil {
		return nil, err
	}
	return &heartbeatDecoder{records: d, heartbeats: heartbeats}, nil
}

// heartbeatDecoder lets a source of any format take the heartbeats of load and simulate, which are Segment JSON.
type heartbeatDecoder struct {
	records    codec.Decoder
	heartbeats *codec.Segment
}

// Decode implements kafka.Decoder.
func (d *heartbeatDecoder) Decode(r *pipeline.Record, e *pipeline.Event) error {
	if len(r.Key) == 0 && bytes.HasPrefix(r.Value, []byte(`{"type":"heartbeat","timestamp":"`)) {
		return d.heartbeats.Decode(r, e)
	}
	return d.records.Decode(r, e)
}

// loadRates reads the table of exchange rates, nil if there is none.
func loadRates(cfg *config.Config) (*pipeline.Rates, error) {
	if cfg.Rates.File == "" {
		return nil, nil
	}
	text, err := os.ReadFile(cfg.Rates.File)
	if err != nil {
		return nil, fmt.Errorf("rates: %w", err)
	}
	rates, err := pipeline.ParseRates(text, pipeline.RateOptions{Currency: cfg.Currency, MaxAgeDays: int(cfg.Rates.MaxAge / (24 * time.Hour))})
	if err != nil {
		return nil, fmt.Errorf("rates %s: %w", cfg.Rates.File, err)
	}
	return rates, nil
}

// schema is everything that ClickHouse is to hold.
func schema(job *pipeline.Job, currency string) clickhouse.Schema {
	exponent, _ := codec.KnownCurrency(currency)
	return clickhouse.Schema{Tables: job.Tables(), Views: readerViews(job), MoneyExponent: exponent}
}

// kafkaOptions are those of the main job: it reads the one source, or what the re-keying stage makes of several.
func kafkaOptions(cfg *config.Config) kafka.Options {
	o := kafka.Options{
		Brokers: cfg.Kafka.Brokers, Group: cfg.Group, InstanceID: cfg.Kafka.InstanceID, GroupProtocol: cfg.Kafka.GroupProtocol,
		CheckpointInterval: cfg.Kafka.CheckpointInterval, MaxPending: int64(cfg.ClickHouse.MaxPending), Replication: int16(cfg.Kafka.Replication),
		MinInsyncReplicas: int16(cfg.Kafka.MinInsyncReplicas), Security: kafkaSecurity(&cfg.Kafka),
	}
	if cfg.Rekeyed() {
		o.Topic, o.Rekeyed = "zyklus-"+cfg.Group+"-events", true
	} else {
		source := cfg.Inputs()[0]
		o.Topic, o.CheckKeys, o.Stall = source.Topic, true, stall(cfg, &source)
	}
	return o.WithDefaults()
}

// rekeyOptions are those of the re-keying of one source. Dead letters and outputs go where the main job's go.
func rekeyOptions(cfg *config.Config, source *config.Source) kafka.Options {
	o := kafkaOptions(cfg)
	o.Group, o.Topic, o.Stage = cfg.Group+"-rekey-"+source.Name, source.Topic, "rekey"
	o.Rekeyed, o.CheckKeys, o.Stall = false, false, stall(cfg, source)
	o.ChangelogTopic, o.CheckpointInterval = "", cfg.Kafka.RekeyInterval
	return o.WithDefaults()
}

func stall(cfg *config.Config, source *config.Source) kafka.Stall {
	limits, _ := source.Stalls() // the configuration has been validated
	return kafka.Stall{Source: source.Name, Limits: limits, Required: source.Required, Settle: cfg.Lateness()}
}

func clickhouseOptions(cfg *config.Config) clickhouse.Options {
	c := &cfg.ClickHouse
	o := clickhouse.Options{
		Addrs: c.Addrs, Protocol: c.Protocol, Database: c.Database, Username: c.Username,
		Password: c.Password.Reveal(), Compression: c.Compression, InsertTimeout: c.InsertTimeout,
	}
	if c.TLS.Enabled {
		o.TLS = c.TLS.Client
	}
	return o
}

// kafkaDeps is what the Runner of the main job works with.
func kafkaDeps(cfg *config.Config, job *pipeline.Job, w *clickhouse.Writer, log *slog.Logger) (d kafka.Deps, err error) {
	d = kafka.Deps{
		Sink: w, Job: job, Healthy: w.Healthy, Log: log, Crash: crashPoint(),
		NewTask: func(topic string, partition int32) kafka.Task { return pipeline.NewTask(job, topic, partition) },
	}
	if !cfg.Rekeyed() {
		source := cfg.Inputs()[0]
		d.NewDecoder, err = decoders(cfg, &source)
	}
	return d, err
}
