// Command zyklus keeps every customer's lifecycle up to date: events from Kafka in, live scores in ClickHouse out.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	_ "time/tzdata" // zones for images without zone files

	"github.com/spf13/cobra"
)

// Exit codes beside 0 and 1.
const (
	exitUsage       = 2   // the command line or the configuration is wrong
	exitUnsure      = 3   // admin verify could tell too little
	exitInterrupted = 130 // stopped by a signal before the work was done
)

func main() { os.Exit(execute(os.Args[1:])) }

// execute runs one command and returns the exit code. The first SIGINT or SIGTERM stops gracefully; the second at once.
func execute(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // from now on a signal has its default effect
	root := rootCommand()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintf(os.Stderr, "zyklus: %v\n", err)
	if _, usage := errors.AsType[usageError](err); usage {
		return exitUsage
	}
	if _, unsure := errors.AsType[unsureError](err); unsure {
		return exitUnsure
	}
	if _, interrupted := errors.AsType[interruptedError](err); interrupted {
		return exitInterrupted
	}
	return 1
}

// usageError is an error that the user mends on the command line or in the configuration.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// unsureError says that a question could not be answered, and what to do.
type unsureError struct{ error }

// interruptedError says what a signal left undone, and how to go on.
type interruptedError struct{ error }

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "zyklus",
		Short: "Customer lifecycle scoring from Kafka to ClickHouse",
		Long: `Zyklus keeps every customer's recency, frequency and value, next best category, lifecycle phase and churn
risk up to date the moment something happens, or the moment nothing has happened for too long.

Events come from a Kafka topic, results go to ClickHouse tables. To see it at work without any server:

  zyklus demo

To run it on your own Kafka and ClickHouse, write zyklus.yaml (zyklus run --help shows one), then:

  zyklus migrate --config zyklus.yaml     # creates topics and tables
  zyklus run --config zyklus.yaml`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(demoCommand(), runCommand(), loadCommand(), simulateCommand(), migrateCommand(), configCommand(),
		mappingCommand(), adminCommand(), deadLettersCommand(), dictionaryCommand(), docsCommand(), versionCommand(), embeddedCommand())
	group(root)
	return root
}

// group makes a command that only holds others show its help, and refuse what is none of them.
func group(cmd *cobra.Command) {
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		cmd.SuggestionsMinimumDistance = 2
		hint := fmt.Sprintf("%s --help lists the commands", cmd.CommandPath())
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			hint = fmt.Sprintf("did you mean %s?", strings.Join(near, " or "))
		}
		return usageError{fmt.Errorf("unknown command %q for %s: %s", args[0], cmd.CommandPath(), hint)}
	}
}

// noArguments is for commands that have flags only.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usageError{fmt.Errorf("%s takes no argument, but %q is given: see %[1]s --help", cmd.CommandPath(), args[0])}
}
