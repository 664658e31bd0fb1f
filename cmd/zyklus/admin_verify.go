package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"zyklus/bench/oracle"
	"zyklus/cmd/zyklus/internal/output"
	"zyklus/cmd/zyklus/internal/progress"
	"zyklus/cmd/zyklus/internal/verify"
)

// verifiedCustomers is how many are verified unless told otherwise, about; verifiedLeast is the share of them of whom
// something must be told.
const (
	verifiedCustomers = 400
	verifiedLeast     = 0.5
)

const verifyHelp = `Recompute customers from the input topic by a plain program that shares no code with the pipeline, and compare with
the state in the changelog and with the rows in ClickHouse: customers, customer_days, orders, phase_transitions. It only
reads, and may be used at any time beside running instances: it compares as of a checkpoint that ClickHouse has
acknowledged, and looks again where rows have been replaced since. Few customers stay IN MOTION so.

Without --share, --customer or --all it takes some 400 customers, by a hash of their ids: the same ones every time. The
topic and the changelog are read from start to end in any case, one partition after the other, which takes most of the
time; only what belongs to the sample is kept in memory. --all keeps one partition: some 200 bytes per event.

What cannot be recomputed is counted apart and never guessed. Of events that may have come later than allowed only
lifetime totals follow (orders and money): TOTALS ONLY. Where the topic does not hold what the state has seen of a
customer (retention, or a loss that was accepted), or what happened depends on what no log tells, it is NOT VERIFIABLE.
Of these, too, state and ClickHouse must have the same row, and each transition must lead on from the one before. The
last line sums up how many there are of each.
An event that came late leaves no touch in the state: where all events have left one, none is taken for late. A topic
with message.timestamp.type=LogAppendTime tells when events came, one with CreateTime leaves more customers to their
totals. A topic that was created anew since the state was built is an error. A partition of which there are records or
rows, but no state, is a difference: its changelog was lost, or no instance has begun it yet.

A customer that agrees exactly is counted as such whatever the log lacks. The configuration must be that of the
instances, rates and mapping included: an order keeps the rate that it was accepted with. A day without its row after
the customer's first one is a difference, also where customer_days was off in between, or days were given up while
ClickHouse was away.

Differences are listed with what the oracle, the state and ClickHouse say. Customer ids are written to standard output
only, never to a log.

Exit codes: 0 all that can be verified agrees; 1 something differs, or the command failed; 2 the command line or the
configuration is wrong; 3 nothing differs, but less than the share --least of the customers could be verified: what to do
is said.`

func verifyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "verify", Short: "Recompute customers from the topic, and compare state and ClickHouse with them", Args: noArguments,
		Long:    verifyHelp,
		Example: "  zyklus admin verify --config zyklus.yaml\n  zyklus admin verify --customer c-1234 --customer c-1235\n  zyklus admin verify --all --partitions 0-3 -o json | jq '.differences'",
	}
	f := cmd.Flags()
	sample := verify.Sample{Count: verifiedCustomers}
	f.Float64Var(&sample.Share, "share", 0, "share of all customers, such as 0.01")
	f.StringArrayVar(&sample.IDs, "customer", nil, "this customer; repeat it for several")
	f.BoolVar(&sample.All, "all", false, "all customers")
	partitions := f.String("partitions", "", "only these, such as 0,4-7")
	limit := f.Int("limit", 20, "differences to list")
	least := f.Float64("least", verifiedLeast, "share of the customers that must be verified, at least by totals")
	open, format := siteCommand(cmd, brokerAndDatabase), answering(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if sample.All && (f.Changed("share") || f.Changed("customer")) || f.Changed("share") && f.Changed("customer") {
			return usageError{errors.New("--share, --customer and --all exclude each other: give one")}
		}
		if f.Changed("share") && (sample.Share <= 0 || sample.Share > 1) {
			return usageError{errors.New("--share must be above 0 and at most 1")}
		}
		if *least < 0 || *least > 1 {
			return usageError{errors.New("--least must be from 0 to 1")}
		}
		if *limit < 0 || slices.Contains(sample.IDs, "") {
			return usageError{errors.New("--limit must not be negative, --customer not empty")}
		}
		slices.Sort(sample.IDs)
		sample.IDs = slices.Compact(sample.IDs)
		only, err := partitionList(*partitions)
		if err != nil {
			return err
		}
		s, err := open(cmd.Context())
		if err != nil {
			return err
		}
		defer s.close()
		report, err := s.verify(cmd.Context(), sample, only, *limit)
		if err != nil {
			return stopped(cmd.Context(), err, "nothing is changed; --partitions verifies some at a time")
		}
		if report.Sum.Stateless == 0 && report.Sum.Customers < int64(len(sample.IDs)) {
			return errors.New("not all of these customers are there: ids are user ids, else anonymous ids, in exactly these letters")
		}
		if err := format.Write(cmd.OutOrStdout(), report, func(w io.Writer) error { return verifiedText(w, report) }); err != nil {
			return err
		}
		return finding(&report.Sum, *least)
	}
	return cmd
}

// finding is the error of a report: nil if enough is verified and agrees.
func finding(sum *verify.Sum, least float64) error {
	switch told := sum.Told(); {
	case sum.Stateless > 0:
		return fmt.Errorf("partitions with records or rows, but without state: %d; no instance has begun them, or the changelog was lost (zyklus admin rebuild --help); in the others %d of %d customers differ",
			sum.Stateless, sum.Differ, sum.Customers)
	case sum.Differ > 0:
		return fmt.Errorf("%d of %d customers differ", sum.Differ, sum.Customers)
	case sum.Customers == 0:
		return unsureError{errors.New("nothing is verified: no customer is there yet")}
	case told > 0 && float64(told) >= least*float64(sum.Customers):
		return nil
	case sum.InMotion*2 > sum.Unknown:
		return unsureError{fmt.Errorf("only %d of %d customers could be verified, %d were in motion: repeat it when ClickHouse has caught up (zyklus admin lag), or while no instance runs",
			told, sum.Customers, sum.InMotion)}
	default:
		return unsureError{fmt.Errorf("only %d of %d customers could be verified: the reasons are listed, and --least lowers what is enough", told, sum.Customers)}
	}
}

// verify runs a Verifier over partitions, nil for all.
func (s *site) verify(ctx context.Context, sample verify.Sample, only []int32, limit int) (*verify.Report, error) {
	if err := s.client.Check(ctx, s.schema()); err != nil {
		return nil, err
	}
	all, err := s.kafka.Partitions(ctx)
	if err != nil {
		return nil, err
	}
	if err := known(only, all); err != nil {
		return nil, err
	}
	if only == nil {
		only = all
	}
	v, err := s.verifier(sample, limit)
	if err != nil {
		return nil, err
	}
	bar := newProgress(s.log)
	defer bar.Done()
	v.Started = func(what string, total int64, unit string) { bar.Start(what, total, progress.Unit(unit)) }
	v.Progress = bar.Set
	return v.Run(ctx, only)
}

func (s *site) verifier(sample verify.Sample, limit int) (*verify.Verifier, error) {
	source := s.cfg.Inputs()[0]
	v := &verify.Verifier{
		Kafka: s.kafka, ClickHouse: s.client, Job: s.job, Rekeyed: s.cfg.Rekeyed(), WallClock: source.Clock == "wall",
		Skew: source.Skew.Milliseconds(), Currency: s.cfg.Currency, Now: time.Now, Sample: sample, Limit: limit,
	}
	var err error
	if !v.Rekeyed {
		if v.NewDecoder, err = decoders(s.cfg, &source); err != nil {
			return nil, err
		}
	}
	if v.Setting, err = oracleSetting(s); err != nil {
		return nil, err
	}
	documents, err := loadLifecycles(s.cfg.Lifecycles)
	if err != nil {
		return nil, usageError{err}
	}
	for _, doc := range documents {
		l, err := oracle.NewDocument(doc)
		if err != nil {
			v.Unread = append(v.Unread, err.Error())
			continue
		}
		v.Setting.Lifecycles = append(v.Setting.Lifecycles, l)
	}
	return v, nil
}

// oracleSetting is what the deployment fixes, lifecycles apart.
func oracleSetting(s *site) (oracle.Setting, error) {
	zone, err := s.cfg.Location()
	if err != nil {
		return oracle.Setting{}, usageError{fmt.Errorf("time_zone: %w", err)}
	}
	set := oracle.Setting{
		Zone: zone, Lateness: s.cfg.Lateness(), Artefact: s.job.Artefact, Currency: s.cfg.Currency,
		RateDays: int64(s.cfg.Rates.MaxAge / (24 * time.Hour)), Rate: func(string, string) string { return "" },
	}
	if file := s.cfg.Rates.File; file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return set, usageError{fmt.Errorf("rates: %w", err)}
		}
		set.Rate = verify.RateTable(string(text))
	}
	return set, nil
}

// verifiedText writes the report for people.
func verifiedText(w io.Writer, r *verify.Report) error {
	var rows [][]any
	reasons := map[verify.Reason][2]int64{}
	for i := range r.Partitions {
		p := &r.Partitions[i]
		totals, unknown := total(p.Totals), total(p.Unknown)
		for reason, n := range p.Totals {
			reasons[reason] = [2]int64{reasons[reason][0] + n, reasons[reason][1]}
		}
		for reason, n := range p.Unknown {
			reasons[reason] = [2]int64{reasons[reason][0], reasons[reason][1] + n}
		}
		rows = append(rows, []any{p.Partition, p.Version, p.Clock, p.Records, p.Customers, p.Exact, totals, unknown, p.Differ})
	}
	errs := []error{output.Table(w, "PARTITION\tVERSION\tCLOCK\tRECORDS\tCUSTOMERS\tEXACT\tTOTALS ONLY\tNOT VERIFIABLE\tDIFFER", rows)}
	rows = nil
	for _, reason := range slices.Sorted(maps.Keys(reasons)) {
		rows = append(rows, []any{reason.String(), reasons[reason][0], reasons[reason][1]})
	}
	errs = append(errs, section(w, "REASON\tTOTALS ONLY\tNOT VERIFIABLE", rows))
	rows = nil
	for _, d := range r.Differences {
		what := d.Table
		if d.Column != "" {
			what += "." + d.Column
		}
		rows = append(rows, []any{d.Customer, d.Partition, what, strings.TrimSuffix(d.Key, "|"), d.Oracle, d.State, d.ClickHouse})
	}
	errs = append(errs, section(w, "CUSTOMER\tPARTITION\tWHAT\tKEY\tORACLE\tSTATE\tCLICKHOUSE", rows))
	if len(r.Notices) > 0 {
		_, err := fmt.Fprintln(w, "\n"+strings.Join(r.Notices, "\n"))
		errs = append(errs, err)
	}
	s := &r.Sum
	_, err := fmt.Fprintf(w, "\n%d customers: %d agree exactly, %d by totals only, %d are not verifiable (%d of them in motion), %d differ\n",
		s.Customers, s.Exact, s.Totals, s.Unknown, s.InMotion, s.Differ)
	return errors.Join(append(errs, err)...)
}

func total(counts map[verify.Reason]int64) (n int64) {
	for _, c := range counts {
		n += c
	}
	return n
}
