package embedded

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go/proto"
)

// maxFrame bounds a compressed frame of a client, before and after
// decompression, in bytes: ClickHouse's own bound.
const maxFrame = 1 << 30

// receive asks the client for an insert's blocks, by telling the columns, and
// writes them to a file.
func (q *tcpQuery) receive() (path string, err error) {
	sample, err := q.sample()
	if err != nil {
		return "", err
	}
	cuts, err := blockCuts(&cursor{data: sample}, uint64(q.revision))
	if err != nil {
		return "", err
	}
	if err := q.writeBlock(nativeBlock{raw: sample, cuts: cuts}); err != nil {
		return "", err
	}
	if err := q.out.Flush(); err != nil {
		return "", errGone
	}
	return q.receiveBlocks()
}

// receiveBlocks reads blocks up to the empty one. Nothing stays of an insert
// that was broken off.
func (q *tcpQuery) receiveBlocks() (path string, err error) {
	f, err := os.CreateTemp(q.server.spool.dir, "insert-*")
	if err != nil {
		return "", fmt.Errorf("spool insert: %w", err)
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			_ = os.Remove(f.Name()) // the next start clears the spool
			path = ""
		}
	}()
	// A stop does not wait for the rest of the data.
	defer context.AfterFunc(q.server.life, func() { _ = q.nc.SetReadDeadline(time.Unix(1, 0)) })()
	w := bufio.NewWriterSize(f, 256<<10)
	left := q.server.maxBody
	for {
		if err := q.nc.SetReadDeadline(time.Now().Add(packetTimeout)); err != nil {
			return "", err
		}
		if q.server.life.Err() != nil {
			return "", errGone
		}
		code, err := q.in.ReadByte()
		switch {
		case err != nil:
			return "", errGone
		case code == byte(proto.ClientCodeCancel):
			return "", errCancelled
		case code != byte(proto.ClientCodeData):
			return "", fatal(codeUnexpectedPacket, "UNEXPECTED_PACKET_FROM_CLIENT", fmt.Sprintf("Unexpected packet %d within an insert", code))
		}
		if _, err := q.readName(); err != nil {
			return "", err
		}
		_, last, err := q.readBlock(w, &left)
		if err != nil {
			return "", err
		}
		if err := q.sendEvents(); err != nil {
			return "", err
		}
		if last {
			return f.Name(), w.Flush()
		}
	}
}

// eventsInInsert is the revision from which on a client waits for a packet of
// profile events after each block it has sent.
const eventsInInsert = 54456

// sendEvents acknowledges a block of an insert with profile events, of which
// there are none. Such a packet is never compressed.
func (q *tcpQuery) sendEvents() error {
	if q.revision < eventsInInsert {
		return nil
	}
	columns := []string{
		"host_name", "String", "current_time", "DateTime", "thread_id", "UInt64",
		"type", "Enum8('increment' = 1, 'gauge' = 2)", "name", "String", "value", "Int64",
	}
	var b proto.Buffer
	proto.ServerProfileEvents.Encode(&b)
	b.PutString("") // the name of an external table
	b.PutRaw([]byte(blockInfo))
	b.PutInt(len(columns) / 2)
	b.PutInt(0)
	for i, text := range columns {
		b.PutString(text)
		if i%2 == 1 {
			b.PutByte(0) // no custom serialization
		}
	}
	if err := q.send(&b); err != nil {
		return errGone
	}
	return nil
}

// maxTables bounds how many external tables come with one query.
const maxTables = 256

// receiveTables reads what lies between a query and its end: the external tables.
func (q *tcpQuery) receiveTables() error {
	left := q.server.maxBody
	for {
		r := q.reader()
		if code := r.uvarint(); r.err == nil && code != uint64(proto.ClientCodeData) {
			return fatal(codeUnexpectedPacket, "UNEXPECTED_PACKET_FROM_CLIENT", fmt.Sprintf("Unexpected packet %d after a query", code))
		}
		if r.err != nil {
			return malformed("Data", r.err)
		}
		name, err := q.readName()
		if err != nil {
			return err
		}
		if last, err := q.receiveTable(name, &left); last || err != nil {
			return err
		}
	}
}

// receiveTable adds a block to the external table of that name. It reports
// whether the block was the one that ends the tables.
func (q *tcpQuery) receiveTable(name string, left *int64) (last bool, err error) {
	i := slices.IndexFunc(q.tables, func(t externalTable) bool { return t.name == name })
	if i < 0 && len(q.tables) == maxTables {
		return false, fatal(codeUnsupported, "NOT_IMPLEMENTED", fmt.Sprintf("More than %d external tables", maxTables))
	}
	path := ""
	if i >= 0 {
		path = q.tables[i].path
	} else if path, _, err = q.server.spool.fill(strings.NewReader("")); err != nil {
		return false, err
	}
	columns, last, err := q.appendBlock(path, left)
	if err != nil || last {
		if i < 0 {
			_ = os.Remove(path) // the next start clears the spool
		}
		return last, err
	}
	if i < 0 {
		q.tables = append(q.tables, externalTable{name: name, format: "Native", columns: strings.Join(columns, ", "), path: path})
	}
	return false, nil
}

// appendBlock reads a block into a file.
func (q *tcpQuery) appendBlock(path string, left *int64) (columns []string, last bool, err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return nil, false, fmt.Errorf("spool external table: %w", err)
	}
	w := bufio.NewWriterSize(f, tcpBuffer)
	columns, last, err = q.readBlock(w, left)
	if ferr := errors.Join(w.Flush(), f.Close()); err == nil {
		err = ferr
	}
	return columns, last, err
}

// readName reads the name in a data packet.
func (q *tcpQuery) readName() (string, error) {
	r := q.reader()
	name := r.str(maxName)
	if r.err != nil {
		return "", malformed("Data", r.err)
	}
	return name, nil
}

// readBlock reads the block of a data packet and copies it to w. It returns the
// columns as in CREATE TABLE. left is how many bytes the client may still send.
func (q *tcpQuery) readBlock(w *bufio.Writer, left *int64) (columns []string, last bool, err error) {
	b := &blockReader{src: q.in, dst: w, revision: q.revision, left: *left}
	var frames *frameReader
	if q.compressed {
		frames = newFrameReader(q.in, maxFrame)
		b.src = bufio.NewReaderSize(frames, tcpBuffer)
	}
	last, err = b.block()
	*left = b.left
	if err == nil && frames != nil && b.src.Buffered()+len(frames.rest) > 0 {
		err = errors.New("a compressed frame goes on after the end of its block")
	}
	if err != nil {
		return nil, false, malformed("Block", err)
	}
	return b.columns, last, nil
}

// target is what an insert goes into.
type target struct {
	// name is a table, or a table function with its arguments.
	name string
	// columns are those listed, nil for all.
	columns []string
}

// parseTarget finds table and columns in "INSERT INTO t (a, b)".
func parseTarget(into string) (target, error) {
	l := &lexer{sql: into}
	t := l.next()
	for word := ""; ; t = l.next() {
		if word = strings.ToUpper(into[t.start:t.end]); word != "INSERT" && word != "INTO" && word != "TABLE" && word != "FUNCTION" {
			break
		}
		if word == "FUNCTION" {
			return target{}, raise(codeUnsupported, "NOT_IMPLEMENTED", "INSERT INTO FUNCTION with data in blocks: use INSERT … SELECT, or HTTP")
		}
	}
	start, end := t.start, t.end
	for t = l.next(); t.kind != tokenEnd && into[t.start:t.end] != "("; t = l.next() {
		end = t.end
	}
	tgt := target{name: into[start:end]}
	var err error
	if t.kind != tokenEnd {
		tgt.columns, err = parseColumns(l)
	}
	return tgt, err
}

// parseColumns reads a list of columns after its bracket. "*" is all of them.
func parseColumns(l *lexer) ([]string, error) {
	var list []string
	name := ""
	for {
		t := l.next()
		text := l.sql[t.start:t.end]
		switch {
		case t.kind == tokenEnd, text == ")":
			if name == "*" && len(list) == 0 {
				return nil, nil
			}
			return append(list, name), nil
		case text == ",":
			list, name = append(list, name), ""
		case t.kind == tokenQuoted && len(text) > 1:
			name += unquote(text)
		case t.kind == tokenWord && (name == "" || strings.HasSuffix(name, ".")), text == "." && name != "", text == "*" && name == "":
			name += text
		default:
			return nil, raise(codeUnsupported, "NOT_IMPLEMENTED", "List of columns: name them one by one, the embedded server does not evaluate "+text)
		}
	}
}

// columnInfo is one row of DESCRIBE TABLE.
type columnInfo struct{ name, typ, defaultKind string }

// sample returns an empty block of the columns the insert wants.
func (q *tcpQuery) sample() ([]byte, error) {
	tgt, err := parseTarget(q.insert.into)
	if err != nil {
		return nil, err
	}
	all, err := q.describe(tgt.name)
	if err != nil {
		return nil, err
	}
	chosen, err := choose(all, tgt)
	if err != nil {
		return nil, err
	}
	block := append(binary.AppendUvarint(nil, uint64(len(chosen))), 0)
	for _, column := range chosen {
		if q.plainStrings() {
			column.typ = withoutDictionaries(column.typ)
		}
		if _, err := parseShape(column.typ); err != nil {
			return nil, raise(codeUnsupported, "NOT_IMPLEMENTED", "Column "+column.name+" of type "+column.typ+
				" cannot be inserted over the native protocol of the embedded server, use HTTP")
		}
		for _, text := range []string{column.name, column.typ} {
			block = append(binary.AppendUvarint(block, uint64(len(text))), text...)
		}
	}
	return block, nil
}

// describe asks the engine for the columns of a table.
func (q *tcpQuery) describe(table string) ([]columnInfo, error) {
	cmd := q.command()
	cmd.sql, cmd.format, cmd.params = "DESCRIBE TABLE "+table, "RowBinary", nil
	ctx, cancel := context.WithTimeout(q.server.life, packetTimeout)
	defer cancel()
	res, err := q.server.engine.run(ctx, cmd)
	if err != nil {
		return nil, err
	}
	defer res.free()
	const more = 4
	var list []columnInfo
	c := &cursor{data: res.data}
	for c.pos < len(res.data) && c.err == nil {
		list = append(list, columnInfo{c.str(), c.str(), c.str()})
		for range more {
			c.str()
		}
	}
	return list, c.err
}

// choose picks the listed columns, or all that a plain insert fills.
func choose(all []columnInfo, tgt target) ([]columnInfo, error) {
	var chosen []columnInfo
	byName := map[string]columnInfo{}
	for _, column := range all {
		byName[column.name] = column
		switch column.defaultKind {
		case "MATERIALIZED", "ALIAS", "EPHEMERAL":
		default:
			chosen = append(chosen, column)
		}
	}
	if tgt.columns == nil {
		return chosen, nil
	}
	chosen = nil
	for _, name := range tgt.columns {
		column, ok := byName[name]
		if !ok {
			return nil, raise(codeNoSuchColumn, "NO_SUCH_COLUMN_IN_TABLE", "No such column "+name+" in table "+tgt.name)
		}
		chosen = append(chosen, column)
	}
	return chosen, nil
}

// plainStrings reports whether the client wants no dictionaries in blocks.
func (q *tcpQuery) plainStrings() bool {
	for _, set := range q.request.settings {
		if set.name == "low_cardinality_allow_in_native_format" {
			return set.value == "0" || strings.EqualFold(set.value, "false")
		}
	}
	return false
}

// withoutDictionaries replaces LowCardinality(T) in a type by T.
func withoutDictionaries(typ string) string {
	var b strings.Builder
	var open []int // depths in which a dictionary was opened
	from := 0
	l := &lexer{sql: typ}
	for t := l.next(); t.kind != tokenEnd; t = l.next() {
		switch text := typ[t.start:t.end]; {
		case t.kind == tokenWord && text == "LowCardinality":
			bracket := l.next()
			if typ[bracket.start:bracket.end] != "(" {
				continue // the name of a tuple's element
			}
			b.WriteString(typ[from:t.start])
			from = bracket.end
			open = append(open, bracket.depth)
		case text == ")" && len(open) > 0 && open[len(open)-1] == l.depth:
			b.WriteString(typ[from:t.start])
			from = t.end
			open = open[:len(open)-1]
		}
	}
	return b.String() + typ[from:]
}
