package embedded_test

import (
	"strings"
	"testing"

	"github.com/ClickHouse/ch-go/proto"

	"zyklus/sinks/embedded/embeddedtest"
)

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
