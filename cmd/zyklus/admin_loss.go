package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"zyklus/cmd/zyklus/internal/output"
	"zyklus/pipeline"
	"zyklus/pipeline/kafka"
)

func acceptLossCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "accept-loss", Short: "Go on without records that a topic has lost", Args: noArguments,
		Long: `Go on with the state as it is where the topic of a source cannot be read on from where the state stands. Instances
refuse to run then, as they would skip records, or count some twice. The state is years old and the topic is not: here
it is kept, while zyklus admin rebuild throws it away and builds what the topic still tells.

  deleted   records were deleted before they were read (retention, paused too long): reading goes on at the first
            record that is left
  anew      the topic was deleted and created again: reading goes on at its start; --from position if it is a copy of
            the former one with the same offsets
  cut       the topic has lost its last records, which the state has seen: reading goes on at its end
  unclear   anew or cut; a state of an older version does not know: give --from start (anew) or --from end (cut)

A topic that was created again must have as many partitions as before, or customers are no longer where their state is.

  1. Stop all instances. The command refuses while the group has members; a static member that was stopped counts
     until its session ends, 45 s.
  2. zyklus admin accept-loss         tells what is lost and changes nothing
     zyklus admin accept-loss --yes   moves those partitions, each in one transaction that fences former owners
  3. Start the instances.

Each loss leaves a dead letter (error records_lost) in the topic and table of dead letters: what, how many records and
between which times, as far as that is known. Its offset is negative, so that no other one takes its place. Nothing else
is changed. A command that was stopped is repeated: what is
done is no loss any more.`,
		Example: "  zyklus admin accept-loss --config zyklus.yaml --dry-run\n  zyklus admin accept-loss --config zyklus.yaml --yes",
	}
	f := cmd.Flags()
	confirmed := f.Bool("yes", false, "do it; without it the command only tells")
	dry := f.Bool("dry-run", false, "only tell, and exit with 0")
	from := f.String("from", "", "where to read a topic on that is not the same any more: start, end or position (default start, if it was created anew)")
	complete(cmd, "from", []string{string(kafka.FromStart), string(kafka.FromEnd), string(kafka.FromPosition)})
	open, format := siteCommand(cmd, brokerAndDatabase), answering(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		switch at := kafka.From(*from); {
		case at != "" && at != kafka.FromStart && at != kafka.FromEnd && at != kafka.FromPosition:
			return usageError{fmt.Errorf("--from: %q is none of start, end and position", *from)}
		case *dry && *confirmed:
			return usageError{errors.New("--dry-run and --yes exclude each other")}
		}
		s, err := open(cmd.Context())
		if err != nil {
			return err
		}
		defer s.close()
		a := &acceptance{site: s, from: kafka.From(*from)}
		defer a.close()
		return a.run(cmd, *format, *confirmed, *dry)
	}
	return cmd
}

// acceptance is one run of admin accept-loss.
type acceptance struct {
	site   *site
	from   kafka.From
	stages []*kafka.Admin
	losses [][]kafka.Loss // by stage
}

func (a *acceptance) close() {
	for _, stage := range a.stages {
		stage.Close()
	}
}

func (a *acceptance) run(cmd *cobra.Command, format output.Format, confirmed, dry bool) error {
	ctx := cmd.Context()
	if err := a.open(ctx); err != nil {
		return err
	}
	r, err := a.report()
	if err != nil {
		return err
	}
	if confirmed && len(r.Losses) > 0 {
		for i, stage := range a.stages {
			if err := stage.AcceptLosses(ctx, a.losses[i], a.from, func(done string) { a.site.log.Info("accept-loss", "done", done) }); err != nil {
				return fmt.Errorf("%w; repeat the command: it goes on", err)
			}
		}
		r.Done = true
	}
	if err := format.Write(cmd.OutOrStdout(), r, r.text); err != nil || r.Done || dry || len(r.Losses) == 0 {
		return err
	}
	return usageError{errors.New("nothing was changed: repeat with --yes")}
}

// open connects to all stages, none of which may run, and finds what they have lost.
func (a *acceptance) open(ctx context.Context) error {
	for _, o := range stages(a.site.cfg) {
		stage, err := kafka.NewAdmin(ctx, o)
		if err != nil {
			return err
		}
		a.stages = append(a.stages, stage)
		if err := kafka.CheckTopics(ctx, o); err != nil {
			return ofStage(o, err)
		}
		members, err := stage.Members(ctx, o.Group)
		if err != nil {
			return err
		}
		if err := stillRun(o.Group, members); err != nil {
			return err
		}
	}
	for _, stage := range a.stages {
		losses, err := a.find(ctx, stage)
		if err != nil {
			return ofStage(stage.Options(), err)
		}
		a.losses = append(a.losses, losses)
	}
	return nil
}

// find refuses if the state itself was lost: another checkpoint of an old state would hide that.
func (a *acceptance) find(ctx context.Context, stage *kafka.Admin) ([]kafka.Loss, error) {
	places, err := stage.Places(ctx)
	if err != nil {
		return nil, err
	}
	stored, err := a.site.client.Checkpoints(ctx, stage.Options().Topic)
	if err != nil {
		return nil, err
	}
	for p, c := range stored {
		if c.Version > places[p].Version {
			return nil, fmt.Errorf("the state of partition %d is older (%s) than its rows in ClickHouse (%s): the changelog was lost, and only zyklus admin rebuild helps",
				p, pipeline.VersionText(places[p].Version), pipeline.VersionText(c.Version))
		}
	}
	return stage.Losses(ctx, places)
}

// lossReport is what admin accept-loss tells.
type lossReport struct {
	Losses []lostPart `json:"losses"`
	Done   bool       `json:"done"`
}

// lostPart is what one partition has lost. Instants are empty where they are not known.
type lostPart struct {
	Source    string         `json:"source"` // topic
	Partition int32          `json:"partition"`
	Kind      kafka.LossKind `json:"kind"`
	Position  int64          `json:"position"` // where the state stands
	Start     int64          `json:"start"`
	End       int64          `json:"end"`
	Next      int64          `json:"next"`    // where reading goes on
	Records   int64          `json:"records"` // at most; -1 if nobody can know
	After     string         `json:"after"`   // event time that the state has come to
	Before    string         `json:"before"`  // time of the first record that is left
}

func (a *acceptance) report() (*lossReport, error) {
	r := &lossReport{Losses: []lostPart{}}
	for i, stage := range a.stages {
		for _, l := range a.losses[i] {
			next, err := l.Next(a.from)
			if err != nil {
				return nil, usageError{err}
			}
			p := lostPart{
				Source: stage.Options().Topic, Partition: l.Partition, Kind: l.Kind, Position: l.Position, Start: l.Start, End: l.End,
				Next: next, Records: l.Records(), After: output.Instant(time.UnixMilli(l.Clock)),
			}
			if l.First > 0 {
				p.Before = output.Instant(time.UnixMilli(l.First))
			}
			r.Losses = append(r.Losses, p)
		}
	}
	return r, nil
}

func (r *lossReport) text(w io.Writer) error {
	if len(r.Losses) == 0 {
		_, err := fmt.Fprintln(w, "nothing is lost: all partitions can be read on from where their state stands")
		return err
	}
	var rows [][]any
	for _, l := range r.Losses {
		records := fmt.Sprint(l.Records)
		if l.Records < 0 {
			records = ""
		}
		rows = append(rows, []any{l.Source, l.Partition, l.Kind, l.Position, l.Start, l.End, l.Next, records, l.After, l.Before})
	}
	err := output.Table(w, "SOURCE\tPARTITION\tLOSS\tSTATE AT\tSTART\tEND\tGOES ON AT\tLOST AT MOST\tLATER THAN\tNOT LATER THAN", rows)
	if r.Done {
		fmt.Fprintln(w, "accepted: start the instances; zyklus deadletters list --error records_lost tells of it")
	} else {
		fmt.Fprintln(w, "the state would be kept as it is, and reading go on there")
	}
	return err
}
