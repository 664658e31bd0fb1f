package pipeline

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"math"
	"unsafe"
)

// The pending rows of `customer_days` stand at the end of a record: a chunk for each checkpoint that published some, until
// it is known to be written. A later chunk's row of a day replaces an earlier one's.
//
//	version  length  columns' fingerprint  count  { days since the one before  1, or 0 for a withdrawal  [difference] }
//
// A row is stored as its difference from the one before in its chunk, mostly a third of it. Under another fingerprint the
// columns were others: then only withdrawals are readable.

// dayFingerprint identifies the layout of a captured row.
func dayFingerprint(columns []Column) uint64 {
	h := fnv.New32a()
	for i := range columns {
		fmt.Fprint(h, columns[i].Name, columns[i].Type, columns[i].Nullable, ";")
	}
	return uint64(h.Sum32())
}

// appendDays encodes rows in the order of their versions and days.
func (t *Task) appendDays(dst []byte, days []dayRow) []byte {
	for len(days) > 0 {
		n := 1
		for n < len(days) && days[n].version == days[0].version {
			n++
		}
		t.sect = t.appendChunk(t.sect[:0], days[:n])
		dst = AppendBytes(AppendUint(dst, uint64(days[0].version)), t.sect)
		days = days[n:]
	}
	return dst
}

func (t *Task) appendChunk(dst []byte, days []dayRow) []byte {
	dst = AppendUint(AppendUint(dst, t.job.dayPrint), uint64(len(days)))
	var before []byte
	day := int64(0)
	for i := range days {
		d := &days[i]
		dst = append(AppendInt(dst, d.day-day), byte(boolInt(d.row != nil)))
		day = d.day
		if d.row != nil {
			t.buf = appendDifference(t.buf[:0], t.job.dayValues, before, d.row)
			dst = AppendBytes(dst, t.buf)
			before = d.row
		}
	}
	return dst
}

// chunksAfter returns the chunks that are newer than a version. They are in the order of their versions.
func chunksAfter(version int64, src []byte) []byte {
	for r := (Reader{b: src}); r.Len() > 0; src = r.b {
		if int64(r.Uint()) > version {
			break
		}
		r.Bytes()
	}
	return src
}

// dayReader reads the rows of chunks one by one.
type dayReader struct {
	chunks  Reader
	r       Reader // of the present chunk
	columns []Column
	print   uint64
	left    int
	foreign bool
	skim    bool // rows are not wanted
	lost    int  // rows under another fingerprint
	version int64
	day     int64
	row     []byte
	before  []byte
}

// begin starts to read chunks.
func (d *dayReader) begin(j *Job, src []byte) {
	*d = dayReader{chunks: Reader{b: src}, columns: j.dayValues, print: j.dayPrint, row: d.row, before: d.before}
}

// next reads a row into p. The row is valid until the next call.
func (d *dayReader) next(p *dayRow) bool {
	for d.more() {
		d.left--
		d.day += d.r.Int()
		*p = dayRow{version: d.version, day: d.day}
		if d.r.Byte() == 0 {
			return !d.r.bad
		}
		difference := d.r.Bytes()
		if d.foreign {
			d.lost++
			continue
		}
		if d.skim {
			return !d.r.bad
		}
		d.row, d.before = d.before, d.row
		if d.row = appendSum(d.row[:0], d.columns, d.before, difference); len(d.row) == 0 {
			d.r.fail()
		}
		p.row = d.row
		return !d.r.bad
	}
	return false
}

// more goes to the next chunk where the present one is read.
func (d *dayReader) more() bool {
	for d.left == 0 && d.chunks.Len() > 0 && d.Err() == nil {
		d.version = int64(d.chunks.Uint())
		d.r = Reader{b: d.chunks.Bytes()}
		d.foreign = d.r.Uint() != d.print
		d.left, d.day, d.row, d.before = d.r.Count(), 0, d.row[:0], d.before[:0]
	}
	return d.left > 0 && d.Err() == nil
}

// Err returns an error if the bytes were no chunks; valid once next has returned false.
func (d *dayReader) Err() error {
	if d.r.bad || d.chunks.bad || d.left == 0 && d.r.Len() > 0 {
		return errCorrupt
	}
	return nil
}

// rowEncoder writes the values of a row as bytes.
type rowEncoder struct {
	dst     []byte
	columns []Column
}

func (e *rowEncoder) value(v Value) {
	c := &e.columns[0]
	e.columns = e.columns[1:]
	if c.Nullable {
		e.dst = append(e.dst, byte(boolInt(v.Null)))
		if v.Null {
			return
		}
	}
	switch c.Type {
	case TypeText, TypeString:
		e.dst = append(AppendUint(e.dst, uint64(len(v.Text))), v.Text...)
	case TypeNumber:
		e.dst = AppendUint64(e.dst, math.Float64bits(v.Float))
	default:
		e.dst = AppendInt(e.dst, v.Int)
	}
}

// readValue reads what rowEncoder wrote. A text aliases the source.
func readValue(r *Reader, c *Column) Value {
	if c.Nullable && r.Byte() != 0 {
		return Value{Null: true}
	}
	switch c.Type {
	case TypeText, TypeString:
		b := r.Bytes()
		return Value{Text: unsafe.String(unsafe.SliceData(b), len(b))}
	case TypeNumber:
		return Value{Float: math.Float64frombits(r.Uint64())}
	default:
		return Value{Int: r.Int()}
	}
}

// token returns the bytes of the next value; none at the end.
func token(r *Reader, c *Column) []byte {
	whole := r.b
	readValue(r, c)
	if r.bad {
		return nil
	}
	return whole[:len(whole)-len(r.b)]
}

// appendDifference encodes a row as a bit for each column, set where the value differs from that of the row before, and
// these values. All differ from those of no row.
func appendDifference(dst []byte, columns []Column, before, row []byte) []byte {
	bits := len(dst)
	for range (len(columns) + 7) / 8 {
		dst = append(dst, 0)
	}
	a, b := Reader{b: before}, Reader{b: row}
	for i := range columns {
		old, value := token(&a, &columns[i]), token(&b, &columns[i])
		if !bytes.Equal(old, value) {
			dst[bits+i/8] |= 1 << (i % 8)
			dst = append(dst, value...)
		}
	}
	return dst
}

// appendSum is the inverse of appendDifference; nil if there is no such row.
func appendSum(dst []byte, columns []Column, before, difference []byte) []byte {
	n := (len(columns) + 7) / 8
	if len(difference) < n {
		return nil
	}
	bits := difference[:n]
	a, b := Reader{b: before}, Reader{b: difference[n:]}
	for i := range columns {
		value := token(&a, &columns[i])
		if bits[i/8]&(1<<(i%8)) != 0 {
			value = token(&b, &columns[i])
		}
		if len(value) == 0 {
			return nil
		}
		dst = append(dst, value...)
	}
	if b.Len() > 0 || b.bad {
		return nil
	}
	return dst
}
