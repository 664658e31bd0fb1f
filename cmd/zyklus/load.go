package main

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"zyklus/bench/dataset"
	"zyklus/cmd/zyklus/internal/config"
	"zyklus/cmd/zyklus/internal/recordfile"
)

// loadFlags are the flags of load as they were given.
type loadFlags struct {
	preset, fileFormat, delimiter string
	advance, after                string
	noAdvance, sort               bool
	resume, restart               bool
	refused                       string
	sendRefused, dryRun           bool
	output                        string
}

func loadCommand() *cobra.Command {
	var presets []string
	about := ""
	for _, p := range dataset.Presets() {
		presets = append(presets, p.Name)
		about += fmt.Sprintf("  %-18s%s\n", p.Name, p.Describe)
	}
	var f loadFlags
	cmd := &cobra.Command{
		Use: "load FILE...", Short: "Load files of history into the topic of a source", Args: someFiles,
		Long: `Load files into the topic of a source, exactly once, and then say how far time has come, so that silence
until then takes effect. The source should have clock: events, as history has.

Files are CSV, NDJSON (a record on each line) or JSON (an array, or one after the other), told by their names or by
--file-format, of any size, compressed with gzip or zstd or not; - is standard input. Records are what the source
reads, so the configuration is that of zyklus run. A row of CSV becomes a JSON object with a text for each column, which
a mapping makes an event of (zyklus mapping --help): with the columns order, customer, day and total

  mapping: shop
  time: record.day
  customer: record.customer
  events:
    - when: record.order != null
      type: order.completed
      order_id: record.order
      amount: record.total

is enough. Text must be UTF-8. The records' key is the customer.

Refused records, those that the source would make dead letters, are not sent: they are counted, the first are shown, and
--refused writes all of them into a file. --dry-run sends nothing and shows what would come of the files.

Order: events need not be sorted, as long as none comes later than the source's lateness allows. What is too late still
counts in totals of orders, but what follows from it is dated like a correction: a warning says how many such events
there are and what would help. --sort brings all events into the order of their time first, in files in the temporary directory.

At the end a heartbeat in every partition moves time on to --advance-to, by default the time of the last event; events
later than --advance-to are left for another load, which --after tells what there is already. Load old files first: time
never goes back.

Interrupted by Ctrl-C, a crash, a kill or a broken file, a load goes on with --resume and the same command: each
transaction holds records and how far the load has come, or neither, so no record is lost or there twice. The files may
have grown meanwhile; if what was loaded has changed in them, that is refused. Files that were loaded before are not
loaded again without --restart. Kafka forgets this after offsets.retention.minutes, by default a week; from then on
a second load changes nothing about orders, which their ids tell, but counts other events again. Rights that are
needed: describe, read and write the topic, transactional ids GROUP/load/*, read groups GROUP-load-*.

Presets for published data sets, which make orders of CSV without a mapping:
` + about + `
Exit codes: 0 loaded; 1 an error; 2 wrong flags, configuration or files; 130 interrupted.`,
		Example: `  zyklus load orders-2024.csv.gz orders-2025.csv.gz --mapping shop.yaml --format mapping --dry-run
  zyklus load events.ndjson.zst --config zyklus.yaml --sort --refused refused.ndjson --resume
  zyklus load cdnow_sample.csv.gz --preset cdnow --advance-to 1998-07-01`,
	}
	f.register(cmd, presets)
	pick := sourceFlag(cmd)
	load := configured(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		cfg, log, err := load()
		if err != nil {
			return err
		}
		o, err := f.options(args, presets)
		if err != nil {
			return usageError{err}
		}
		if o.source, err = pick(cfg); err != nil {
			return err
		}
		return runLoad(cmd, cfg, o, log)
	}
	return cmd
}

func (f *loadFlags) register(cmd *cobra.Command, presets []string) {
	fs := cmd.Flags()
	fs.StringVar(&f.preset, "preset", "", "published data set that the files are of: "+strings.Join(presets, ", "))
	fs.StringVar(&f.fileFormat, "file-format", "", "format of the files, where their names do not tell: "+strings.Join(recordfile.Formats(), ", "))
	fs.StringVar(&f.delimiter, "delimiter", "", "between the cells of CSV, such as ; or tab; default: found in the header")
	fs.StringVar(&f.advance, "advance-to", "", "instant to which time comes after the last event: a date (00:00 UTC) or RFC 3339")
	fs.BoolVar(&f.noAdvance, "no-advance", false, "send no heartbeats: only events move time")
	fs.StringVar(&f.after, "after", "", "load only events later than this instant, because the earlier ones have been loaded")
	fs.BoolVar(&f.sort, "sort", false, "bring all events into the order of their time first")
	fs.BoolVar(&f.resume, "resume", false, "go on with a load that was interrupted, or load what files have grown by; without one, begin")
	fs.BoolVar(&f.restart, "restart", false, "load files again from their beginning though they were loaded before")
	fs.StringVar(&f.refused, "refused", "", "file for all refused records, as NDJSON with line, error, cause and original")
	fs.BoolVar(&f.sendRefused, "send-refused", false, "send refused records all the same: the service makes them dead letters")
	fs.BoolVar(&f.dryRun, "dry-run", false, "send nothing, show what would come of the files; needs no broker")
	fs.StringVar(&f.output, "output", "text", "summary as text or json")
}

func someFiles(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usageError{fmt.Errorf("%s needs a FILE, or - for standard input: see %[1]s --help", cmd.CommandPath())}
	}
	return nil
}

// loadOptions are the flags, checked.
type loadOptions struct {
	loadFlags
	paths    []string
	source   config.Source
	from, to time.Time // events after from and not after to; zero: no bound
	comma    byte      // 0: found in the header
}

// options checks the flags.
func (f *loadFlags) options(paths, presets []string) (o loadOptions, err error) {
	o = loadOptions{loadFlags: *f, paths: paths}
	if o.to, err = parseInstant(f.advance); err != nil {
		return o, fmt.Errorf("--advance-to: %w", err)
	}
	if o.from, err = parseInstant(f.after); err != nil {
		return o, fmt.Errorf("--after: %w", err)
	}
	if o.comma, err = parseDelimiter(f.delimiter); err != nil {
		return o, fmt.Errorf("--delimiter: %w", err)
	}
	at := slices.Index(paths, "-")
	switch {
	case !o.to.IsZero() && !o.from.Before(o.to):
		err = fmt.Errorf("--after %s is not before --advance-to %s: there is nothing between", f.after, f.advance)
	case f.noAdvance && !o.to.IsZero():
		err = errors.New("--no-advance and --advance-to contradict each other: give one of them")
	case f.preset != "" && !slices.Contains(presets, f.preset):
		err = fmt.Errorf("--preset %q is not one of %s", f.preset, strings.Join(presets, ", "))
	case f.preset != "" && f.fileFormat != "":
		err = errors.New("--preset tells the format of the files: leave --file-format out")
	case f.fileFormat != "" && !slices.Contains(recordfile.Formats(), f.fileFormat):
		err = fmt.Errorf("--file-format %q is not one of %s", f.fileFormat, strings.Join(recordfile.Formats(), ", "))
	case f.resume && f.restart:
		err = errors.New("--resume and --restart contradict each other: give one of them")
	case f.refused != "" && slices.Contains(paths, f.refused):
		err = fmt.Errorf("--refused %s is a file to load: it would be overwritten", f.refused)
	case f.output != "text" && f.output != "json":
		err = fmt.Errorf("--output %q is neither text nor json", f.output)
	case at >= 0 && slices.Contains(paths[at+1:], "-"):
		err = errors.New("- is given twice, but there is one standard input")
	}
	return o, err
}

func parseDelimiter(text string) (byte, error) {
	switch {
	case text == "":
		return 0, nil
	case text == "tab" || text == `\t`:
		return '\t', nil
	case len(text) != 1 || text[0] < ' ' && text[0] != '\t' || text[0] > '~' || text == `"`:
		return 0, fmt.Errorf("%q is not one character, such as ; or tab", text)
	}
	return text[0], nil
}

// parseInstant reads a date or an instant; empty is the zero time.
func parseInstant(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.DateOnly, text); err == nil {
		return t, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, fmt.Errorf("%q is neither a date such as 1998-07-01 nor an instant such as 1998-07-01T12:00:00Z", text)
	}
	return t.UTC(), nil
}

// runLoad loads, and prints the summary however far it came.
func runLoad(cmd *cobra.Command, cfg *config.Config, o loadOptions, log *slog.Logger) error {
	l, err := newLoading(cfg, o, cmd.InOrStdin(), log)
	if err != nil {
		return err
	}
	defer l.close()
	if err := l.open(cmd.Context(), cfg); err != nil {
		return err
	}
	if err := l.run(cmd.Context()); err != nil {
		if _, usage := errors.AsType[usageError](err); !usage && l.sum.Records > 0 {
			_ = l.sum.print(cmd.ErrOrStderr(), &o)
		}
		return err
	}
	return l.sum.print(cmd.OutOrStdout(), &o)
}
