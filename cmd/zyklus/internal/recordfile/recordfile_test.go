package recordfile_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"zyklus/cmd/zyklus/internal/recordfile"
)

const limit = 1000

// read returns a line for each record: where it begins, and what it is or why it is refused. The last line is the error.
func read(in io.Reader, o recordfile.Options) (lines []string) {
	if o.MaxRecord == 0 {
		o.MaxRecord = limit
	}
	r, err := recordfile.Open(in, o)
	if err != nil {
		return []string{"open: " + err.Error()}
	}
	defer r.Close()
	var rec recordfile.Record
	for {
		more, err := r.Next(&rec)
		if err != nil {
			return append(lines, "error: "+err.Error())
		}
		if !more {
			return lines
		}
		text := string(rec.Value)
		if rec.Error != "" {
			text = fmt.Sprintf("%s: %s (%.40s)", rec.Error, rec.Cause, rec.Original)
		}
		lines = append(lines, fmt.Sprintf("%d %s", rec.Line, text))
	}
}

func check(t *testing.T, what, text string, o recordfile.Options, want ...string) {
	t.Helper()
	for _, way := range []struct {
		name string
		wrap func(io.Reader) io.Reader
	}{{"at once", func(r io.Reader) io.Reader { return r }}, {"byte by byte", iotest.OneByteReader}} {
		got := read(way.wrap(strings.NewReader(text)), o)
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s, %s: got\n%s\nwant\n%s", what, way.name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

func TestCSV(t *testing.T) {
	o := recordfile.Options{Format: recordfile.CSV}
	check(t, "plain", "a,b\n1,2\n\n3,\n", o, `2 {"a":"1","b":"2"}`, `4 {"a":"3","b":""}`)
	check(t, "mark, CRLF, no last line feed", "\ufeffa,b\r\n1,2\r\n3,4", o, `2 {"a":"1","b":"2"}`, `3 {"a":"3","b":"4"}`)
	check(t, "quotes", "\"a\",b\n\"x \"\"y\"\", z\",\"\"\n\"1\r\n2\",3\nq\"q,4\n", o,
		`2 {"a":"x \"y\", z","b":""}`, `3 {"a":"1\u000d\u000a2","b":"3"}`, `5 {"a":"q\"q","b":"4"}`)
	check(t, "semicolons", "a;\"b,c,d,e\"\n1,5;2\n", o, `2 {"a":"1,5","b,c,d,e":"2"}`)
	check(t, "tabs", "a\tb,c\n1\t2\n", recordfile.Options{Format: recordfile.CSV, Delimiter: '\t'}, `2 {"a":"1","b,c":"2"}`)
	check(t, "bars", " a | b\n1|2\n", o, `2 {"a":"1","b":"2"}`)
	check(t, "one column", "a\n1\n\"\"\n2\n", o, `2 {"a":"1"}`, `3 {"a":""}`, `4 {"a":"2"}`)
	check(t, "ragged", "a,b\n1\n1,2,3\n4,5\n", o, "2 wrong_number_of_cells: 1 cells, the header has 2 (1)",
		"3 wrong_number_of_cells: 3 cells, the header has 2 (1,2,3)", `4 {"a":"4","b":"5"}`)
	const bad = "a quoted cell has no end"
	check(t, "lost quote", "a,b\n\"1,2\n3,4\n5,6\n", o,
		"2 bad_quotes: the quoted cell 1 is not closed, or text follows behind it; a quote inside is written twice (\"1,2)",
		`3 {"a":"3","b":"4"}`, `4 {"a":"5","b":"6"}`)
	check(t, "text behind a quote", "a,b\n1,\"2\"x\n3,4\n", o,
		"2 bad_quotes: the quoted cell 2 is not closed, or text follows behind it; a quote inside is written twice (1,\"2\"x)", `3 {"a":"3","b":"4"}`)
	check(t, "lost quote at the end", "a,b\n1,2\n3,\"", o, `2 {"a":"1","b":"2"}`, "3 bad_quotes: "+bad+" (3,\")")
	check(t, "not UTF-8", "a,name\n1,M\xfcller\n2,Müller\n", o,
		"2 not_utf8: column \"name\": convert the file to UTF-8, as with iconv -f windows-1252 -t utf-8 (1,M\xfcller)", `3 {"a":"2","name":"Müller"}`)
	long := strings.Repeat("x", 10*limit)
	large := "too_large: longer than the 1000 bytes that the source takes (max_record) (" + long[:40] + ")"
	check(t, "long row", "a\n"+long+"\n1\n", o, "2 "+large, `3 {"a":"1"}`)
	check(t, "empty", "", o, "open: the file is empty: the first line must name the columns")
	check(t, "UTF-16", "\xff\xfea\x00", o, "open: the text is UTF-16: convert it to UTF-8 first, as with iconv -f utf-16 -t utf-8")
	check(t, "header only", "a,b", o)
	check(t, "empty lines", "\n\na\n\n\n\n1\n\n\n\"\"\n\n\n", o, `7 {"a":"1"}`, `10 {"a":""}`)
}

func TestNDJSON(t *testing.T) {
	o := recordfile.Options{Format: recordfile.NDJSON}
	check(t, "lines", "\ufeff{\"a\":1}\r\n\n  {\"b\":2}  \nnot JSON\n{\"c\":", o, `1 {"a":1}`, `3 {"b":2}`, "4 not JSON", `5 {"c":`)
	long := strings.Repeat("x", 300*limit)
	check(t, "long lines", "1\n"+long+"\n2\n"+long[:limit+1]+"\n"+long[:limit]+"\n"+long, o, "1 1",
		"2 too_large: longer than the 1000 bytes that the source takes (max_record) ("+long[:40]+")", "3 2",
		"4 too_large: longer than the 1000 bytes that the source takes (max_record) ("+long[:40]+")", "5 "+long[:limit],
		"6 too_large: longer than the 1000 bytes that the source takes (max_record) ("+long[:40]+")")
	check(t, "empty", "", o)
	check(t, "empty lines", "\n\n\n1\n\n\n\n2\n\n\n", o, "4 1", "8 2")
}

func TestJSON(t *testing.T) {
	o := recordfile.Options{Format: recordfile.JSON}
	check(t, "array", "[\n {\"a\":[1,{\"]\":\"}\\\"\"}]},\n 7, \"x,\\\"]\", {} ]\n", o, `2 {"a":[1,{"]":"}\""}]}`, "3 7", `3 "x,\"]"`, "3 {}")
	check(t, "one after the other", "{\"a\":1}{\"b\":\n2}\n{}", o, `1 {"a":1}`, "1 {\"b\":\n2}", "3 {}")
	check(t, "cut off in a value", `[{"a":1},{"b":`, o, `1 {"a":1}`, "error: line 1: the array has no end: the file is cut off")
	check(t, "cut off between values", "[{\"a\":1},\n", o, `1 {"a":1}`, "error: line 2: the array has no end: the file is cut off")
	check(t, "text behind", `[{"a":1}] x`, o, `1 {"a":1}`, "error: line 1: text follows behind the array")
	check(t, "no end", `{"a":"`+strings.Repeat("x", 5*limit), o,
		"error: line 1: a value is longer than the 1000 bytes that the source takes (max_record), or a bracket or quote is not closed")
	check(t, "empty array", "[]", o)
}

func TestNames(t *testing.T) {
	for name, want := range map[string]recordfile.Options{
		"a/b.csv": {Format: recordfile.CSV}, "x.CSV.GZ": {Format: recordfile.CSV}, "x.tsv.zst": {Format: recordfile.CSV, Delimiter: '\t'},
		"x.ndjson": {Format: recordfile.NDJSON}, "x.jsonl.gz": {Format: recordfile.NDJSON}, "x.json": {Format: recordfile.JSON},
	} {
		if got, ok := recordfile.ByName(name); !ok || got != want {
			t.Errorf("%s: %+v %v", name, got, ok)
		}
	}
	for _, name := range []string{"-", "x", "x.gz", "csv", "x.xlsx"} {
		if got, ok := recordfile.ByName(name); ok {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func gzipped(text []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(text)
	_ = w.Close()
	return b.Bytes()
}

func zstandard(t testing.TB, text []byte) []byte {
	e, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	return e.EncodeAll(text, nil)
}

// TestCompressed cuts compressed files off at every byte: what is read is a beginning of the file, and never half a record.
func TestCompressed(t *testing.T) {
	var rows strings.Builder
	rows.WriteString("a,b\n")
	for i := range 300 {
		fmt.Fprintf(&rows, "%d,%d\n", i, i*i*i%7919)
	}
	o := recordfile.Options{Format: recordfile.CSV}
	whole := read(strings.NewReader(rows.String()), o)
	if len(whole) != 300 {
		t.Fatal(len(whole))
	}
	for name, packed := range map[string][]byte{
		"gzip": gzipped([]byte(rows.String())), "zstd": zstandard(t, []byte(rows.String())),
		"two gzips": append(gzipped([]byte(rows.String()[:777])), gzipped([]byte(rows.String()[777:]))...),
	} {
		if got := read(bytes.NewReader(packed), o); strings.Join(got, "\n") != strings.Join(whole, "\n") {
			t.Errorf("%s: %d records, last %s", name, len(got), got[len(got)-1])
		}
		member := 0 // where a gzip file may end
		if name == "two gzips" {
			member = len(gzipped([]byte(rows.String()[:777])))
		}
		for n := 5; n < len(packed); n++ {
			got := read(bytes.NewReader(packed[:n]), o)
			last := got[len(got)-1]
			if n != member && !strings.Contains(last, "the compressed data is damaged or cut off") {
				t.Errorf("%s, cut off at byte %d of %d: %s", name, n, len(packed), last)
			}
			if n != member && strings.Join(got[:len(got)-1], "\n") != strings.Join(whole[:len(got)-1], "\n") {
				t.Errorf("%s, cut off at byte %d: what is read is no beginning of the file", name, n)
			}
		}
	}
}

// endless repeats a text until so many bytes are read.
type endless struct {
	text string
	at   int
	left int64
}

func (e *endless) Read(p []byte) (int, error) {
	if e.left <= 0 {
		return 0, io.EOF
	}
	n := copy(p, e.text[e.at:])
	e.at = (e.at + n) % len(e.text)
	e.left -= int64(n)
	return n, nil
}

// TestMemory reads streams that are much larger than what may be kept, one of them a single line.
func TestMemory(t *testing.T) {
	for _, c := range []struct {
		format recordfile.Format
		text   string
	}{
		{recordfile.CSV, "name,total\n"}, {recordfile.CSV, "x"}, {recordfile.CSV, "\"\n"}, {recordfile.CSV, "\"x\"\"y\n"},
		{recordfile.NDJSON, "{\"a\":1}\n"}, {recordfile.NDJSON, "x"}, {recordfile.JSON, "{\"a\":1}"},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r, err := recordfile.Open(&endless{text: c.text, left: 24 << 20}, recordfile.Options{Format: c.format, MaxRecord: 100_000})
		if err != nil {
			if c.format == recordfile.CSV && len(c.text) < 8 { // a header that is none
				continue
			}
			t.Fatal(err)
		}
		var rec recordfile.Record
		for more := true; more; {
			if more, err = r.Next(&rec); err != nil {
				t.Fatalf("%s of %q: %v", c.format, c.text, err)
			}
		}
		runtime.ReadMemStats(&after)
		if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > 16<<20 {
			t.Errorf("%s of %q: the heap has grown by %d MiB", c.format, c.text, grown>>20)
		}
	}
}

// FuzzCSV compares with the reader of the standard library where that finds nothing wrong, and checks that every byte of
// other input is accounted for.
func FuzzCSV(f *testing.F) {
	for _, s := range []string{"a,b\n1,2\n", "a;b\r\n\"x\"\"y\";2", "a\n\"1\n2\"\n", "a,b\n\"1,2\n3,4\n", "\ufeffa\n\xff\n", "a,b\n1,\"2\"x\n,,\n\n\"\""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		o := recordfile.Options{Format: recordfile.CSV, Delimiter: ',', MaxRecord: 1 << 20}
		r, err := recordfile.Open(bytes.NewReader(text), o)
		if err != nil {
			return
		}
		defer r.Close()
		reference := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(text, []byte("\ufeff"))))
		reference.FieldsPerRecord = -1
		want, wrong := reference.ReadAll()
		var rec recordfile.Record
		last, rows, clean := int64(0), [][]string{}, true
		for {
			more, err := r.Next(&rec)
			if err != nil {
				t.Fatal(err)
			}
			if !more {
				break
			}
			if rec.Line <= last || rec.Value == nil {
				t.Fatalf("line %d after %d, value %q", rec.Line, last, rec.Value)
			}
			last = rec.Line
			clean = clean && rec.Error == ""
			rows = append(rows, cells(t, r.Columns(), &rec))
		}
		odd := bytes.ContainsAny(text, "\r") || bytes.HasPrefix(text, []byte{0x1f, 0x8b}) || bytes.HasPrefix(text, []byte{0x28, 0xb5, 0x2f, 0xfd})
		if wrong != nil || !clean || odd || unequal(r.Columns()) || len(want) == 0 {
			return
		}
		if len(rows) != len(want)-1 {
			t.Fatalf("%d rows, want %d", len(rows), len(want)-1)
		}
		for i, row := range rows {
			if strings.Join(row, "\x00") != strings.Join(want[i+1], "\x00") {
				t.Errorf("row %d: %q, want %q", i, row, want[i+1])
			}
		}
	})
}

// cells reads a record back.
func cells(t *testing.T, columns []string, rec *recordfile.Record) (row []string) {
	if rec.Error != "" {
		return nil
	}
	var m map[string]string
	if err := json.Unmarshal(rec.Value, &m); err != nil {
		t.Fatalf("%v: %q", err, rec.Value)
	}
	for _, c := range columns {
		row = append(row, m[c])
	}
	return row
}

func unequal(names []string) bool {
	seen := map[string]bool{}
	for _, n := range names {
		if seen[n] {
			return true
		}
		seen[n] = true
	}
	return false
}

// FuzzJSON checks that all values of a JSON text are found, whatever is between them.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{`[{"a":1},{"b":"]\""}]`, "{}\n{}", `[1,[2],"x"]`, `[`, `{"a":`, `]`, `[}`, "\ufeff[]"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got := read(bytes.NewReader(text), recordfile.Options{Format: recordfile.JSON, MaxRecord: 1 << 20})
		var want []json.RawMessage
		if json.Unmarshal(text, &want) != nil || bytes.HasPrefix(text, []byte("null")) {
			return
		}
		for _, line := range got {
			if strings.HasPrefix(line, "error: ") || strings.HasPrefix(line, "open: ") {
				t.Fatal(line)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%d values, want %d", len(got), len(want))
		}
	})
}
