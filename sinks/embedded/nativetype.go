package embedded

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// errShape is returned for a type whose extent in a Native block this package
// does not know, such as AggregateFunction or JSON.
var errShape = errors.New("no known extent in a Native block")

// errTruncated is returned for a Native block that ends too early.
var errTruncated = errors.New("truncated Native block")

// shapeKind says how the values of a type lie in a Native column.
type shapeKind uint8

const (
	shapeFixed    shapeKind = iota // rows values of size bytes
	shapeString                    // rows strings, each after its length
	shapeNullable                  // rows bytes, then the element
	shapeArray                     // rows end offsets of 8 bytes, then the element
	shapeTuple                     // the elements one after the other
	shapeDict                      // LowCardinality: dictionary and indices
)

// shape is what must be known of a type to find the end of its column.
type shape struct {
	kind  shapeKind
	size  int
	elems []shape
}

// fixedSize returns the width in bytes of a type whose width its base name
// decides, 0 for others.
func fixedSize(name string) int {
	switch name {
	case "UInt8", "Int8", "Bool", "Enum8", "Nothing":
		return 1
	case "UInt16", "Int16", "Date", "Enum16", "BFloat16":
		return 2
	case "UInt32", "Int32", "Float32", "DateTime", "Date32", "IPv4", "Time", "Decimal32":
		return 4
	case "UInt64", "Int64", "Float64", "DateTime64", "Time64", "Decimal64":
		return 8
	case "UInt128", "Int128", "UUID", "IPv6", "Decimal128":
		return 16
	case "UInt256", "Int256", "Decimal256":
		return 32
	}
	if strings.HasPrefix(name, "Interval") {
		return 8
	}
	return 0
}

// maxNesting bounds how deep types are nested.
const maxNesting = 64

// parseShape reads a type's name as the engine writes it. The error wraps
// errShape.
func parseShape(typ string) (shape, error) {
	if strings.Count(typ, "(") > maxNesting && nesting(typ) > maxNesting {
		return shape{}, fmt.Errorf("type of more than %d levels: %w", maxNesting, errShape)
	}
	return shapeOf(typ)
}

// nesting counts the levels of brackets in a type.
func nesting(typ string) int {
	deepest := 0
	l := &lexer{sql: typ}
	for t := l.next(); t.kind != tokenEnd; t = l.next() {
		deepest = max(deepest, t.depth)
	}
	return deepest
}

func shapeOf(typ string) (shape, error) {
	base, args, ok := typeParts(typ)
	if !ok {
		return shape{}, fmt.Errorf("type %s: %w", typ, errShape)
	}
	if size := fixedSize(base); size > 0 {
		return shape{kind: shapeFixed, size: size}, nil
	}
	switch base {
	case "FixedString":
		return fixedString(typ, args)
	case "Decimal":
		return decimalShape(typ, args)
	case "Nullable":
		return wrapped(shapeNullable, args)
	case "Array":
		return wrapped(shapeArray, args)
	case "LowCardinality":
		return dictShape(args)
	case "Tuple":
		return tupleShape(typ, args)
	case "Map", "Nested":
		return wrapped(shapeArray, "Tuple("+args+")")
	case "SimpleAggregateFunction":
		return simpleAggregate(typ, args)
	}
	return plainShape(strings.TrimSpace(typ))
}

// typeParts cuts a type into its name and what stands in its brackets. It is not ok for anything but a word, or a word and
// one pair of brackets that ends the type.
func typeParts(typ string) (base, args string, ok bool) {
	l := &lexer{sql: typ}
	name := l.next()
	base = typ[name.start:name.end]
	open := l.next()
	if name.kind != tokenWord || open.kind == tokenEnd {
		return base, "", name.kind == tokenWord
	}
	last := open
	for t := l.next(); t.kind != tokenEnd; t = l.next() {
		if last = t; t.depth == 0 {
			break // the bracket that closes the first one
		}
	}
	ok = typ[open.start:open.end] == "(" && typ[last.start:last.end] == ")" && last.depth == 0 && l.next().kind == tokenEnd
	if !ok {
		return "", "", false
	}
	return base, typ[open.end:last.start], true
}

// plainShape knows the types without arguments that are not of one size: strings, and the geometric types, which are
// arrays of points.
func plainShape(typ string) (shape, error) {
	switch typ {
	case "String":
		return shape{kind: shapeString}, nil
	case "Point":
		return shapeOf("Tuple(Float64, Float64)")
	case "Ring", "LineString":
		return shapeOf("Array(Point)")
	case "Polygon", "MultiLineString":
		return shapeOf("Array(Ring)")
	case "MultiPolygon":
		return shapeOf("Array(Polygon)")
	}
	return shape{}, fmt.Errorf("type %s: %w", typ, errShape)
}

func wrapped(kind shapeKind, elem string) (shape, error) {
	s, err := shapeOf(elem)
	return shape{kind: kind, elems: []shape{s}}, err
}

func fixedString(typ, args string) (shape, error) {
	size, err := strconv.Atoi(strings.TrimSpace(args))
	if err != nil || size <= 0 {
		return shape{}, fmt.Errorf("type %s: %w", typ, errShape)
	}
	return shape{kind: shapeFixed, size: size}, nil
}

// decimalShape knows Decimal(P, S): the precision decides the width.
func decimalShape(typ, args string) (shape, error) {
	precision, _, _ := strings.Cut(args, ",")
	p, err := strconv.Atoi(strings.TrimSpace(precision))
	switch {
	case err != nil || p < 1 || p > 76:
		return shape{}, fmt.Errorf("type %s: %w", typ, errShape)
	case p <= 9:
		return shape{kind: shapeFixed, size: 4}, nil
	case p <= 18:
		return shape{kind: shapeFixed, size: 8}, nil
	case p <= 38:
		return shape{kind: shapeFixed, size: 16}, nil
	}
	return shape{kind: shapeFixed, size: 32}, nil
}

// dictShape knows LowCardinality(T) and LowCardinality(Nullable(T)): both have
// a dictionary of T, which is a string or of one size.
func dictShape(args string) (shape, error) {
	s, err := wrapped(shapeDict, args)
	if err == nil && s.elems[0].kind == shapeNullable {
		s.elems = s.elems[0].elems
	}
	if err == nil && s.elems[0].kind != shapeString && s.elems[0].kind != shapeFixed {
		return shape{}, fmt.Errorf("dictionary of %s: %w", args, errShape)
	}
	return s, err
}

// simpleAggregate knows SimpleAggregateFunction(f, T): it lies like T.
func simpleAggregate(typ, args string) (shape, error) {
	parts := splitArgs(args)
	if len(parts) != 2 {
		return shape{}, fmt.Errorf("type %s: %w", typ, errShape)
	}
	return shapeOf(parts[1])
}

// tupleShape knows Tuple(T, …) and Tuple(name T, …).
func tupleShape(typ, args string) (shape, error) {
	s := shape{kind: shapeTuple}
	for _, part := range splitArgs(args) {
		elem, err := shapeOf(elementType(part))
		if err != nil {
			return shape{}, err
		}
		s.elems = append(s.elems, elem)
	}
	if len(s.elems) == 0 {
		return shape{}, fmt.Errorf("type %s: %w", typ, errShape)
	}
	return s, nil
}

// elementType drops the name of a tuple's element, if it has one: no type is
// two words. It decides by the form alone, so that a hostile type costs no more
// than its length.
func elementType(part string) string {
	l := &lexer{sql: part}
	name := l.next()
	next := *l
	if name.kind == tokenQuoted || next.next().kind == tokenWord {
		return part[name.end:]
	}
	return part
}

// splitArgs cuts at the commas outside of brackets and quotes.
func splitArgs(args string) []string {
	var parts []string
	l, start := &lexer{sql: args}, 0
	for t := l.next(); t.kind != tokenEnd; t = l.next() {
		if t.depth == 0 && args[t.start:t.end] == "," {
			parts = append(parts, args[start:t.start])
			start = t.end
		}
	}
	if strings.TrimSpace(args[start:]) != "" {
		parts = append(parts, args[start:])
	}
	return parts
}

// walker moves over Native data: in memory (cursor) or on a connection
// (blockReader). After the first failure every further step does nothing.
type walker interface {
	// advance moves n items of size bytes on.
	advance(n uint64, size int)
	uvarint() uint64
	uint64() uint64
	fail(err error)
	failed() bool
}

// cursor walks over Native data in memory. After the first step beyond the end
// err is errTruncated.
type cursor struct {
	data []byte
	pos  int
	err  error
}

// advance moves n items of size bytes on.
func (c *cursor) advance(n uint64, size int) {
	left := uint64(len(c.data) - c.pos)
	if c.err != nil || n > left/uint64(size) {
		c.err = errTruncated
		return
	}
	c.pos += int(n) * size
}

func (c *cursor) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

func (c *cursor) failed() bool { return c.err != nil }

func (c *cursor) uvarint() uint64 {
	if c.err != nil {
		return 0
	}
	v, n := binary.Uvarint(c.data[c.pos:])
	if n <= 0 {
		c.err = errTruncated
		return 0
	}
	c.pos += n
	return v
}

func (c *cursor) uint64() uint64 {
	start := c.pos
	if c.advance(1, 8); c.err != nil {
		return 0
	}
	return binary.LittleEndian.Uint64(c.data[start:])
}

// str reads a string of a header. It is valid as long as the data.
func (c *cursor) str() string {
	n := c.uvarint()
	start := c.pos
	if c.advance(n, 1); c.err != nil {
		return ""
	}
	return string(c.data[start:c.pos])
}

// skipPrefix moves past what precedes the whole column: the version of each
// dictionary in it.
func (s *shape) skipPrefix(c walker) {
	if s.kind == shapeDict {
		c.advance(1, 8)
		return
	}
	for i := range s.elems {
		s.elems[i].skipPrefix(c)
	}
}

// skip moves past rows values.
func (s *shape) skip(c walker, rows uint64) {
	switch s.kind {
	case shapeFixed:
		c.advance(rows, s.size)
	case shapeString:
		for ; rows > 0 && !c.failed(); rows-- {
			c.advance(c.uvarint(), 1)
		}
	case shapeNullable:
		c.advance(rows, 1)
		s.elems[0].skip(c, rows)
	case shapeTuple:
		for i := range s.elems {
			s.elems[i].skip(c, rows)
		}
	case shapeArray:
		s.skipArray(c, rows)
	case shapeDict:
		s.skipDict(c, rows)
	}
}

// skipArray reads the last offset: it is the number of elements.
func (s *shape) skipArray(c walker, rows uint64) {
	if rows == 0 {
		return
	}
	c.advance(rows-1, 8)
	s.elems[0].skip(c, c.uint64())
}

// skipDict moves past flags, dictionary and indices. The lowest byte of the
// flags says how wide an index is, bit 9 that a dictionary follows.
func (s *shape) skipDict(c walker, rows uint64) {
	const hasKeys = 1 << 9
	if rows == 0 {
		return
	}
	flags := c.uint64()
	if width := flags & 0xff; width > 3 {
		c.fail(errTruncated)
		return
	}
	if flags&hasKeys != 0 {
		s.elems[0].skip(c, c.uint64())
	}
	c.advance(c.uint64(), 1<<(flags&0xff))
}
