package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"zyklus/bench/dataset"
	"zyklus/bench/simulator"
)

func loadCommand() *cobra.Command {
	var presets []string
	about := ""
	for _, p := range dataset.Presets() {
		presets = append(presets, p.Name)
		about += fmt.Sprintf("  %-18s%s\n", p.Name, p.Describe)
	}
	cmd := &cobra.Command{
		Use: "load FILE", Short: "Load a file of orders into the topic", Args: oneFile,
		Long: `Load a CSV file, gzipped or not, into the source topic, as events in the order of their time. Then a heartbeat in
every partition says how far time has come: up to --advance-to, by default the time of the last event. Silence until
then takes effect. Events later than --advance-to are left for another load, which --after tells what there is already.
The source should have clock: events, as history has.

Presets:
` + about + `
Loading a file twice changes nothing that is final: order ids and event ids follow from the file.`,
		Example: "  zyklus load cdnow_sample.csv.gz --preset cdnow --advance-to 1998-07-01",
	}
	preset := cmd.Flags().String("preset", "", "format of the file: "+strings.Join(presets, ", ")+" (required)")
	advance := cmd.Flags().String("advance-to", "", "instant to which time comes after the last event: a date (00:00 UTC) or RFC 3339")
	after := cmd.Flags().String("after", "", "load only events later than this instant, because the earlier ones have been loaded")
	pick := sourceFlag(cmd)
	load := configured(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		cfg, log, err := load()
		if err != nil {
			return err
		}
		to, err := parseInstant(*advance)
		if err != nil {
			return usageError{fmt.Errorf("--advance-to: %w", err)}
		}
		from, err := parseInstant(*after)
		if err != nil {
			return usageError{fmt.Errorf("--after: %w", err)}
		}
		if !to.IsZero() && !from.Before(to) {
			return usageError{fmt.Errorf("--after %s is not before --advance-to %s: there is nothing between", *after, *advance)}
		}
		if !slices.Contains(presets, *preset) {
			return usageError{fmt.Errorf("--preset %q is not one of %s", *preset, strings.Join(presets, ", "))}
		}
		f, err := os.Open(args[0])
		if errors.Is(err, fs.ErrNotExist) {
			return usageError{fmt.Errorf("%s: no such file: give the path of a CSV file, gzipped or not", args[0])}
		}
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		r, err := dataset.Open(*preset, f, cfg.Currency)
		if err != nil {
			return usageError{fmt.Errorf("%s: %w", args[0], err)}
		}
		source, err := pick(cfg)
		if err != nil {
			return err
		}
		out, err := openTopicFeed(cmd.Context(), sourceOptions(cfg, &source), log)
		if err != nil {
			return err
		}
		if source.Clock != "events" {
			log.Warn("the source's clock is not events: the wall clock moves time on once the history has been read")
		}
		defer out.close()
		l := loading{from: from, to: to, feed: out, out: cmd.OutOrStdout(), topic: source.Topic, log: log}
		return l.file(cmd.Context(), r)
	}
	return cmd
}

func oneFile(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usageError{fmt.Errorf("%s needs one FILE, not %d: see %[1]s --help", cmd.CommandPath(), len(args))}
	}
	return nil
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

// loading is one load of a file.
type loading struct {
	from, to time.Time // events after from and not after to; zero: no bound
	feed     feed
	out      io.Writer
	topic    string
	log      *slog.Logger

	last    time.Time // of the events loaded
	loaded  int64
	earlier int64 // left out: loaded before
	later   int64 // left out: not yet
}

// file feeds the events of a file, and then the heartbeat.
func (l *loading) file(ctx context.Context, r *dataset.Reader) error {
	bar := newProgress(l.log)
	defer bar.Done()
	var e dataset.Event
	for started := false; ; started = true {
		more, err := r.Next(&e)
		if err != nil {
			return err
		}
		if !more {
			break
		}
		if !started {
			bar.Start("loading", int64(r.Len()), "events")
		}
		bar.Add(1)
		if err := l.event(ctx, &e); err != nil {
			return err
		}
	}
	bar.Done()
	return l.finish(ctx, r)
}

func (l *loading) event(ctx context.Context, e *dataset.Event) error {
	switch {
	case !e.At.After(l.from):
		l.earlier++
		return nil
	case !l.to.IsZero() && e.At.After(l.to):
		l.later++
		return nil
	}
	l.loaded++
	l.last = e.At
	return l.feed.Produce(ctx, e.Key, e.Value, e.At)
}

// finish moves time on and says what was done.
func (l *loading) finish(ctx context.Context, r *dataset.Reader) error {
	if l.to.IsZero() {
		l.to = l.last
	}
	if l.to.IsZero() {
		return errors.New("the file holds no event to load")
	}
	if err := l.feed.Flush(ctx); err != nil {
		return err
	}
	if err := l.feed.Heartbeat(ctx, simulator.Heartbeat(nil, l.to)); err != nil {
		return err
	}
	text := fmt.Sprintf("loaded %d events into %s, time advanced to %s\n", l.loaded, l.topic, l.to.Format(time.RFC3339))
	if l.earlier+l.later > 0 {
		text += fmt.Sprintf("left out: %d events loaded before, %d later ones\n", l.earlier, l.later)
	}
	if refused := r.RefusedCount(); refused > 0 {
		text += fmt.Sprintf("refused: %d rows\n", refused)
		for _, f := range r.Refused() {
			text += fmt.Sprintf("  line %d: %s\n", f.Line, f.Error)
		}
	}
	_, err := io.WriteString(l.out, text)
	return err
}
