package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
)

func dictionaryCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "dictionary", Short: "Describe every table, view and column", Args: noArguments,
		Long: `Describe every table and view: columns, types, units, meaning, labels (English, German), which part of the
pipeline they come from and which of them rules of lifecycles may use. It connects to nothing: lifecycles and
currency are those of the configuration. The same comments stand in ClickHouse (system.columns).`,
		Example: "  zyklus dictionary --output markdown > dictionary.md\n  zyklus dictionary | grep v_customers.churn",
	}
	load := configured(cmd)
	output := cmd.Flags().String("output", "text", "text, markdown or json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, _, err := load()
		if err != nil {
			return err
		}
		job, err := newJob(cfg)
		if err != nil {
			return err
		}
		d, out := schema(job, cfg.Currency).Dictionary(job.Fact), cmd.OutOrStdout()
		switch *output {
		case "text":
			return d.Text(out)
		case "markdown":
			return d.Markdown(out)
		case "json":
			e := json.NewEncoder(out)
			e.SetEscapeHTML(false)
			e.SetIndent("", "  ")
			return e.Encode(d)
		}
		return usageError{fmt.Errorf("--output %q is unknown: use text, markdown or json", *output)}
	}
	return cmd
}
