package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// docsCommand writes what the commands say of themselves, for packages and sites.
func docsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "docs", Short: "Write manual pages and Markdown of all commands",
		Long: `Write manual pages or Markdown of all commands, from what --help says.

Completion for shells is another command: zyklus completion --help.`,
	}
	header := &doc.GenManHeader{Title: "ZYKLUS", Section: "1", Source: "zyklus", Manual: "Zyklus"}
	cmd.AddCommand(
		docsFormat("man", "Write manual pages, one a command", "  zyklus docs man /usr/local/share/man/man1", func(root *cobra.Command, dir string) error {
			epoch := time.Unix(0, 0).UTC() // equal builds write equal pages
			header.Date = &epoch
			return doc.GenManTree(root, header, dir)
		}),
		docsFormat("markdown", "Write Markdown, one file a command", "  zyklus docs markdown docs/commands", doc.GenMarkdownTree),
	)
	group(cmd)
	return cmd
}

func docsFormat(name, short, example string, write func(root *cobra.Command, dir string) error) *cobra.Command {
	return &cobra.Command{
		Use: name + " DIR", Short: short, Args: oneArgument("DIR"), Example: example,
		Long: short + ", into DIR, which is made if need be. Files of the same names are replaced.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fmt.Errorf("docs: %w", err)
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true
			return write(root, args[0])
		},
	}
}
