package embedded

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"

	"github.com/ClickHouse/ch-go/proto"
)

// errGone is returned when the client has closed its connection.
var errGone = errors.New("the client has gone")

// isTimeout reports whether a deadline of a connection has passed.
func isTimeout(err error) bool {
	var netErr net.Error
	return errors.As(err, &netErr) && netErr.Timeout()
}

// sendResult sends the blocks of a result and what was done for them. The
// first block has no rows: it tells the columns.
func (q *tcpQuery) sendResult(ctx context.Context, res *result) error {
	header := res.header
	if len(res.data) > 0 {
		header = headOf(res.data)
	}
	profile := proto.Profile{Bytes: uint64(len(res.data))}
	for _, part := range [][]byte{header, res.data} {
		if err := q.sendBlocks(ctx, part, &profile); err != nil {
			return err
		}
	}
	if len(header) > 0 || profile.Blocks > 0 {
		var b proto.Buffer
		profile.EncodeAware(&b, q.revision)
		if _, err := q.out.Write(b.Buf); err != nil {
			return errGone
		}
	}
	return q.sendProgress(proto.Progress{
		Rows: res.rowsRead, Bytes: res.bytesRead, WroteRows: res.rowsWritten, WroteBytes: res.bytesWritten,
		ElapsedNs: uint64(res.elapsed.Nanoseconds()),
	})
}

// sendProgress sends a progress packet.
func (q *tcpQuery) sendProgress(p proto.Progress) error {
	var b proto.Buffer
	proto.ServerCodeProgress.Encode(&b)
	p.EncodeAware(&b, q.revision)
	if err := q.send(&b); err != nil {
		return errGone
	}
	return nil
}

// sendBlocks sends blocks of revision 0 one by one at the client's revision,
// and counts them. It stops between two blocks when ctx ends.
func (q *tcpQuery) sendBlocks(ctx context.Context, data []byte, profile *proto.Profile) error {
	c := &cursor{data: data}
	for c.pos < len(data) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		start := c.pos
		cuts, err := blockCuts(c, uint64(q.revision))
		if errors.Is(err, errShape) {
			return recodeNative(data[start:], uint64(q.revision), func(block []byte) error {
				profile.Blocks++
				return q.sendBlock(func(w io.Writer) error {
					_, err := w.Write(block)
					return err
				})
			})
		}
		if err != nil {
			return err
		}
		block := data[start:c.pos]
		if rows := blockRows(block); rows > 0 {
			profile.Blocks++
			profile.Rows += rows
		}
		if err := q.sendBlock(func(w io.Writer) error { return writeBlock(w, block, cuts) }); err != nil {
			return err
		}
	}
	return nil
}

// sendBlock sends one data packet, whose block write writes.
func (q *tcpQuery) sendBlock(write func(io.Writer) error) error {
	var b proto.Buffer
	proto.ServerCodeData.Encode(&b)
	b.PutString("") // the name of an external table
	if _, err := q.out.Write(b.Buf); err != nil {
		return errGone
	}
	if q.frames == nil {
		if err := write(q.out); err != nil {
			return errGone
		}
		return nil
	}
	if err := write(q.frames); err != nil {
		return errGone
	}
	if err := q.frames.Close(); err != nil {
		return errGone
	}
	return nil
}

// blockRows returns how many rows a block of revision 0 has.
func blockRows(block []byte) uint64 {
	c := &cursor{data: block}
	c.uvarint()
	return c.uvarint()
}

// headOf returns the first of some blocks of revision 0 without its rows, and
// nothing if it has a type of unknown extent.
func headOf(data []byte) []byte {
	c := &cursor{data: data}
	columns, rows := c.uvarint(), c.uvarint()
	head := append(binary.AppendUvarint(nil, columns), 0)
	for ; columns > 0 && c.err == nil; columns-- {
		start := c.pos
		c.str()
		typ := c.str()
		if c.err != nil {
			return nil
		}
		head = append(head, data[start:c.pos]...)
		if rows == 0 {
			continue
		}
		s, err := parseShape(typ)
		if err != nil {
			return nil
		}
		s.skipPrefix(c)
		s.skip(c, rows)
	}
	return head
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
