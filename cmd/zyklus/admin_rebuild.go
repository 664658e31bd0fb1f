package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"zyklus/cmd/zyklus/internal/output"
	"zyklus/pipeline"
	"zyklus/pipeline/kafka"
	"zyklus/sinks/clickhouse"
)

func rebuildCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "rebuild", Short: "Begin again from the topic, or clean up after that", Args: noArguments,
		Long: `Begin a new lineage: state is thrown away and built again from the start of the source topic. It is for when the
changelog was lost, the topic was created anew, or lifecycles have changed so that the state cannot be continued.

  1. Stop all instances. The command refuses while the group has members; a static member that was stopped counts
     until its session ends, 45 s, or until zyklus admin leave.
  2. zyklus admin rebuild           tells what would be done and changes nothing
     zyklus admin rebuild --yes     records the rebuild in ClickHouse, fences former owners, replaces the changelog
  3. Start the instances. They read the topic from its start. Until a partition has come to a customer again, its old
     rows stay readable; rows of the new lineage replace them one by one.
  4. zyklus admin rebuild --clean --yes    once all partitions are past the point where they were, removes the rows
     that the new lineage has not replaced. zyklus admin lag tells when.

Each step may be stopped and repeated; a repeated rebuild begins one lineage more. If the topic does not go back to its
first record, history is lost that the old rows still tell of: that needs --accept-loss. Dead letters of the past are
written to their topic again, and replace their rows.`,
		Example: "  zyklus admin rebuild --config zyklus.yaml --yes\n  zyklus admin rebuild --config zyklus.yaml --clean --yes",
	}
	f := cmd.Flags()
	confirmed := f.Bool("yes", false, "do it; without it the command only tells")
	loss := f.Bool("accept-loss", false, "also if the topic has lost records that the present state has seen")
	clean := f.Bool("clean", false, "remove the rows of older lineages after a rebuild")
	open, format := siteCommand(cmd, brokerAndDatabase), answering(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := open(cmd.Context())
		if err != nil {
			return err
		}
		defer s.close()
		if err := s.client.Check(cmd.Context(), s.schema()); err != nil {
			return err
		}
		if *clean {
			return s.clean(cmd, *format, *confirmed)
		}
		return s.rebuild(cmd, *format, *confirmed, *loss)
	}
	return cmd
}

// rebuildPlan is what admin rebuild does.
type rebuildPlan struct {
	Lineage    uint64          `json:"lineage"`
	Partitions []rebuiltFrom   `json:"partitions"`
	Lost       []string        `json:"lost"` // history that cannot be built again
	Done       bool            `json:"done"`
	settings   changelogFormat // of the new changelog
}

type rebuiltFrom struct {
	Partition int32 `json:"partition"`
	Start     int64 `json:"start"`    // offset that reading begins at
	Position  int64 `json:"position"` // that the state had reached
	End       int64 `json:"end"`
}

// changelogFormat is how the changelog topic was made, as it is recorded with a rebuild: after a crash in between, the
// topic is not there any more.
type changelogFormat struct {
	Settings map[string]string `json:"settings"`
	Replicas int               `json:"replicas"`
}

func (s *site) rebuild(cmd *cobra.Command, format output.Format, confirmed, acceptLoss bool) error {
	ctx := cmd.Context()
	members, err := s.kafka.Members(ctx, s.cfg.Group)
	if err != nil {
		return err
	}
	if err := stillRun(s.cfg.Group, members); err != nil {
		return err
	}
	plan, err := s.planRebuild(ctx)
	if err != nil {
		return err
	}
	if confirmed && (len(plan.Lost) == 0 || acceptLoss) {
		if err := s.replace(ctx, plan); err != nil {
			return fmt.Errorf("%w; repeat the command: it begins anew", err)
		}
		plan.Done = true
	}
	if err := format.Write(cmd.OutOrStdout(), plan, plan.text); err != nil || plan.Done {
		return err
	}
	if len(plan.Lost) > 0 && !acceptLoss {
		return usageError{errors.New("nothing was changed: the topic has lost history; repeat with --accept-loss --yes to build without it")}
	}
	return usageError{errors.New("nothing was changed: repeat with --yes")}
}

// planRebuild finds the lineage, greater than any that was, and how far each partition has been.
func (s *site) planRebuild(ctx context.Context) (*rebuildPlan, error) {
	topic := s.kafka.Options().Topic
	lags, err := s.kafka.Lags(ctx)
	if err != nil {
		return nil, err
	}
	stored, err := s.client.Checkpoints(ctx, topic)
	if err != nil {
		return nil, err
	}
	before, err := s.client.Rebuilds(ctx, topic)
	if err != nil {
		return nil, err
	}
	plan := &rebuildPlan{Lost: []string{}}
	greatest, anew := lastLineage(before), false
	for i := range lags {
		l := &lags[i]
		from := rebuiltFrom{Partition: l.Partition, Start: l.Start, End: l.End, Position: max(stored[l.Partition].Position, before[l.Partition].Position)}
		lineage, _ := pipeline.SplitVersion(stored[l.Partition].Version)
		greatest = max(greatest, lineage)
		if l.Meta != nil {
			greatest, from.Position = max(greatest, l.Meta.Lineage), max(from.Position, l.Meta.Position)
		}
		plan.Lost = append(plan.Lost, from.lost()...)
		anew = anew || from.Position > l.End
		from.Position = min(from.Position, l.End)
		plan.Partitions = append(plan.Partitions, from)
	}
	if !anew {
		if err := s.kafka.Grown(ctx); err != nil {
			return nil, err
		}
	}
	plan.Lineage = greatest + 1
	return plan, s.planChangelog(ctx, plan, before)
}

// lost says what of a partition's history the topic does not hold any more.
func (f rebuiltFrom) lost() (lost []string) {
	if f.Start > 0 {
		lost = append(lost, fmt.Sprintf("partition %d begins at offset %d: what was before is gone", f.Partition, f.Start))
	}
	if f.Position > f.End {
		lost = append(lost, fmt.Sprintf("partition %d ends at offset %d, but state had reached %d: the topic was created anew", f.Partition, f.End, f.Position))
	}
	return lost
}

// planChangelog takes the settings of the changelog, or those recorded by a rebuild that has deleted it.
func (s *site) planChangelog(ctx context.Context, plan *rebuildPlan, before map[int32]clickhouse.Rebuild) (err error) {
	f := &plan.settings
	f.Settings, f.Replicas, err = s.kafka.ChangelogSettings(ctx)
	if err != nil || f.Settings != nil {
		return err
	}
	for _, r := range before {
		if r.Settings != "" {
			return json.Unmarshal([]byte(r.Settings), f)
		}
	}
	return nil
}

func (s *site) replace(ctx context.Context, plan *rebuildPlan) error {
	settings, err := json.Marshal(plan.settings)
	if err != nil {
		return err
	}
	var parts []clickhouse.Rebuild
	for _, p := range plan.Partitions {
		parts = append(parts, clickhouse.Rebuild{Partition: p.Partition, Lineage: plan.Lineage, Position: p.Position, Settings: string(settings)})
	}
	crash := crashPoint()
	step := func(what string) {
		s.log.Info("rebuild", "step", what, "lineage", plan.Lineage)
		if crash != nil {
			crash("rebuild")
		}
	}
	step("record it")
	if err := s.client.BeginRebuild(ctx, s.kafka.Options().Topic, parts); err != nil {
		return err
	}
	return s.kafka.ReplaceChangelog(ctx, kafka.NewChangelog{
		Settings: plan.settings.Settings, Replicas: plan.settings.Replicas, First: s.job.NewLineage(plan.Lineage),
	}, step)
}

func (p *rebuildPlan) text(w io.Writer) error {
	var rows [][]any
	for _, f := range p.Partitions {
		rows = append(rows, []any{f.Partition, f.Start, f.Position, f.End})
	}
	err := output.Table(w, "PARTITION\tREAD FROM\tWAS AT\tEND", rows)
	for _, l := range p.Lost {
		fmt.Fprintln(w, "lost:", l)
	}
	if p.Done {
		fmt.Fprintf(w, "lineage %d has begun: start the instances; once zyklus admin lag says so, zyklus admin rebuild --clean\n", p.Lineage)
	} else {
		fmt.Fprintf(w, "would begin lineage %d: the changelog is deleted and created again, and the topic read from its start\n", p.Lineage)
	}
	return err
}

// lastLineage is the lineage of the last rebuild, 0 without one.
func lastLineage(parts map[int32]clickhouse.Rebuild) (last uint64) {
	for _, r := range parts {
		last = max(last, r.Lineage)
	}
	return last
}

// notThere says which partitions have not written everything up to where they were before the rebuild.
func notThere(parts map[int32]clickhouse.Rebuild, stored map[int32]clickhouse.StoredCheckpoint) (behind []string) {
	lineage := lastLineage(parts)
	for _, p := range slices.Sorted(maps.Keys(parts)) {
		have, _ := pipeline.SplitVersion(stored[p].Version)
		switch {
		case have < lineage:
			behind = append(behind, fmt.Sprintf("partition %d has not begun", p))
		case stored[p].Position < parts[p].Position:
			behind = append(behind, fmt.Sprintf("partition %d is at %d of %d", p, stored[p].Position, parts[p].Position))
		}
	}
	for _, p := range slices.Sorted(maps.Keys(stored)) { // one that the rebuild did not know of
		if have, _ := pipeline.SplitVersion(stored[p].Version); have < lineage && parts[p].Lineage == 0 {
			behind = append(behind, fmt.Sprintf("partition %d is of lineage %d", p, have))
		}
	}
	return behind
}

// cleaned is what admin rebuild --clean removes.
type cleaned struct {
	Lineage uint64             `json:"lineage"` // rows of lineages before it
	Tables  []clickhouse.Older `json:"tables"`
	Done    bool               `json:"done"`
}

// clean removes the rows of older lineages.
func (s *site) clean(cmd *cobra.Command, format output.Format, confirmed bool) error {
	ctx, topic := cmd.Context(), s.kafka.Options().Topic
	parts, err := s.client.Rebuilds(ctx, topic)
	if err != nil {
		return err
	}
	if len(parts) == 0 {
		return errors.New("no rebuild is on record: there is nothing to clean")
	}
	stored, err := s.client.Checkpoints(ctx, topic)
	if err != nil {
		return err
	}
	if behind := notThere(parts, stored); len(behind) > 0 {
		return fmt.Errorf("lineage %d is not complete, and the older rows are needed until then: %s; see zyklus admin lag",
			lastLineage(parts), strings.Join(behind, ", "))
	}
	c := cleaned{Lineage: lastLineage(parts)}
	if c.Tables, err = s.client.Older(ctx, s.job.Projected(), c.Lineage); err != nil {
		return err
	}
	if confirmed {
		if err := s.remove(ctx, c.Lineage); err != nil {
			return stopped(ctx, err, "the server goes on with what was begun; repeat the command")
		}
		c.Done = true
	}
	if err := format.Write(cmd.OutOrStdout(), c, c.text); err != nil || c.Done {
		return err
	}
	return usageError{errors.New("nothing was changed: repeat with --yes")}
}

func (s *site) remove(ctx context.Context, lineage uint64) error {
	bar := newProgress(s.log)
	defer bar.Done()
	table, first := "", int64(0)
	return s.client.RemoveOlder(ctx, s.job.Projected(), lineage, func(name string, left int64) {
		if name != table {
			table, first = name, left
			bar.Start("cleaning "+name, left, "parts")
		}
		bar.Set(max(first-left, 0))
	})
}

func (c cleaned) text(w io.Writer) error {
	var rows [][]any
	for _, t := range c.Tables {
		rows = append(rows, []any{t.Table, t.Rows})
	}
	err := output.Table(w, "TABLE\tROWS OF OLDER LINEAGES", rows)
	if c.Done {
		fmt.Fprintln(w, "removed: readers see rows of lineage", c.Lineage, "only")
	}
	return err
}
