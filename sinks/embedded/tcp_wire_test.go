package embedded

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"reflect"
	"runtime"
	"testing"

	chproto "github.com/ClickHouse/ch-go/proto"
)

// newWire reads packets from memory.
func newWire(data []byte) *wireReader {
	return &wireReader{r: bufio.NewReader(bytes.NewReader(data)), left: maxPacket}
}

// sampleQuery is a packet as a client of the revision encodes it, without its
// code.
func sampleQuery(revision int) []byte {
	var b chproto.Buffer
	chproto.Query{
		ID: "id", Body: "SELECT {x:UInt8}", Stage: chproto.StageComplete, Compression: chproto.CompressionEnabled,
		Settings:   []chproto.Setting{{Key: "a", Value: "1", Important: true}, {Key: "b", Value: "'it\\'s'", Custom: true}},
		Parameters: []chproto.Parameter{{Key: "x", Value: "'1'"}},
		Info:       chproto.ClientInfo{Interface: chproto.InterfaceTCP, Query: chproto.ClientQueryInitial, ClientName: "c"},
	}.EncodeAware(&b, revision)
	return b.Buf[1:]
}

func TestWireQuery(t *testing.T) {
	for revision := oldestRevision; revision <= nativeRevision; revision++ {
		packet := sampleQuery(revision)
		r := newWire(packet)
		q := r.query(revision)
		if r.err != nil {
			t.Fatalf("revision %d: %v", revision, r.err)
		}
		if rest, _ := io.ReadAll(r.r); len(rest) > 0 {
			t.Fatalf("revision %d: %d bytes left", revision, len(rest))
		}
		want := query{id: "id", text: "SELECT {x:UInt8}", stage: 2, compressed: true, settings: []wireSetting{
			{name: "a", value: "1", important: true}, {name: "b", value: "'it\\'s'", custom: true},
		}}
		if chproto.FeatureParameters.In(revision) {
			want.params = []wireSetting{{name: "x", value: "'1'", custom: true}}
		}
		if !reflect.DeepEqual(q, want) {
			t.Fatalf("revision %d: %+v", revision, q)
		}
		for cut := range packet {
			r := newWire(packet[:cut])
			if r.query(revision); !errors.Is(r.err, io.ErrUnexpectedEOF) {
				t.Fatalf("revision %d: error %v for a packet cut at %d", revision, r.err, cut)
			}
		}
	}
}

func TestRestoreDump(t *testing.T) {
	for dump, want := range map[string]string{`''`: "", `'a'`: "a", `'it\'s \\ \n'`: "it's \\ \n", `'it''s'`: "it's", `'\0\q'`: "\x00q"} {
		if got, ok := restoreDump(dump); !ok || got != want {
			t.Errorf("%s: %q, %v", dump, got, ok)
		}
	}
	for _, dump := range []string{"", "'", "1", "UInt64_1", `'a\'`, `'a'b'`, `"a"`} {
		if got, ok := restoreDump(dump); ok {
			t.Errorf("%s: %q", dump, got)
		}
	}
}

func TestParseTarget(t *testing.T) {
	for into, want := range map[string]target{
		"INSERT INTO t ":                         {name: "t"},
		"insert into table db . `t x` ":          {name: "db . `t x`"},
		"INSERT t (a, `b``c`, \"d\", n.e, `f)`)": {name: "t", columns: []string{"a", "b`c", "d", "n.e", "f)"}},
		"INSERT INTO t (*) ":                     {name: "t"},
	} {
		if got, err := parseTarget(into); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", into, got, err)
		}
	}
	for _, into := range []string{"INSERT INTO t (a + 1)", "INSERT INTO t (* EXCEPT a)", "INSERT INTO t (COLUMNS('x'))", "INSERT INTO FUNCTION f(1)"} {
		var exc *exception
		if got, err := parseTarget(into); !errors.As(err, &exc) || exc.code != codeUnsupported {
			t.Errorf("%s: %+v, %v", into, got, err)
		}
	}
}

func TestWithoutDictionaries(t *testing.T) {
	for typ, want := range map[string]string{
		"LowCardinality(String)":                                       "String",
		"LowCardinality(Nullable(FixedString(3)))":                     "Nullable(FixedString(3))",
		"Map(LowCardinality(String), Array(LowCardinality(DateTime)))": "Map(String, Array(DateTime))",
		"Enum8('LowCardinality(' = 1)":                                 "Enum8('LowCardinality(' = 1)",
		"String":                                                       "String",
	} {
		if got := withoutDictionaries(typ); got != want {
			t.Errorf("%s: %s instead of %s", typ, got, want)
		}
	}
}

// TestHostileTypes: reading a type costs no more than its length.
func TestHostileTypes(t *testing.T) {
	for _, open := range []string{"Array(", "Tuple( ", "Tuple(a Tuple(", "Map(String, ", "Nullable("} {
		typ := bytes.Repeat([]byte(open), maxName/len(open)-1)
		if _, err := parseShape(string(typ) + " x y)"); !errors.Is(err, errShape) {
			t.Errorf("%s: %v", open, err)
		}
		short := bytes.Repeat([]byte(open), maxNesting/2-1)
		if _, err := parseShape(string(short) + " x y" + string(bytes.Repeat([]byte(")"), maxNesting))); !errors.Is(err, errShape) {
			t.Errorf("%s: %v", open, err)
		}
	}
}

// copyBlock reads a block that a client sent and returns it at revision 0.
func copyBlock(data []byte, revision int) ([]byte, bool, error) {
	var out bytes.Buffer
	w := bufio.NewWriter(&out)
	b := &blockReader{src: bufio.NewReader(bytes.NewReader(data)), dst: w, revision: revision, left: 1 << 30}
	last, err := b.block()
	_ = w.Flush()
	return out.Bytes(), last, err
}

// TestBlockReader turns blocks of every revision back into those of revision 0.
func TestBlockReader(t *testing.T) {
	block := sampleBlock(t)
	var plain chproto.Buffer
	if err := block.Encode(&plain, 0); err != nil {
		t.Fatal(err)
	}
	for _, revision := range []int{oldestRevision, 54453, 54454, nativeRevision} {
		var sent chproto.Buffer
		if err := block.Encode(&sent, uint64(revision)); err != nil {
			t.Fatal(err)
		}
		got, last, err := copyBlock(sent.Buf, revision)
		if err != nil || last || !bytes.Equal(got, plain.Buf) {
			t.Fatalf("revision %d: % x instead of % x, %v", revision, got, plain.Buf, err)
		}
		for cut := range sent.Buf {
			if _, _, err := copyBlock(sent.Buf[:cut], revision); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("block cut at %d: %v", cut, err)
			}
		}
	}
	if got, last, err := copyBlock([]byte(blockInfo+"\x00\x00"), nativeRevision); err != nil || !last || len(got) > 0 {
		t.Fatal(got, last, err)
	}
}

// FuzzWire reads hostile packets: none panics or allocates more than it is long.
func FuzzWire(f *testing.F) {
	f.Add(sampleQuery(nativeRevision), uint16(nativeRevision-oldestRevision))
	f.Add(sampleQuery(oldestRevision), uint16(0))
	f.Add([]byte("\x01a\x01\x02\xff\xff\xff\xff\x07"), uint16(3))
	f.Fuzz(func(t *testing.T, data []byte, offset uint16) {
		before := allocated()
		newWire(data).hello()
		newWire(data).query(oldestRevision + int(offset)%64)
		if used := allocated() - before; used > 1<<20+64*uint64(len(data)) {
			t.Fatalf("%d bytes allocated for %d", used, len(data))
		}
		if value, ok := restoreDump(string(data)); ok && len(value) > len(data) {
			t.Fatal("a value longer than its dump")
		}
	})
}

// FuzzBlockReader reads hostile blocks, plain and in frames.
func FuzzBlockReader(f *testing.F) {
	var sent chproto.Buffer
	if err := sampleBlock(f).Encode(&sent, nativeRevision); err != nil {
		f.Fatal(err)
	}
	f.Add(sent.Buf)
	f.Add([]byte(blockInfo + "\x01\xff\xff\xff\xff\xff\x01\x01a\x10Array(Array(String))\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		before := allocated()
		got, _, err := copyBlock(data, nativeRevision)
		if err == nil {
			c := &cursor{data: got}
			for c.pos < len(got) {
				if _, err := blockCuts(c, 0); err != nil {
					t.Fatalf("the copy of a block is none: %v", err)
				}
			}
		}
		frames := newFrameReader(bytes.NewReader(data), maxFrame)
		b := &blockReader{src: bufio.NewReader(frames), dst: bufio.NewWriter(io.Discard), revision: nativeRevision, left: 1 << 20}
		_, _ = b.block()
		if used := allocated() - before; used > 8<<20+512*uint64(len(data)) {
			t.Fatalf("%d bytes allocated for %d", used, len(data))
		}
	})
}

// allocated returns how many bytes this process has ever allocated.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}
