package embedded

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/ClickHouse/ch-go/compress"
	chproto "github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/ClickHouse/clickhouse-go/v2/lib/proto"
)

func TestParseShape(t *testing.T) {
	for _, typ := range []string{
		"UInt8", "DateTime('Europe/Berlin')", "DateTime64(3, 'UTC')", "Enum8('a)' = 1, 'it\\'s' = 2)", "Decimal(38, 10)",
		"LowCardinality(Nullable(FixedString(3)))", "Map(String, Array(Nullable(UUID)))",
		"Tuple(a UInt8, `b, c` Tuple(String, x Array(String)), Float64)", "Nested(a UInt8, b String)",
		"SimpleAggregateFunction(sum, UInt64)", "MultiPolygon", "IntervalSecond", "IPv6",
	} {
		if _, err := parseShape(typ); err != nil {
			t.Errorf("%s: %v", typ, err)
		}
	}
	for _, typ := range []string{"", "AggregateFunction(sum, UInt64)", "JSON", "Dynamic", "Variant(UInt8, String)", "Tuple()", "FixedString(0)", "Array(JSON)", "Decimal(99, 1)"} {
		if _, err := parseShape(typ); !errors.Is(err, errShape) {
			t.Errorf("%s: %v", typ, err)
		}
	}
}

// sampleBlock makes a block with columns of every shape.
func sampleBlock(t testing.TB) *proto.Block {
	t.Helper()
	block := proto.NewBlock()
	for name, typ := range map[string]column.Type{
		"a": "UInt64", "b": "String", "c": "LowCardinality(String)", "d": "Array(Nullable(String))", "e": "Map(String, UInt8)", "f": "Tuple(x UInt8, y String)",
	} {
		if err := block.AddColumn(name, typ); err != nil {
			t.Fatal(err)
		}
	}
	s := "x"
	for i := range 3 {
		row := map[string]any{
			"a": uint64(i), "b": "text", "c": "lc", "d": []*string{&s, nil}[:i%3], "e": map[string]uint8{"k": uint8(i)}, "f": map[string]any{"x": uint8(i), "y": "y"},
		}
		var values []any
		for _, name := range block.ColumnsNames() {
			values = append(values, row[name])
		}
		if err := block.Append(values...); err != nil {
			t.Fatal(err)
		}
	}
	return block
}

func encodeBlocks(t testing.TB, block *proto.Block, revision uint64) []byte {
	t.Helper()
	var buf chproto.Buffer
	for range 2 {
		if err := block.Encode(&buf, revision); err != nil {
			t.Fatal(err)
		}
	}
	return buf.Buf
}

// TestTranslateNative compares the copied blocks with clickhouse-go's encoding.
func TestTranslateNative(t *testing.T) {
	block := sampleBlock(t)
	plain := encodeBlocks(t, block, 0)
	for _, revision := range []uint64{1, 54000, 54454, 54460} {
		var got bytes.Buffer
		if err := translateNative(&got, plain, revision); err != nil {
			t.Fatal(err)
		}
		if want := encodeBlocks(t, block, revision); !bytes.Equal(got.Bytes(), want) {
			t.Fatalf("revision %d: % x instead of % x", revision, got.Bytes(), want)
		}
	}
	for cut := 1; cut < len(plain)/2; cut++ {
		if err := translateNative(io.Discard, plain[:cut], 54460); err == nil {
			t.Fatalf("no error for a block cut at %d", cut)
		}
	}
}

// TestNativeInPieces writes blocks in pieces of every size.
func TestNativeInPieces(t *testing.T) {
	plain := encodeBlocks(t, sampleBlock(t), 0)
	var want bytes.Buffer
	if err := translateNative(&want, plain, 54460); err != nil {
		t.Fatal(err)
	}
	for size := 1; size <= len(plain); size++ {
		var got bytes.Buffer
		w := newNativeWriter(&got, 54460)
		for rest := plain; len(rest) > 0; rest = rest[min(size, len(rest)):] {
			// As if a large block had come to a point at which it is looked at again.
			w.wait = 0
			if _, err := w.Write(rest[:min(size, len(rest))]); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil || !bytes.Equal(got.Bytes(), want.Bytes()) {
			t.Fatalf("pieces of %d: error %v", size, err)
		}
	}
}

func FuzzTranslateNative(f *testing.F) {
	f.Add(encodeBlocks(f, sampleBlock(f), 0))
	f.Add([]byte("\x01\x01\x01a\x14LowCardinality(UInt8)"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := &cursor{data: data}
		for c.pos < len(data) {
			if _, err := blockCuts(c, 54460); err != nil {
				return
			}
		}
	})
}

// FuzzNativeWriter cuts data in two: what comes out is the same as in one piece.
func FuzzNativeWriter(f *testing.F) {
	f.Add(encodeBlocks(f, sampleBlock(f), 0), 100)
	f.Add([]byte("\x01\x01\x01a\x04JSON"), 3)
	f.Fuzz(func(t *testing.T, data []byte, cut int) {
		cut = min(max(cut, 0), len(data))
		var whole, pieces bytes.Buffer
		w := newNativeWriter(&whole, 54460)
		if _, _ = w.Write(data); w.shapeless {
			return // the engine's own blocks only: the codec allocates what a length says
		}
		whole.Reset()
		werr := translateNative(&whole, data, 54460)
		w = newNativeWriter(&pieces, 54460)
		_, perr := w.Write(data[:cut])
		if perr == nil {
			w.wait = 0
			_, perr = w.Write(data[cut:])
		}
		if perr == nil {
			perr = w.Close()
		}
		if (werr == nil) != (perr == nil) || werr == nil && !bytes.Equal(whole.Bytes(), pieces.Bytes()) {
			t.Fatalf("errors %v and %v, %d and %d bytes", werr, perr, whole.Len(), pieces.Len())
		}
	})
}

func TestFrames(t *testing.T) {
	data := bytes.Repeat([]byte("some data "), 300_000)
	for _, method := range []compress.Method{compress.None, compress.LZ4, compress.ZSTD} {
		var buf bytes.Buffer
		w := newFrameWriter(&buf, method)
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		framed := buf.Bytes()
		got, err := io.ReadAll(newFrameReader(bytes.NewReader(framed), DefaultMaxBody))
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%v: %d bytes, %v", method, len(got), err)
		}
		checkBadFrames(t, framed)
	}
}

// checkBadFrames damages frames.
func checkBadFrames(t *testing.T, framed []byte) {
	t.Helper()
	if _, err := io.ReadAll(newFrameReader(bytes.NewReader(framed[:len(framed)-1]), DefaultMaxBody)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("cut frame: %v", err)
	}
	if _, err := io.ReadAll(newFrameReader(bytes.NewReader(framed), 1000)); !errors.Is(err, errTooLarge) {
		t.Fatalf("large frame: %v", err)
	}
	bad := bytes.Clone(framed)
	bad[frameChecksum+frameHeader+5]++
	if _, err := io.ReadAll(newFrameReader(bytes.NewReader(bad), DefaultMaxBody)); !errors.Is(err, errChecksum) {
		t.Fatalf("changed frame: %v", err)
	}
}

func FuzzFrameReader(f *testing.F) {
	var buf bytes.Buffer
	w := newFrameWriter(&buf, compress.LZ4)
	_, _ = w.Write([]byte("data"))
	_ = w.Close()
	f.Add(buf.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = io.Copy(io.Discard, newFrameReader(bytes.NewReader(data), 1<<20))
	})
}

func TestLimitReader(t *testing.T) {
	for size, wantErr := range map[int64]error{10: nil, 9: errTooLarge, 11: nil} {
		got, err := io.ReadAll(&limitReader{src: bytes.NewReader(make([]byte, 10)), left: size})
		if !errors.Is(err, wantErr) || int64(len(got)) != min(10, size) {
			t.Errorf("limit %d: %d bytes, %v", size, len(got), err)
		}
	}
}

// translateNative writes whole Native blocks of revision 0 as blocks of another
// revision.
func translateNative(w io.Writer, data []byte, revision uint64) error {
	n := newNativeWriter(w, revision)
	if _, err := n.Write(data); err != nil {
		return err
	}
	return n.Close()
}
