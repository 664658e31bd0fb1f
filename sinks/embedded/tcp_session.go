package embedded

import (
	"context"
	"sync"
)

// tcpSession is the session that a native connection is: SET, USE and temporary
// tables stay in force on it. Until the first of these it has no connection to
// the engine of its own.
type tcpSession struct {
	engine *engine
	// database is the hello's, "" for the default one.
	database string
	held     *session
}

// join makes a request run in the session.
func (t *tcpSession) join(req *request) error {
	if t.held == nil && req.spoils() {
		if err := t.hold(); err != nil {
			return err
		}
	}
	req.held = t.held
	if t.held == nil {
		req.database = t.database
	}
	return nil
}

// hold takes a connection that stays this session's.
func (t *tcpSession) hold() error {
	s, err := t.engine.connect()
	if err != nil {
		return err
	}
	if t.database != "" {
		if err := s.do("USE " + quoteIdentifier(t.database)); err != nil {
			t.engine.discard(s)
			return err
		}
	}
	t.held = s
	return nil
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
