package embedded

import (
	"context"
	"errors"
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
	cmd.tag = cmd.held.tag
	res, err := e.execute(ctx, cmd.held, cmd)
	for _, table := range cmd.tables {
		undo = append(undo, "DROP TEMPORARY TABLE IF EXISTS "+quoteIdentifier(table.name))
	}
	if err != nil && len(undo) == 0 {
		// A session keeps a failed statement in the process list until its next one.
		undo = []string{"SELECT 1"}
	}
	for _, sql := range undo {
		// A session that the statement made read-only keeps what it has.
		if uerr := cmd.held.do(sql); uerr != nil && err == nil && !isReadonly(uerr) {
			res.free()
			return nil, fmt.Errorf("restore session: %w", uerr)
		}
	}
	return res, err
}

// isReadonly reports whether the engine refused a change because of the setting
// readonly.
func isReadonly(err error) bool {
	var exc *exception
	return errors.As(err, &exc) && exc.code == codeReadonly
}

// override sets the database, the settings and the tag of a request and returns
// the statements that undo the first two.
func (s *session) override(cmd command) (undo []string, err error) {
	if undo, err = s.settingsNow(cmd.settings); err != nil {
		return nil, err
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
	if err := s.mark(cmd); err != nil {
		for _, sql := range undo {
			_ = s.do(sql) // the first error is what the client must hear of
		}
		return nil, err
	}
	return undo, nil
}

// mark sets the settings and the tag of a request. In a session that the client
// made read-only nothing can be set, so the tag stays what it was.
func (s *session) mark(cmd command) error {
	err := s.do(setStatement(cmd.settings, cmd.tag))
	if isReadonly(err) && len(cmd.settings) == 0 && s.tag != "" {
		return nil
	}
	if err == nil {
		s.tag = cmd.tag
	}
	return err
}

// settingsNow returns what brings the settings back to their values of now.
func (s *session) settingsNow(settings []setting) (undo []string, err error) {
	if len(settings) == 0 {
		return nil, nil
	}
	names := make([]string, len(settings))
	for i, set := range settings {
		names[i] = quoteString(set.name)
	}
	before, err := s.rows("SELECT name, value, toString(changed) FROM system.settings WHERE name IN (" + strings.Join(names, ", ") + ")")
	if err != nil {
		return nil, err
	}
	for _, row := range before {
		value := "DEFAULT"
		if row[2] == "1" {
			value = quoteString(row[1])
		}
		if row[0] != "log_comment" { // which holds the tag
			undo = append(undo, "SET "+row[0]+" = "+value)
		}
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
