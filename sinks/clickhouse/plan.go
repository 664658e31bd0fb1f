package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"zyklus/pipeline"
)

// change is one statement that brings the database to the declaration.
type change struct {
	name string // what it does, for people and for schema_migrations
	sql  string
	// cosmetic changes do not keep the pipeline from running.
	cosmetic bool
}

// checksum identifies the statement's text.
func (c change) checksum() string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(c.sql)) // a hash never fails
	return fmt.Sprintf("%016x", h.Sum64())
}

// found is what the server has now.
type found struct {
	database bool
	tables   map[string]foundTable
	// applied is the checksum last recorded under each name in schema_migrations.
	applied map[string]string
	// latest is the greatest version of embedded migrations recorded there.
	latest uint32
}

type foundTable struct {
	engine, engineFull, sortingKey, partitionKey, comment string
	columns                                               []foundColumn
}

type foundColumn struct{ name, kind, comment string }

// column returns the column of a name.
func (t foundTable) column(name string) (foundColumn, bool) {
	i := slices.IndexFunc(t.columns, func(c foundColumn) bool { return c.name == name })
	if i < 0 {
		return foundColumn{}, false
	}
	return t.columns[i], true
}

// showsMore reports whether a view has all the declared columns, as they are declared, and others.
func (t foundTable) showsMore(declared []ViewColumn) bool {
	for i := range declared {
		if c, ok := t.column(declared[i].Name); !ok || c.kind != declared[i].Type {
			return false
		}
	}
	return len(t.columns) > len(declared)
}

// planner lists one kind of changes. An error means that a person must decide.
type planner func(database string, s Schema, f found) ([]change, error)

// planBase creates the database and the log of migrations.
func planBase(database string, _ Schema, f found) ([]change, error) {
	var changes []change
	if !f.database {
		changes = append(changes, change{name: "create database " + database, sql: "CREATE DATABASE IF NOT EXISTS " + quote(database)})
	}
	if _, ok := f.tables[migrationsTable]; !ok {
		changes = append(changes, change{name: "create table " + migrationsTable, sql: createMigrations(database)})
	}
	return changes, nil
}

// planSteps lists the embedded migrations that are not recorded. Each ends with a change of its own name, whose record
// says that the step is complete. A database without tables of ours has nothing to migrate.
func planSteps(database string, s Schema, f found) ([]change, error) {
	if own := latestStep(); f.latest > own {
		return nil, fmt.Errorf("ClickHouse database %q was migrated by a newer zyklus (to version %d, this one knows %d): run that version or a later one",
			database, f.latest, own)
	}
	isNew := !slices.ContainsFunc(s.Tables, func(t *pipeline.Table) bool { _, ok := f.tables[t.Name]; return ok })
	var changes []change
	for _, st := range steps() {
		done := change{name: fmt.Sprintf("step %d: %s", st.version, st.name)}
		if _, ok := f.applied[done.name]; ok {
			continue
		}
		for i, sql := range st.sql(database) {
			if !isNew {
				changes = append(changes, change{name: fmt.Sprintf("%s (%d)", done.name, i+1), sql: sql})
			}
		}
		changes = append(changes, done)
	}
	return changes, nil
}

// planDeclared compares the declaration with the server.
func planDeclared(database string, s Schema, f found) ([]change, error) {
	var changes []change
	var errs []error
	for _, t := range s.Tables {
		c, err := planTable(database, t, f)
		changes, errs = append(changes, c...), append(errs, err)
	}
	return append(changes, planViews(database, s, f)...), errors.Join(errs...)
}

// planTable creates a table or reconciles it. Columns that are no longer declared stay: they hold history.
func planTable(database string, t *pipeline.Table, f found) ([]change, error) {
	have, ok := f.tables[t.Name]
	if !ok {
		return []change{{name: "create table " + t.Name, sql: createTable(database, t)}}, nil
	}
	errs := []error{refuseTable(t, have)}
	var changes []change
	for i := range t.Columns {
		c, err := planColumn(database, t, i, have)
		changes, errs = append(changes, c...), append(errs, err)
	}
	alter := "ALTER TABLE " + quote(database) + "." + quote(t.Name)
	switch hasTTL := strings.Contains(have.engineFull, " TTL "); {
	case t.TTLDays > 0 && !strings.Contains(have.engineFull, " TTL "+ttl(t)):
		changes = append(changes, change{name: "set TTL of " + t.Name, sql: alter + " MODIFY TTL " + ttl(t), cosmetic: true})
	case t.TTLDays == 0 && hasTTL:
		changes = append(changes, change{name: "remove TTL of " + t.Name, sql: alter + " REMOVE TTL", cosmetic: true})
	}
	if have.comment != t.Comment {
		changes = append(changes, change{name: "comment table " + t.Name, sql: alter + " MODIFY COMMENT " + literal(t.Comment), cosmetic: true})
	}
	return changes, errors.Join(errs...)
}

// versionColumns are the last arguments of every table's engine. A replicated engine has its path and replica before.
const versionColumns = "version, is_deleted)"

// refuseTable reports what no ALTER can put right.
func refuseTable(t *pipeline.Table, have foundTable) error {
	if !strings.HasSuffix(have.engine, "ReplacingMergeTree") {
		return fmt.Errorf("table %s has engine %s, not ReplacingMergeTree: rename it away and migrate again", t.Name, have.engine)
	}
	if !strings.Contains(have.engineFull, versionColumns) {
		return fmt.Errorf("table %s replaces rows without a version, its engine is %s: rename it away, migrate, then `zyklus admin republish`",
			t.Name, oneLine(have.engineFull))
	}
	// Servers differ in whether they keep the parentheses of a key of one column.
	has := strings.Trim(strings.ReplaceAll(have.sortingKey, "`", ""), "()")
	if key := strings.Join(t.Key, ", "); has != key {
		return fmt.Errorf("table %s is sorted by (%s), declared is (%s): rename it away, migrate, then `zyklus admin republish`", t.Name, has, key)
	}
	if has, want := strings.ReplaceAll(have.partitionKey, "`", ""), partition(t.PartitionByYear); has != want {
		return fmt.Errorf("table %s is partitioned by %q, declared is %q: rename it away and migrate again", t.Name, has, want)
	}
	return nil
}

// partition is the partition expression of a date, "" for none.
func partition(date string) string {
	if date == "" {
		return ""
	}
	return "toYear(" + date + ")"
}

func planColumn(database string, t *pipeline.Table, i int, have foundTable) ([]change, error) {
	c := &t.Columns[i]
	column, ok := have.column(c.Name)
	if !ok {
		return []change{{name: "add column " + t.Name + "." + c.Name, sql: addColumn(database, t, i)}}, nil
	}
	if want := columnType(c); column.kind != want {
		return nil, fmt.Errorf("column %s.%s has type %s, declared is %s: rename the column away, migrate, then `zyklus admin republish`",
			t.Name, c.Name, column.kind, want)
	}
	if want := columnComment(c.Comment, c.Unit); column.comment != want {
		sql := fmt.Sprintf("ALTER TABLE %s.%s COMMENT COLUMN %s %s", quote(database), quote(t.Name), quote(c.Name), literal(want))
		return []change{{name: "comment column " + t.Name + "." + c.Name, sql: sql, cosmetic: true}}, nil
	}
	return nil, nil
}

// planViews creates the views that are missing or whose text has changed since it was last applied. One that shows more
// than is declared was made by a newer version: the pipeline can do without it being taken back.
func planViews(database string, s Schema, f found) []change {
	var plain, joined []change
	for _, t := range s.Tables {
		view := s.view(t.Name)
		c := change{name: "create view " + viewName(t.Name), sql: createView(database, t, view, s.MoneyExponent)}
		have, exists := f.tables[viewName(t.Name)]
		if exists && f.applied[c.name] == c.checksum() {
			continue
		}
		c.cosmetic = exists && have.showsMore(viewColumns(t, view.Columns, s.MoneyExponent))
		if view.Join == "" {
			plain = append(plain, c)
		} else {
			joined = append(joined, c)
		}
	}
	return append(plain, joined...)
}

// inspect reads what the server has.
func (c *Client) inspect(ctx context.Context) (found, error) {
	f := found{tables: map[string]foundTable{}, applied: map[string]string{}}
	var databases uint64
	row := c.conn.QueryRow(ctx, "SELECT count() FROM system.databases WHERE name = ?", c.opts.Database)
	if err := row.Scan(&databases); err != nil {
		return f, c.explain(err)
	}
	if f.database = databases > 0; !f.database {
		return f, nil
	}
	if err := c.inspectTables(ctx, f.tables); err != nil {
		return f, c.explain(err)
	}
	if _, ok := f.tables[migrationsTable]; !ok {
		return f, nil
	}
	return f, c.explain(c.inspectApplied(ctx, &f))
}

func (c *Client) inspectTables(ctx context.Context, tables map[string]foundTable) error {
	sql := "SELECT name, engine, engine_full, sorting_key, partition_key, comment FROM system.tables WHERE database = ?"
	var name string
	var t foundTable
	err := c.each(ctx, sql, []any{&name, &t.engine, &t.engineFull, &t.sortingKey, &t.partitionKey, &t.comment}, func() { tables[name] = t })
	if err != nil {
		return err
	}
	sql = "SELECT table, name, type, comment FROM system.columns WHERE database = ? ORDER BY table, position"
	var column foundColumn
	return c.each(ctx, sql, []any{&name, &column.name, &column.kind, &column.comment}, func() {
		// Another Migrate may have created a table since: it is not seen yet, rather than seen in part.
		if t, ok := tables[name]; ok {
			t.columns = append(t.columns, column)
			tables[name] = t
		}
	})
}

func (c *Client) inspectApplied(ctx context.Context, f *found) error {
	sql := "SELECT name, argMax(checksum, applied_at), max(version) FROM " + c.table(migrationsTable) + " WHERE ? != '' GROUP BY name"
	var name, checksum string
	var version uint32
	return c.each(ctx, sql, []any{&name, &checksum, &version}, func() {
		f.applied[name], f.latest = checksum, max(f.latest, version)
	})
}

// each runs a query whose one argument is the database and calls use after each row has been scanned into dest.
func (c *Client) each(ctx context.Context, sql string, dest []any, use func()) (err error) {
	rows, err := c.conn.Query(ctx, sql, c.opts.Database)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		use()
	}
	return rows.Err()
}
