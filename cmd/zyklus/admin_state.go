package main

import (
	"bytes"
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

func stateGetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "get CUSTOMER", Short: "Show everything that is known of one customer", Args: oneArgument("CUSTOMER"),
		Long: `Show everything that is known of one customer, from the changelog: the facts of each operator, phases, the deadlines
that time alone will bring, events not settled yet, history rows that ClickHouse has not acknowledged, the bytes of each
part, and how far the customer's partition is.

The changelog is compacted, not indexed: it is read from start to end, which takes about a second per million records.
--partition reads one partition only; the column partition of v_customers names it. The id is a user id, else an
anonymous id, as in customer_id; it is written to standard output only, never to a log. JSON is a list: a customer is in
several partitions only if the events were not keyed by customer.

Exit code 1 if the customer is not there.`,
		Example: "  zyklus admin state get c-1234 --config zyklus.yaml\n  zyklus admin state get c-1234 -o json | jq '.[0].customer.deadlines[0]'",
	}
	open, format := siteCommand(cmd, brokerAlone), answering(cmd)
	partition := cmd.Flags().Int32("partition", -1, "the customer's partition, if it is known; -1 reads all")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := open(cmd.Context())
		if err != nil {
			return err
		}
		defer s.close()
		found, err := s.find(cmd.Context(), []byte(args[0]), *partition)
		if err != nil {
			return err
		}
		return format.Write(cmd.OutOrStdout(), found, func(w io.Writer) error {
			var errs []error
			for i, f := range found {
				if i > 0 {
					fmt.Fprintln(w)
				}
				errs = append(errs, f.text(w))
			}
			return errors.Join(errs...)
		})
	}
	return cmd
}

// customerState is what admin state get shows.
type customerState struct {
	Partition partitionState       `json:"partition"`
	Customer  *pipeline.Inspection `json:"customer"`
}

type partitionState struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Version   string `json:"version"` // lineage.checkpoint
	Position  int64  `json:"position"`
	Clock     string `json:"clock"`
	Watermark string `json:"watermark"`
}

// find reads the changelog for a customer. More than one partition holds it only if its events were keyed by
// something else.
func (s *site) find(ctx context.Context, id []byte, partition int32) (found []customerState, err error) {
	all, err := s.kafka.Partitions(ctx)
	if err != nil {
		return nil, err
	}
	asked := all
	if partition >= 0 {
		if err := known([]int32{partition}, all); err != nil {
			return nil, err
		}
		asked = []int32{partition}
	}
	records, metas := map[int32][]byte{}, map[int32]*pipeline.Meta{}
	err = s.scan(ctx, asked, func(p int32, key, value []byte) error {
		customer, err := pipeline.ChangelogKey(key)
		switch {
		case err != nil:
			return err
		case customer == nil:
			m, err := pipeline.ReadMeta(value)
			metas[p] = &m
			return err
		case bytes.Equal(customer, id):
			records[p] = bytes.Clone(value)
		}
		return nil
	})
	if err != nil {
		return nil, stopped(ctx, err, "nothing was found so far; --partition reads one partition only")
	}
	for _, p := range asked {
		if records[p] == nil {
			continue
		}
		f, err := s.inspect(p, records[p], metas[p])
		if err != nil {
			return nil, err
		}
		found = append(found, f)
	}
	if len(found) == 0 {
		return nil, errors.New("there is no such customer: ids are user ids, else anonymous ids, in exactly these letters")
	}
	return found, nil
}

// scan reads partitions of the changelog, with progress.
func (s *site) scan(ctx context.Context, partitions []int32, each func(int32, []byte, []byte) error) error {
	bar := newProgress(s.log)
	defer bar.Done()
	started := false
	return s.kafka.Scan(ctx, kafka.Scan{Partitions: partitions, Each: each, Progress: func(done, total int64) {
		if !started {
			started = true
			bar.Start("reading the changelog", total, "records")
		}
		bar.Set(done)
	}})
}

func (s *site) inspect(partition int32, record []byte, m *pipeline.Meta) (customerState, error) {
	if m == nil {
		return customerState{}, fmt.Errorf("partition %d holds the customer, but no checkpoint: its changelog is damaged", partition)
	}
	if !s.job.Fits(m) {
		return customerState{}, errors.New("the state was written under other lifecycles, another artefact or another time zone than this configuration's: use that of the running instances")
	}
	i, err := s.job.Inspect(record, m)
	if err != nil {
		return customerState{}, fmt.Errorf("partition %d: %w", partition, err)
	}
	return customerState{Customer: i, Partition: partitionState{
		Topic: s.kafka.Options().Topic, Partition: partition, Version: pipeline.VersionText(m.Version()), Position: m.Position,
		Clock: output.Instant(time.UnixMilli(m.Clock)), Watermark: output.Instant(time.UnixMilli(s.job.Watermark(m))),
	}}, nil
}

func (c customerState) text(w io.Writer) error {
	i, p := c.Customer, c.Partition
	fmt.Fprintf(w, "customer    %q\n", i.Customer)
	fmt.Fprintf(w, "partition   %s/%d, version %s, position %d, clock %s, watermark %s\n", p.Topic, p.Partition, p.Version, p.Position, p.Clock, p.Watermark)
	fmt.Fprintf(w, "as of       %s, settled to %s, row version %s\n", i.AsOf, or(i.SettledTo), or(i.RowVersion))
	fmt.Fprintf(w, "totals      %d orders on %d days, net %d, refunded %d (minor units)\n\n", i.Totals.Orders, i.Totals.PurchaseDays, i.Totals.Net, i.Totals.Refunded)
	var rows [][]any
	for _, p := range i.Phases {
		previous := ""
		if p.Previous != "" {
			previous = p.Previous + " since " + p.PreviousSince
		}
		rows = append(rows, []any{p.Lifecycle, fmt.Sprintf("%s (%s)", p.Phase, p.Label), p.Since, p.Cycle, p.Rule, previous})
	}
	errs := []error{output.Table(w, "LIFECYCLE\tPHASE\tSINCE\tCYCLE\tRULE\tBEFORE", rows)}
	rows = nil
	for _, d := range i.Deadlines {
		what := d.Of
		if d.Rule != "" {
			what += ", rule " + d.Rule + " to " + d.To
		}
		rows = append(rows, []any{d.At, what})
	}
	if i.Wake != "" {
		rows = append(rows, []any{i.Wake, "settling of open events"})
	}
	errs = append(errs, section(w, "DEADLINE\tOF", rows))
	rows = nil
	for _, s := range i.Sections {
		for _, f := range s.Fields {
			value := ""
			if f.Value != nil {
				value = fmt.Sprint(f.Value)
			}
			rows = append(rows, []any{s.Name, f.Name, value, f.Unit, f.Label})
		}
	}
	errs = append(errs, section(w, "OPERATOR\tFIELD\tVALUE\tUNIT\tLABEL", rows))
	return errors.Join(append(errs, c.rest(w))...)
}

// rest writes what is under way, and sizes.
func (c customerState) rest(w io.Writer) error {
	var events, outbox, sizes [][]any
	for _, e := range c.Customer.Open {
		ahead := time.Duration(e.Ahead) * time.Millisecond
		events = append(events, []any{e.At, e.Kind, ahead, e.Order, e.ID, e.Bytes})
	}
	for _, r := range c.Customer.Outbox {
		what := r.Key
		if r.Lifecycle != "" {
			what = fmt.Sprintf("%s: %s to %s at %s (%s)", r.Lifecycle, or(r.From), r.To, r.At, r.Cause)
		}
		outbox = append(outbox, []any{r.Table, r.Version, what, yes(r.Withdrawn)})
	}
	for _, b := range c.Customer.Bytes {
		sizes = append(sizes, []any{b.Part, b.Bytes})
	}
	return errors.Join(
		section(w, "OPEN EVENT\tTYPE\tAHEAD OF WATERMARK\tORDER\tID\tBYTES", events),
		section(w, "ROW TO WRITE\tVERSION\tWHAT\tWITHDRAWN", outbox),
		section(w, "PART\tBYTES", sizes),
	)
}

// section writes a table after an empty line, or nothing if it has no rows.
func section(w io.Writer, heads string, rows [][]any) error {
	if len(rows) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	return output.Table(w, heads, rows)
}

func or(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
