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
	busy.wantProgress() // a connection that has not begun is idle
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

// wantProgress reads the first sign of a statement under way.
func (c *rawConn) wantProgress() {
	c.t.Helper()
	c.want(proto.ServerCodeProgress)
	if err := new(proto.Progress).DecodeAware(c.in, c.revision); err != nil {
		c.t.Fatal(err)
	}
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
