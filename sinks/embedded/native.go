package embedded

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	chproto "github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2/lib/proto"
)

// blockInfo precedes every block from revision 1 on: field 1 (is_overflows) is
// 0, field 2 (bucket_num) is -1, end of fields.
const blockInfo = "\x01\x00\x02\xff\xff\xff\xff\x00"

// nativeBlock is a block on its way to a client.
type nativeBlock struct {
	// raw is the block at revision 0 as the engine made it, and cuts are where the
	// client's revision wants a byte more; raw is nil if the block had to be
	// encoded again.
	raw  []byte
	cuts []int
	// coded is the block encoded again.
	coded []byte
	rows  uint64
}

// writeTo writes the block at the client's revision.
func (b nativeBlock) writeTo(w io.Writer) error {
	if b.raw != nil {
		return writeBlock(w, b.raw, b.cuts)
	}
	_, err := w.Write(b.coded)
	return err
}

// nativeWriter turns Native blocks of revision 0, as the engine makes them, into
// blocks of the revision a client asked for. Almost all bytes are copied; only
// from the first block with a type of unknown extent on everything is held,
// decoded and encoded again. Close hands on what is left and fails if that is no
// whole block.
type nativeWriter struct {
	revision uint64
	// send takes one block after the other; each is its own until send returns.
	send func(nativeBlock) error
	// held is the beginning of a block, or everything once shapeless is set.
	held []byte
	// wait is how long held must be before it is looked at again, so that a
	// large block is not walked over for every piece of it.
	wait      int
	shapeless bool
}

// newNativeWriter returns one that writes to w. The revision is not 0.
func newNativeWriter(w io.Writer, revision uint64) *nativeWriter {
	return &nativeWriter{revision: revision, send: func(b nativeBlock) error { return b.writeTo(w) }}
}

// Write implements io.Writer.
func (n *nativeWriter) Write(p []byte) (int, error) {
	n.held = append(n.held, p...)
	if n.shapeless || len(n.held) < n.wait {
		return len(p), nil
	}
	if err := n.flush(); err != nil && !errors.Is(err, errTruncated) {
		return 0, err
	}
	n.wait = len(n.held) + max(len(n.held)/2, 1<<20)
	if len(n.held) == 0 {
		n.wait = 0
	}
	return len(p), nil
}

// Close hands on what is held. It does not close the destination.
func (n *nativeWriter) Close() error {
	if !n.shapeless {
		if err := n.flush(); err != nil {
			return err
		}
	}
	if n.shapeless {
		return recodeNative(n.held, n.revision, n.send)
	}
	return nil
}

// flush hands on the whole blocks that are held. The error wraps errTruncated if
// part of a block is left.
func (n *nativeWriter) flush() error {
	done := 0
	defer func() { n.held = append(n.held[:0], n.held[done:]...) }()
	for done < len(n.held) {
		c := &cursor{data: n.held[done:]}
		cuts, err := blockCuts(c, n.revision)
		if errors.Is(err, errShape) {
			n.shapeless = true
			return nil
		}
		if err != nil {
			return fmt.Errorf("native block: %w", err)
		}
		raw := n.held[done : done+c.pos]
		if err := n.send(nativeBlock{raw: raw, cuts: cuts, rows: blockRows(raw)}); err != nil {
			return err
		}
		done += c.pos
	}
	return nil
}

// blockRows returns how many rows a block of revision 0 has.
func blockRows(block []byte) uint64 {
	c := &cursor{data: block}
	c.uvarint()
	return c.uvarint()
}

// blockCuts moves past one block and returns the offsets, counted from its
// start, at which the revision wants a byte more: after each column's type.
func blockCuts(c *cursor, revision uint64) ([]int, error) {
	start := c.pos
	columns, rows := c.uvarint(), c.uvarint()
	var cuts []int
	for ; columns > 0 && c.err == nil; columns-- {
		c.str()
		typ := c.str()
		if revision >= proto.DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION {
			cuts = append(cuts, c.pos-start)
		}
		if rows == 0 || c.err != nil {
			continue
		}
		s, err := parseShape(typ)
		if err != nil {
			return nil, err
		}
		s.skipPrefix(c)
		s.skip(c, rows)
	}
	return cuts, c.err
}

// writeBlock writes the block info and the block, with a zero byte ("no custom
// serialization") at each cut.
func writeBlock(w io.Writer, block []byte, cuts []int) error {
	if _, err := io.WriteString(w, blockInfo); err != nil {
		return err
	}
	from := 0
	for _, cut := range cuts {
		if _, err := w.Write(block[from:cut]); err != nil {
			return err
		}
		if _, err := w.Write([]byte{0}); err != nil {
			return err
		}
		from = cut
	}
	_, err := w.Write(block[from:])
	return err
}

// recodeNative decodes and encodes all blocks with clickhouse-go's codec. That
// panics at some of what it does not understand, which must not end the server.
func recodeNative(data []byte, revision uint64, send func(nativeBlock) error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("native block that the codec does not understand: %v", cause)
		}
	}()
	r := chproto.NewReader(bytes.NewReader(data))
	for {
		block := proto.NewBlock()
		if err := block.Decode(r, 0); err != nil {
			if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				return nil
			}
			return fmt.Errorf("decode native block: %w", err)
		}
		var buf chproto.Buffer
		if err := block.Encode(&buf, revision); err != nil {
			return fmt.Errorf("encode native block: %w", err)
		}
		if err := send(nativeBlock{coded: buf.Buf, rows: uint64(block.Rows())}); err != nil {
			return err
		}
	}
}

// wantsHeader reports whether a client that knows revisions asked for a Native
// result: such a one expects the columns even if there are no rows.
func (req *request) wantsHeader() bool {
	return req.format == "Native" && req.protocol > 0 && req.reads()
}

// emptyBlock returns a Native block of revision 0 with the columns of a statement
// that reads, and no rows.
func (s *server) emptyBlock(ctx context.Context, req *request) ([]byte, error) {
	cmd := req.command()
	cmd.queryID = ""
	cmd.sql, cmd.format = "DESCRIBE TABLE ("+req.core()+"\n)", "RowBinary"
	res, err := s.engine.run(ctx, cmd)
	if err == nil {
		defer res.free()
		return describedBlock(res.data)
	}
	if ctx.Err() != nil {
		return nil, err
	}
	// SHOW and the like cannot be described, and are cheap enough to run again.
	cmd.sql, cmd.format = req.core(), "RowBinaryWithNamesAndTypes"
	if res, err = s.engine.run(ctx, cmd); err != nil {
		return nil, err
	}
	defer res.free()
	return namedBlock(res.data)
}

// describedBlock makes an empty block from the rows of DESCRIBE TABLE, which
// are strings in RowBinary: name, type and more about each column.
func describedBlock(rows []byte) ([]byte, error) {
	const more = 5
	c, columns := &cursor{data: rows}, uint64(0)
	var names []byte
	for ; c.pos < len(rows) && c.err == nil; columns++ {
		start := c.pos
		c.str()
		c.str()
		// A column without rows is just its name and its type, in Native as here.
		names = append(names, rows[start:c.pos]...)
		for range more {
			c.str()
		}
	}
	block := binary.AppendUvarint(nil, columns)
	return append(append(block, 0), names...), c.err
}

// namedBlock makes an empty block from the head of RowBinaryWithNamesAndTypes:
// the number of columns, their names, their types.
func namedBlock(data []byte) ([]byte, error) {
	c := &cursor{data: data}
	columns := c.uvarint()
	var list []string
	for range columns {
		list = append(list, c.str())
	}
	block := append(binary.AppendUvarint(nil, columns), 0)
	for _, name := range list {
		for _, text := range []string{name, c.str()} {
			block = append(binary.AppendUvarint(block, uint64(len(text))), text...)
		}
	}
	return block, c.err
}
