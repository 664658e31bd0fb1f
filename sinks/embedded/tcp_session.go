package embedded

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
)

// tcpSession runs the statements of one native connection, which is a session:
// SET, USE and temporary tables stay in force on it. Until the first of these
// it has no connection to the engine of its own.
type tcpSession struct {
	engine *engine
	// database is the hello's, "" for the default one.
	database string
	held     *session
	// tag is the one under which the held connection can be killed.
	tag string
}

// run executes a statement like engine.run. cmd.database is ignored.
func (t *tcpSession) run(ctx context.Context, cmd command) (*result, error) {
	cmd.database = t.database
	if t.held == nil && !cmd.spoils {
		return t.engine.run(ctx, cmd)
	}
	release, err := t.engine.slot(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if t.held == nil {
		if err := t.hold(); err != nil {
			return nil, err
		}
	}
	return t.runHeld(ctx, cmd)
}

// slot waits until one more statement may run. The caller releases it.
func (e *engine) slot(ctx context.Context) (release func(), err error) {
	select {
	case e.slots <- struct{}{}:
		return func() { <-e.slots }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a free connection: %w", ctx.Err())
	}
}

// hold takes a connection that stays this session's.
func (t *tcpSession) hold() error {
	s, err := t.engine.take()
	if err != nil {
		return err
	}
	if err := s.prepare(command{database: t.database}, ""); err != nil {
		t.engine.discard(s)
		return err
	}
	t.held = s
	return nil
}

// runHeld runs a statement on the held connection: the settings of the
// statement end with it.
func (t *tcpSession) runHeld(ctx context.Context, cmd command) (res *result, err error) {
	undo, err := t.settingsNow(cmd.settings)
	if err != nil {
		return nil, err
	}
	if err := t.mark(cmd.settings); err != nil {
		return nil, err
	}
	if undo != "" {
		defer func() {
			if uerr := t.held.do(undo); uerr != nil {
				err = errors.Join(err, uerr)
			}
		}()
	}
	finished, calm := t.engine.watch(ctx, t.tag), t.engine.nudge()
	res, err = t.held.exec(cmd.sql, cmd.format, cmd.params)
	finished()
	calm()
	if err != nil {
		// A connection keeps a failed statement in the process list until its
		// next one.
		_ = t.held.do("SELECT 1") // only its running matters
	}
	return res, err
}

// mark sets the statement's settings and a new tag. In a session that the
// client made read-only nothing can be set, so the tag stays what it was.
func (t *tcpSession) mark(settings []setting) error {
	tag := t.engine.tag()
	err := t.held.do(setStatement(settings, tag))
	var exc *exception
	if errors.As(err, &exc) && exc.code == codeReadonly && len(settings) == 0 && t.tag != "" {
		return nil
	}
	if err == nil {
		t.tag = tag
	}
	return err
}

// settingsNow returns the SET that brings the settings back to what they are
// now, "" if there are none.
func (t *tcpSession) settingsNow(settings []setting) (string, error) {
	if len(settings) == 0 {
		return "", nil
	}
	names := make([]string, len(settings))
	for i, set := range settings {
		names[i] = quoteString(set.name)
	}
	res, err := t.held.exec("SELECT name, value, changed FROM system.settings WHERE name IN ("+strings.Join(names, ", ")+")", "RowBinary", nil)
	if err != nil {
		return "", err
	}
	defer res.free()
	var undo []string
	for c := (&cursor{data: res.data}); c.pos < len(res.data); {
		name, value := c.str(), c.str()
		changed := c.pos
		if c.advance(1, 1); c.err != nil {
			return "", fmt.Errorf("read settings: %w", c.err)
		}
		if res.data[changed] == 0 {
			undo = append(undo, name+" = DEFAULT")
		} else {
			undo = append(undo, name+" = "+quoteString(value))
		}
	}
	if len(undo) == 0 {
		return "", nil // unknown ones: setting them says so
	}
	return "SET " + strings.Join(undo, ", "), nil
}

// close gives the connection back.
func (t *tcpSession) close() {
	if t.held != nil {
		t.engine.discard(t.held)
		t.held = nil
	}
}

// settingNames knows the settings the engine has.
type settingNames struct {
	once  sync.Once
	names map[string]bool
	err   error
}

// known reports whether the engine has the setting.
func (n *settingNames) known(ctx context.Context, e *engine, name string) (bool, error) {
	n.once.Do(func() {
		var res *result
		if res, n.err = e.run(ctx, command{sql: "SELECT name FROM system.settings", format: "RowBinary"}); n.err != nil {
			return
		}
		defer res.free()
		n.names = map[string]bool{}
		for c := (&cursor{data: res.data}); c.pos < len(res.data) && c.err == nil; {
			n.names[c.str()] = true
		}
	})
	return n.names[name], n.err
}
