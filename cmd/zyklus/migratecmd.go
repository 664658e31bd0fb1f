package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"zyklus/cmd/zyklus/internal/config"
	"zyklus/cmd/zyklus/internal/output"
	"zyklus/pipeline/kafka"
	"zyklus/sinks/clickhouse"
)

func migrateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "migrate", Short: "Create or update topics and tables", Args: noArguments,
		Long: `Create the internal topics and the ClickHouse database, tables and views, or bring them up to date: missing
columns are added, comments corrected, views replaced. Nothing is dropped and no type is changed. Running it again
changes nothing. The input topic must exist already, except on an embedded broker.

  zyklus migrate check     # in a pipeline: exit code 1 if something is to do, changes nothing
  zyklus migrate status    # what is there, what is to do, what was done when
  zyklus migrate up        # does it; plain migrate is the same`,
	}
	load := configured(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return migrateUp(cmd, load) }
	cmd.AddCommand(migrateUpCommand(), migrateStatusCommand(), migrateCheckCommand())
	return cmd
}

func migrateUpCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "up", Short: "Create what is missing and bring the rest up to date", Args: noArguments,
		Long: `Create what is missing and bring the rest up to date, as zyklus migrate does. It may be stopped and run again at any
time: each step is complete or not begun. Two may run at once.`,
	}
	load := configured(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return migrateUp(cmd, load) }
	return cmd
}

func migrateUp(cmd *cobra.Command, load func() (*config.Config, *slog.Logger, error)) error {
	cfg, log, err := load()
	if err != nil {
		return err
	}
	p, err := startParts(cmd.Context(), cfg, log)
	if err != nil {
		return err
	}
	defer p.stop()
	return migrate(cmd.Context(), cfg, log, func(step string) { _, _ = fmt.Fprintln(cmd.OutOrStdout(), step) })
}

// migration is what migrate status and check tell.
type migration struct {
	Topics  []kafka.TopicState      `json:"topics"`
	Tables  []clickhouse.TableState `json:"tables"`
	ToDo    []clickhouse.Change     `json:"to_do"`
	Applied []clickhouse.Applied    `json:"applied"`
	// Refused says what migrate cannot do by itself.
	Refused string `json:"refused"`
}

// differences counts what keeps the pipeline from running or what migrate would change.
func (m *migration) differences() int {
	n := len(m.ToDo)
	for _, t := range m.Topics {
		for _, d := range t.Deviations {
			if d.Fatal {
				n++
			}
		}
	}
	if m.Refused != "" {
		n++
	}
	return n
}

func migrateStatusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "status", Short: "Tell what is there, what is to do and what was done", Args: noArguments,
		Long: `Tell which topics and tables are there, what zyklus migrate up would do, and which changes were made when. It changes
nothing. Exit code 0, also if something is to do; zyklus migrate check tells that.`,
	}
	load, format := configured(cmd), answering(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		m, err := loadMigration(cmd.Context(), load)
		if err != nil {
			return err
		}
		return format.Write(cmd.OutOrStdout(), m, m.text)
	}
	return cmd
}

func migrateCheckCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "check", Short: "Fail if something is to do or wrong; change nothing", Args: noArguments,
		Long: `Compare topics and tables with what this version needs, and change nothing.

Exit code 0 if there is nothing to do, 1 if there is, or if something is wrong that a person must decide.`,
	}
	load, format := configured(cmd), answering(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		m, err := loadMigration(cmd.Context(), load)
		if err != nil {
			return err
		}
		m.Applied = nil
		if err := format.Write(cmd.OutOrStdout(), m, m.toDo); err != nil {
			return err
		}
		if n := m.differences(); n > 0 {
			return fmt.Errorf("%d differences: run zyklus migrate up", n)
		}
		return nil
	}
	return cmd
}

func loadMigration(ctx context.Context, load func() (*config.Config, *slog.Logger, error)) (m *migration, err error) {
	cfg, log, err := load()
	if err != nil {
		return nil, err
	}
	p, err := reach(ctx, cfg, log)
	if err != nil {
		return nil, err
	}
	defer p.stop()
	return readMigration(ctx, cfg, log)
}

func readMigration(ctx context.Context, cfg *config.Config, log *slog.Logger) (*migration, error) {
	job, err := newJob(cfg)
	if err != nil {
		return nil, err
	}
	client, err := clickhouse.Open(ctx, clickhouseOptions(cfg), log, prometheus.NewRegistry())
	if err != nil {
		return nil, err
	}
	defer func() { _ = client.Close() }()
	var m migration
	if m.Topics, err = describeTopics(ctx, cfg); err != nil {
		return nil, err
	}
	s := schema(job, cfg.Currency)
	m.ToDo, err = client.Plan(ctx, s)
	if err != nil && m.ToDo == nil {
		return nil, err
	}
	if err != nil {
		m.Refused = err.Error()
	}
	m.Tables, err = client.Tables(ctx, s)
	if err != nil {
		return nil, err
	}
	m.Applied, err = client.Applied(ctx)
	return &m, err
}

func (m *migration) text(w io.Writer) error {
	var rows [][]any
	for _, t := range m.Topics {
		rows = append(rows, []any{t.Name, t.Use, yes(t.Exists), t.Partitions, t.Replicas})
	}
	err := output.Table(w, "TOPIC\tUSE\tEXISTS\tPARTITIONS\tREPLICAS", rows)
	rows = nil
	for _, t := range m.Tables {
		rows = append(rows, []any{t.Name, yes(t.Exists), t.Rows, output.Bytes(int64(t.Bytes))})
	}
	fmt.Fprintln(w)
	err = errors.Join(err, output.Table(w, "TABLE\tEXISTS\tSTORED ROWS\tSIZE", rows))
	rows = nil
	for _, a := range m.Applied {
		rows = append(rows, []any{output.Instant(a.At), a.Version, a.Name})
	}
	fmt.Fprintln(w)
	err = errors.Join(err, output.Table(w, "APPLIED\tVERSION\tCHANGE", rows))
	fmt.Fprintln(w)
	return errors.Join(err, m.toDo(w))
}

// toDo writes what is to do and what is wrong.
func (m *migration) toDo(w io.Writer) error {
	for _, t := range m.Topics {
		for _, d := range t.Deviations {
			kind := "advice:"
			if d.Fatal {
				kind = "to do:"
			}
			fmt.Fprintln(w, kind, d.Text)
		}
	}
	for _, c := range m.ToDo {
		note := ""
		if c.Cosmetic {
			note = " (the pipeline runs without it)"
		}
		fmt.Fprintf(w, "to do: %s%s\n", c.Name, note)
	}
	if m.Refused != "" {
		fmt.Fprintln(w, "wrong:", m.Refused)
	}
	if m.differences() == 0 {
		fmt.Fprintln(w, "nothing to do")
	}
	return nil
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
