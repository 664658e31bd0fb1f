package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"zyklus/cmd/zyklus/internal/config"
	"zyklus/cmd/zyklus/internal/output"
	"zyklus/pipeline"
	"zyklus/pipeline/kafka"
	"zyklus/sinks/clickhouse"
)

func deadLettersCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "deadletters", Short: "List, show and replay records that could not be used",
		Long: `List, show and replay records that could not be used. Each is in the table dead_letters for 14 days, with its cause and
its original bytes; zyklus reads the table.

  zyklus deadletters list --since 24h
  zyklus deadletters show events/3/4711
  zyklus deadletters replay --error currency_without_rate --dry-run

Exit codes: 0 done, 1 failed, none found, or not all could be replayed, 2 the command line or the configuration is wrong.`,
	}
	cmd.AddCommand(deadLettersListCommand(), deadLettersShowCommand(), deadLettersReplayCommand())
	group(cmd)
	return cmd
}

// letterFlags are the flags that choose dead letters.
type letterFlags struct {
	since, kind, source string
	limit               int
}

func (l *letterFlags) register(cmd *cobra.Command, limit int) {
	f := cmd.Flags()
	f.StringVar(&l.since, "since", "", "written since: a duration such as 24h or 7d, a date, or an instant (RFC 3339)")
	f.StringVar(&l.kind, "error", "", "kind of error, such as not_json")
	f.StringVar(&l.source, "source", "", "topic, or name of the source, that the record was read from")
	f.IntVar(&l.limit, "limit", limit, "at most so many; 0 for all")
	complete(cmd, "error", pipeline.ErrorKinds())
}

func (l *letterFlags) filter(cfg *config.Config, now time.Time) (f clickhouse.LetterFilter, err error) {
	if f.Since, err = parseSince(l.since, now); err != nil {
		return f, usageError{fmt.Errorf("--since: %w", err)}
	}
	if l.limit < 0 {
		return f, usageError{errors.New("--limit cannot be negative")}
	}
	known := false
	for _, kind := range pipeline.ErrorKinds() {
		known = known || kind == l.kind
	}
	if l.kind != "" && !known {
		return f, usageError{fmt.Errorf("--error: %q is none of %s", l.kind, strings.Join(pipeline.ErrorKinds(), ", "))}
	}
	f.Error, f.Topic, f.Limit = l.kind, l.source, l.limit
	if source, ok := cfg.Input(l.source); ok && l.source != "" {
		f.Topic = source.Topic
	}
	return f, nil
}

// parseSince reads an instant, or how long ago it was.
func parseSince(text string, now time.Time) (time.Time, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return now.Add(-time.Duration(n) * 24 * time.Hour), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	t, err := parseInstant(text)
	if err != nil {
		return t, fmt.Errorf("%q is neither a duration such as 24h or 7d, nor a date, nor an instant such as 1998-07-01T12:00:00Z", text)
	}
	return t, nil
}

// letterCommand gives a command the configuration and a connection to ClickHouse.
func letterCommand(cmd *cobra.Command) func(ctx context.Context) (*site, error) {
	load := configured(cmd)
	return func(ctx context.Context) (*site, error) {
		cfg, log, err := load()
		if err != nil {
			return nil, err
		}
		return openDatabase(ctx, cfg, log)
	}
}

// openDatabase connects to ClickHouse alone.
func openDatabase(ctx context.Context, cfg *config.Config, log *slog.Logger) (*site, error) {
	p, err := reach(ctx, cfg, log)
	if err != nil {
		return nil, err
	}
	s := &site{cfg: cfg, log: log, parts: p}
	if s.client, err = clickhouse.Open(ctx, clickhouseOptions(cfg), log, prometheus.NewRegistry()); err != nil {
		p.stop()
		return nil, err
	}
	return s, nil
}

// letter is a dead letter as it is shown. Key and value are texts if they are UTF-8, else base64.
type letter struct {
	ID        string `json:"id"` // topic/partition/offset
	Received  string `json:"received_at"`
	At        string `json:"at"`
	Error     string `json:"error"`
	Cause     string `json:"cause"`
	Key       string `json:"key"`
	KeyBase64 []byte `json:"key_base64,omitempty"`
	Size      uint64 `json:"value_bytes"`
	Value     string `json:"value,omitempty"`
	Base64    []byte `json:"value_base64,omitempty"`
	Cut       bool   `json:"truncated"`
}

func letterOf(l *clickhouse.StoredLetter) letter {
	out := letter{
		ID: placeText(&l.Origin), Received: output.Instant(l.Received), At: output.Instant(time.UnixMilli(l.At)),
		Error: l.Error, Cause: l.Cause, Size: l.Size, Cut: kafka.MayBeCut(len(l.Key) + int(l.Size)),
	}
	if utf8.Valid(l.Key) {
		out.Key = string(l.Key)
	} else {
		out.KeyBase64 = l.Key
	}
	if utf8.Valid(l.Value) {
		out.Value = string(l.Value)
	} else {
		out.Base64 = l.Value
	}
	return out
}

// placeText names a record: topic/partition/offset.
func placeText(o *pipeline.Origin) string {
	return fmt.Sprintf("%s/%d/%d", o.Topic, o.Partition, o.Offset)
}

// parsePlace reads what placeText writes.
func parsePlace(text string) (o pipeline.Origin, err error) {
	parts := strings.Split(text, "/")
	if len(parts) == 3 {
		partition, perr := strconv.ParseInt(parts[1], 10, 32)
		offset, oerr := strconv.ParseInt(parts[2], 10, 64)
		if perr == nil && oerr == nil && parts[0] != "" && partition >= 0 {
			return pipeline.Origin{Topic: parts[0], Partition: int32(partition), Offset: offset}, nil
		}
	}
	return o, usageError{fmt.Errorf("%q is not TOPIC/PARTITION/OFFSET, such as events/3/4711", text)}
}

func deadLettersListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List dead letters, newest first", Args: noArguments,
		Long: `List dead letters, newest first, without their values. KEY is the record's key, most often the customer.

Exit code 0, also if there are none.`,
		Example: "  zyklus deadletters list --since 24h --error not_json\n  zyklus deadletters list --limit 0 -o json | jq 'group_by(.error) | map({error: .[0].error, n: length})'",
	}
	var flags letterFlags
	flags.register(cmd, 50)
	open, format := letterCommand(cmd), answering(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := open(cmd.Context())
		if err != nil {
			return err
		}
		defer s.close()
		filter, err := flags.filter(s.cfg, time.Now())
		if err != nil {
			return err
		}
		filter.Newest = true
		list := []letter{}
		err = s.client.Letters(cmd.Context(), filter, func(l *clickhouse.StoredLetter) error {
			list = append(list, letterOf(l))
			return nil
		})
		if err != nil {
			return err
		}
		return format.Write(cmd.OutOrStdout(), list, func(w io.Writer) error { return listLetters(w, list) })
	}
	return cmd
}

func listLetters(w io.Writer, list []letter) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "no dead letters")
		return err
	}
	var rows [][]any
	for _, l := range list {
		rows = append(rows, []any{l.ID, l.Received, l.Error, l.Size, l.Key, l.Cause})
	}
	return output.Table(w, "RECORD\tRECEIVED\tERROR\tBYTES\tKEY\tCAUSE", rows)
}

func deadLettersShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "show TOPIC/PARTITION/OFFSET", Short: "Show one dead letter with its full value", Args: oneArgument("TOPIC/PARTITION/OFFSET"),
		Long: `Show one dead letter with its cause, its key and its full value. The name is that of the original record, as list
writes it. In JSON, bytes that are no text are base64.

Exit code 1 if there is no such dead letter.`,
		Example: "  zyklus deadletters show events/3/4711\n  zyklus deadletters show events/3/4711 -o json | jq -r .value",
	}
	open, format := letterCommand(cmd), answering(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		place, err := parsePlace(args[0])
		if err != nil {
			return err
		}
		s, err := open(cmd.Context())
		if err != nil {
			return err
		}
		defer s.close()
		found := (*letter)(nil)
		err = s.client.Letters(cmd.Context(), clickhouse.LetterFilter{At: &place}, func(l *clickhouse.StoredLetter) error {
			one := letterOf(l)
			found = &one
			return nil
		})
		if err != nil {
			return err
		}
		if found == nil {
			return fmt.Errorf("there is no dead letter of %s: they are kept 14 days", args[0])
		}
		return format.Write(cmd.OutOrStdout(), found, found.text)
	}
	return cmd
}

func (l *letter) text(w io.Writer) error {
	fmt.Fprintf(w, "record    %s\nreceived  %s\nat        %s\nerror     %s\ncause     %s\n", l.ID, l.Received, l.At, l.Error, l.Cause)
	fmt.Fprintf(w, "key       %q\nvalue     %d bytes", l.Key+string(l.KeyBase64), l.Size)
	if l.Cut {
		fmt.Fprint(w, ", perhaps cut: this is where it was too long to keep")
	}
	value := l.Value
	if l.Base64 != nil {
		value = strconv.Quote(string(l.Base64))
	}
	_, err := fmt.Fprintf(w, "\n\n%s\n", value)
	return err
}
