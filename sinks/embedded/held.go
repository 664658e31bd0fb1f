package embedded

import (
	"context"
	"fmt"
	"strings"
)

// runHeld runs a statement in a client's session: what SET, USE and temporary
// tables did before holds for it and what it does of the kind stays, but the
// settings, the database and the tables of the request end with it.
func (e *engine) runHeld(ctx context.Context, cmd command) (*result, error) {
	undo, err := cmd.held.override(cmd)
	if err != nil {
		return nil, err
	}
	res, err := e.execute(ctx, cmd.held, cmd)
	for _, table := range cmd.tables {
		undo = append(undo, "DROP TEMPORARY TABLE IF EXISTS "+quoteIdentifier(table.name))
	}
	for _, sql := range undo {
		if uerr := cmd.held.do(sql); uerr != nil && err == nil {
			res.free()
			return nil, fmt.Errorf("restore session: %w", uerr)
		}
	}
	return res, err
}

// override sets the database, the settings and the tag of a request and returns
// the statements that undo this. At least one is always returned, for a session
// keeps a failed statement in the process list until its next one.
func (s *session) override(cmd command) (undo []string, err error) {
	names := []string{quoteString("log_comment")}
	for _, set := range cmd.settings {
		names = append(names, quoteString(set.name))
	}
	before, err := s.rows("SELECT name, value, toString(changed) FROM system.settings WHERE name IN (" + strings.Join(names, ", ") + ")")
	if err != nil {
		return nil, err
	}
	for _, row := range before {
		value := "DEFAULT"
		if row[2] == "1" && row[0] != "log_comment" {
			value = quoteString(row[1])
		}
		undo = append(undo, "SET "+row[0]+" = "+value)
	}
	if cmd.database != "" {
		current, err := s.rows("SELECT currentDatabase(), '', ''")
		if err != nil {
			return nil, err
		}
		if err := s.do("USE " + quoteIdentifier(cmd.database)); err != nil {
			return nil, err
		}
		undo = append(undo, "USE "+quoteIdentifier(current[0][0]))
	}
	if err := s.do(setStatement(cmd.settings, cmd.tag)); err != nil {
		for _, sql := range undo {
			_ = s.do(sql) // the first error is what the client must hear of
		}
		return nil, err
	}
	return undo, nil
}

// rows runs a query of three columns of strings.
func (s *session) rows(sql string) ([][3]string, error) {
	res, err := s.exec(sql, "RowBinary", nil)
	if err != nil {
		return nil, err
	}
	defer res.free()
	var rows [][3]string
	for c := (&cursor{data: res.data}); c.pos < len(res.data) && c.err == nil; {
		rows = append(rows, [3]string{c.str(), c.str(), c.str()})
	}
	return rows, nil
}
