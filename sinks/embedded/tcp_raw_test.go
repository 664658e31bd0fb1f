package embedded_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/sourcegraph/conc"

	"zyklus/sinks/embedded/embeddedtest"
)

// rawConn is a client that sends single packets.
type rawConn struct {
	net.Conn
	t        *testing.T
	in       *proto.Reader
	revision int
}

// dialRaw connects without a hello.
func dialRaw(t *testing.T, addr string, revision int) *rawConn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return &rawConn{nc, t, proto.NewReader(nc), revision}
}

// greet connects and says hello.
func greet(t *testing.T, addr string, revision int) *rawConn {
	t.Helper()
	c := dialRaw(t, addr, revision)
	c.send(proto.ClientHello{Name: "raw", ProtocolVersion: revision}.Encode)
	c.want(proto.ServerCodeHello)
	var h proto.ServerHello
	if err := h.DecodeAware(c.in, revision); err != nil || h.Revision != 54460 || h.Timezone == "" {
		t.Fatal(h, err)
	}
	if proto.FeatureAddendum.In(revision) {
		c.send(func(b *proto.Buffer) { b.PutString("") })
	}
	return c
}

func (c *rawConn) send(encode func(*proto.Buffer)) {
	c.t.Helper()
	var b proto.Buffer
	encode(&b)
	if _, err := c.Write(b.Buf); err != nil {
		c.t.Fatal(err)
	}
}

// query sends a query and the end of its external tables.
func (c *rawConn) query(text string, settings ...proto.Setting) {
	c.t.Helper()
	c.send(func(b *proto.Buffer) {
		proto.Query{
			Body: text, Settings: settings, Stage: proto.StageComplete,
			Info: proto.ClientInfo{Interface: proto.InterfaceTCP, Query: proto.ClientQueryInitial},
		}.EncodeAware(b, c.revision)
	})
	c.data("", nil)
}

// data sends a block; without columns it is the end.
func (c *rawConn) data(table string, input proto.Input) {
	c.t.Helper()
	c.send(func(b *proto.Buffer) {
		proto.ClientCodeData.Encode(b)
		proto.ClientData{TableName: table}.EncodeAware(b, c.revision)
		block := proto.Block{Columns: len(input), Info: proto.BlockInfo{BucketNum: -1}}
		if len(input) > 0 {
			block.Rows = input[0].Data.Rows()
		}
		if err := block.EncodeBlock(b, c.revision, input); err != nil {
			c.t.Fatal(err)
		}
	})
}

func (c *rawConn) want(code proto.ServerCode) {
	c.t.Helper()
	got, err := c.in.ReadByte()
	if err != nil || proto.ServerCode(got) != code {
		c.t.Fatalf("packet %v, error %v, want %v", proto.ServerCode(got), err, code)
	}
}

// wantError reads an exception.
func (c *rawConn) wantError(code int, text string) {
	c.t.Helper()
	c.want(proto.ServerCodeException)
	var e proto.Exception
	if err := e.DecodeAware(c.in, c.revision); err != nil || int(e.Code) != code || !strings.Contains(e.Message, text) {
		c.t.Fatalf("exception %d %q, error %v; want %d, %q", e.Code, e.Message, err, code, text)
	}
}

// wantClosed checks that the server has closed the connection.
func (c *rawConn) wantClosed() {
	c.t.Helper()
	if b, err := c.in.ReadByte(); !errors.Is(err, io.EOF) {
		c.t.Fatalf("byte %d, error %v, want the end", b, err)
	}
}

// rows reads an answer to its end and returns how many rows it had.
func (c *rawConn) rows() (rows int) {
	c.t.Helper()
	for {
		code, err := c.in.ReadByte()
		if err != nil {
			c.t.Fatal(err)
		}
		switch proto.ServerCode(code) {
		case proto.ServerCodeData, proto.ServerProfileEvents:
			rows += c.block(proto.ServerCode(code))
		case proto.ServerCodeProfile:
			err = new(proto.Profile).DecodeAware(c.in, c.revision)
		case proto.ServerCodeProgress:
			err = new(proto.Progress).DecodeAware(c.in, c.revision)
		case proto.ServerCodeEndOfStream:
			return rows
		default:
			c.t.Fatalf("packet %v", proto.ServerCode(code))
		}
		if err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *rawConn) block(code proto.ServerCode) int {
	c.t.Helper()
	if name, err := c.in.Str(); err != nil || name != "" {
		c.t.Fatal(name, err)
	}
	var b proto.Block
	var columns proto.Results
	if err := b.DecodeBlock(c.in, c.revision, columns.Auto()); err != nil {
		c.t.Fatalf("%v: %v", code, err)
	}
	return b.Rows
}

func (c *rawConn) wantAlive() {
	c.t.Helper()
	c.query("SELECT 1")
	if n := c.rows(); n != 1 {
		c.t.Fatalf("%d rows", n)
	}
}

// numbers is a block of one column a.
func numbers(n int) proto.Input {
	var a proto.ColUInt64
	for i := range n {
		a.Append(uint64(i))
	}
	return proto.Input{{Name: "a", Data: &a}}
}

// TestRawRevisions speaks every revision that changed something.
func TestRawRevisions(t *testing.T) {
	addr := embeddedtest.StartNative(t)
	for _, revision := range []int{54429, 54441, 54442, 54447, 54448, 54449, 54451, 54453, 54454, 54456, 54458, 54459, 54460, 54475} {
		c := greet(t, addr, revision)
		c.revision = min(revision, 54460)
		c.wantAlive()
		c.query("CREATE TEMPORARY TABLE raw (a UInt64)")
		c.rows()
		c.query("INSERT INTO raw VALUES")
		c.want(proto.ServerCodeData)
		c.block(proto.ServerCodeData)
		c.data("", numbers(5))
		c.data("", numbers(0))
		c.data("", numbers(6))
		c.data("", nil)
		c.rows()
		c.query("SELECT * FROM raw")
		if n := c.rows(); n != 11 {
			t.Fatalf("revision %d: %d rows", revision, n)
		}
	}
}

// TestRawExceptions: after an exception the connection goes on.
func TestRawExceptions(t *testing.T) {
	c := greet(t, embeddedtest.StartNative(t), 54460)
	c.query("SELECT * FROM nope")
	c.wantError(60, "(UNKNOWN_TABLE)")
	c.query("CREATE TEMPORARY TABLE tmp (a UInt64, j JSON)")
	c.rows()
	c.query("INSERT INTO tmp (nope) VALUES")
	c.wantError(16, "No such column nope")
	c.query("INSERT INTO tmp (j) VALUES")
	c.wantError(48, "cannot be inserted over the native protocol")
	c.query("INSERT INTO tmp (* EXCEPT j) VALUES")
	c.wantError(48, "name them one by one")
	c.query("INSERT INTO FUNCTION file('x') VALUES")
	c.wantError(48, "INSERT INTO FUNCTION")
	c.query("INSERT INTO tmp (a)")
	c.want(proto.ServerCodeData)
	c.block(proto.ServerCodeData)
	var text proto.ColStr
	text.Append("no number")
	c.data("", proto.Input{{Name: "a", Data: &text}})
	c.data("", nil)
	c.want(proto.ServerProfileEvents)
	c.block(proto.ServerProfileEvents)
	c.want(proto.ServerProfileEvents)
	c.block(proto.ServerProfileEvents)
	c.want(proto.ServerCodeException)
	if err := new(proto.Exception).DecodeAware(c.in, c.revision); err != nil {
		t.Fatal(err)
	}
	c.query("SELECT 1", proto.Setting{Key: "no_such_setting", Value: "1"}) // not important
	c.rows()
	c.query("SELECT 1", proto.Setting{Key: "no_such_setting", Value: "1", Important: true})
	c.wantError(115, "no_such_setting")
	c.query("SELECT a FROM tmp INTO OUTFILE 'x' FORMAT Nope SETTINGS max_threads = 1, no_such_setting = 1")
	c.wantError(115, "no_such_setting")
	c.query("INSERT INTO tmp FROM INFILE 'x' FORMAT CSV")
	c.wantError(78, "infile")
	c.query("SELECT a FROM tmp")
	if n := c.rows(); n != 0 {
		t.Fatal(n)
	}
}

// ask sends a query of that id with external tables, in order of their names.
func (c *rawConn) ask(id, text string, settings []proto.Setting, tables ...proto.InputColumn) {
	c.t.Helper()
	c.send(func(b *proto.Buffer) {
		proto.Query{
			ID: id, Body: text, Settings: settings, Stage: proto.StageComplete,
			Info: proto.ClientInfo{Interface: proto.InterfaceTCP, Query: proto.ClientQueryInitial},
		}.EncodeAware(b, c.revision)
	})
	for _, table := range tables {
		c.data(table.Name, proto.Input{{Name: "a", Data: table.Data}})
	}
	c.data("", nil)
}

// TestRawExternalTables sends tables along with statements: several, one of them
// in several blocks, one without rows. They last no longer than the statement.
func TestRawExternalTables(t *testing.T) {
	c := greet(t, embeddedtest.StartNative(t), 54460)
	for _, prepare := range []string{"SELECT 1", "SET max_threads = 1"} {
		c.query(prepare)
		c.rows()
		three, none := numbers(3)[0].Data, numbers(0)[0].Data
		c.ask("", "SELECT a FROM ext UNION ALL SELECT a FROM more UNION ALL SELECT a FROM none", nil,
			proto.InputColumn{Name: "ext", Data: three}, proto.InputColumn{Name: "more", Data: three},
			proto.InputColumn{Name: "ext", Data: three}, proto.InputColumn{Name: "none", Data: none})
		if n := c.rows(); n != 9 {
			t.Fatalf("after %s: %d rows", prepare, n)
		}
		c.query("SELECT a FROM ext")
		c.wantError(60, "ext")
	}
}

// TestRawOutput: what a statement says of files and formats is for the client
// to do.
func TestRawOutput(t *testing.T) {
	c := greet(t, embeddedtest.StartNative(t), 54460)
	for _, sql := range []string{
		"SELECT 1 FORMAT JSON", "SELECT 1 INTO OUTFILE '/no/such/file' FORMAT CSV", "SELECT 1 INTO OUTFILE '/no/such/file'",
		"SELECT 1 INTO OUTFILE '/no/such/file' TRUNCATE COMPRESSION 'gzip' FORMAT CSV SETTINGS max_threads = 1;", "SELECT 1 SETTINGS max_threads = 1 FORMAT CSV",
	} {
		c.query(sql)
		if n := c.rows(); n != 1 {
			t.Fatalf("%s: %d rows", sql, n)
		}
	}
}

// TestRawQueryIDs: an id is in use once, over both protocols; it is seen among
// the processes and can be killed, or taken over.
func TestRawQueryIDs(t *testing.T) {
	http, addr := embeddedtest.StartClickHouse(t), embeddedtest.StartNative(t)
	const endless = "SELECT count(sipHash64(number)) FROM numbers(100000000000)"
	const visible = "SELECT count() FROM system.processes WHERE query_id = 'raw id'"
	for _, prepare := range []string{"SELECT 1", "SET max_threads = 1"} {
		c, other := greet(t, addr, 54460), greet(t, addr, 54460)
		c.query(prepare)
		c.rows()
		c.ask("raw id", endless, nil)
		eventually(t, http, visible, "1\n")
		other.ask("raw id", "SELECT 1", nil)
		other.wantError(216, "raw id")
		post(t, http, params("query_id", "raw id"), "SELECT 1").wantException(t, 500, "216")
		other.query("KILL QUERY WHERE query_id = 'raw id' SYNC")
		if n := other.rows(); n != 1 {
			t.Fatalf("%d killed", n)
		}
		c.wantKilled()
		c.ask("raw id", endless, nil)
		eventually(t, http, visible, "1\n")
		other.ask("raw id", "SELECT 1", []proto.Setting{{Key: "replace_running_query", Value: "1"}})
		if n := other.rows(); n != 1 {
			t.Fatal(n)
		}
		c.wantKilled()
		c.wantAlive()
	}
}

// TestRawReadonly: the setting limits a statement, in a session too.
func TestRawReadonly(t *testing.T) {
	c := greet(t, embeddedtest.StartNative(t), 54460)
	for _, prepare := range []string{"SELECT 1", "SET max_threads = 1"} {
		c.query(prepare)
		c.rows()
		readonly := proto.Setting{Key: "readonly", Value: "1"}
		c.query("CREATE DATABASE raw_readonly", readonly)
		c.wantError(164, "readonly")
		c.query("SELECT 1", readonly)
		if n := c.rows(); n != 1 {
			t.Fatal(n)
		}
		c.query("SET max_block_size = 5", readonly)
		c.wantError(164, "readonly")
	}
	c.query("SELECT '" + strings.Repeat("x", 300<<10) + "'")
	c.wantError(62, "Max query size exceeded")
	c.query("SELECT '"+strings.Repeat("x", 300<<10)+"'", proto.Setting{Key: "max_query_size", Value: "1000000"})
	if n := c.rows(); n != 1 {
		t.Fatal(n)
	}
}

// TestRawStream: a result comes while its statement still runs, ends with a
// cancellation, an error after part of it is told, and so is progress.
func TestRawStream(t *testing.T) {
	http := embeddedtest.StartClickHouse(t)
	c := greet(t, embeddedtest.StartNative(t), 54460)
	c.ask("raw stream", "SELECT number FROM numbers(100000000000)", nil)
	for rows := 0; rows < 1000000; {
		rows += c.someRows()
	}
	eventually(t, http, "SELECT count() FROM system.processes WHERE query_id = 'raw stream'", "1\n")
	c.send(proto.ClientCodeCancel.Encode)
	c.rows()
	eventually(t, http, "SELECT count() FROM system.processes WHERE query_id = 'raw stream'", "0\n")
	c.query("SELECT number, throwIf(number = 3000000, 'too far') FROM numbers(4000000)")
	c.wantLate(395)
	c.query("SELECT count(sipHash64(number)) FROM numbers(100000000000)")
	for told := (proto.Progress{}); told.Rows == 0 || told.TotalRows == 0; {
		c.want(proto.ServerCodeProgress)
		var p proto.Progress
		if err := p.DecodeAware(c.in, c.revision); err != nil {
			t.Fatal(err)
		}
		told.Rows, told.TotalRows = told.Rows+p.Rows, told.TotalRows+p.TotalRows
	}
	c.send(proto.ClientCodeCancel.Encode)
	c.rows()
	c.wantAlive()
}

// someRows reads one packet of an answer and returns how many rows it had.
func (c *rawConn) someRows() int {
	c.t.Helper()
	code, err := c.in.ReadByte()
	if err == nil && proto.ServerCode(code) == proto.ServerCodeProgress {
		err = new(proto.Progress).DecodeAware(c.in, c.revision)
		code = 0
	}
	if err != nil {
		c.t.Fatal(err)
	}
	if code == 0 {
		return 0
	}
	if proto.ServerCode(code) != proto.ServerCodeData {
		c.t.Fatalf("packet %v", proto.ServerCode(code))
	}
	return c.block(proto.ServerCodeData)
}

// wantLate reads rows up to an exception.
func (c *rawConn) wantLate(code int) {
	c.t.Helper()
	for rows := 0; ; {
		packet, err := c.in.ReadByte()
		if err != nil {
			c.t.Fatal(err)
		}
		var e proto.Exception
		switch proto.ServerCode(packet) {
		case proto.ServerCodeData:
			rows += c.block(proto.ServerCodeData)
		case proto.ServerCodeProgress:
			err = new(proto.Progress).DecodeAware(c.in, c.revision)
		case proto.ServerCodeException:
			if err = e.DecodeAware(c.in, c.revision); err == nil && int(e.Code) == code && rows > 0 {
				return
			}
			c.t.Fatalf("after %d rows: %v %v", rows, e, err)
		default:
			c.t.Fatalf("packet %v", proto.ServerCode(packet))
		}
		if err != nil {
			c.t.Fatal(err)
		}
	}
}

// TestRawCancel: a cancelled statement ends its stream, and the connection goes
// on.
func TestRawCancel(t *testing.T) {
	addr := embeddedtest.StartNative(t)
	for _, prepare := range []string{"SELECT 1", "SET max_threads = 1"} {
		c := greet(t, addr, 54460)
		c.query(prepare)
		c.rows()
		c.query("SELECT count(sipHash64(number)) FROM numbers(100000000000)")
		c.send(proto.ClientCodeCancel.Encode)
		if n := c.rows(); n != 0 {
			t.Fatal(n)
		}
		c.query("CREATE TEMPORARY TABLE tmp (a UInt64)")
		c.rows()
		c.query("INSERT INTO tmp VALUES")
		c.want(proto.ServerCodeData)
		c.block(proto.ServerCodeData)
		c.data("", numbers(5))
		c.send(proto.ClientCodeCancel.Encode)
		c.rows()
		c.send(proto.ClientCodeCancel.Encode) // too late
		c.query("SELECT * FROM tmp")
		if n := c.rows(); n != 0 {
			t.Fatalf("%d rows of a cancelled insert", n)
		}
	}
}

// TestRawGone: a client that goes away takes its SELECT with it, and nothing is
// left of an insert it did not finish.
func TestRawGone(t *testing.T) {
	conn := openNative(t, nil)
	run(t, conn, "CREATE TABLE gone (a UInt64) ENGINE = MergeTree ORDER BY a")
	addr := embeddedtest.StartNative(t)
	c := greet(t, addr, 54460)
	c.query("SELECT count(sipHash64(number)), 'raw gone' FROM numbers(100000000000)")
	_ = c.Close()
	wantEnd(t, conn, "raw gone")
	c = greet(t, addr, 54460)
	c.query("INSERT INTO test_TestRawGone.gone VALUES")
	c.want(proto.ServerCodeData)
	c.block(proto.ServerCodeData)
	c.data("", numbers(5))
	_ = c.Close()
	wantCount(t, conn, "gone", 0)
}

// TestRawRefusals: what cannot be understood is answered and ends the
// connection.
func TestRawRefusals(t *testing.T) {
	addr := embeddedtest.StartNative(t)
	hello := proto.ClientHello{Name: "old", ProtocolVersion: 54428}
	for _, tc := range []struct {
		greeted bool
		send    func(b *proto.Buffer)
		code    int
		text    string
	}{
		{false, hello.Encode, 48, "Protocol revision 54428 of client \"old\" is too old"},
		{false, func(b *proto.Buffer) { b.PutRaw([]byte{0x16, 3, 1}) }, 101, "Unexpected packet 22"},
		{false, func(b *proto.Buffer) { b.PutRaw([]byte("\x00\xff\xff\xff\xff\xff\xff\xff\xff\x7f")) }, 290, "string of"},
		{true, proto.ClientTablesStatusRequest.Encode, 48, "TablesStatusRequest"},
		{true, proto.ClientCodeHello.Encode, 101, "Unexpected packet 0"},
		{true, proto.ClientCodeData.Encode, 101, "Unexpected packet 2"},
		{true, func(b *proto.Buffer) { b.PutUVarInt(1 << 40) }, 99, "Unknown packet"},
		{true, func(b *proto.Buffer) {
			proto.Query{Body: "SELECT 1", Secret: "x", Info: proto.ClientInfo{Interface: proto.InterfaceTCP, Query: proto.ClientQueryInitial}}.EncodeAware(b, 54460)
		}, 48, "secret of a cluster"},
		{true, func(b *proto.Buffer) {
			proto.Query{Body: "SELECT 1", Info: proto.ClientInfo{Interface: proto.InterfaceTCP, Query: proto.ClientQueryInitial}}.EncodeAware(b, 54460)
			proto.ClientCodePing.Encode(b)
		}, 101, "after a query"},
		{true, func(b *proto.Buffer) {
			proto.Query{Body: "SELECT 1", Info: proto.ClientInfo{Interface: proto.InterfaceTCP, Query: proto.ClientQueryInitial}}.EncodeAware(b, 54460)
			b.PutRaw([]byte("\x02\x00\x00\x01\x01\x01a\x05UInt8\x01"))
		}, 48, "custom serialization"},
	} {
		c := dialRaw(t, addr, 54460)
		if tc.greeted {
			c = greet(t, addr, 54460)
		}
		c.send(tc.send)
		c.wantError(tc.code, tc.text)
		c.wantClosed()
	}
	c := dialRaw(t, addr, 0)
	c.send(func(b *proto.Buffer) { b.PutRaw([]byte("GET / HTTP/1.1\r\n\r\n")) })
	if text, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(text), "HTTP/1.0 400 ") {
		t.Fatalf("%q, %v", text, err)
	}
}

// TestNativeStop stops a server with idle and busy connections.
func TestNativeStop(t *testing.T) {
	t.Parallel() // it only waits
	ch := startOwn(t)
	idle, busy, silent := greet(t, ch.NativeAddr(), 54460), greet(t, ch.NativeAddr(), 54460), dialRaw(t, ch.NativeAddr(), 0)
	idle.wantAlive()
	busy.query("SELECT count(sipHash64(number)) FROM numbers(100000000000)")
	inserting := greet(t, ch.NativeAddr(), 54460)
	inserting.query("CREATE TABLE stop (a UInt64) ENGINE = MergeTree ORDER BY a")
	inserting.rows()
	inserting.query("INSERT INTO stop VALUES")
	inserting.want(proto.ServerCodeData)
	inserting.block(proto.ServerCodeData)
	inserting.data("", numbers(5))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var wg conc.WaitGroup
	wg.Go(func() {
		if err := ch.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	idle.wantClosed()
	silent.wantClosed()
	busy.wantKilled()
	inserting.want(proto.ServerProfileEvents)
	inserting.block(proto.ServerProfileEvents)
	inserting.wantClosed()
	wg.Wait()
}

// wantKilled reads progress up to the exception of a killed statement.
func (c *rawConn) wantKilled() {
	c.t.Helper()
	for {
		code, err := c.in.ReadByte()
		if err != nil {
			c.t.Fatal(err)
		}
		var e proto.Exception
		switch proto.ServerCode(code) {
		case proto.ServerCodeProgress:
			err = new(proto.Progress).DecodeAware(c.in, c.revision)
		case proto.ServerCodeException:
			if err = e.DecodeAware(c.in, c.revision); err == nil && e.Code == 394 {
				return
			}
		}
		if err != nil || e.Code != 0 {
			c.t.Fatal(err, e)
		}
	}
}

// TestNativeAddrStays kills the engine: it comes back on both addresses.
func TestNativeAddrStays(t *testing.T) {
	ch := startOwn(t)
	addr := ch.NativeAddr()
	killAndWait(t, ch)
	if ch.NativeAddr() != addr {
		t.Fatalf("address %s became %s", addr, ch.NativeAddr())
	}
	greet(t, addr, 54460).wantAlive()
}
