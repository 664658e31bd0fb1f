package embedded_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"zyklus/sinks/embedded/embeddedtest"
)

// params makes URL parameters of names and values in turn.
func params(pairs ...string) url.Values {
	v := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
	}
	return v
}

// eventually polls until the statement's answer is as wanted.
func eventually(t testing.TB, addr, sql, want string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		a := post(t, addr, nil, sql)
		if a.body == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: status %d, %q instead of %q", sql, a.status, a.body, want)
		}
	}
}

// TestSession checks what stays in a session and what ends with a request.
func TestSession(t *testing.T) {
	_, addr := open(t, 0)
	s := func(pairs ...string) url.Values { return params(append(pairs, "session_id", t.Name())...) }
	post(t, addr, s(), "CREATE TEMPORARY TABLE kept (a UInt8, s LowCardinality(String))").want(t, 200, "")
	post(t, addr, s(), "INSERT INTO kept FORMAT TSV\n1\tx\n2\ty\n").want(t, 200, "")
	post(t, addr, s(), "SET max_block_size = 7").want(t, 200, "")
	post(t, addr, s(), "USE test_TestSession").want(t, 200, "")
	state := "SELECT currentDatabase(), getSetting('max_block_size'), getSetting('max_threads') = 3, (SELECT sum(a) FROM kept)"
	post(t, addr, s(), state).want(t, 200, "test_TestSession\t7\t0\t3\n")
	post(t, addr, s("max_block_size", "9", "max_threads", "3", "database", "system"), state).want(t, 200, "system\t9\t1\t3\n")
	post(t, addr, s("max_block_size", "9", "database", "system"), "SELECT nope").wantException(t, 404, "47")
	post(t, addr, s("no_such_setting", "1"), "SELECT 1").wantException(t, 404, "115")
	post(t, addr, s("database", "nope"), "SELECT 1").wantException(t, 404, "81")
	post(t, addr, s(), "SET max_threads = 1, readonly = 1").wantException(t, 501, "48")
	post(t, addr, s("readonly", "1"), "SET max_threads = 1").wantException(t, 500, "164")
	post(t, addr, s("readonly", "1"), "DROP DATABASE test_TestSession").wantException(t, 500, "164")
	get(t, addr, "/?session_id="+t.Name()+"&query=DROP+TABLE+kept").wantException(t, 500, "164")
	post(t, addr, s(), state).want(t, 200, "test_TestSession\t7\t0\t3\n")
	post(t, addr, params("session_id", "other", "session_timeout", "1"), "SELECT * FROM kept").wantException(t, 404, "60")
	post(t, addr, s("close_session", "1"), "SELECT sum(a) FROM kept").want(t, 200, "3\n")
	post(t, addr, s("session_check", "1"), "SELECT 1").wantException(t, 500, "372")
	post(t, addr, s(), "SELECT * FROM kept").wantException(t, 404, "60")
}

func TestSessionParameters(t *testing.T) {
	addr := embeddedtest.StartClickHouse(t)
	post(t, addr, params("session_id", ""), "SELECT 1").wantException(t, 500, "744")
	post(t, addr, params("session_id", "x", "session_timeout", "soon"), "SELECT 1").wantException(t, 500, "374")
	post(t, addr, params("session_id", "x", "session_timeout", "3601"), "SELECT 1").wantException(t, 500, "374")
	post(t, addr, params("session_id", "never seen", "session_check", "1"), "SELECT 1").wantException(t, 500, "372")
}

// TestSessionEnds waits for an idle session to end, and its table with it.
func TestSessionEnds(t *testing.T) {
	t.Parallel() // it only waits
	addr := embeddedtest.StartClickHouse(t)
	s := params("session_id", t.Name(), "session_timeout", "1")
	post(t, addr, s, "CREATE TEMPORARY TABLE short (a UInt8)").want(t, 200, "")
	s.Set("session_check", "1")
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(1500 * time.Millisecond) {
		if a := post(t, addr, s, "SELECT 1"); a.status != 200 {
			a.wantException(t, 500, "372")
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the session does not end")
		}
	}
}

// TestSessionIsLocked uses one session twice at a time.
func TestSessionIsLocked(t *testing.T) {
	addr := embeddedtest.StartClickHouse(t)
	done := make(chan answer, 1)
	go func() {
		done <- post(t, addr, params("session_id", t.Name(), "query_id", "locker"), "SELECT sleepEachRow(3) FROM numbers(100) SETTINGS max_block_size = 1, function_sleep_max_microseconds_per_block = 0")
	}()
	eventually(t, addr, "SELECT count() FROM system.processes WHERE query_id = 'locker'", "1\n")
	post(t, addr, params("session_id", t.Name()), "SELECT 1").wantException(t, 500, "373")
	post(t, addr, params("session_id", t.Name()+" other"), "SELECT 1").want(t, 200, "1\n")
	post(t, addr, nil, "KILL QUERY WHERE query_id = 'locker' SYNC FORMAT Null").want(t, 200, "")
	(<-done).wantException(t, 500, "394")
	post(t, addr, params("session_id", t.Name()), "SELECT 1").want(t, 200, "1\n")
}

// TestManySessions opens more sessions than there may be.
func TestManySessions(t *testing.T) {
	ch := startOwn(t)
	for i := range 256 {
		post(t, ch.Addr(), params("session_id", strings.Repeat("x", i+1)), "SELECT 1").want(t, 200, "1\n")
	}
	post(t, ch.Addr(), params("session_id", "one more"), "SELECT 1").wantException(t, 500, "700")
	post(t, ch.Addr(), params("session_id", "x", "close_session", "1"), "SELECT 1").want(t, 200, "1\n")
	post(t, ch.Addr(), params("session_id", "one more"), "SELECT 1").want(t, 200, "1\n")
}

func TestQueryIDs(t *testing.T) {
	addr := embeddedtest.StartClickHouse(t)
	const forever = "SELECT count(sipHash64(number)) FROM numbers(100000000000)"
	id := "it's (mine).zyklus"
	mine := params("query_id", id)
	run := func() chan answer {
		done := make(chan answer, 1)
		go func() { done <- post(t, addr, mine, forever) }()
		eventually(t, addr, `SELECT count() FROM system.processes AS p WHERE p.query_id = 'it\'s (mine).zyklus' AND p.is_cancelled = 0`, "1\n")
		return done
	}
	first := run()
	post(t, addr, mine, "SELECT 1").wantException(t, 500, "216")
	post(t, addr, params("query_id", id, "replace_running_query", "1"), "SELECT 2").want(t, 200, "2\n")
	(<-first).wantException(t, 500, "394")
	second := run()
	post(t, addr, nil, "KILL QUERY WHERE query_id = 'it''s (mine).zyklus' SYNC FORMAT Null").want(t, 200, "")
	(<-second).wantException(t, 500, "394")
	post(t, addr, mine, "SELECT 3").want(t, 200, "3\n")
	if a := get(t, addr, "/?query=SELECT+1&query_id=plain"); a.header.Get("X-ClickHouse-Query-Id") != "plain" {
		t.Fatal(a.header)
	}
}

// TestClientGoes ends the statement of a client that goes away.
func TestClientGoes(t *testing.T) {
	addr := embeddedtest.StartClickHouse(t)
	for _, extra := range []string{"", "&send_progress_in_http_headers=1"} {
		req, err := http.NewRequest(http.MethodPost, "http://"+addr+"/?query_id=goner"+extra, strings.NewReader("SELECT count(sipHash64(number)) FROM numbers(100000000000)"))
		if err != nil {
			t.Fatal(err)
		}
		client := http.Client{Transport: &http.Transport{}, Timeout: 500 * time.Millisecond}
		if res, err := client.Do(req); err == nil {
			_ = res.Body.Close()
			t.Fatal("an answer")
		}
		client.CloseIdleConnections()
		eventually(t, addr, "SELECT count() FROM system.processes WHERE query_id = 'goner'", "0\n")
	}
}
