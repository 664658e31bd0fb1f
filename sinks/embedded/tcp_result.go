package embedded

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync"

	"github.com/ClickHouse/ch-go/proto"
)

// errGone is returned when the client has closed its connection.
var errGone = errors.New("the client has gone")

// isTimeout reports whether a deadline of a connection has passed.
func isTimeout(err error) bool {
	var netErr net.Error
	return errors.As(err, &netErr) && netErr.Timeout()
}

// tcpResult sends the result of a statement: block by block as it comes, the
// first one without rows, since it tells the columns.
type tcpResult struct {
	*tcpQuery
	// cause says why the statement was ended, nil if it was not.
	cause   func() error
	native  *nativeWriter
	profile proto.Profile
	// headed is set once a block was sent.
	headed bool

	// sending is held for each packet: progress is told by another goroutine.
	sending sync.Mutex
	// told is the progress that the client knows of.
	told progress
}

func newTCPResult(ctx context.Context, q *tcpQuery) *tcpResult {
	r := &tcpResult{tcpQuery: q, cause: func() error { return context.Cause(ctx) }}
	r.native = &nativeWriter{revision: uint64(q.revision), send: r.sendBlock}
	return r
}

// empty implements receiver.
func (r *tcpResult) empty() bool { return r.profile.Bytes == 0 }

// Write takes a piece of the result in Native of revision 0. What is cancelled
// is written no further.
func (r *tcpResult) Write(p []byte) (int, error) {
	if err := r.cause(); err != nil {
		return 0, err
	}
	r.profile.Bytes += uint64(len(p))
	if _, err := r.native.Write(p); err != nil {
		return 0, err
	}
	r.sending.Lock()
	defer r.sending.Unlock()
	if err := r.out.Flush(); err != nil {
		return 0, errGone
	}
	return len(p), nil
}

// finish sends what is left of the result and what was done for it.
func (r *tcpResult) finish(res *result) error {
	data := res.data
	if r.empty() && len(data) == 0 {
		data = res.header
	}
	if len(data) > 0 {
		if _, err := r.Write(data); err != nil {
			return err
		}
	}
	if err := r.native.Close(); err != nil {
		return err
	}
	if r.headed {
		var b proto.Buffer
		r.profile.EncodeAware(&b, r.revision)
		if _, err := r.out.Write(b.Buf); err != nil {
			return errGone
		}
	}
	return r.sendProgress(res.progress())
}

// sendBlock sends one block of the result.
func (r *tcpResult) sendBlock(b nativeBlock) error {
	r.sending.Lock()
	defer r.sending.Unlock()
	if !r.headed && b.raw != nil && b.rows > 0 {
		head := headOf(b.raw)
		cuts, err := blockCuts(&cursor{data: head}, uint64(r.revision))
		if err != nil {
			return err
		}
		if err := r.writeBlock(nativeBlock{raw: head, cuts: cuts}); err != nil {
			return err
		}
	}
	r.headed = true
	if b.rows > 0 {
		r.profile.Blocks++
		r.profile.Rows += b.rows
	}
	return r.writeBlock(b)
}

// follow tells the client how far the tagged statement is, until the returned
// function is called, which waits for a packet under way.
func (r *tcpResult) follow(tag string) (stop func()) {
	return r.server.engine.follow(tag, tellInterval, func(p progress) {
		_ = r.sendProgress(p) // the next packet fails too
	})
}

// sendProgress tells what was done since the last time.
func (r *tcpResult) sendProgress(p progress) error {
	r.sending.Lock()
	defer r.sending.Unlock()
	var b proto.Buffer
	proto.ServerCodeProgress.Encode(&b)
	step := p.since(r.told)
	r.told = r.told.plus(step)
	packet := proto.Progress{
		Rows: step.readRows, Bytes: step.readBytes, TotalRows: step.totalRows,
		WroteRows: step.writtenRows, WroteBytes: step.writtenBytes, ElapsedNs: uint64(step.elapsed.Nanoseconds()),
	}
	packet.EncodeAware(&b, r.revision)
	if err := r.send(&b); err != nil {
		return errGone
	}
	return nil
}

// writeBlock writes one data packet.
func (q *tcpQuery) writeBlock(block nativeBlock) error {
	var b proto.Buffer
	proto.ServerCodeData.Encode(&b)
	b.PutString("") // the name of an external table
	if _, err := q.out.Write(b.Buf); err != nil {
		return errGone
	}
	if q.frames == nil {
		if err := block.writeTo(q.out); err != nil {
			return errGone
		}
		return nil
	}
	if err := block.writeTo(q.frames); err != nil {
		return errGone
	}
	if err := q.frames.Close(); err != nil {
		return errGone
	}
	return nil
}

// headOf returns a whole block of revision 0 without its rows, and nothing if it
// has a type of unknown extent.
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
