package embedded

import "strings"

// statement is what the endpoints must know of a statement to run it. The
// engine does the real parsing.
type statement struct {
	// sql is the text as it came, for an insert with data only up to the data.
	sql string
	// verb is the first word in capitals: "SELECT", "INSERT", …
	verb string
	// format is the output format the statement asks for, "" if none.
	format string
	// tail is the offset of the FORMAT clause or the final semicolon, the length
	// of sql if there is neither.
	tail int
	// outfile says that the result, or infile that the data, is to be in a file of
	// the server, which a ClickHouse server refuses.
	outfile, infile bool
	// writesAfterWith is set for WITH … INSERT.
	writesAfterWith bool
	// several says that more than one statement was sent, which ClickHouse
	// refuses over HTTP.
	several bool
	// insert is set for an insert whose data follows the statement.
	insert *insertion
}

// insertion is an insert with data: "INSERT INTO t (a, b)" + " SETTINGS …" +
// format; the data begins at offset data of the text that was parsed.
type insertion struct {
	into     string
	settings string
	format   string
	data     int
}

// parseStatement finds the parts of the statement at the beginning of text,
// which for an insert may go on with data of any kind.
func parseStatement(text string) statement {
	l := &lexer{sql: text}
	first := l.next()
	st := statement{sql: text, verb: strings.ToUpper(text[first.start:first.end])}
	if st.verb == "DROP" {
		text = withoutSync(text)
		st.sql, l = text, &lexer{sql: text}
	}
	if st.verb == "INSERT" {
		if st.insert = parseInsertion(l); st.insert != nil {
			st.sql = text[:st.insert.data]
			return st
		}
		l = &lexer{sql: text}
	}
	st.tail = len(text)
	st.scanTail(l)
	return st
}

// parseInsertion reads on after INSERT up to the data. It returns nil if no
// data follows, as in INSERT … SELECT.
func parseInsertion(l *lexer) *insertion {
	word := func(t token) string { return strings.ToUpper(l.sql[t.start:t.end]) }
	skipTarget(l, word)
	settings := -1
	for {
		t := l.next()
		if t.kind == tokenEnd {
			return nil
		}
		if t.kind != tokenWord || t.depth > 0 {
			continue
		}
		switch word(t) {
		case "SELECT", "WITH", "FROM", "WATCH":
			return nil
		case "SETTINGS":
			settings = t.start
		case "VALUES":
			return newInsertion(l.sql, settings, t.start, "Values", t.end)
		case "FORMAT":
			name := l.next()
			if name.kind != tokenWord {
				return nil
			}
			return newInsertion(l.sql, settings, t.start, l.sql[name.start:name.end], dataStart(l.sql, name.end))
		}
	}
}

// skipTarget moves past [INTO] [TABLE] [FUNCTION] and the name that follows, so
// that a table called "format" is not taken for the keyword.
func skipTarget(l *lexer, word func(token) string) {
	t := l.next()
	for w := word(t); w == "INTO" || w == "TABLE" || w == "FUNCTION"; w = word(t) {
		t = l.next()
	}
	for mark := *l; t.kind == tokenWord || t.kind == tokenQuoted; mark = *l {
		dot := l.next()
		if word(dot) != "." {
			*l = mark
			return
		}
		t = l.next()
	}
}

// newInsertion cuts the statement before SETTINGS (offset settings, -1 if there
// are none) and before the format (offset end).
func newInsertion(sql string, settings, end int, format string, data int) *insertion {
	ins := &insertion{into: sql[:end], format: format, data: data}
	if settings >= 0 {
		ins.into, ins.settings = sql[:settings], sql[settings:end]
	}
	return ins
}

// dataStart returns where data begins after a format's name: after blanks and
// at most one line feed, as ClickHouse has it. Data of a binary format may
// itself begin with a blank only after that line feed.
func dataStart(sql string, pos int) int {
	for pos < len(sql) && (sql[pos] == ' ' || sql[pos] == '\t' || sql[pos] == '\r' || sql[pos] == ';') {
		pos++
	}
	if pos < len(sql) && sql[pos] == '\n' {
		pos++
	}
	return pos
}

// scanTail finds the output format and whether a second statement follows a
// semicolon.
func (st *statement) scanTail(l *lexer) {
	last := ""
	for t := l.next(); t.kind != tokenEnd && !st.several; t = l.next() {
		word := strings.ToUpper(l.sql[t.start:t.end])
		if t.depth == 0 {
			st.notice(last, word)
			last = word
		}
		switch {
		case t.depth > 0 || t.kind == tokenQuoted:
		case word == ";":
			next := *l
			st.several = next.next().kind != tokenEnd
			st.tail = min(st.tail, t.start)
		case word == "FORMAT":
			if name := formatName(*l); name != "" {
				st.format, st.tail = name, t.start
			}
		}
	}
}

// notice marks what two words in a row, in capitals, say of the statement.
func (st *statement) notice(last, word string) {
	switch {
	case last == "INTO" && word == "OUTFILE":
		st.outfile = true
	case st.verb == "INSERT" && last == "FROM" && word == "INFILE":
		st.infile = true
	case st.verb == "WITH" && word == "INSERT":
		st.writesAfterWith = true
	}
}

// withoutOutput returns the statement without INTO OUTFILE and FORMAT, which a
// client of the native protocol does itself.
func (st statement) withoutOutput() statement {
	from := st.tail
	l, last := &lexer{sql: st.sql}, token{}
	l.next() // the verb
	for t := l.next(); t.kind != tokenEnd; t = l.next() {
		word := strings.ToUpper(st.sql[t.start:t.end])
		switch {
		case t.depth > 0 || t.kind == tokenQuoted:
		case word == "OUTFILE" && strings.EqualFold(st.sql[last.start:last.end], "INTO"):
			from = min(from, last.start)
		case t.start > from && word == "SETTINGS", t.start >= from && word == ";":
			return parseStatement(st.sql[:from] + " " + st.sql[t.start:])
		}
		last = t
	}
	return parseStatement(st.sql[:from])
}

// core is the statement without FORMAT and what follows it.
func (st *statement) core() string { return st.sql[:st.tail] }

// formatName returns the format's name after FORMAT, "" if the word was no
// keyword but, say, a column: only SETTINGS or the end may follow a format. It
// works on a copy of the lexer.
func formatName(l lexer) string {
	name := l.next()
	if name.kind != tokenWord {
		return ""
	}
	after := l.next()
	if word := l.sql[after.start:after.end]; after.kind == tokenEnd || word == ";" || strings.EqualFold(word, "SETTINGS") {
		return l.sql[name.start:name.end]
	}
	return ""
}

// reads reports whether the statement changes nothing, so that it may be
// killed when its client goes away.
func (st statement) reads() bool {
	switch st.verb {
	case "SELECT", "FROM", "SHOW", "DESCRIBE", "DESC", "EXPLAIN", "EXISTS", "CHECK", "(":
		return true
	case "WITH":
		return !st.writesAfterWith
	}
	return false
}

// writes reports whether the statement is one that a server refuses in a
// read-only session.
func (st statement) writes() bool {
	switch st.verb {
	case "INSERT", "CREATE", "REPLACE", "ALTER", "DROP", "UNDROP", "TRUNCATE", "RENAME", "EXCHANGE", "ATTACH", "DETACH",
		"OPTIMIZE", "DELETE", "UPDATE", "SYSTEM", "KILL", "GRANT", "REVOKE", "BACKUP", "RESTORE":
		return !st.temporary()
	}
	return st.writesAfterWith
}

// temporary reports whether the statement makes or drops a temporary table:
// CREATE OR REPLACE TEMPORARY TABLE is the longest beginning of that kind.
func (st statement) temporary() bool {
	if st.verb != "CREATE" && st.verb != "REPLACE" && st.verb != "DROP" {
		return false
	}
	l := &lexer{sql: st.sql}
	for range 4 {
		t := l.next()
		if t.kind == tokenWord && strings.EqualFold(st.sql[t.start:t.end], "TEMPORARY") {
			return true
		}
	}
	return false
}

// spoils reports whether the statement changes its connection, which then must
// not serve another request.
func (st statement) spoils() bool {
	switch st.verb {
	case "SET", "USE":
		return true
	}
	return st.temporary()
}
