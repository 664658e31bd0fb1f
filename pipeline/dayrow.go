package pipeline

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"math"
	"unsafe"
)

// The pending rows of `customer_days` stand at the end of a record, where there are any:
//
//	columns' fingerprint  count  { version  days since the one before  1, or 0 for a withdrawal  [difference] }
//
// A row is stored as its difference from the one before, mostly a third of it. Under another fingerprint the columns
// were others: then only withdrawals are readable.

// dayFingerprint identifies the layout of a captured row.
func dayFingerprint(columns []Column) uint64 {
	h := fnv.New32a()
	for i := range columns {
		fmt.Fprint(h, columns[i].Name, columns[i].Type, columns[i].Nullable, ";")
	}
	return uint64(h.Sum32())
}

// appendDays encodes pending rows in the order of their days.
func (j *Job) appendDays(dst []byte, days []dayRow, scratch *[]byte) []byte {
	if len(days) == 0 {
		return dst
	}
	dst = AppendUint(AppendUint(dst, j.dayPrint), uint64(len(days)))
	var before []byte
	day := int64(0)
	for i := range days {
		d := &days[i]
		dst = AppendInt(AppendUint(dst, uint64(d.version)), d.day-day)
		dst = append(dst, byte(boolInt(d.row != nil)))
		day = d.day
		if d.row != nil {
			*scratch = appendDifference((*scratch)[:0], j.dayValues, before, d.row)
			dst = AppendBytes(dst, *scratch)
			before = d.row
		}
	}
	return dst
}

// dayReader reads pending rows one by one.
type dayReader struct {
	r       Reader
	columns []Column
	left    int
	foreign bool
	lost    int // rows under another fingerprint
	day     int64
	row     []byte
	before  []byte
}

// begin starts with the end of a record.
func (d *dayReader) begin(j *Job, src []byte) {
	*d = dayReader{r: Reader{b: src}, columns: j.dayValues, row: d.row[:0], before: d.before[:0]}
	if len(src) > 0 {
		d.foreign = d.r.Uint() != j.dayPrint
		d.left = d.r.Count()
	}
}

// next reads a row into p. The row is valid until the next call.
func (d *dayReader) next(p *dayRow) bool {
	for ; d.left > 0 && !d.r.bad; d.left-- {
		version := int64(d.r.Uint())
		d.day += d.r.Int()
		*p = dayRow{version: version, day: d.day}
		if d.r.Byte() == 0 {
			d.left--
			return !d.r.bad
		}
		difference := d.r.Bytes()
		if d.foreign {
			d.lost++
			continue
		}
		d.row, d.before = d.before, d.row
		if d.row = appendSum(d.row[:0], d.columns, d.before, difference); d.row == nil {
			d.r.fail()
		}
		p.row = d.row
		d.left--
		return !d.r.bad
	}
	return false
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
