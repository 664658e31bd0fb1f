package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"

	"github.com/sourcegraph/conc/pool"
	"github.com/spf13/cobra"

	"zyklus/cmd/zyklus/internal/output"
	"zyklus/cmd/zyklus/internal/progress"
	"zyklus/pipeline"
	"zyklus/pipeline/kafka"
	"zyklus/sinks/clickhouse"
)

// republishing is one run of admin republish.
type republishing struct {
	site     *site
	writer   *clickhouse.Writer
	customer []byte
	bar      *progress.Progress

	mu   sync.Mutex
	done []republished // in the order of partitions once run has ended
}

// republished is what was written of one partition.
type republished struct {
	Partition int32  `json:"partition"`
	Version   string `json:"version"` // as of which the rows are; empty for a partition without state
	Customers int64  `json:"customers"`
	Rows      int64  `json:"rows"`
}

const notRepublished = `Rows of the history tables (phase_transitions, orders …) are written when they change and are not kept in
the state afterwards: only those that ClickHouse had not acknowledged come again. What was lost of them comes back by
zyklus admin rebuild only, as far as the topic goes back.`

func republishCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "republish", Short: "Write all customers' rows again from the committed state", Args: noArguments,
		Long: `Write the rows of all customers again: after a new column was added (it is filled), or after rows of customers were
lost. Nothing is computed anew: state is read from the changelog as it was committed, and its rows have the versions that
they had. So it may run beside the instances of the deployment, and again: a row that is there already stays as it is.

` + notRepublished + `

One partition after the other is held in memory (--parallel for more). If it is stopped, it says how to go on.`,
		Example: "  zyklus admin republish --config zyklus.yaml\n  zyklus admin republish --partitions 0,4-7 --parallel 2\n  zyklus admin republish --customer c-1234",
	}
	f := cmd.Flags()
	partitions := f.String("partitions", "", "only these, such as 0,4-7")
	from := f.Int32("from-partition", 0, "leave out partitions before this one: to go on after a stop")
	parallel := f.Int("parallel", 1, "partitions at the same time; each is held in memory")
	customer := f.String("customer", "", "only the row of this customer")
	open, format := siteCommand(cmd, brokerAndDatabase), answering(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *parallel < 1 {
			return usageError{errors.New("--parallel must be at least 1")}
		}
		only, err := partitionList(*partitions)
		if err != nil {
			return err
		}
		s, err := open(cmd.Context())
		if err != nil {
			return err
		}
		defer s.close()
		r := &republishing{site: s, writer: clickhouse.NewWriter(s.client), bar: newProgress(s.log)}
		if *customer != "" {
			r.customer = []byte(*customer)
		}
		list, err := r.partitions(cmd.Context(), only, *from)
		if err != nil {
			return err
		}
		if err := r.run(cmd.Context(), list, *parallel); err != nil {
			return err
		}
		if r.customer != nil && r.total().Customers == 0 {
			return errors.New("there is no such customer: ids are user ids, else anonymous ids, in exactly these letters")
		}
		return format.Write(cmd.OutOrStdout(), r.done, r.text)
	}
	return cmd
}

// partitions returns those to do, in order.
func (r *republishing) partitions(ctx context.Context, only []int32, from int32) (list []int32, err error) {
	if err := r.site.client.Check(ctx, r.site.schema()); err != nil {
		return nil, err
	}
	all, err := r.site.kafka.Partitions(ctx)
	if err != nil {
		return nil, err
	}
	if err := known(only, all); err != nil {
		return nil, err
	}
	if only == nil {
		only = all
	}
	for _, p := range only {
		if p >= from {
			list = append(list, p)
		}
	}
	return list, nil
}

// run writes the partitions, some at the same time.
func (r *republishing) run(ctx context.Context, partitions []int32, parallel int) error {
	sizes, err := r.site.kafka.Sizes(ctx, partitions)
	if err != nil {
		return err
	}
	total := int64(0)
	for _, n := range sizes {
		total += 2 * n // read, and written
	}
	r.bar.Start("republishing", total, "records read or written")
	defer r.bar.Done()
	// The writer is stopped after the last write.
	writerCtx, stopWriter := context.WithCancel(context.WithoutCancel(ctx))
	writer := pool.New().WithErrors()
	writer.Go(func() error { return r.writer.Run(writerCtx) })
	work := pool.New().WithContext(ctx).WithCancelOnError().WithFirstError().WithMaxGoroutines(parallel)
	for _, p := range partitions {
		work.Go(func(ctx context.Context) error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return r.partition(ctx, p, sizes[p])
		})
	}
	err = work.Wait()
	stopWriter()
	if werr := writer.Wait(); !errors.Is(werr, context.Canceled) {
		err = errors.Join(err, werr)
	}
	slices.SortFunc(r.done, func(a, b republished) int { return int(a.Partition - b.Partition) })
	if next, left := r.next(partitions); left && ctx.Err() != nil {
		return fmt.Errorf("stopped: what is written stays; go on with --from-partition %d", next)
	}
	return err
}

// next returns the first partition that is not done.
func (r *republishing) next(partitions []int32) (int32, bool) {
	finished := map[int32]bool{}
	for _, d := range r.done {
		finished[d.Partition] = true
	}
	for _, p := range partitions {
		if !finished[p] {
			return p, true
		}
	}
	return 0, false
}

// partition writes one partition; it counts for size records read and as many written.
func (r *republishing) partition(ctx context.Context, p int32, size int64) error {
	restored, written := share{bar: r.bar}, share{bar: r.bar}
	most := int64(0)
	out, err := r.site.kafka.Republish(ctx, kafka.Republish{
		Partition: p, Customer: r.customer, Job: r.site.job, Sink: r.writer,
		Restoring: func(done, total int64) { restored.to(done, total, size) },
		Writing: func(left int64) {
			most = max(most, left)
			written.to(most-left, most, size)
		},
	})
	if err != nil {
		return err
	}
	restored.to(1, 1, size)
	written.to(1, 1, size)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done = append(r.done, republished{Partition: p, Version: pipeline.VersionText(out.Version), Customers: out.Customers, Rows: out.Rows})
	return nil
}

// share is one part of the work behind a bar.
type share struct {
	bar   *progress.Progress
	added int64
}

// to brings the part to done of total, as a share of size.
func (s *share) to(done, total, size int64) {
	if total == 0 {
		return
	}
	at := int64(math.Round(float64(done) / float64(total) * float64(size)))
	s.bar.Add(at - s.added)
	s.added = at
}

func (r *republishing) total() (sum republished) {
	for _, d := range r.done {
		sum.Customers, sum.Rows = sum.Customers+d.Customers, sum.Rows+d.Rows
	}
	return sum
}

func (r *republishing) text(w io.Writer) error {
	var rows [][]any
	for _, d := range r.done {
		rows = append(rows, []any{d.Partition, d.Version, d.Customers, d.Rows})
	}
	err := output.Table(w, "PARTITION\tAS OF VERSION\tCUSTOMERS\tROWS", rows)
	sum := r.total()
	fmt.Fprintf(w, "wrote %d customers, %d rows\n", sum.Customers, sum.Rows)
	if r.customer == nil {
		fmt.Fprintln(w, notRepublished)
	}
	return err
}
