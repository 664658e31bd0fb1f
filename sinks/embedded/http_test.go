package embedded_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"zyklus/sinks/embedded/embeddedtest"
)

// answer is what came back for a raw request.
type answer struct {
	status int
	header http.Header
	body   string
}

// post sends a statement and data as curl would.
func post(t testing.TB, addr string, params url.Values, body string, header ...string) answer {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, "http://"+addr+"/?"+params.Encode(), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return do(t, req)
}

func do(t testing.TB, req *http.Request) answer {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableCompression: true}}
	defer client.CloseIdleConnections()
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(body)}
}

func get(t testing.TB, addr, target string) answer {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://"+addr+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	return do(t, req)
}

func (a answer) want(t testing.TB, status int, body string) {
	t.Helper()
	if a.status != status || a.body != body {
		t.Fatalf("status %d, body %q; want %d, %q", a.status, a.body, status, body)
	}
}

// wantException checks status, code and the beginning of the text.
func (a answer) wantException(t testing.TB, status int, code string) {
	t.Helper()
	if a.status != status || a.header.Get("X-ClickHouse-Exception-Code") != code || !strings.HasPrefix(a.body, "Code: "+code+". DB::Exception: ") {
		t.Fatalf("status %d, code %s, body %q; want %d, %s", a.status, a.header.Get("X-ClickHouse-Exception-Code"), a.body, status, code)
	}
}

func TestGet(t *testing.T) {
	addr := embeddedtest.StartClickHouse(t)
	get(t, addr, "/").want(t, 200, "Ok.\n")
	get(t, addr, "/ping").want(t, 200, "Ok.\n")
	get(t, addr, "/?query=SELECT%201").want(t, 200, "1\n")
	get(t, addr, "/?query=SELECT+1+AS+x+FORMAT+JSONEachRow").want(t, 200, "{\"x\":1}\n")
	get(t, addr, "/?query=SELECT+1,2&default_format=CSV").want(t, 200, "1,2\n")
	get(t, addr, "/?query=SELECT+{a:Array(UInt8)},{s:String}&param_a=[1,2]&param_s=a%5Ctb").want(t, 200, "[1,2]\ta\\tb\n")
	get(t, addr, "/?query=CREATE+DATABASE+x").wantException(t, 500, "164")
	get(t, addr, "/?query=SELECT+*+FROM+nope").wantException(t, 404, "60")
	get(t, addr, "/?query=SELEC").wantException(t, 404, "47")
	get(t, addr, "/?query=SELECT+(").wantException(t, 400, "62")
	get(t, addr, "/?query=SELECT+1%3B+SELECT+2").wantException(t, 400, "62")
	get(t, addr, "/?query=SELECT+1&no_such_setting=1").wantException(t, 404, "115")
	get(t, addr, "/?query=SELECT+1&bad%20name=1").wantException(t, 404, "115")
	get(t, addr, "/?query=SELECT+1&database=nope").wantException(t, 404, "81")
	get(t, addr, "/?query=SELECT+1&client_protocol_version=x").wantException(t, 400, "36")
	if a := get(t, addr, "/nothing"); a.status != 404 {
		t.Fatal(a)
	}
}

func TestHeaders(t *testing.T) {
	addr := embeddedtest.StartClickHouse(t)
	a := post(t, addr, url.Values{"query_id": {"my-id"}}, "SELECT number FROM numbers(10) FORMAT JSON")
	if a.header.Get("X-ClickHouse-Query-Id") != "my-id" || a.header.Get("X-ClickHouse-Format") != "JSON" ||
		!strings.HasPrefix(a.header.Get("Content-Type"), "application/json") ||
		!strings.Contains(a.header.Get("X-ClickHouse-Summary"), `"read_rows":"10"`) || a.header.Get("X-ClickHouse-Timezone") == "" {
		t.Fatal(a.header)
	}
}

// TestInsertFormats sends statement and data in every division over URL and body.
func TestInsertFormats(t *testing.T) {
	_, addr := open(t, 0)
	db := url.Values{"database": {"test_TestInsertFormats"}}
	post(t, addr, db, "CREATE TABLE f (a UInt64, s String) ENGINE = MergeTree ORDER BY a").want(t, 200, "")
	for i, c := range []struct{ query, body string }{
		{"", "INSERT INTO f FORMAT JSONEachRow\n{\"a\":1,\"s\":\"x\"}\n"},
		{"", "INSERT INTO f FORMAT JSONEachRow {\"a\":1,\"s\":\"x\"}"},
		{"INSERT INTO f FORMAT JSONEachRow", "{\"a\":1,\"s\":\"x\"}"},
		{"INSERT INTO f FORMAT CSV\n", "1,x\n"},
		{"insert into f (s, a) format TSV", "x\t1\n"},
		{"INSERT INTO f VALUES", "(1, 'x')"},
		{"INSERT INTO f", "VALUES (1, 'x')"},
		{"", "INSERT INTO f (a, s) VALUES (2 - 1, lower('X'))"},
		{"INSERT INTO f SETTINGS max_insert_threads = 1 FORMAT Values", "(1, 'x')"},
		{"/* FORMAT TSV */ INSERT INTO `test_TestInsertFormats`.f -- FORMAT CSV\n FORMAT TSV", "1\tx\n"},
		{"INSERT INTO f SELECT 1, 'x'", ""},
		{"INSERT INTO FUNCTION remote('127.0.0.1', currentDatabase(), 'f') SELECT 1, 'x'", ""},
	} {
		if strings.Contains(c.query, "remote") {
			continue // no server listens on the native port
		}
		params := url.Values{"database": db["database"]}
		if c.query != "" {
			params.Set("query", c.query)
		}
		post(t, addr, params, c.body).want(t, 200, "")
		if a := post(t, addr, db, "SELECT a, s FROM f"); a.body != "1\tx\n" {
			t.Fatalf("case %d: %q", i, a.body)
		}
		post(t, addr, db, "TRUNCATE TABLE f").want(t, 200, "")
	}
	post(t, addr, db, "INSERT INTO f FORMAT JSONEachRow {\"a\":\"no number\"}").wantException(t, 400, "27")
	post(t, addr, db, "INSERT INTO nope FORMAT JSONEachRow {\"a\":1}").wantException(t, 404, "60")
	post(t, addr, db, "INSERT INTO f FORMAT NoFormat 1").wantException(t, 404, "73")
	post(t, addr, db, "INSERT INTO f FORMAT TSV").want(t, 200, "")
	post(t, addr, db, "SELECT count() FROM f").want(t, 200, "0\n")
}

func TestLargeTextInsert(t *testing.T) {
	_, addr := open(t, 0)
	db := url.Values{"database": {"test_TestLargeTextInsert"}}
	post(t, addr, db, "CREATE TABLE big (a UInt64) ENGINE = MergeTree ORDER BY a").want(t, 200, "")
	var values, lines strings.Builder
	for i := range 200000 {
		fmt.Fprintf(&values, "(%d),", i)
		fmt.Fprintf(&lines, "%d\n", i)
	}
	post(t, addr, db, "INSERT INTO big VALUES "+values.String()).want(t, 200, "")
	post(t, addr, db, "INSERT INTO big FORMAT TSV\n"+lines.String()).want(t, 200, "")
	post(t, addr, db, "SELECT count(), sum(a) FROM big").want(t, 200, "400000\t39999800000\n")
	long := "SELECT length('" + strings.Repeat("x", 100000) + "')"
	post(t, addr, db, long).want(t, 200, "100000\n")
}

func TestEncodings(t *testing.T) {
	addr := embeddedtest.StartClickHouse(t)
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, _ = w.Write([]byte("SELECT 'zipped'"))
	_ = w.Close()
	post(t, addr, nil, zipped.String(), "Content-Encoding", "gzip").want(t, 200, "zipped\n")
	post(t, addr, nil, "not zipped", "Content-Encoding", "gzip").wantException(t, 500, "271")
	post(t, addr, nil, "SELECT 1", "Content-Encoding", "rot13").wantException(t, 501, "48")
	post(t, addr, url.Values{"decompress": {"1"}}, strings.Repeat("garbage", 10)).wantException(t, 500, "271")
	a := post(t, addr, nil, "SELECT 'plain'", "Accept-Encoding", "gzip;q=1.0, br")
	if a.header.Get("Content-Encoding") != "gzip" {
		t.Fatal(a.header)
	}
	r, err := gzip.NewReader(strings.NewReader(a.body))
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(r); err != nil || string(body) != "plain\n" {
		t.Fatalf("%q, %v", body, err)
	}
}

func TestForm(t *testing.T) {
	addr := embeddedtest.StartClickHouse(t)
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	_ = form.WriteField("query", "SELECT {x:UInt8} + 1")
	_ = form.WriteField("param_x", "41")
	_ = form.Close()
	post(t, addr, nil, body.String(), "Content-Type", form.FormDataContentType()).want(t, 200, "42\n")
}

// TestConnectionsAreClean checks that nothing a request does to its connection
// is seen by the next.
func TestConnectionsAreClean(t *testing.T) {
	addr := embeddedtest.StartClickHouse(t)
	post(t, addr, nil, "CREATE DATABASE IF NOT EXISTS clean").want(t, 200, "")
	for range 20 {
		post(t, addr, url.Values{"database": {"clean"}}, "SELECT currentDatabase()").want(t, 200, "clean\n")
		post(t, addr, nil, "SELECT currentDatabase()").want(t, 200, "default\n")
		post(t, addr, nil, "USE clean").want(t, 200, "")
		post(t, addr, nil, "SET max_block_size = 7").want(t, 200, "")
		post(t, addr, nil, "CREATE TEMPORARY TABLE tmp (a UInt8)").want(t, 200, "")
		post(t, addr, nil, "SELECT currentDatabase(), getSetting('max_block_size')").want(t, 200, "default\t65409\n")
		post(t, addr, nil, "SELECT * FROM tmp").wantException(t, 404, "60")
		post(t, addr, url.Values{"readonly": {"1"}}, "CREATE DATABASE no").wantException(t, 500, "164")
		post(t, addr, url.Values{"log_comment": {"it's mine"}}, "SELECT startsWith(getSetting('log_comment'), 'it''s mine ')").want(t, 200, "1\n")
	}
}

// TestBrokenBodyInsertsNothing cuts an insert's body short.
func TestBrokenBodyInsertsNothing(t *testing.T) {
	_, addr := open(t, 0)
	db := url.Values{"database": {"test_TestBrokenBodyInsertsNothing"}}
	post(t, addr, db, "CREATE TABLE cut (a UInt64) ENGINE = MergeTree ORDER BY a").want(t, 200, "")
	db.Set("query", "INSERT INTO cut FORMAT TSV")
	r, w := io.Pipe()
	req, err := http.NewRequest(http.MethodPost, "http://"+addr+"/?"+db.Encode(), r)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = io.WriteString(w, strings.Repeat("1\n", 100000))
		_ = w.CloseWithError(io.ErrUnexpectedEOF)
	}()
	if res, err := http.DefaultClient.Do(req); err == nil {
		_ = res.Body.Close()
		t.Fatalf("status %d for a broken body", res.StatusCode)
	}
	db.Del("query")
	post(t, addr, db, "SELECT count() FROM cut").want(t, 200, "0\n")
}
