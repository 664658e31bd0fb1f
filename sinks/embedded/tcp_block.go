package embedded

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/ClickHouse/ch-go/proto"
)

// errCustom is returned for a column that is not written plainly.
var errCustom = errors.New("column with a custom serialization, which the embedded server does not read")

// blockReader copies one block of a client to dst, as a block of revision 0. It
// holds no more of it than a buffer.
type blockReader struct {
	src *bufio.Reader
	dst *bufio.Writer
	// revision is the client's.
	revision int
	// left is how many bytes may still come.
	left int64
	// columns are those of the last block, as in CREATE TABLE.
	columns []string
	err     error
}

// block copies a block and reports whether it was the empty one that ends the
// data. A block without rows is read but not copied.
func (b *blockReader) block() (last bool, err error) {
	dst := b.dst
	b.dst = nil // what has no counterpart at revision 0 is not copied
	b.info()
	columns, rows := b.uvarint(), b.uvarint()
	if rows > 0 && columns > 0 && b.err == nil {
		b.dst = dst
		b.put(binary.AppendUvarint(binary.AppendUvarint(nil, columns), rows))
	}
	b.columns = b.columns[:0]
	for left := columns; left > 0 && b.err == nil; left-- {
		b.column(rows)
	}
	b.dst = dst
	return columns == 0, b.err
}

// info reads the fields before a block.
func (b *blockReader) info() {
	const isOverflows, bucketNum = 1, 2
	for {
		switch field := b.uvarint(); {
		case b.err != nil || field == 0:
			return
		case field == isOverflows:
			b.byte()
		case field == bucketNum:
			b.advance(4, 1)
		default:
			b.fail(fmt.Errorf("block info has the unknown field %d", field))
		}
	}
}

// column copies a column, without the byte that follows its type from revision
// FeatureCustomSerialization on.
func (b *blockReader) column(rows uint64) {
	name, typ := b.str(), b.str()
	b.columns = append(b.columns, quoteIdentifier(string(name))+" "+string(typ))
	b.put(binary.AppendUvarint(nil, uint64(len(name))))
	b.put(name)
	b.put(binary.AppendUvarint(nil, uint64(len(typ))))
	b.put(typ)
	if proto.FeatureCustomSerialization.In(b.revision) {
		dst := b.dst
		b.dst = nil
		if b.byte() != 0 {
			b.fail(fmt.Errorf("%q: %w", name, errCustom))
		}
		b.dst = dst
	}
	if rows == 0 || b.err != nil {
		return
	}
	s, err := parseShape(string(typ))
	if err != nil {
		b.fail(fmt.Errorf("column %q: %w", name, err))
		return
	}
	s.skipPrefix(b)
	s.skip(b, rows)
}

// str reads a name or a type without copying it.
func (b *blockReader) str() []byte {
	dst := b.dst
	b.dst = nil
	n := b.uvarint()
	b.dst = dst
	if b.err == nil && n > maxName {
		b.fail(fmt.Errorf("name of %d bytes: %w", n, errTooLarge))
	}
	if b.err != nil {
		return nil
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(b.src, text); err != nil {
		b.fail(unexpected(err))
	}
	return text
}

func (b *blockReader) put(p []byte) {
	if b.dst == nil || b.err != nil {
		return
	}
	if _, err := b.dst.Write(p); err != nil {
		b.fail(err)
	}
}

func (b *blockReader) byte() byte {
	if b.err != nil {
		return 0
	}
	c, err := b.src.ReadByte()
	if err != nil {
		b.fail(unexpected(err))
		return 0
	}
	if b.left--; b.left < 0 {
		b.fail(errTooLarge)
	}
	if b.dst == nil {
		return c
	}
	if err := b.dst.WriteByte(c); err != nil {
		b.fail(err)
	}
	return c
}

func (b *blockReader) uvarint() uint64 { return readUvarint(b) }

func (b *blockReader) uint64() uint64 {
	var p [8]byte
	for i := range p {
		p[i] = b.byte()
	}
	return binary.LittleEndian.Uint64(p[:])
}

// advance copies n items of size bytes.
func (b *blockReader) advance(n uint64, size int) {
	if b.err != nil {
		return
	}
	if n > uint64(b.left)/uint64(size) {
		b.fail(errTooLarge)
		return
	}
	b.left -= int64(n) * int64(size)
	for left := int(n) * size; left > 0 && b.err == nil; {
		left -= b.copySome(left)
	}
}

// copySome copies at most n bytes, what the buffer holds.
func (b *blockReader) copySome(n int) int {
	if b.src.Buffered() == 0 {
		if _, err := b.src.Peek(1); err != nil {
			b.fail(unexpected(err))
			return 0
		}
	}
	p, _ := b.src.Peek(min(n, b.src.Buffered())) // is in the buffer
	b.put(p)
	_, _ = b.src.Discard(len(p))
	return len(p)
}

func (b *blockReader) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}

func (b *blockReader) failed() bool { return b.err != nil }
