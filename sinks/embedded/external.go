package embedded

import (
	"io"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// externalTable is a table that a client sends along with a statement.
type externalTable struct {
	name, format string
	// columns is the list of columns as in CREATE TABLE.
	columns string
	// path is a file that holds the data.
	path string
}

// create makes the table as a temporary one and fills it.
func (t externalTable) create(s *session) error {
	name := quoteIdentifier(t.name)
	if err := s.do("CREATE TEMPORARY TABLE " + name + " (" + t.columns + ")"); err != nil {
		return err
	}
	return s.do("INSERT INTO " + name + " FROM INFILE " + quoteString(t.path) + " COMPRESSION 'none' FORMAT " + t.format)
}

// receiveTable spools the data of an external table.
func (s *spool) receiveTable(name string, data io.Reader) (externalTable, error) {
	path, _, err := s.fill(data)
	return externalTable{name: name, path: path}, err
}

// complete sets format and columns from the parameters NAME_format,
// NAME_structure and NAME_types, which it takes out of values.
func (t *externalTable) complete(values url.Values) error {
	take := func(suffix string) string {
		defer values.Del(t.name + suffix)
		return values.Get(t.name + suffix)
	}
	structure, types := take("_structure"), take("_types")
	t.format = firstOf(take("_format"), "TabSeparated")
	if !regexp.MustCompile(`^\w+$`).MatchString(t.format) {
		return raise(codeBadArguments, "BAD_ARGUMENTS", "External table "+t.name+": bad format")
	}
	switch {
	case structure != "":
		t.columns = structure
	case types != "":
		t.columns = numberedColumns(types)
	default:
		return raise(codeBadArguments, "BAD_ARGUMENTS", "Neither structure nor types have been provided for external table "+t.name+
			". Use fields "+t.name+"_structure or "+t.name+"_types to do so")
	}
	return nil
}

// numberedColumns names the types of a list _1, _2, and so on.
func numberedColumns(types string) string {
	var columns []string
	l, from := &lexer{sql: types}, 0
	add := func(typ string) {
		columns = append(columns, "_"+strconv.Itoa(len(columns)+1)+" "+strings.TrimSpace(typ))
	}
	for t := l.next(); t.kind != tokenEnd; t = l.next() {
		if t.depth == 0 && types[t.start:t.end] == "," {
			add(types[from:t.start])
			from = t.end
		}
	}
	add(types[from:])
	return strings.Join(columns, ", ")
}

// removeTables removes the data of external tables.
func removeTables(tables []externalTable) {
	for _, t := range tables {
		_ = os.Remove(t.path)
	}
}
