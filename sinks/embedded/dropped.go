package embedded

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The embedded engine marks dropped tables but has no task that removes them:
// their data would stay for ever, and DROP … SYNC would wait for ever. So the
// server does both itself. A table can be undropped for undropTime, unless the
// process ends before.
const (
	undropTime    = 60 * time.Second
	sweepInterval = 30 * time.Second
)

// sweepDropped removes the tables that were dropped when the engine last ran on
// dir. It must not run now.
func sweepDropped(dir string) error {
	marks, err := filepath.Glob(filepath.Join(dir, "metadata_dropped", "*.sql"))
	if err != nil {
		return fmt.Errorf("find dropped tables: %w", err)
	}
	for _, mark := range marks {
		// The name is database.table.uuid.sql; the names are escaped.
		parts := strings.Split(filepath.Base(mark), ".")
		if err := removeTable(dir, mark, parts[max(0, len(parts)-2)]); err != nil {
			return fmt.Errorf("remove dropped table: %w", err)
		}
	}
	return nil
}

// removeTable deletes a table's data and then the mark of its drop: in this
// order nothing is forgotten if the process ends in between.
func removeTable(dir, mark, uuid string) error {
	const uuidLen = 36
	if len(uuid) != uuidLen || strings.Trim(uuid, "0123456789abcdef-") != "" {
		return nil // not a table of its own directory
	}
	if err := os.RemoveAll(filepath.Join(dir, "store", uuid[:3], uuid)); err != nil {
		return err
	}
	if err := os.Remove(mark); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}

// sweep removes dropped tables until ctx ends. What cannot be removed now is
// removed later, or at the next start.
func (s *server) sweep(ctx context.Context) {
	ticker := time.NewTicker(sweepInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			_ = s.removeDropped(ctx)
		}
	}
}

// removeDropped removes the tables that can no longer be undropped.
func (s *server) removeDropped(ctx context.Context) error {
	res, err := s.engine.run(ctx, command{
		sql:    "SELECT metadata_dropped_path, uuid FROM system.dropped_tables WHERE table_dropped_time <= now()",
		format: "TSVRaw",
	})
	if err != nil {
		return err
	}
	defer res.free()
	for line := range strings.Lines(string(res.data)) {
		mark, uuid, _ := strings.Cut(strings.TrimSpace(line), "\t")
		// The engine lists a table for as long as it runs, removed or not.
		mark = filepath.Join(s.dir, mark)
		if _, err := os.Stat(mark); err != nil {
			continue
		}
		if err := removeTable(s.dir, mark, uuid); err != nil {
			return err
		}
	}
	return nil
}

// withoutSync cuts SYNC, and the older NO DELAY, out of a DROP.
func withoutSync(sql string) string {
	l := &lexer{sql: sql}
	word := func(t token) string { return strings.ToUpper(sql[t.start:t.end]) }
	last := l.next()
	for t := l.next(); t.kind != tokenEnd; t = l.next() {
		if word(t) == "SYNC" && !beforeName(word(last)) {
			return sql[:t.start] + sql[t.end:]
		}
		if word(t) == "DELAY" && word(last) == "NO" {
			return sql[:last.start] + sql[t.end:]
		}
		last = t
	}
	return sql
}

// beforeName reports whether a name follows the word or sign, so that a table
// may be called sync.
func beforeName(word string) bool {
	switch word {
	case "TABLE", "DATABASE", "VIEW", "DICTIONARY", "FUNCTION", "EXISTS", ".", ",":
		return true
	}
	return false
}
