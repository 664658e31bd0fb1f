package codec

import (
	"encoding/binary"
	"math/bits"
)

// maxDepth is how deep objects and arrays may nest. It bounds the recursion of scanner.value.
const maxDepth = 64

// tokenKind tells what a JSON value is.
type tokenKind uint8

const (
	tokenNone tokenKind = iota // the member is missing
	tokenNull
	tokenBool
	tokenNumber
	tokenString
	tokenArray
	tokenObject
)

// String names the kind for causes.
func (k tokenKind) String() string {
	return [...]string{"missing", "null", "a boolean", "a number", "a string", "an array", "an object"}[k]
}

// token is the place of one JSON value in the input: a string without its quotes, else the whole value.
type token struct {
	start, end int32
	kind       tokenKind
	escaped    bool // a string that holds escapes
}

// absent reports that a member is missing, null or an empty string, which trackers send alike for "not known".
func (t token) absent() bool {
	return t.kind <= tokenNull || t.kind == tokenString && t.start == t.end
}

// scanner reads JSON (RFC 8259) once from left to right and checks all of its grammar but the encoding of strings.
// Errors stick: after the first, why is set, i stands at the offending byte (or at the end of the input) and no
// method moves on. Callers may therefore go on until member or element says that there is no more.
type scanner struct {
	b     []byte
	i     int
	depth int
	why   string // what was expected at i; empty while all is well
}

// reset starts a new input.
func (s *scanner) reset(b []byte) { *s = scanner{b: b} }

func (s *scanner) fail(why string) {
	if s.why == "" {
		s.why = why
	}
}

// peek returns the byte at i, or 0 at the end of the input; a 0 byte begins nothing in JSON.
func (s *scanner) peek() byte {
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

// space skips white space. Not to be called after an error, which stands where it was found.
func (s *scanner) space() {
	for s.i < len(s.b) && s.b[s.i] <= ' ' {
		switch s.b[s.i] {
		case ' ', '\n', '\r', '\t':
			s.i++
		default:
			return
		}
	}
}

// open enters the object or array at i. It is followed by calls of member or element until they return false.
func (s *scanner) open() {
	if s.depth == maxDepth {
		s.fail("nesting of at most 64 levels")
		return
	}
	s.depth++
	s.i++
}

// member moves to the value of an object's next member and returns its name as written; first tells that none was
// read since open. ok is false at the object's end, which is then passed, and after an error.
func (s *scanner) member(first bool) (name token, ok bool) {
	if !s.more('}', first) {
		return token{}, false
	}
	if s.peek() != '"' {
		s.fail("a member name")
		return token{}, false
	}
	if name = s.string(); s.why != "" {
		return token{}, false
	}
	if s.space(); s.peek() != ':' {
		s.fail("':'")
		return token{}, false
	}
	s.i++
	s.space()
	return name, true
}

// element moves to an array's next element. ok is false at the array's end, which is then passed, and after an error.
func (s *scanner) element(first bool) (ok bool) { return s.more(']', first) }

// more passes the comma before the next item of an object or array, or its end.
func (s *scanner) more(end byte, first bool) bool {
	if s.why != "" {
		return false
	}
	s.space()
	switch c := s.peek(); {
	case c == end:
		s.i++
		s.depth--
		return false
	case first:
		return true
	case c != ',':
		s.fail("',' or '" + string(rune(end)) + "'")
		return false
	}
	s.i++
	s.space()
	return true
}

// value reads any value, checking all that it holds.
func (s *scanner) value() token {
	switch c := s.peek(); c {
	case '"':
		return s.string()
	case '{', '[':
		return s.nested(c)
	case 't':
		return s.literal("true", tokenBool)
	case 'f':
		return s.literal("false", tokenBool)
	case 'n':
		return s.literal("null", tokenNull)
	default:
		return s.number()
	}
}

// nested reads the object or array at i, which begins with c.
func (s *scanner) nested(c byte) token {
	t := token{start: int32(s.i), kind: tokenObject}
	s.open()
	if c == '[' {
		t.kind = tokenArray
		for ok := s.element(true); ok; ok = s.element(false) {
			s.value()
		}
	} else {
		for _, ok := s.member(true); ok; _, ok = s.member(false) {
			s.value()
		}
	}
	t.end = int32(s.i)
	return t
}

func (s *scanner) literal(word string, kind tokenKind) token {
	start := s.i
	for j := range len(word) {
		if s.peek() != word[j] {
			s.fail("'" + word + "'")
			return token{}
		}
		s.i++
	}
	return token{start: int32(start), end: int32(s.i), kind: kind}
}

func (s *scanner) number() token {
	start := s.i
	if s.peek() == '-' {
		s.i++
	}
	switch c := s.peek(); {
	case c == '0':
		s.i++
	case c >= '1' && c <= '9':
		s.digits()
	case s.i == start:
		s.fail("a value")
		return token{}
	default:
		s.fail("a digit")
		return token{}
	}
	if s.peek() == '.' {
		s.i++
		s.digits()
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.i++
		if c := s.peek(); c == '+' || c == '-' {
			s.i++
		}
		s.digits()
	}
	return token{start: int32(start), end: int32(s.i), kind: tokenNumber}
}

// digits reads one or more decimal digits. It does nothing after an error.
func (s *scanner) digits() {
	if s.why != "" {
		return
	}
	start := s.i
	for s.i < len(s.b) && isDigit(s.b[s.i]) {
		s.i++
	}
	if s.i == start {
		s.fail("a digit")
	}
}

func isDigit(c byte) bool { return c-'0' <= 9 }

// string reads the string whose opening quote is at i.
func (s *scanner) string() token {
	s.i++
	t := token{start: int32(s.i), kind: tokenString}
	for s.why == "" {
		s.plain()
		switch s.peek() {
		case '"':
			t.end = int32(s.i)
			s.i++
			return t
		case '\\':
			t.escaped = true
			s.escape()
		default:
			s.fail("the end of a string")
		}
	}
	return t
}

// plain passes the bytes of a string up to its next quote, backslash or control character.
func (s *scanner) plain() {
	b, i := s.b, s.i
	for i+8 <= len(b) {
		if m := stops(binary.LittleEndian.Uint64(b[i:])); m != 0 {
			s.i = i + bits.TrailingZeros64(m)>>3
			return
		}
		i += 8
	}
	for i < len(b) && b[i] != '"' && b[i] != '\\' && b[i] >= ' ' {
		i++
	}
	s.i = i
}

// stops marks with its top bit each of the 8 bytes of w that ends plain text. Only the lowest mark is exact: the
// borrow of a subtraction can mark bytes above it.
func stops(w uint64) uint64 {
	const (
		ones = 0x0101010101010101
		tops = 0x8080808080808080
	)
	quote := w ^ ones*'"'
	backslash := w ^ ones*'\\'
	return ((w-ones*' ')&^w | (quote-ones)&^quote | (backslash-ones)&^backslash) & tops
}

// escape passes the escape sequence at i.
func (s *scanner) escape() {
	s.i++
	switch s.peek() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.i++
	case 'u':
		s.i++
		for range 4 {
			if _, ok := hexDigit(s.peek()); !ok {
				s.fail("a hexadecimal digit")
				return
			}
			s.i++
		}
	default:
		s.fail("an escape sequence")
	}
}
