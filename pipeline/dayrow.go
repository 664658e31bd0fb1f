package pipeline

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"unsafe"
)

// The pending rows of `customer_days` stand at the end of a record: a chunk for each checkpoint that published some, until
// it is known to be written. A later chunk's row of a day replaces an earlier one's.
//
//	version  length  columns' fingerprint  count  { days since the one before  kind  [difference, unless withdrawn] }
//
// A row is stored as its difference from the one before in its chunk, mostly a third of it. Under another fingerprint the
// columns were others: then only withdrawals are readable.

// Kinds of pending rows.
const (
	dayWithdrawn = 0
	dayPassed    = 1
	dayCorrected = 2 // read as a passed one by versions that did not know it
)

func (d *dayRow) kind() byte {
	switch {
	case d.row == nil:
		return dayWithdrawn
	case d.corrects:
		return dayCorrected
	}
	return dayPassed
}

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
		dst = append(AppendInt(dst, d.day-day), d.kind())
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
	skim    bool // values are not wanted
	lost    int  // rows under another fingerprint

	// The row that next has read.
	version int64
	day     int64
	deleted bool
	// corrects is dayRow.corrects.
	corrects bool
	values   []Value // complete once a row of the chunk has been read; texts alias the source
	begun    bool
}

// begin starts to read chunks.
func (d *dayReader) begin(j *Job, src []byte) {
	*d = dayReader{chunks: Reader{b: src}, columns: j.dayValues, print: j.dayPrint, values: slices.Grow(d.values[:0], len(j.dayValues))[:len(j.dayValues)]}
}

// next reads a row, and reports false at the end.
func (d *dayReader) next() bool {
	for d.more() {
		d.left--
		d.day += d.r.Int()
		kind := d.r.Byte()
		d.corrects = kind == dayCorrected
		if d.deleted = kind == dayWithdrawn; d.deleted {
			return !d.r.bad
		}
		difference := d.r.Bytes()
		switch {
		case d.foreign:
			d.lost++
		case d.skim || d.apply(difference):
			return !d.r.bad
		default:
			d.r.fail()
		}
	}
	return false
}

// more goes to the next chunk where the present one is read.
func (d *dayReader) more() bool {
	for d.left == 0 && d.chunks.Len() > 0 && d.Err() == nil {
		d.version = int64(d.chunks.Uint())
		d.r = Reader{b: d.chunks.Bytes()}
		d.foreign = d.r.Uint() != d.print
		d.left, d.day, d.begun = d.r.Count(), 0, false
	}
	return d.left > 0 && d.Err() == nil
}

// apply changes the values of the row before by a difference. The first row of a chunk has all values.
func (d *dayReader) apply(difference []byte) bool {
	n := (len(d.columns) + 7) / 8
	if len(difference) < n {
		return false
	}
	bits, r := difference[:n], Reader{b: difference[n:]}
	for i := range d.columns {
		if bits[i/8]&(1<<(i%8)) != 0 {
			d.values[i] = readValue(&r, &d.columns[i])
		} else if !d.begun {
			return false
		}
	}
	d.begun = true
	return !r.bad && r.Len() == 0
}

// row encodes the values of the row; nil if it is a withdrawal.
func (d *dayReader) row() []byte {
	if d.deleted {
		return nil
	}
	e := rowEncoder{columns: d.columns}
	for _, v := range d.values {
		e.value(v)
	}
	return e.dst
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
