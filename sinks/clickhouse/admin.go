package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"time"

	"zyklus/pipeline"
)

// Change is something that Migrate would do.
type Change struct {
	Name string `json:"name"`
	// Cosmetic changes do not keep the pipeline from running.
	Cosmetic bool `json:"cosmetic"`
}

// Plan lists what Migrate would do, and changes nothing. The error is about what a person must decide.
func (c *Client) Plan(ctx context.Context, s Schema) ([]Change, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	f, err := c.inspect(ctx)
	if err != nil {
		return nil, err
	}
	todo, errs := []Change{}, []error(nil)
	for _, plan := range []planner{planBase, planSteps, planDeclared} {
		changes, err := plan(c.opts.Database, s, f)
		errs = append(errs, err)
		for _, ch := range changes {
			todo = append(todo, Change{ch.name, ch.cosmetic})
		}
	}
	return todo, errors.Join(errs...)
}

// Applied is a change that was made to the database.
type Applied struct {
	Version uint32    `json:"version"` // of the embedded migrations that was in force
	Name    string    `json:"name"`
	At      time.Time `json:"applied_at"` // by the clock of the server
}

// Applied lists the changes made to the database, oldest first: none if there is no database.
func (c *Client) Applied(ctx context.Context) (list []Applied, err error) {
	f, err := c.inspect(ctx)
	if _, ok := f.tables[migrationsTable]; !ok || err != nil {
		return nil, err
	}
	var a Applied
	err = c.rows(ctx, "SELECT version, name, applied_at FROM "+c.table(migrationsTable)+" ORDER BY applied_at, name", nil,
		[]any{&a.Version, &a.Name, &a.At}, func() error { list = append(list, a); return nil })
	return list, err
}

// TableState is how one declared table is.
type TableState struct {
	Name   string `json:"name"`
	Exists bool   `json:"exists"`
	Rows   uint64 `json:"rows"`  // stored, older versions of a row included
	Bytes  uint64 `json:"bytes"` // compressed, on one server
}

// Tables returns the state of each declared table.
func (c *Client) Tables(ctx context.Context, s Schema) ([]TableState, error) {
	have, t := map[string]TableState{}, TableState{Exists: true}
	err := c.rows(ctx, "SELECT name, toUInt64(ifNull(total_rows, 0)), toUInt64(ifNull(total_bytes, 0)) FROM system.tables WHERE database = ?",
		[]any{c.opts.Database}, []any{&t.Name, &t.Rows, &t.Bytes}, func() error { have[t.Name] = t; return nil })
	states := make([]TableState, 0, len(s.Tables))
	for _, declared := range s.Tables {
		state := have[declared.Name]
		state.Name = declared.Name
		states = append(states, state)
	}
	return states, err
}

// StoredCheckpoint is a row of `checkpoints`: how far a partition has been written.
type StoredCheckpoint struct {
	Partition        int32
	Version          int64
	Position         int64
	Clock, Watermark time.Time
}

// Checkpoints returns how far each partition of a topic has been written: none if there is no such table yet.
func (c *Client) Checkpoints(ctx context.Context, topic string) (map[int32]StoredCheckpoint, error) {
	stored, s := map[int32]StoredCheckpoint{}, StoredCheckpoint{}
	var partition uint32
	if ok, err := c.exists(ctx, checkpointsTable); !ok || err != nil {
		return stored, err
	}
	err := c.rows(ctx, "SELECT partition, version, position, clock, watermark FROM "+c.table(checkpointsTable)+" FINAL WHERE topic = ?", []any{topic},
		[]any{&partition, &s.Version, &s.Position, &s.Clock, &s.Watermark}, func() error {
			s.Partition = int32(partition)
			stored[s.Partition] = s
			return nil
		})
	return stored, err
}

// exists reports whether the database has a table.
func (c *Client) exists(ctx context.Context, table string) (bool, error) {
	var n uint64
	err := c.conn.QueryRow(ctx, "SELECT count() FROM system.tables WHERE database = ? AND name = ?", c.opts.Database, table).Scan(&n)
	return n > 0, c.explain(err)
}

// rows calls use after each row of an answer has been scanned into dest.
func (c *Client) rows(ctx context.Context, sql string, args, dest []any, use func() error) (err error) {
	rows, err := c.conn.Query(ctx, sql, args...)
	if err != nil {
		return c.explain(err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		if err := use(); err != nil {
			return err
		}
	}
	return c.explain(rows.Err())
}

// LetterFilter says which dead letters are meant. The zero value means all.
type LetterFilter struct {
	Since time.Time // written not before
	Error string    // kind of error, such as not_json
	Topic string    // that the original was read from
	At    *pipeline.Origin
	Limit int // 0 for none
	// Newest gives the newest first, without their values: for lists. Else they come by topic, partition and offset.
	Newest bool
}

// StoredLetter is a row of `dead_letters`.
type StoredLetter struct {
	pipeline.DeadLetter
	Error    string
	Size     uint64 // bytes of the value
	Received time.Time
}

// Letters calls use for each dead letter that the filter lets through. The letter is overwritten afterwards.
func (c *Client) Letters(ctx context.Context, f LetterFilter, use func(*StoredLetter) error) error {
	value, order := "value", "topic, partition, position"
	if f.Newest {
		value, order = "''", "received_at DESC, topic, partition, position"
	}
	sql := "SELECT topic, partition, position, at, error, cause, key, " + value + ", length(value), received_at FROM " +
		c.table("dead_letters") + " FINAL WHERE is_deleted = 0"
	var args []any
	where := func(condition string, arg ...any) { sql, args = sql+" AND "+condition, append(args, arg...) }
	if !f.Since.IsZero() {
		where("received_at >= fromUnixTimestamp64Milli(toInt64(?))", f.Since.UnixMilli())
	}
	if f.Error != "" {
		where("error = ?", f.Error)
	}
	if f.Topic != "" {
		where("topic = ?", f.Topic)
	}
	if f.At != nil {
		where("topic = ? AND partition = ? AND position = ?", f.At.Topic, f.At.Partition, f.At.Offset)
	}
	sql += " ORDER BY " + order
	if f.Limit > 0 {
		sql += fmt.Sprintf(" LIMIT %d", f.Limit)
	}
	sql += " SETTINGS max_block_size = 256" // values may be large
	var l StoredLetter
	var partition uint32
	var at time.Time
	var key, text string
	return c.rows(ctx, sql, args, []any{&l.Origin.Topic, &partition, &l.Origin.Offset, &at, &l.Error, &l.Cause, &key, &text, &l.Size, &l.Received}, func() error {
		l.Origin.Partition, l.At, l.Key, l.Value = int32(partition), at.UnixMilli(), []byte(key), []byte(text)
		return use(&l)
	})
}
