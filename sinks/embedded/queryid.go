package embedded

import (
	"context"
	"strings"
)

// queryIDMark stands in front of a client's query id in a statement's tag.
const queryIDMark = "zyklus-query("

// clientQueryID is an SQL expression for the client's id of a statement in
// system.processes. The engine cannot be told an id; it makes its own, which
// statements without a tag keep.
const clientQueryID = `if(position(Settings['log_comment'], '` + queryIDMark + `') = 0, query_id, ` +
	`extract(Settings['log_comment'], '` + `zyklus-query[(](.*)[)]zyklus-statement-[0-9]+[.]$'))`

// runningQuery is a statement with a client's id.
type runningQuery struct {
	cancel context.CancelFunc
	// over is closed when the statement has ended.
	over chan struct{}
}

// register claims a query id until the returned function is called. If a
// statement of that id runs, it is killed first if replace is set, and refused
// otherwise. The returned context ends also when another statement takes over.
func (e *engine) register(ctx context.Context, id string, replace bool) (context.Context, func(), error) {
	ctx, cancel := context.WithCancel(ctx)
	mine := &runningQuery{cancel: cancel, over: make(chan struct{})}
	for {
		e.mu.Lock()
		other := e.running[id]
		if other == nil {
			e.running[id] = mine
			e.mu.Unlock()
			return ctx, func() { e.unregister(id, mine) }, nil
		}
		e.mu.Unlock()
		if !replace {
			cancel()
			return nil, nil, raise(codeQueryAlreadyRunning, "QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING", "Query with id = "+id+" is already running")
		}
		other.cancel()
		select {
		case <-other.over:
		case <-ctx.Done():
			cancel()
			return nil, nil, ctx.Err()
		}
	}
}

func (e *engine) unregister(id string, mine *runningQuery) {
	mine.cancel()
	e.mu.Lock()
	delete(e.running, id)
	e.mu.Unlock()
	close(mine.over)
}

// withQueryIDs makes a statement see clients' query ids: KILL QUERY in its
// condition, others where they read from system.processes.
func withQueryIDs(sql, verb string) string {
	if verb == "KILL" {
		return replaceTokens(sql, []string{"query_id"}, clientQueryID)
	}
	if verb == "SHOW" || !strings.Contains(sql, "processes") {
		return sql
	}
	for _, before := range []string{"FROM", "JOIN"} {
		sql = replaceTokens(sql, []string{before, "system", ".", "processes"},
			before+" (SELECT * REPLACE ("+clientQueryID+" AS query_id) FROM `system`.processes)")
	}
	return sql
}

// replaceTokens replaces every run of tokens that are written as in pattern,
// whatever their case. A quoted token is never one of them.
func replaceTokens(sql string, pattern []string, by string) string {
	var b strings.Builder
	l := &lexer{sql: sql}
	from := 0
	for t := l.next(); t.kind != tokenEnd; t = l.next() {
		end, ok := matchTokens(*l, t, pattern)
		if !ok {
			continue
		}
		b.WriteString(sql[from:t.start] + by)
		from, l.pos = end, end
	}
	return b.String() + sql[from:]
}

// matchTokens reports whether t and what follows are the pattern, and where
// that ends. It works on a copy of the lexer.
func matchTokens(l lexer, t token, pattern []string) (end int, ok bool) {
	for i, want := range pattern {
		if i > 0 {
			t = l.next()
		}
		if t.kind == tokenQuoted || !strings.EqualFold(l.sql[t.start:t.end], want) {
			return 0, false
		}
	}
	return t.end, true
}
