package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"strings"

	ch "github.com/ClickHouse/clickhouse-go/v2"
)

// migrationsTable records every statement that Migrate has applied.
const migrationsTable = "schema_migrations"

// step is one embedded migration, applied once, in the order of versions, before the declaration is reconciled. A step
// is for what reconciling cannot do: renames, back-fills, dropped tables. It must be safe to run twice.
type step struct {
	version uint32
	name    string
	sql     func(database string) []string
}

// steps returns the embedded migrations. Version 1 is the first layout, which the declaration creates by itself.
func steps() []step {
	return []step{{version: 1, name: "first layout", sql: func(string) []string { return nil }}}
}

// latestStep is the version of the last embedded migration.
func latestStep() uint32 {
	all := steps()
	return all[len(all)-1].version
}

func createMigrations(database string) string {
	return fmt.Sprintf(`CREATE TABLE IF NOT EXISTS %s.%s
(
    version UInt32 COMMENT 'Version of the embedded migrations that was in force.',
    name String COMMENT 'What was done.',
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When, by the clock of the server.',
    checksum String COMMENT 'Of the SQL text.'
)
ENGINE = MergeTree
ORDER BY (version, name, applied_at)
COMMENT 'Log of the changes that zyklus migrate made to this database.'`, quote(database), quote(migrationsTable))
}

// Migrate brings the database to the schema: it creates what is missing, adds columns, corrects comments and replaces
// views whose text has changed. It never drops a column or table and never changes a type; where that would be
// needed it changes nothing and says what. progress, if not nil, is called before each statement. It returns what was
// applied, which is nothing on a second run. Two may run at once.
func (c *Client) Migrate(ctx context.Context, s Schema, progress func(step string)) (applied []string, err error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	if progress == nil {
		progress = func(string) {}
	}
	for _, plan := range []planner{planBase, planSteps, planDeclared} {
		f, err := c.inspect(ctx)
		if err != nil {
			return applied, err
		}
		changes, err := plan(c.opts.Database, s, f)
		if err != nil {
			return applied, err
		}
		for _, ch := range changes {
			progress(ch.name)
			if err := c.apply(ctx, ch); err != nil {
				return applied, fmt.Errorf("%s: %w", ch.name, err)
			}
			applied = append(applied, ch.name)
		}
	}
	return applied, nil
}

// Check reports what the database lacks of the schema, nil if nothing, or why the server cannot be asked (see Away).
// Comments and TTLs do not count. A database that a newer version has migrated lacks nothing if that version only added
// columns and tables; after any other migration of its own it is refused.
func (c *Client) Check(ctx context.Context, s Schema) error {
	if err := s.Validate(); err != nil {
		return err
	}
	if err := c.reach(ctx); err != nil {
		return err
	}
	f, err := c.inspect(ctx)
	if err != nil {
		return err
	}
	if !f.database {
		return fmt.Errorf("ClickHouse database %q does not exist, or user %q may not see it: run `zyklus migrate`", c.opts.Database, c.opts.Username)
	}
	var lacking []string
	for _, plan := range []planner{planBase, planSteps, planDeclared} {
		changes, err := plan(c.opts.Database, s, f)
		if err != nil {
			return err
		}
		lacking = append(lacking, lacks(changes)...)
	}
	return c.notUpToDate(lacking)
}

// lacks names the changes that the pipeline cannot do without.
func lacks(changes []change) []string {
	var names []string
	for _, ch := range changes {
		if !ch.cosmetic {
			names = append(names, ch.name)
		}
	}
	return names
}

func (c *Client) notUpToDate(lacking []string) error {
	if len(lacking) == 0 {
		return nil
	}
	const shown = 5
	more := ""
	if n := len(lacking) - shown; n > 0 {
		lacking, more = lacking[:shown], fmt.Sprintf(" and %d more", n)
	}
	return fmt.Errorf("ClickHouse database %q is not up to date: run `zyklus migrate` (to do: %s%s)",
		c.opts.Database, strings.Join(lacking, ", "), more)
}

// apply runs a change and records it.
func (c *Client) apply(ctx context.Context, ch change) error {
	if ch.sql != "" {
		if err := c.execTwice(ctx, ch.sql); err != nil {
			return c.explain(err)
		}
	}
	if strings.HasPrefix(ch.name, "create database ") {
		return nil // there is no table yet to record it in
	}
	sql := "INSERT INTO " + c.table(migrationsTable) + " (version, name, checksum) VALUES (?, ?, ?)"
	if err := c.conn.Exec(ctx, sql, latestStep(), ch.name, ch.checksum()); err != nil {
		return fmt.Errorf("record: %w", c.explain(err))
	}
	return nil
}

// execTwice runs a statement, and again if another Migrate was in its way: CREATE OR REPLACE of the same view fails
// with TABLE_ALREADY_EXISTS (57), an ALTER of the same table with CANNOT_ASSIGN_ALTER (517).
func (c *Client) execTwice(ctx context.Context, sql string) error {
	err := c.conn.Exec(ctx, sql)
	var exception *ch.Exception
	if errors.As(err, &exception) && (exception.Code == 57 || exception.Code == 517) {
		return c.conn.Exec(ctx, sql)
	}
	return err
}
