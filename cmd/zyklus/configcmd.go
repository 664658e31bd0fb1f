package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"zyklus/cmd/zyklus/internal/config"
	"zyklus/cmd/zyklus/internal/output"
)

func configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "config", Short: "Print, check and describe the configuration",
		Long: `Print, check and describe the configuration. None of these connects to anything.

  zyklus config validate zyklus.yaml             # before a deployment: all problems at once
  zyklus config print --config zyklus.yaml       # what holds, and where each setting comes from
  zyklus config schema > zyklus.schema.json      # for editors: keys, types, values, meanings
  zyklus config reference > reference.md         # the same for reading`,
	}
	cmd.AddCommand(configPrintCommand(), configValidateCommand(), configSchemaCommand(), configReferenceCommand())
	group(cmd)
	return cmd
}

func configPrintCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "print", Short: "Print the effective settings with the origin of each", Args: noArguments,
		Long: `Print the effective settings: defaults, file, environment and flags together, with the origin of each. The text is
YAML that can be used as a configuration again; secrets are [redacted].

Exit code 2 and all problems if the configuration is wrong.`,
		Example: "  zyklus config print --config zyklus.yaml\n  zyklus config print --config zyklus.yaml --output json | jq '.[] | select(.origin != \"default\")'",
	}
	load, format := configured(cmd), answering(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, _, err := load()
		if err != nil {
			return err
		}
		return format.Write(cmd.OutOrStdout(), cfg.Settings(), cfg.Print)
	}
	return cmd
}

func configValidateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "validate [FILE]", Short: "Check a configuration and report all problems",
		Long: `Check a configuration as run would, with the environment and flags given here, and with the lifecycles and the artefact
that it names. All problems are reported, one a line with its place.

Exit code 0 if it is right, 2 if not.`,
		Example: "  zyklus config validate zyklus.yaml",
		Args:    cobra.ArbitraryArgs,
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
		},
	}
	path := cmd.Flags().String("config", "", "configuration file, in place of FILE")
	flags := config.RegisterFlags(cmd.Flags())
	completeConfig(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 || len(args) == 1 && *path != "" {
			return usageError{errors.New("zyklus config validate takes one FILE")}
		}
		file := *path
		if len(args) == 1 {
			file = args[0]
		}
		cfg, err := config.Load(file, os.Environ(), flags)
		if err != nil {
			return usageError{err}
		}
		if err := usable(&cfg); err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is valid\n", cmp.Or(file, "the configuration"))
		return err
	}
	return cmd
}

// usable reports whether a job can be made of the configuration: lifecycles compile, files can be read.
func usable(cfg *config.Config) error {
	if _, err := newJob(cfg); err != nil {
		return err
	}
	for _, s := range cfg.Inputs() {
		if _, err := decoders(cfg, &s); err != nil {
			return err
		}
	}
	return nil
}

func configSchemaCommand() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of the file, for editors", Args: noArguments,
		Long: `Print the JSON Schema (2020-12) of the configuration file. Editors complete keys with it, show their meaning and mark
mistakes while one types. With the YAML language server, begin the file with

  # yaml-language-server: $schema=zyklus.schema.json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return output.JSON.Write(cmd.OutOrStdout(), config.Schema(), nil)
		},
	}
}

func configReferenceCommand() *cobra.Command {
	return &cobra.Command{
		Use: "reference", Short: "Print all settings with their meaning, as Markdown", Args: noArguments,
		Long: "Print all settings with meaning, type, default, environment variable and flag, as Markdown.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return config.Reference(cmd.OutOrStdout())
		},
	}
}
