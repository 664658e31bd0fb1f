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

// translateNative writes Native blocks of revision 0, as the engine makes them,
// as blocks of the revision a client asked for. Almost all bytes are copied;
// only blocks with types of unknown extent are decoded and encoded again.
func translateNative(w io.Writer, data []byte, revision uint64) error {
	if revision == 0 {
		_, err := w.Write(data)
		return err
	}
	c := &cursor{data: data}
	for c.pos < len(data) {
		start := c.pos
		cuts, err := blockCuts(c, revision)
		if errors.Is(err, errShape) {
			return recodeNative(data[start:], revision, func(block []byte) error {
				_, err := w.Write(block)
				return err
			})
		}
		if err != nil {
			return fmt.Errorf("native block at byte %d: %w", start, err)
		}
		if err := writeBlock(w, data[start:c.pos], cuts); err != nil {
			return err
		}
	}
	return nil
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

// recodeNative decodes and encodes all blocks with clickhouse-go's codec and
// hands each to emit.
func recodeNative(data []byte, revision uint64, emit func(block []byte) error) error {
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
		if err := emit(buf.Buf); err != nil {
			return err
		}
	}
}

// wantsHeader reports whether a client that knows revisions asked for a Native
// result: such a one expects the columns even if there are no rows.
func (req *request) wantsHeader() bool {
	return req.format == "Native" && req.protocol > 0 && (req.verb == "SELECT" || req.verb == "WITH")
}

// emptyBlock returns a Native block of revision 0 with the columns of a query
// and no rows. A query that cannot be described gives nothing.
func (s *server) emptyBlock(ctx context.Context, req *request) ([]byte, error) {
	cmd := req.command()
	cmd.sql, cmd.format = "DESCRIBE TABLE ("+req.core()+"\n)", "RowBinary"
	res, err := s.engine.run(ctx, cmd)
	var exc *exception
	if errors.As(err, &exc) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer res.free()
	return describedBlock(res.data)
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
