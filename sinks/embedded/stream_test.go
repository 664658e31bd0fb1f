package embedded_test

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"zyklus/sinks/embedded"
	"zyklus/sinks/embedded/embeddedtest"
)

// TestLargerThanMemory reads the beginning and then all of a result of 1 GB
// from a server that must not hold it.
func TestLargerThanMemory(t *testing.T) {
	ch := startOwn(t)
	res, err := http.Post("http://"+ch.Addr()+"/?query_id=large", "", strings.NewReader("SELECT number FROM numbers(120000000) FORMAT Native"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if _, err := io.CopyN(io.Discard, res.Body, 1<<20); err != nil {
		t.Fatal(err)
	}
	eventually(t, ch.Addr(), "SELECT count() FROM system.processes WHERE query_id = 'large'", "1\n")
	n, err := io.Copy(io.Discard, res.Body)
	if err != nil || n < 900_000_000 {
		t.Fatalf("%d bytes, error %v", n, err)
	}
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(ch.Pid()), "status"))
	if err != nil {
		t.Fatal(err)
	}
	peak := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	if kb, err := strconv.Atoi(string(peak[1])); err != nil || kb > 600<<10 {
		t.Fatalf("the server came to hold %d MB, error %v", kb>>10, err)
	}
}

// TestFormatsInPieces compares results of several pieces with what they must be.
func TestFormatsInPieces(t *testing.T) {
	addr := embeddedtest.StartClickHouse(t)
	const rows = 200_000
	var doc struct {
		Data []struct{ N, S string }
		Rows int
	}
	a := post(t, addr, nil, "SELECT toString(number) AS N, toString(number * 7) AS S FROM numbers(200000) FORMAT JSON")
	if err := json.Unmarshal([]byte(a.body), &doc); err != nil || doc.Rows != rows || len(doc.Data) != rows || doc.Data[rows-1].S != "1399993" {
		t.Fatalf("%d rows, error %v", doc.Rows, err)
	}
	a = post(t, addr, nil, "SELECT number FROM numbers(200000) FORMAT CSVWithNames")
	if lines := strings.Split(a.body, "\n"); len(lines) != rows+2 || lines[0] != `"number"` || lines[rows] != "199999" {
		t.Fatalf("%d lines", len(lines))
	}
	a = post(t, addr, nil, "SELECT number % 3 AS n, count() FROM numbers(300000) GROUP BY n WITH TOTALS ORDER BY n FORMAT TSVWithNames")
	a.want(t, 200, "n\tcount()\n0\t100000\n1\t100000\n2\t100000\n\n0\t300000\n")
	for _, format := range []string{"Parquet", "ArrowStream", "ORC", "Avro", "RowBinary", "Native", "MsgPack", "CSV"} {
		sql := "SELECT number, toString(number) AS s FROM numbers(200000) -- end"
		a := post(t, addr, params("default_format", format), sql)
		if a.status != 200 || a.header.Get("X-ClickHouse-Format") != format {
			t.Fatalf("%s: %d %q", format, a.status, a.body[:min(len(a.body), 200)])
		}
		readBack(t, addr, format, a.body)
	}
}

// readBack inserts a result in its own format and counts what arrives.
func readBack(t *testing.T, addr, format, data string) {
	t.Helper()
	post(t, addr, nil, "CREATE OR REPLACE TABLE read_back (number UInt64, s String) ENGINE = Memory").want(t, 200, "")
	post(t, addr, params("query", "INSERT INTO read_back FORMAT "+format), data).want(t, 200, "")
	post(t, addr, nil, "SELECT count(), sum(number), sum(length(s)) FROM read_back").want(t, 200, "200000\t19999900000\t1088890\n")
}

// TestExceptionInTheMiddle fails a statement after part of its result was sent,
// and early enough that nothing was.
func TestExceptionInTheMiddle(t *testing.T) {
	addr := embeddedtest.StartClickHouse(t)
	const late = "SELECT number, throwIf(number = 3000000, 'too far') FROM numbers(4000000)"
	res, err := http.Post("http://"+addr+"/", "", strings.NewReader(late))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	tag := res.Header.Get("X-ClickHouse-Exception-Tag")
	if res.StatusCode != 200 || err == nil || len(tag) != 16 {
		t.Fatalf("status %d, error %v, tag %q", res.StatusCode, err, tag)
	}
	tail := regexp.MustCompile(`(?s)\r\n__exception__\r\n` + tag + `\r\n(Code: 395\. DB::Exception: too far.*\n)(\d+) ` + tag + `\r\n__exception__\r\n$`).FindSubmatch(body)
	if tail == nil || strconv.Itoa(len(tail[1])) != string(tail[2]) {
		t.Fatalf("%q", body[max(0, len(body)-500):])
	}
	post(t, addr, params("wait_end_of_query", "1"), late).wantException(t, 500, "395")
	post(t, addr, nil, "SELECT throwIf(number = 1000) FROM numbers(2000) FORMAT JSON").wantException(t, 500, "395")
	a := post(t, addr, params("wait_end_of_query", "1"), "SELECT number FROM numbers(1000000)")
	if a.status != 200 || len(a.body) != 6888890 || !strings.Contains(a.header.Get("X-ClickHouse-Summary"), `"read_rows":"1000000"`) {
		t.Fatal(a.status, len(a.body), a.header)
	}
}

// TestProgressHeaders reads the headers of a long statement as they come.
func TestProgressHeaders(t *testing.T) {
	addr := embeddedtest.StartClickHouse(t)
	const slow = "SELECT sum(sleepEachRow(0.05)) FROM numbers(20) SETTINGS max_block_size = 1"
	talked := 0
	talk := func(sql string) (lines []string) {
		talked++ // an answer may be complete a moment before its statement counts as over
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		_, _ = fmt.Fprintf(conn, "POST /?send_progress_in_http_headers=1&http_headers_progress_interval_ms=50&query_id=%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s",
			url.QueryEscape(fmt.Sprint(t.Name(), talked)), len(sql), sql)
		_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
		scanner := bufio.NewScanner(conn)
		for scanner.Scan() {
			lines = append(lines, scanner.Text())
			if scanner.Text() == "0" {
				break
			}
		}
		return lines
	}
	lines := talk(slow)
	text := strings.Join(lines, "\n")
	if lines[0] != "HTTP/1.1 200 OK" || strings.Count(text, "X-ClickHouse-Progress: {\"read_rows\":") < 3 ||
		strings.Count(text, "X-Clickhouse-Summary: {\"read_rows\":\"20\"") != 1 || strings.Count(text, "Content-Type: ") != 1 || !strings.HasSuffix(text, "\n\n2\n0") {
		t.Fatal(text)
	}
	text = strings.Join(talk("SELECT sum(sleepEachRow(0.05)), throwIf(max(number) = 19) FROM numbers(20) SETTINGS max_block_size = 1"), "\n")
	if !strings.Contains(text, "X-Clickhouse-Exception-Code: 395\n") || !strings.Contains(text, "\nCode: 395. DB::Exception") {
		t.Fatal(text)
	}
	// A short statement has an ordinary answer, and Go's client reads either.
	post(t, addr, params("send_progress_in_http_headers", "1"), "SELECT 1").want(t, 200, "1\n")
	post(t, addr, params("send_progress_in_http_headers", "1"), slow).want(t, 200, "0\n")
	post(t, addr, params("send_progress_in_http_headers", "1"), "SELECT nope").wantException(t, 404, "47")
}

// TestResponseEncodings reads a long result in each encoding.
func TestResponseEncodings(t *testing.T) {
	addr := embeddedtest.StartClickHouse(t)
	const sql = "SELECT number FROM numbers(300000)"
	want := post(t, addr, nil, sql).body
	readers := map[string]func(io.Reader) (io.Reader, error){
		"gzip":    func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
		"deflate": func(r io.Reader) (io.Reader, error) { return zlib.NewReader(r) },
		"br":      func(r io.Reader) (io.Reader, error) { return brotli.NewReader(r), nil },
		"zstd":    func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r) },
		"lz4":     func(r io.Reader) (io.Reader, error) { return lz4.NewReader(r), nil },
	}
	for name, reader := range readers {
		a := post(t, addr, nil, sql, "Accept-Encoding", name)
		if a.header.Get("Content-Encoding") != name {
			t.Fatalf("%s: %v", name, a.header)
		}
		r, err := reader(strings.NewReader(a.body))
		if err != nil {
			t.Fatal(name, err)
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != want {
			t.Fatalf("%s: %d bytes, error %v", name, len(got), err)
		}
	}
	if a := post(t, addr, params("enable_http_compression", "0"), sql, "Accept-Encoding", "gzip"); a.body != want {
		t.Fatal(a.header)
	}
	var raw bytes.Buffer
	w, _ := flate.NewWriter(&raw, 1)
	_, _ = w.Write([]byte("SELECT 1"))
	_ = w.Close()
	post(t, addr, nil, raw.String(), "Content-Encoding", "deflate").wantException(t, 500, "271")
}

// TestExternalTables sends tables along with a statement.
func TestExternalTables(t *testing.T) {
	addr := embeddedtest.StartClickHouse(t)
	form := func(fields map[string]string, files map[string]string) (body, contentType string) {
		var buf bytes.Buffer
		w := multipart.NewWriter(&buf)
		for name, value := range fields {
			_ = w.WriteField(name, value)
		}
		for name, data := range files {
			part, _ := w.CreateFormFile(name, name)
			_, _ = io.WriteString(part, data)
		}
		_ = w.Close()
		return buf.String(), w.FormDataContentType()
	}
	body, kind := form(map[string]string{"b_types": "UInt8, Decimal(9, 2)", "b_format": "CSV"}, map[string]string{"a": "1\tx\n2\ty\n", "b": "2,1.5\n"})
	p := params("query", "SELECT s, _2 FROM a JOIN b ON a.n = b._1", "a_structure", "n UInt8, s String")
	for _, session := range []string{"", "", t.Name(), t.Name()} {
		if session != "" {
			p.Set("session_id", session)
		}
		post(t, addr, p, body, "Content-Type", kind).want(t, 200, "y\t1.5\n")
	}
	post(t, addr, params("session_id", t.Name()), "SELECT * FROM a").wantException(t, 404, "60")
	p.Del("a_structure")
	post(t, addr, p, body, "Content-Type", kind).wantException(t, 400, "36")
	p.Set("a_structure", "n UInt8, s NoType")
	post(t, addr, p, body, "Content-Type", kind).wantException(t, 404, "50")
	p.Set("a_structure", "n UInt8")
	if a := post(t, addr, p, body, "Content-Type", kind); a.status != 400 {
		t.Fatal(a)
	}
}

// TestMethodsAndLimits tries what is neither a plain GET nor a plain POST.
func TestMethodsAndLimits(t *testing.T) {
	addr := embeddedtest.StartClickHouse(t)
	for method, want := range map[string]int{http.MethodHead: 200, http.MethodOptions: 501, http.MethodPut: 501} {
		req, err := http.NewRequest(method, "http://"+addr+"/?query=SELECT+1", nil)
		if err != nil {
			t.Fatal(err)
		}
		a := do(t, req)
		if a.status != want || method == http.MethodHead && (a.body != "" || a.header.Get("X-ClickHouse-Summary") == "") {
			t.Fatal(method, a)
		}
		for name := range a.header {
			if strings.HasPrefix(name, "Access-Control-Allow") {
				t.Fatal(method, a.header)
			}
		}
	}
	post(t, addr, params("max_result_rows", "10"), "SELECT number FROM numbers(100)").wantException(t, 500, "396")
	post(t, addr, params("max_query_size", "10"), "SELECT number FROM numbers(100)").wantException(t, 400, "62")
	post(t, addr, params("max_query_size", "40"), "SELECT number FROM numbers(1)").want(t, 200, "0\n")
	long := "SELECT '" + strings.Repeat("x", 300_000) + "'"
	post(t, addr, nil, long).wantException(t, 400, "62")
	post(t, addr, params("max_query_size", "1000000"), "SELECT length("+long[7:]+")").want(t, 200, "300000\n")
	post(t, addr, params("max_execution_time", "0.2"), "SELECT count(sipHash64(number)) FROM numbers(100000000000)").wantException(t, 408, "159")
	post(t, addr, nil, "SELECT 1 INTO OUTFILE '/tmp/no'").wantException(t, 500, "358")
	post(t, addr, nil, "INSERT INTO x FROM INFILE '/etc/passwd' FORMAT LineAsString").wantException(t, 404, "78")
	get(t, addr, "/?query=WITH+1+AS+x+INSERT+INTO+t+SELECT+x").wantException(t, 500, "164")
	get(t, addr, "/?readonly=0&query=CREATE+DATABASE+x").wantException(t, 500, "164")
	get(t, addr, "/?query=SELECT+1+SETTINGS+max_threads%3D1").want(t, 200, "1\n")
	post(t, addr, nil, "SELECT 'INTO OUTFILE', (1) AS outfile;").want(t, 200, "INTO OUTFILE\t1\n")
}

// TestReadingStatements runs every kind of statement that has a result: each is
// rewritten so that its result can be sent in pieces.
func TestReadingStatements(t *testing.T) {
	_, addr := open(t, 0)
	db := params("database", "test_TestReadingStatements")
	post(t, addr, db, "CREATE TABLE r (a UInt8) ENGINE = MergeTree ORDER BY a").want(t, 200, "")
	for sql, want := range map[string]string{
		"(SELECT 1) UNION ALL (SELECT 1)":                          "1\n1\n",
		"FROM numbers(2) SELECT number":                            "0\n1\n",
		"WITH 1 AS x SELECT x FORMAT CSV SETTINGS max_threads = 1": "1\n",
		"SELECT 1 AS format -- FORMAT JSON":                        "1\n",
		"SELECT 1 FORMAT JSONCompactEachRow; # end":                "[1]\n",
		"SHOW TABLES":                        "r\n",
		"SHOW COLUMNS FROM r":                "a\tUInt8\tNO\tPRI SOR\t\\N\t\n",
		"DESCRIBE TABLE r":                   "a\tUInt8\t\t\t\t\t\n",
		"EXISTS r":                           "1\n",
		"EXISTS system.processes":            "1\n",
		"CHECK TABLE r":                      "",
		"EXPLAIN SYNTAX SELECT 1 FORMAT TSV": "SELECT 1\nFROM system.one\n",
		"SELECT 1 FORMAT Null":               "",
		"1 + 1":                              "2\n",
	} {
		if a := post(t, addr, db, sql); a.status != 200 || a.body != want {
			t.Errorf("%s: status %d, %q", sql, a.status, a.body)
		}
	}
	a := post(t, addr, db, "SELECT (")
	if a.wantException(t, 400, "62"); strings.Contains(a.body, "OUTFILE") {
		t.Fatal(a.body)
	}
	post(t, addr, db, "SHOW CREATE TABLE system.processes").wantException(t, 404, "60") // and no syntax error
}

// TestSilentClient begins to read results, one over each protocol, and then reads
// no more: in the end their statements are killed.
func TestSilentClient(t *testing.T) {
	ch := startWith(t, embedded.Options{Args: []string{"clickhouse", "--send-timeout", "1s"}})
	conn, err := net.Dial("tcp", ch.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, "GET /?query_id=silent&query=SELECT+number+FROM+numbers(10000000000) HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := io.CopyN(io.Discard, conn, 1<<20); err != nil {
		t.Fatal(err)
	}
	native := greet(t, ch.NativeAddr(), 54460)
	native.ask("silent too", "SELECT number FROM numbers(10000000000)", nil)
	for rows := 0; rows == 0; {
		rows += native.someRows()
	}
	eventually(t, ch.Addr(), "SELECT count() FROM system.processes WHERE query_id LIKE 'silent%'", "0\n")
}

// TestUntranslatableNative asks for a type whose Native form only the engine
// knows, in the form of a newer revision and in the plain one.
func TestUntranslatableNative(t *testing.T) {
	addr := embeddedtest.StartClickHouse(t)
	const sql = "SELECT sumState(number) FROM numbers(3) FORMAT Native"
	post(t, addr, params("client_protocol_version", "54460"), sql).wantException(t, 500, "1000")
	if a := post(t, addr, nil, sql); a.status != 200 || !strings.Contains(a.body, "AggregateFunction(sum, UInt64)") {
		t.Fatal(a)
	}
}

// TestLateErrorReachesClients fails statements in the middle of their results:
// no client may take what it got for the whole.
func TestLateErrorReachesClients(t *testing.T) {
	for name, method := range methods() {
		t.Run(name, func(t *testing.T) {
			conn, _ := open(t, method)
			rows, err := conn.Query(context.Background(), "SELECT number, throwIf(number = 3000000, 'too far') FROM numbers(4000000)")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = rows.Close() }()
			n := 0
			for rows.Next() {
				n++
			}
			if err := rows.Err(); err == nil || n >= 3_000_000 || n == 0 {
				t.Fatalf("%d rows, error %v", n, err)
			}
			t.Logf("%d rows, then: %v", n, rows.Err())
		})
	}
}
