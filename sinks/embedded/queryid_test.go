package embedded

import (
	"strings"
	"testing"
)

func TestWithQueryIDs(t *testing.T) {
	for _, c := range []struct {
		sql, verb string
		changed   bool
	}{
		{"KILL QUERY WHERE query_id = 'x'", "KILL", true},
		{"KILL QUERY WHERE query = 'query_id'", "KILL", false},
		{"SELECT * FROM system.processes", "SELECT", true},
		{"SELECT * FROM numbers(1) JOIN system . processes AS p ON 1", "SELECT", true},
		{"SELECT * FROM system.processes_list", "SELECT", false},
		{"SELECT 'FROM system.processes' /* FROM system.processes */", "SELECT", false},
		{"SHOW INDEXES FROM system.processes", "SHOW", false},
		{"EXISTS system.processes", "EXISTS", false},
	} {
		if got := withQueryIDs(c.sql, c.verb); (got != c.sql) != c.changed {
			t.Errorf("%s became %s", c.sql, got)
		}
	}
}

// FuzzReplaceTokens replaces tokens by themselves and by others: the first
// changes nothing but the case of letters, the second leaves none to be found.
func FuzzReplaceTokens(f *testing.F) {
	f.Add("SELECT * FROM system.processes WHERE a = 'FROM system.processes' -- from")
	f.Add("from SYSTEM /* $a$ */ . `x`.processes$$")
	pattern := []string{"system", ".", "processes"}
	f.Fuzz(func(t *testing.T, sql string) {
		if got := replaceTokens(sql, []string{"query_id"}, "query_id"); !strings.EqualFold(got, sql) {
			t.Fatalf("%q became %q", sql, got)
		}
		once := replaceTokens(sql, pattern, "(x)")
		if again := replaceTokens(once, pattern, "(x)"); again != once {
			t.Fatalf("%q became %q, then %q", sql, once, again)
		}
	})
}

// FuzzNumberedColumns gives each type its number: as many columns as there are
// commas outside brackets, and nothing else changes but blanks.
func FuzzNumberedColumns(f *testing.F) {
	f.Add("UInt8, Decimal(9, 2),Enum8('a,b' = 1, 'c)' = 2)")
	f.Add("")
	f.Fuzz(func(t *testing.T, types string) {
		columns := numberedColumns(types)
		if !strings.HasPrefix(columns, "_1 ") {
			t.Fatalf("%q became %q", types, columns)
		}
	})
}
