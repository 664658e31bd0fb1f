package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"zyklus/sinks/embedded"
)

// embeddedCommand runs one embedded part in a process of its own. Zyklus starts these itself; by hand they serve for
// trying things out and for crash tests.
func embeddedCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "embedded", Short: "Run one embedded part alone",
		Long: "Run the embedded broker or the embedded ClickHouse as a process of its own. Each prints a line READY with its\naddress once it can be used, and stops on SIGTERM. The broker has no access control, and a user of the ClickHouse may\ndo everything in it and read this machine's files by it: keep them on this machine.",
	}
	cmd.AddCommand(embeddedClickHouseCommand(), embeddedBrokerCommand())
	group(cmd)
	return cmd
}

func embeddedClickHouseCommand() *cobra.Command {
	var o embedded.ServeOptions
	var user string
	cmd := &cobra.Command{
		Use: "clickhouse", Short: "The ClickHouse engine behind HTTP and its native protocol", Args: noArguments,
		Long: "Run the ClickHouse engine behind HTTP and ClickHouse's native protocol, so that any ClickHouse client takes it for\n" +
			"a server: sessions, formats, compression, query ids, KILL QUERY, progress and external tables work. Once it answers\n" +
			"it prints a line READY with the address of HTTP and a line NATIVE with the other one. Without --user the user is\n" +
			"default and has no password. The databases can be used by one process at a time, and by no engine older than the\n" +
			"last one.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.DataDir == "" {
				return usageError{errors.New("--data-dir is required: the directory of the databases")}
			}
			if err := free(o.Listen, "--listen"); err != nil {
				return err
			}
			if o.NativeListen != embedded.NativeOff {
				if err := free(o.NativeListen, "--native-listen"); err != nil {
					return err
				}
			}
			var err error
			if o.Users, err = embeddedUsers(user, os.Getenv(embedded.PasswordEnv)); err != nil {
				return usageError{err}
			}
			return embedded.ServeClickHouse(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVar(&o.Listen, "listen", "127.0.0.1:8123", "address to listen on for HTTP; port 0 chooses one")
	cmd.Flags().StringVar(&o.NativeListen, "native-listen", "127.0.0.1:0", "the same for the native protocol; off for none")
	cmd.Flags().StringVar(&o.DataDir, "data-dir", "", "directory of the databases (required)")
	cmd.Flags().StringVar(&user, "user", "", "the one user who may come in, with the password in "+embedded.PasswordEnv)
	cmd.Flags().StringVar(&o.Library.Path, "libchdb", "", "path of an existing libchdb, instead of fetching it with npm")
	return cmd
}

// embeddedUsers returns the user asked for; none means the default one.
func embeddedUsers(user, password string) (map[string]string, error) {
	switch {
	case user == "" && password == "":
		return nil, nil
	case user == "":
		return nil, errors.New(embedded.PasswordEnv + " is set, but no --user it belongs to")
	case password == "":
		return nil, errors.New("--user needs a password: set " + embedded.PasswordEnv)
	}
	return map[string]string{user: password}, nil
}

func embeddedBrokerCommand() *cobra.Command {
	var o embedded.BrokerOptions
	var topics []string
	cmd := &cobra.Command{
		Use: "broker", Short: "A Kafka broker", Args: noArguments,
		Long: `Run a Kafka broker of one node: groups, transactions, compaction, for trials and tests. Topics are not created by
asking for them; --topic creates those of sources.`,
		Example: "  zyklus embedded broker --data-dir kafka --topic shop-events:4",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.Topics, err = parseTopics(topics); err != nil {
				return usageError{err}
			}
			if err := free(o.Addr, "--listen"); err != nil {
				return err
			}
			return embedded.ServeBroker(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVar(&o.Addr, "listen", "127.0.0.1:9092", "address to listen on; port 0 chooses one")
	cmd.Flags().StringVar(&o.DataDir, "data-dir", "", "directory of topics and offsets; without it they are kept in memory")
	cmd.Flags().StringArrayVar(&topics, "topic", nil, "topic to create if it does not exist, with its number of partitions, such as events:4; may be repeated")
	return cmd
}

// parseTopics reads NAME:PARTITIONS.
func parseTopics(list []string) (map[string]int32, error) {
	topics := map[string]int32{}
	for _, text := range list {
		name, partitions, _ := strings.Cut(text, ":")
		n, err := strconv.ParseInt(partitions, 10, 32)
		if err != nil || n < 1 || n > 1000 || name == "" {
			return nil, fmt.Errorf("--topic %q is not a name and 1 to 1000 partitions, such as events:4", text)
		}
		topics[name] = int32(n)
	}
	return topics, nil
}
