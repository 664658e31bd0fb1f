package recordfile

import (
	"errors"
	"fmt"
)

// jsonState is where in a JSON text the reader stands, between values.
type jsonState struct {
	array, closed bool
	begun         bool
}

// cutValue takes one value of an array, or of values that stand one after the other.
func (r *Reader) cutValue(data []byte, atEOF bool) (n int, token []byte, err error) {
	start, err := r.json.begin(data)
	if err != nil {
		return 0, nil, err
	}
	if start == len(data) {
		return start, nil, r.json.atEnd(atEOF)
	}
	end := valueEnd(data[start:])
	switch {
	case end > 0:
		end += start
	case atEOF && r.json.array:
		return 0, nil, r.json.atEnd(atEOF)
	case atEOF:
		end = len(data)
	case len(data)-start > r.o.MaxRecord:
		return 0, nil, fmt.Errorf("a value is longer than the %d bytes that the source takes (max_record), or a bracket or quote is not closed", r.o.MaxRecord)
	default:
		return start, nil, nil
	}
	for _, c := range data[:start] {
		if c == '\n' {
			r.rec.Line++
		}
	}
	text := data[start:end]
	r.rec.Value, r.rec.Original = text, text
	if len(text) > r.o.MaxRecord {
		r.rec.Value = nil
		r.refuseLarge(text)
	}
	return end, text, nil
}

// atEnd returns an error if the file ends within an array.
func (s *jsonState) atEnd(atEOF bool) error {
	if atEOF && s.array && !s.closed {
		return errors.New("the array has no end: the file is cut off")
	}
	return nil
}

// begin returns where the next value begins, len(data) if it is not in data.
func (s *jsonState) begin(data []byte) (int, error) {
	for i, c := range data {
		switch {
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
		case c == '[' && !s.begun:
			s.begun, s.array = true, true
		case s.closed:
			return 0, errors.New("text follows behind the array")
		case s.array && c == ',':
		case s.array && c == ']':
			s.closed = true
		default:
			s.begun = true
			return i, nil
		}
	}
	return len(data), nil
}

// valueEnd returns the length of the value that data begins with, 0 if it does not end in data. What is no object or
// array goes up to the next space, comma or bracket.
func valueEnd(data []byte) int {
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
		case depth > 0 && (c == '}' || c == ']'):
			if depth--; depth == 0 {
				return i + 1
			}
		case depth == 0 && i > 0 && (c == ',' || c == ']' || c == ' ' || c == '\n' || c == '\r' || c == '\t'):
			return i
		}
	}
	return 0
}
