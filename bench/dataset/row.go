package dataset

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
	"unicode/utf8"
)

const (
	maxRow      = 64 << 10  // bytes of a row
	maxID       = 200       // bytes of an id
	maxQuantity = 1_000_000 // units in a row
)

// refusedError is an error of one row, after which reading goes on.
type refusedError struct{ text string }

func (e *refusedError) Error() string { return e.text }

func refusedf(format string, args ...any) error { return &refusedError{fmt.Sprintf(format, args...)} }

// row reads one line of CSV after the other. A quoted field must end on its line, so that a lost quote costs one row
// and not the rest of the file.
type row struct {
	line    int      // number of the line, from 1
	fields  [][]byte // all of the line
	columns []int    // index into fields of the columns that the preset wants
	names   []string // of these
	width   int      // fields of the header
}

// readHeader finds the wanted columns.
func (r *row) readHeader(in *bufio.Reader, wanted []string) error {
	if err := r.readFields(in); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if len(r.fields) > 0 {
		r.fields[0] = bytes.TrimPrefix(r.fields[0], []byte("\ufeff"))
	}
	r.names, r.width = wanted, len(r.fields)
	var missing []string
	for _, name := range wanted {
		at := -1
		for i, field := range r.fields {
			if at < 0 && string(field) == name {
				at = i
			}
		}
		if at < 0 {
			missing = append(missing, name)
		}
		r.columns = append(r.columns, at)
	}
	if missing != nil {
		return fmt.Errorf("columns %v are missing", missing)
	}
	return nil
}

// read reads the next line that is not empty. Errors are io.EOF, a refusedError, or those of the file.
func (r *row) read(in *bufio.Reader) error {
	for {
		if err := r.readFields(in); err != nil {
			return err
		}
		if len(r.fields) > 1 || len(r.fields[0]) > 0 {
			break
		}
	}
	if len(r.fields) != r.width {
		return refusedf("%d fields, not %d", len(r.fields), r.width)
	}
	for _, column := range r.columns {
		if !utf8.Valid(r.fields[column]) {
			return refusedf("text is not UTF-8")
		}
	}
	return nil
}

// readFields reads one line, which the fields then refer to.
func (r *row) readFields(in *bufio.Reader) error {
	r.line++
	r.fields = r.fields[:0]
	text, err := in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return r.skip(in)
	}
	if err != nil && (!errors.Is(err, io.EOF) || len(text) == 0) {
		return err
	}
	return r.split(bytes.TrimRight(text, "\r\n"))
}

// skip reads the rest of a line that is too long.
func (r *row) skip(in *bufio.Reader) error {
	for {
		_, err := in.ReadSlice('\n')
		if err == nil || errors.Is(err, io.EOF) {
			return refusedf("longer than %d bytes", maxRow)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}

// split cuts a line at its commas. Quotes inside a field that does not begin with one are text.
func (r *row) split(text []byte) error {
	for {
		field, rest, more, err := cutField(text)
		if err != nil {
			return err
		}
		r.fields = append(r.fields, field)
		if !more {
			return nil
		}
		text = rest
	}
}

// cutField returns the first field; more says that a comma follows it. It may overwrite text.
func cutField(text []byte) (field, rest []byte, more bool, err error) {
	if len(text) == 0 || text[0] != '"' {
		field, rest, more = bytes.Cut(text, []byte(","))
		return field, rest, more, nil
	}
	field = text[:0]
	for i := 1; i < len(text); i++ {
		if text[i] != '"' {
			field = append(field, text[i])
			continue
		}
		if i+1 < len(text) && text[i+1] == '"' {
			field = append(field, '"')
			i++
			continue
		}
		if i+1 == len(text) {
			return field, nil, false, nil
		}
		if text[i+1] != ',' {
			return nil, nil, false, refusedf("text after a quoted field")
		}
		return field, text[i+2:], true, nil
	}
	return nil, nil, false, refusedf("quote without end")
}

// text returns a wanted column by its position in Preset.columns.
func (r *row) text(column int) []byte { return r.fields[r.columns[column]] }

func (r *row) id(column int) ([]byte, error) {
	id := r.text(column)
	if len(id) == 0 || len(id) > maxID {
		return nil, refusedf("%s: %d bytes, not 1 to %d", r.names[column], len(id), maxID)
	}
	return id, nil
}

// time returns an instant given in a layout, taken as UTC, in Unix ms.
func (r *row) time(column int, layout string) (int64, error) {
	at, err := time.Parse(layout, string(r.text(column)))
	if err != nil || at.Year() < 1970 {
		return 0, refusedf("%s: %.40q is not like %s in 1970 or later", r.names[column], r.text(column), layout)
	}
	return at.UnixMilli(), nil
}

func (r *row) quantity(column int) (int64, error) {
	n, err := strconv.ParseInt(string(r.text(column)), 10, 64)
	if err != nil || n < 0 || n > maxQuantity {
		return 0, refusedf("%s: %.40q is not in 0..%d", r.names[column], r.text(column), maxQuantity)
	}
	return n, nil
}

// amount returns money in millionths.
func (r *row) amount(column int) (int64, error) {
	n, ok := parseDecimal(r.text(column))
	if !ok {
		return 0, refusedf("%s: %.40q is no amount from 0 to a thousand million", r.names[column], r.text(column))
	}
	return n, nil
}
