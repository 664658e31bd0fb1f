package clickhouse

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/prometheus/client_golang/prometheus"
)

// Client holds the connections to one ClickHouse. It is safe for concurrent use.
type Client struct {
	conn    driver.Conn
	opts    Options
	log     *slog.Logger
	metrics *metrics
}

// New returns a Client that connects once it is used: only the options can be wrong. The metrics are registered with reg;
// a nil reg keeps them unregistered.
func New(opts Options, log *slog.Logger, reg prometheus.Registerer) (*Client, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	c := &Client{opts: opts.withDefaults(), log: log, metrics: newMetrics()}
	conn, err := ch.Open(c.opts.driver())
	if err != nil {
		return nil, c.explain(err)
	}
	c.conn = conn
	if err := c.metrics.register(reg); err != nil {
		return nil, joinClose(err, conn.Close)
	}
	return c, nil
}

// Open is New, and asks the server for its version, once: an error says in one line what to do. It does not need the
// database to exist.
func Open(ctx context.Context, opts Options, log *slog.Logger, reg prometheus.Registerer) (*Client, error) {
	c, err := New(opts, log, reg)
	if err != nil {
		return nil, err
	}
	if err := c.reach(ctx); err != nil {
		return nil, joinClose(err, c.conn.Close)
	}
	return c, nil
}

// reach makes sure that a server answers, and that it is new enough.
func (c *Client) reach(ctx context.Context) error {
	if err := c.Ping(ctx); err != nil {
		return err
	}
	return c.checkVersion()
}

// Ping asks the server for an answer.
func (c *Client) Ping(ctx context.Context) error { return c.explain(c.conn.Ping(ctx)) }

// The oldest version of ClickHouse that is supported, a long-term release. Before 23.2 ReplacingMergeTree has no
// is_deleted, without which a withdrawn row would stay; what lies between the two has not been tried.
const minMajor, minMinor = 24, 8

// checkVersion refuses a server that is too old. One that does not tell its version in numbers is believed to be new.
func (c *Client) checkVersion() error {
	server, err := c.conn.ServerVersion()
	if err != nil {
		return c.explain(err)
	}
	if v := server.Version; v.Major > 0 && (v.Major < minMajor || v.Major == minMajor && v.Minor < minMinor) {
		return fmt.Errorf("ClickHouse at %s has version %d.%d, Zyklus needs %d.%d or later: upgrade ClickHouse",
			strings.Join(c.opts.Addrs, ", "), v.Major, v.Minor, minMajor, minMinor)
	}
	return nil
}

// Close closes the connections. Writers must have ended.
func (c *Client) Close() error {
	if err := c.conn.Close(); err != nil {
		return fmt.Errorf("close ClickHouse connections: %w", err)
	}
	return nil
}

// Options returns the options with their defaults filled in.
func (c *Client) Options() Options { return c.opts }

// Query runs a statement that returns rows, for commands and tests. The caller closes the rows.
func (c *Client) Query(ctx context.Context, sql string, args ...any) (driver.Rows, error) {
	rows, err := c.conn.Query(ctx, sql, args...)
	return rows, c.explain(err)
}

// Exec runs a statement that returns none.
func (c *Client) Exec(ctx context.Context, sql string, args ...any) error {
	return c.explain(c.conn.Exec(ctx, sql, args...))
}

// table returns a table's full quoted name.
func (c *Client) table(name string) string { return quote(c.opts.Database) + "." + quote(name) }

// joinClose closes on the way out of a failure, which is the error that counts.
func joinClose(err error, closeFn func() error) error {
	if closeErr := closeFn(); closeErr != nil {
		return fmt.Errorf("%w (and closing: %w)", err, closeErr)
	}
	return err
}
