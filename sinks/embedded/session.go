package embedded

import (
	"errors"
	"strings"
	"time"
	"unsafe"
)

// defaultDatabase is the current database of a new connection.
const defaultDatabase = "default"

// errEngineClosed is returned for statements after the engine was shut down.
var errEngineClosed = errors.New("the engine is shut down")

// setting is one ClickHouse setting with its value as text.
type setting struct{ name, value string }

// session is one connection to the engine. It runs one statement at a time.
type session struct {
	lib      *chdb
	cell     unsafe.Pointer
	conn     unsafe.Pointer
	database string
	// tag is the one under which the statement of a held session can be killed.
	tag string
}

// prepare sets the current database, the settings and the tag by which the
// statement can be killed. After an error the session must be discarded.
func (s *session) prepare(cmd command, tag string) error {
	database := cmd.database
	if database == "" {
		database = defaultDatabase
	}
	if database != s.database {
		if err := s.do("USE " + quoteIdentifier(database)); err != nil {
			return err
		}
		s.database = database
	}
	return s.do(setStatement(cmd.settings, tag))
}

// setStatement writes one SET for all settings. A client's own log_comment is
// kept in front of the tag.
func setStatement(settings []setting, tag string) string {
	var b strings.Builder
	b.WriteString("SET ")
	for _, set := range settings {
		if set.name == "log_comment" {
			tag = set.value + " " + tag
			continue
		}
		b.WriteString(set.name + " = " + quoteString(set.value) + ", ")
	}
	b.WriteString("log_comment = " + quoteString(tag))
	return b.String()
}

// do runs a statement without a result.
func (s *session) do(sql string) error {
	res, err := s.exec(sql, "Null", nil)
	if err != nil {
		return err
	}
	res.free()
	return nil
}

// exec runs a statement. The error is an *exception.
func (s *session) exec(sql, format string, params []param) (*result, error) {
	start := time.Now()
	ptr := s.lib.exec(s.conn, sql, format, params)
	if ptr == nil {
		return nil, &exception{text: "the engine returned no result"}
	}
	if text := goString(s.lib.resultError(ptr)); text != "" {
		s.lib.destroy(ptr)
		return nil, newException(text)
	}
	res := &result{
		rowsRead: s.lib.resultRowsRead(ptr), bytesRead: s.lib.resultBytesRead(ptr),
		rowsScanned: s.lib.resultRowsScanned(ptr), bytesScanned: s.lib.resultBytesScanned(ptr),
		rowsWritten: s.lib.resultRowsWritten(ptr), bytesWritten: s.lib.resultBytesWritten(ptr),
		elapsed: time.Since(start),
		free:    func() { s.lib.destroy(ptr) },
	}
	if buf := s.lib.resultBuffer(ptr); buf != nil {
		res.data = unsafe.Slice((*byte)(buf), s.lib.resultLength(ptr))
	}
	return res, nil
}

// quoteString writes a string literal.
func quoteString(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\x00", `\0`).Replace(s) + "'"
}

// quoteIdentifier writes a quoted identifier.
func quoteIdentifier(s string) string {
	return "`" + strings.NewReplacer(`\`, `\\`, "`", "\\`").Replace(s) + "`"
}
