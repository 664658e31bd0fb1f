package pipeline

import (
	"encoding/binary"
	"errors"
)

// errCorrupt is wrapped by every error about bytes at rest that do not decode.
var errCorrupt = errors.New("corrupt state")

// Reader decodes the bytes of a section: varints and length-prefixed byte strings. After the first fault it returns
// zeros, and Err tells.
type Reader struct {
	b   []byte
	bad bool
}

// NewReader reads from b.
func NewReader(b []byte) *Reader { return &Reader{b: b} }

// Err returns an error if the bytes ended early or a varint was malformed.
func (r *Reader) Err() error {
	if r.bad {
		return errCorrupt
	}
	return nil
}

// Len returns the number of bytes left.
func (r *Reader) Len() int { return len(r.b) }

// Uint reads an unsigned varint.
func (r *Reader) Uint() uint64 {
	if len(r.b) > 0 && r.b[0] < 0x80 {
		v := r.b[0]
		r.b = r.b[1:]
		return uint64(v)
	}
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

// Int reads a signed varint.
func (r *Reader) Int() int64 {
	u := r.Uint()
	return int64(u>>1) ^ -int64(u&1)
}

// Count reads the length of a list whose entries take at least one byte each, so that it cannot exceed what is left. A
// loop over them ends at the first fault: an entry that takes more memory than bytes is not to be made of nothing.
func (r *Reader) Count() int {
	n := r.Uint()
	if n > uint64(len(r.b)) {
		r.fail()
		return 0
	}
	return int(n)
}

// Uint64 reads eight bytes, for hashes and floating point.
func (r *Reader) Uint64() uint64 {
	if len(r.b) < 8 {
		r.fail()
		return 0
	}
	v := binary.LittleEndian.Uint64(r.b)
	r.b = r.b[8:]
	return v
}

// Byte reads one byte.
func (r *Reader) Byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

// Bytes reads a length-prefixed byte string, which aliases the source.
func (r *Reader) Bytes() []byte {
	n := r.Count()
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

// Currency reads the three letters of a currency's code.
func (r *Reader) Currency() (code [3]byte) {
	for i := range code {
		if code[i] = r.Byte(); code[i] < 'A' || code[i] > 'Z' {
			r.fail()
			return [3]byte{}
		}
	}
	return code
}

// Rate reads what AppendRate wrote.
func (r *Reader) Rate() Rate {
	v := Rate{Units: r.Uint(), Digits: r.Byte()}
	if int(v.Digits) >= len(powers) {
		r.fail()
		return Rate{}
	}
	return v
}

func (r *Reader) fail() { r.b, r.bad = nil, true }

// AppendUint appends an unsigned varint.
func AppendUint(dst []byte, v uint64) []byte { return binary.AppendUvarint(dst, v) }

// AppendInt appends a signed varint.
func AppendInt(dst []byte, v int64) []byte { return binary.AppendVarint(dst, v) }

// AppendUint64 appends eight bytes.
func AppendUint64(dst []byte, v uint64) []byte { return binary.LittleEndian.AppendUint64(dst, v) }

// AppendRate appends a rate, also the zero one.
func AppendRate(dst []byte, v Rate) []byte { return append(AppendUint(dst, v.Units), v.Digits) }

// AppendBytes appends a length-prefixed byte string.
func AppendBytes(dst, v []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(v))), v...)
}

// maxRaw is the greatest original value, in bytes, that is kept with an open event in case it ends as a dead letter. Of
// a larger one the dead letter only tells the origin.
const maxRaw = 16 << 10

const (
	eventKnown = 1 << iota
	eventAmount
	eventOrder
	eventRaw
	eventForeign
)

// AppendEvent appends the compact form of an event: everything a fold needs, without the customer.
func AppendEvent(dst []byte, e *Event) []byte {
	var flags byte
	if e.Known {
		flags |= eventKnown
	}
	if e.HasAmount {
		flags |= eventAmount
	}
	if len(e.OrderID) > 0 || len(e.Lines) > 0 {
		flags |= eventOrder
	}
	if e.Kind > KindOrderCompleted && len(e.Raw) > 0 {
		flags |= eventRaw
	}
	if e.Foreign() {
		flags |= eventForeign
	}
	dst = append(dst, byte(e.Kind), flags)
	dst = AppendInt(dst, e.At)
	dst = AppendUint64(dst, e.ID)
	if flags&eventAmount != 0 {
		dst = AppendInt(dst, e.Amount)
	}
	if flags&eventForeign != 0 {
		dst = AppendRate(append(dst, e.Currency[:]...), e.Rate)
	}
	if flags&eventOrder != 0 {
		dst = AppendBytes(dst, e.OrderID)
		dst = AppendUint(dst, uint64(len(e.Lines)))
		for i := range e.Lines {
			dst = appendLine(dst, &e.Lines[i])
		}
	}
	if flags&eventRaw != 0 {
		raw := e.Raw
		if len(raw) > maxRaw {
			raw = nil
		}
		dst = AppendBytes(dst, raw)
		dst = AppendBytes(dst, []byte(e.Origin.Topic))
		dst = AppendUint(dst, uint64(e.Origin.Partition))
		dst = AppendUint(dst, uint64(e.Origin.Offset))
	}
	return dst
}

func appendLine(dst []byte, l *Line) []byte {
	dst = AppendUint64(dst, l.Product)
	dst = AppendBytes(dst, l.Category)
	dst = AppendInt(dst, l.Quantity)
	dst = append(dst, byte(boolInt(l.HasAmount)))
	return AppendInt(dst, l.Amount)
}

// DecodeEvent reads what AppendEvent wrote into e, whose slices then alias src.
func DecodeEvent(src []byte, e *Event) error {
	r := Reader{b: src}
	lines := e.Lines[:0]
	*e = Event{Kind: Kind(r.Byte())}
	flags := r.Byte()
	e.Known = flags&eventKnown != 0
	e.At = r.Int()
	e.ID = r.Uint64()
	if e.HasAmount = flags&eventAmount != 0; e.HasAmount {
		e.Amount = r.Int()
	}
	if flags&eventForeign != 0 {
		e.Currency, e.Rate = r.Currency(), r.Rate()
	}
	if flags&eventOrder != 0 {
		e.OrderID = r.Bytes()
		for n := r.Count(); n > 0 && !r.bad; n-- {
			l := Line{Product: r.Uint64(), Category: r.Bytes(), Quantity: r.Int()}
			l.HasAmount = r.Byte() != 0
			l.Amount = r.Int()
			lines = append(lines, l)
		}
	}
	e.Lines = lines
	if flags&eventRaw != 0 {
		e.Raw = r.Bytes()
		e.Origin = Origin{Topic: string(r.Bytes()), Partition: int32(r.Uint()), Offset: int64(r.Uint())}
	}
	if !e.Kind.Valid() {
		return errCorrupt
	}
	return r.Err()
}
