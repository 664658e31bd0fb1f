package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"zyklus/cmd/zyklus/internal/output"
	"zyklus/pipeline"
	"zyklus/pipeline/kafka"
	"zyklus/sinks/clickhouse"
)

func lagCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "lag", Short: "Tell how far each partition is", Args: noArguments,
		Long: `Tell how far each partition of the source is, from Kafka and ClickHouse themselves; instances need not run.

  END        offset after the last committed record of the topic
  POSITION   offset of the next record to read, of the last checkpoint: what counts
  LAG        records between (markers of transactions count)
  CLOCK      event time that the partition has reached: silence is known up to here
  WATERMARK  clock less the allowed lateness: what is dated before it is final; AGE is how long ago that is
  COMMITTED  version (lineage.checkpoint) of the last checkpoint
  STORED     version up to which ClickHouse has all rows

The offsets committed to the group are written for other tools and are in the JSON only. If ClickHouse does not answer,
the rest is told without it. Where sources are re-keyed, their topics come first; of them only the offsets are known.`,
		Example: "  zyklus admin lag --config zyklus.yaml\n  zyklus admin lag -o json | jq '[.partitions[].lag] | add'",
	}
	open, format := siteCommand(cmd, brokerMostly), answering(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := open(cmd.Context())
		if err != nil {
			return err
		}
		defer s.close()
		r, err := s.lag(cmd.Context(), time.Now())
		if err != nil {
			return err
		}
		return format.Write(cmd.OutOrStdout(), r, r.text)
	}
	return cmd
}

// lagReport is what admin lag tells.
type lagReport struct {
	Group      string         `json:"group"`
	At         string         `json:"at"`
	Partitions []partitionLag `json:"partitions"`
	Notices    []string       `json:"notices"`
}

// partitionLag is how far one partition is. Versions and instants are empty where there are none.
type partitionLag struct {
	Source       string  `json:"source"` // topic
	Partition    int32   `json:"partition"`
	End          int64   `json:"end"`
	Position     int64   `json:"position"`
	Lag          int64   `json:"lag"`
	GroupOffset  int64   `json:"group_offset"` // -1 for none
	Clock        string  `json:"clock"`
	Watermark    string  `json:"watermark"`
	WatermarkAge float64 `json:"watermark_age_seconds"`
	Committed    string  `json:"committed_version"`
	Stored       string  `json:"stored_version"`
}

// lag asks Kafka, and ClickHouse if it answers.
func (s *site) lag(ctx context.Context, now time.Time) (*lagReport, error) {
	lags, err := s.kafka.Lags(ctx)
	if err != nil {
		return nil, err
	}
	topic := s.kafka.Options().Topic
	r := &lagReport{Group: s.cfg.Group, At: output.Instant(now), Partitions: []partitionLag{}, Notices: []string{}}
	if err := s.stageLags(ctx, r); err != nil {
		return nil, err
	}
	stored, err := s.stored(ctx, topic)
	if err != nil {
		r.note("without ClickHouse: %v", err)
	}
	r.noteLosses(ctx, s.kafka)
	for i := range lags {
		p := s.partitionLag(topic, &lags[i], now)
		if m := lags[i].Meta; m != nil && !s.job.Fits(m) {
			r.note("the state of partition %d was written under other lifecycles, another artefact or another time zone than this configuration's", p.Partition)
		}
		if c, ok := stored[p.Partition]; ok {
			p.Stored = pipeline.VersionText(c.Version)
			r.compare(&lags[i], c)
		}
		r.Partitions = append(r.Partitions, p)
	}
	if err != nil {
		return r, nil
	}
	return r, s.noteRebuild(ctx, r, topic, stored)
}

// stageLags adds the sources that the re-keying stage reads.
func (s *site) stageLags(ctx context.Context, r *lagReport) error {
	if !s.cfg.Rekeyed() {
		return nil
	}
	for _, source := range s.cfg.Inputs() {
		admin, err := kafka.NewAdmin(ctx, rekeyOptions(s.cfg, &source))
		if err != nil {
			return err
		}
		lags, err := admin.GroupLags(ctx)
		r.noteLosses(ctx, admin)
		admin.Close()
		if err != nil {
			return fmt.Errorf("source %s: %w", source.Name, err)
		}
		for i := range lags {
			l := &lags[i]
			at := max(l.Committed, l.Start)
			r.Partitions = append(r.Partitions, partitionLag{
				Source: source.Topic, Partition: l.Partition, End: l.End, Position: at, Lag: max(l.End-at, 0), GroupOffset: l.Committed,
			})
		}
	}
	return nil
}

// stored asks ClickHouse how far each partition has been written.
func (s *site) stored(ctx context.Context, topic string) (map[int32]clickhouse.StoredCheckpoint, error) {
	if err := s.database(ctx); err != nil {
		return nil, err
	}
	return s.client.Checkpoints(ctx, topic)
}

func (s *site) partitionLag(topic string, l *kafka.Lag, now time.Time) partitionLag {
	p := partitionLag{
		Source: topic, Partition: l.Partition, End: l.End, Position: l.Position(), Lag: l.Records(), GroupOffset: l.Committed,
	}
	if l.Meta == nil {
		return p
	}
	p.Committed = pipeline.VersionText(l.Meta.Version())
	if l.Meta.Clock > 0 {
		watermark := time.UnixMilli(min(s.job.Watermark(l.Meta), l.Meta.Heard))
		p.Clock, p.Watermark = output.Instant(time.UnixMilli(l.Meta.Clock)), output.Instant(watermark)
		p.WatermarkAge = now.Sub(watermark).Seconds()
	}
	return p
}

func (r *lagReport) note(format string, args ...any) {
	r.Notices = append(r.Notices, fmt.Sprintf(format, args...))
}

// noteLosses says where the topic of a stage cannot be read on.
func (r *lagReport) noteLosses(ctx context.Context, stage *kafka.Admin) {
	places, err := stage.Places(ctx)
	var losses []kafka.Loss
	if err == nil {
		losses, err = stage.Losses(ctx, places)
	}
	if err != nil {
		r.note("whether %s has lost records cannot be told: %v", stage.Options().Topic, err)
	}
	for i := range losses {
		r.note("%s partition %d %s: see zyklus admin accept-loss", stage.Options().Topic, losses[i].Partition, &losses[i])
	}
}

// compare notes what keeps a partition from running.
func (r *lagReport) compare(l *kafka.Lag, stored clickhouse.StoredCheckpoint) {
	switch {
	case l.Meta == nil:
		r.note("partition %d has no state, but ClickHouse has its rows: the changelog was lost; run zyklus admin rebuild", l.Partition)
	case stored.Version > l.Meta.Version():
		r.note("the state of partition %d is older (%s) than its rows in ClickHouse (%s): the changelog was lost; run zyklus admin rebuild",
			l.Partition, pipeline.VersionText(l.Meta.Version()), pipeline.VersionText(stored.Version))
	}
}

// noteRebuild says how a rebuild stands, if rows from before are left.
func (s *site) noteRebuild(ctx context.Context, r *lagReport, topic string, stored map[int32]clickhouse.StoredCheckpoint) error {
	parts, err := s.client.Rebuilds(ctx, topic)
	if err != nil || len(parts) == 0 {
		return err
	}
	lineage := lastLineage(parts)
	left, err := s.client.HasOlder(ctx, s.job.Projected(), lineage)
	if err != nil || !left {
		return err
	}
	if behind := notThere(parts, stored); len(behind) > 0 {
		r.note("rebuilding as lineage %d: %d of %d partitions have not reached where they were", lineage, len(behind), len(parts))
		return nil
	}
	r.note("lineage %d is complete: rows of older lineages can go, by zyklus admin rebuild --clean", lineage)
	return nil
}

func (r *lagReport) text(w io.Writer) error {
	var rows [][]any
	for _, p := range r.Partitions {
		age := ""
		if p.Watermark != "" {
			age = output.Age(time.Duration(p.WatermarkAge * float64(time.Second)))
		}
		rows = append(rows, []any{p.Source, p.Partition, p.End, p.Position, p.Lag, p.Clock, p.Watermark, age, p.Committed, p.Stored})
	}
	err := output.Table(w, "SOURCE\tPARTITION\tEND\tPOSITION\tLAG\tCLOCK\tWATERMARK\tAGE\tCOMMITTED\tSTORED", rows)
	for _, n := range r.Notices {
		fmt.Fprintln(w, n)
	}
	return err
}
