// Command chserver is the embedded ClickHouse, or the embedded broker, as a
// process of its own, for tests whose own binary cannot be that process.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"zyklus/sinks/embedded"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run serves what the first argument names: clickhouse or broker.
func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("usage: chserver clickhouse|broker --listen host:port --data-dir dir")
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:0", "address")
	native := flags.String("native-listen", "", "address of the native protocol, off for none")
	dataDir := flags.String("data-dir", "", "data directory")
	library := flags.String("libchdb", "", "path of libchdb")
	timeout := flags.Duration("send-timeout", 0, "how long a client may take to accept a piece of a result")
	temporary := flags.Bool("temporary", false, "remove the data directory at the end")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	switch args[0] {
	case "clickhouse":
		return embedded.ServeClickHouse(context.Background(), embedded.ServeOptions{
			Listen: *listen, NativeListen: *native, DataDir: *dataDir, Temporary: *temporary, SendTimeout: *timeout,
			Library: embedded.LibraryOptions{Path: *library},
		})
	case "broker":
		return embedded.ServeBroker(context.Background(), embedded.BrokerOptions{Addr: *listen, DataDir: *dataDir})
	}
	return fmt.Errorf("unknown server %q", args[0])
}
