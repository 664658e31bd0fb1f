package clickhouse

import (
	"context"
	"fmt"
	"time"

	"zyklus/pipeline"
)

// rebuildsTable records each rebuild before it begins: which lineage, and how far each partition had been. It is made
// by the first one.
const rebuildsTable = "rebuilds"

// Rebuild is one partition's part of a rebuild.
type Rebuild struct {
	Partition int32
	Lineage   uint64 // that was begun
	Position  int64  // that the partition had reached before: the old rows are needed until it is reached again
	Settings  string // of the changelog topic, JSON
}

// BeginRebuild records a rebuild. Nothing is replaced yet.
func (c *Client) BeginRebuild(ctx context.Context, topic string, parts []Rebuild) error {
	create := fmt.Sprintf(`CREATE TABLE IF NOT EXISTS %s
(
    topic String COMMENT 'Input topic.',
    partition UInt32 COMMENT 'Partition of the input topic.',
    lineage UInt64 COMMENT 'Lineage that the rebuild began.',
    position Int64 COMMENT 'Offset that the partition had reached before.',
    settings String COMMENT 'Settings of the changelog topic, JSON.',
    began_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When, by the clock of the server.'
)
ENGINE = MergeTree
ORDER BY (topic, lineage, partition, began_at)
COMMENT 'Log of the rebuilds that zyklus admin rebuild began.'`, c.table(rebuildsTable))
	if err := c.Exec(ctx, create); err != nil {
		return fmt.Errorf("create table %s: %w", rebuildsTable, err)
	}
	batch, err := c.conn.PrepareBatch(ctx, "INSERT INTO "+c.table(rebuildsTable)+" (topic, partition, lineage, position, settings)")
	if err != nil {
		return c.explain(err)
	}
	for _, p := range parts {
		if err := batch.Append(topic, uint32(p.Partition), p.Lineage, p.Position, p.Settings); err != nil {
			return joinClose(err, batch.Close)
		}
	}
	return c.explain(batch.Send())
}

// Rebuilds returns each partition's part of the last rebuild of a topic: none if there never was one.
func (c *Client) Rebuilds(ctx context.Context, topic string) (map[int32]Rebuild, error) {
	parts := map[int32]Rebuild{}
	if ok, err := c.exists(ctx, rebuildsTable); !ok || err != nil {
		return parts, err
	}
	var r Rebuild
	var partition uint32
	err := c.rows(ctx, "SELECT partition, max(lineage), argMax(position, lineage), argMax(settings, lineage) FROM "+c.table(rebuildsTable)+" WHERE topic = ? GROUP BY partition",
		[]any{topic}, []any{&partition, &r.Lineage, &r.Position, &r.Settings}, func() error {
			r.Partition = int32(partition)
			parts[r.Partition] = r
			return nil
		})
	return parts, err
}

// Older is how many rows that readers see are of lineages before one.
type Older struct {
	Table string `json:"table"`
	Rows  uint64 `json:"rows"`
}

// Older counts the rows that readers see of lineages before the given one, in tables whose versions are those of
// checkpoints.
func (c *Client) Older(ctx context.Context, tables []*pipeline.Table, lineage uint64) ([]Older, error) {
	var list []Older
	for _, t := range tables {
		o := Older{Table: t.Name}
		sql := "SELECT count() FROM " + c.table(t.Name) + " FINAL WHERE is_deleted = 0 AND version < ?"
		if err := c.conn.QueryRow(ctx, sql, pipeline.Version(lineage, 0)).Scan(&o.Rows); err != nil {
			return nil, c.explain(err)
		}
		list = append(list, o)
	}
	return list, nil
}

// HasOlder reports whether any row, seen or replaced, is of a lineage before the given one.
func (c *Client) HasOlder(ctx context.Context, tables []*pipeline.Table, lineage uint64) (bool, error) {
	for _, t := range tables {
		var n uint64
		sql := "SELECT count() FROM (SELECT 1 FROM " + c.table(t.Name) + " WHERE version < ? LIMIT 1)"
		if err := c.conn.QueryRow(ctx, sql, pipeline.Version(lineage, 0)).Scan(&n); err != nil || n > 0 {
			return n > 0, c.explain(err)
		}
	}
	return false, nil
}

// mutationPoll is how often a removal that the server makes in the background is asked for.
const mutationPoll = 500 * time.Millisecond

// RemoveOlder removes all rows of lineages before the given one, seen or replaced, and waits until the server has done
// so. Doing it again is harmless. progress is told the table and how many of its parts are left.
func (c *Client) RemoveOlder(ctx context.Context, tables []*pipeline.Table, lineage uint64, progress func(table string, parts int64)) error {
	for _, t := range tables {
		sql := fmt.Sprintf("ALTER TABLE %s DELETE WHERE version < %d SETTINGS mutations_sync = 0", c.table(t.Name), pipeline.Version(lineage, 0))
		if err := c.Exec(ctx, sql); err != nil {
			return fmt.Errorf("remove older rows of %s: %w", t.Name, err)
		}
		if err := c.awaitMutations(ctx, t.Name, progress); err != nil {
			return fmt.Errorf("remove older rows of %s: %w", t.Name, err)
		}
	}
	return nil
}

func (c *Client) awaitMutations(ctx context.Context, table string, progress func(string, int64)) error {
	for {
		var open uint64
		var parts int64
		var reason string
		sql := "SELECT count(), toInt64(sum(parts_to_do)), max(latest_fail_reason) FROM system.mutations WHERE database = ? AND table = ? AND NOT is_done"
		if err := c.conn.QueryRow(ctx, sql, c.opts.Database, table).Scan(&open, &parts, &reason); err != nil {
			return c.explain(err)
		}
		progress(table, parts)
		switch {
		case open == 0:
			return nil
		case reason != "":
			return fmt.Errorf("the server cannot: %s", reason)
		}
		if err := sleep(ctx, mutationPoll); err != nil {
			return err
		}
	}
}
