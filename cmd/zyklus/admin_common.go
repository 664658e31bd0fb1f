package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"zyklus/cmd/zyklus/internal/config"
	"zyklus/cmd/zyklus/internal/output"
	"zyklus/pipeline/kafka"
)

// answering gives a command the flag --output, with completion, and returns the format.
func answering(cmd *cobra.Command) *output.Format {
	f := output.Register(cmd.Flags())
	complete(cmd, "output", output.Formats())
	return f
}

// complete offers the values of a flag to the shell.
func complete(cmd *cobra.Command, flag string, values []string) {
	err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	if err != nil {
		panic("BUG: " + err.Error())
	}
}

// completeConfig offers files for --config, the listed values of settings, and their keys for --set.
func completeConfig(cmd *cobra.Command) {
	if err := cmd.MarkFlagFilename("config", "yaml", "yml"); err != nil {
		panic("BUG: " + err.Error())
	}
	for flag, values := range config.Choices() {
		if cmd.Flags().Lookup(flag) != nil {
			complete(cmd, flag, values)
		}
	}
	keys := config.Keys()
	for i := range keys {
		keys[i] += "="
	}
	if err := cmd.RegisterFlagCompletionFunc("set", cobra.FixedCompletions(keys, cobra.ShellCompDirectiveNoSpace|cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic("BUG: " + err.Error())
	}
}

// partitionList reads numbers and ranges, such as 0,3,5-7; empty is nil.
func partitionList(text string) ([]int32, error) {
	var list []int32
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if part == "" && text == "" {
			return nil, nil
		}
		from, to, ranged := strings.Cut(part, "-")
		first, err := strconv.ParseInt(from, 10, 31)
		last := first
		if ranged && err == nil {
			last, err = strconv.ParseInt(to, 10, 31)
		}
		if err != nil || last < first || last-first > 1<<16 {
			return nil, usageError{fmt.Errorf("--partitions: %q is neither a number nor a range such as 4-7", part)}
		}
		for p := first; p <= last; p++ {
			list = append(list, int32(p))
		}
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

// known refuses partitions that are not there.
func known(asked, have []int32) error {
	for _, p := range asked {
		if !slices.Contains(have, p) {
			return usageError{fmt.Errorf("there is no partition %d: partitions are 0 to %d", p, len(have)-1)}
		}
	}
	return nil
}

// stopped replaces the error of a context that a signal has ended by what to do now.
func stopped(ctx context.Context, err error, format string, args ...any) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	return fmt.Errorf("stopped: "+format, args...)
}

// stillRun refuses to change what members of a group are working with.
func stillRun(group string, members []kafka.Member) error {
	if len(members) == 0 {
		return nil
	}
	var names []string
	for _, m := range members {
		names = append(names, m.Name())
	}
	return fmt.Errorf("group %s has %d members (%s): stop all instances first; a stopped static member counts for 45 s more, or until zyklus admin leave",
		group, len(members), strings.Join(names, ", "))
}
