package embedded

import (
	"slices"
	"testing"
)

func TestLexer(t *testing.T) {
	sql := "SELECT 'it''s \\' (' -- comment (\n, `a``b`, \"c\" /* x /* y */ z */ FROM $tag$ ( $tag$ WHERE f(a[1]) $1 # end\n"
	var got []string
	l := &lexer{sql: sql}
	for tok := l.next(); tok.kind != tokenEnd; tok = l.next() {
		got = append(got, sql[tok.start:tok.end])
	}
	want := []string{"SELECT", "'it''s \\' ('", ",", "`a``b`", ",", "\"c\"", "FROM", "$tag$ ( $tag$", "WHERE", "f", "(", "a", "[", "1", "]", ")", "$1"}
	if !slices.Equal(got, want) || l.depth != 0 {
		t.Fatalf("%q, depth %d", got, l.depth)
	}
}

func TestParseStatement(t *testing.T) {
	for _, c := range []struct{ sql, verb, format, core string }{
		{"select 1", "SELECT", "", "select 1"},
		{"SELECT 1 FORMAT JSON", "SELECT", "JSON", "SELECT 1 "},
		{"SELECT 1 FORMAT JSON;\n", "SELECT", "JSON", "SELECT 1 "},
		{"SELECT 1 FORMAT JSON SETTINGS max_threads = 1", "SELECT", "JSON", "SELECT 1 "},
		{"SELECT format FROM t", "SELECT", "", "SELECT format FROM t"},
		{"SELECT format('{}', 1)", "SELECT", "", "SELECT format('{}', 1)"},
		{"SELECT 'FORMAT CSV' -- FORMAT TSV", "SELECT", "", "SELECT 'FORMAT CSV' -- FORMAT TSV"},
		{"(SELECT 1) FORMAT CSV", "(", "CSV", "(SELECT 1) "},
		{"SELECT * FROM (SELECT 1 FORMAT CSV)", "SELECT", "", "SELECT * FROM (SELECT 1 FORMAT CSV)"},
		{"INSERT INTO t SELECT 1", "INSERT", "", "INSERT INTO t SELECT 1"},
		{"INSERT INTO t FROM INFILE 'x' FORMAT CSV", "INSERT", "CSV", "INSERT INTO t FROM INFILE 'x' "},
		{"", "", "", ""},
	} {
		st := parseStatement(c.sql)
		if st.verb != c.verb || st.format != c.format || st.core() != c.core || st.insert != nil || st.several {
			t.Errorf("%q: %+v", c.sql, st)
		}
	}
	if !parseStatement("SELECT 1; SELECT 2").several {
		t.Error("two statements were not seen")
	}
}

func TestParseInsertion(t *testing.T) {
	for _, c := range []struct{ sql, into, settings, format, data string }{
		{"INSERT INTO t FORMAT CSV\n1,2", "INSERT INTO t ", "", "CSV", "1,2"},
		{"insert into d.t (a, b) format TSV \t\n\n1", "insert into d.t (a, b) ", "", "TSV", "\n1"},
		{"INSERT INTO TABLE `a b`.\"c\" (`format`) SETTINGS x = 'FORMAT y', z = 1 FORMAT Native\n\x01", "INSERT INTO TABLE `a b`.\"c\" (`format`) ", "SETTINGS x = 'FORMAT y', z = 1 ", "Native", "\x01"},
		{"INSERT INTO format FORMAT CSV 1", "INSERT INTO format ", "", "CSV", "1"},
		{"INSERT INTO values VALUES (1)", "INSERT INTO values ", "", "Values", " (1)"},
		{"INSERT INTO FUNCTION file('x', 'FORMAT CSV') FORMAT CSV 1", "INSERT INTO FUNCTION file('x', 'FORMAT CSV') ", "", "CSV", "1"},
		{"INSERT INTO t FORMAT JSONEachRow {\"a\": 1}", "INSERT INTO t ", "", "JSONEachRow", "{\"a\": 1}"},
	} {
		st := parseStatement(c.sql)
		if st.insert == nil {
			t.Errorf("%q: no insert", c.sql)
			continue
		}
		ins := st.insert
		if ins.into != c.into || ins.settings != c.settings || ins.format != c.format || c.sql[ins.data:] != c.data {
			t.Errorf("%q: %+v, data %q", c.sql, *ins, c.sql[ins.data:])
		}
	}
}

func TestWithoutSync(t *testing.T) {
	for sql, want := range map[string]string{
		"DROP TABLE t SYNC":                            "DROP TABLE t ",
		"drop table if exists d.t no delay":            "drop table if exists d.t ",
		"DROP TABLE sync":                              "DROP TABLE sync",
		"DROP TABLE d.sync sync SETTINGS x = 1":        "DROP TABLE d.sync  SETTINGS x = 1",
		"DROP DATABASE IF EXISTS sync":                 "DROP DATABASE IF EXISTS sync",
		"DROP TABLE `sync`, sync /* SYNC */ -- SYNC\n": "DROP TABLE `sync`, sync /* SYNC */ -- SYNC\n",
	} {
		if st := parseStatement(sql); st.sql != want || st.core() != want {
			t.Errorf("%q: %q", sql, st.sql)
		}
	}
}

func FuzzParseStatement(f *testing.F) {
	f.Add("SELECT 1 FORMAT CSV; x")
	f.Add("INSERT INTO t (a) SETTINGS x=1 FORMAT Native\n\x01\x02")
	f.Add("$a$ /* /* -- ` \" ' \\")
	f.Fuzz(func(t *testing.T, sql string) {
		st := parseStatement(sql)
		if len(st.core()) > len(sql) {
			t.Fatal("core is longer than the statement")
		}
		if ins := st.insert; ins != nil && (ins.data > len(sql) || ins.into+ins.settings != sql[:len(ins.into)+len(ins.settings)]) {
			t.Fatalf("insert %+v is no part of %q", *ins, sql)
		}
	})
}

// TestWithoutOutput drops what a client of the native protocol does itself.
func TestWithoutOutput(t *testing.T) {
	for sql, want := range map[string]string{
		"SELECT 1":                         "SELECT 1",
		"SELECT 1 FORMAT JSON":             "SELECT 1 ",
		"SELECT 1 INTO OUTFILE 'x'":        "SELECT 1 ",
		"SELECT 1 SETTINGS a = 1 FORMAT X": "SELECT 1 SETTINGS a = 1 ",
		"SELECT 1 INTO OUTFILE 'x' TRUNCATE FORMAT X SETTINGS a = 1;": "SELECT 1  SETTINGS a = 1;",
		"SELECT 1 FORMAT X;":                            "SELECT 1  ;",
		"SELECT 'INTO OUTFILE' AS into, outfile FROM t": "SELECT 'INTO OUTFILE' AS into, outfile FROM t",
		"SELECT settings FROM (SELECT 1 AS settings)":   "SELECT settings FROM (SELECT 1 AS settings)",
	} {
		st := parseStatement(sql).withoutOutput()
		if st.sql != want || st.outfile || st.format != "" {
			t.Errorf("%s became %q", sql, st.sql)
		}
	}
}

// FuzzWithoutOutput: a statement only becomes shorter, but for one blank, and one
// without a clause for output stays what it is.
func FuzzWithoutOutput(f *testing.F) {
	f.Add("SELECT 1 INTO OUTFILE 'x' FORMAT X SETTINGS a = 1;")
	f.Add("(FORMAT x; INTO OUTFILE) `")
	f.Fuzz(func(t *testing.T, sql string) {
		st := parseStatement(sql)
		out := st.withoutOutput()
		plain := !st.outfile && st.format == "" && st.tail == len(st.sql) && st.insert == nil
		if len(out.sql) > len(st.sql)+1 || plain && out.sql != st.sql {
			t.Fatalf("%q became %q", st.sql, out.sql)
		}
	})
}
