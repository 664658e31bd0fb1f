package recordfile

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"zyklus/pipeline/codec"
)

// csvRow is a row that is being cut.
type csvRow struct {
	cells []csvCell
	texts []string
}

// csvCell is where a cell stands, without its quotes.
type csvCell struct {
	start, end int
	escaped    bool // holds doubled quotes
}

// Results of scanRow beside the length of the row.
const (
	unfinished = -1 // the row does not end in the data
	badQuotes  = -2 // text behind a quoted cell
)

// readHeader reads the first row.
func (r *Reader) readHeader() error {
	var rec Record
	more, err := r.Next(&rec)
	switch {
	case err != nil:
		return err
	case !more:
		return errors.New("the file is empty: the first line must name the columns")
	case rec.Error != "":
		return fmt.Errorf("line %d, the header: %s: %s", rec.Line, rec.Error, rec.Cause)
	}
	for _, name := range r.csv.texts {
		r.header = append(r.header, strings.Clone(strings.TrimSpace(name)))
	}
	return nil
}

// cutRow takes one row. Where a quote is lost, only the line on which the row begins is refused.
func (r *Reader) cutRow(data []byte, atEOF bool) (n int, token []byte) {
	if r.o.Delimiter == 0 {
		line, _, whole := bytes.Cut(data, []byte("\n"))
		if !whole && !atEOF && len(data) <= r.o.MaxRecord {
			return 0, nil
		}
		r.o.Delimiter = findDelimiter(line)
	}
	n = r.csv.scan(data, r.o.Delimiter, atEOF)
	if n == unfinished && !atEOF && len(data) <= r.o.MaxRecord {
		return 0, nil
	}
	if n < 0 {
		return r.refuseLine(data, n == badQuotes || bytes.IndexByte(data, '\n') >= 0)
	}
	text := bytes.TrimRight(data[:n], "\r\n")
	switch {
	case len(r.csv.cells) == 1 && len(text) == 0:
		return n, nil
	case len(text) > r.o.MaxRecord:
		r.refuseLarge(text)
		return n, data[:n]
	}
	r.takeRow(data, text)
	return n, data[:n]
}

// refuseLine refuses the line at which a row begins that has no end.
func (r *Reader) refuseLine(data []byte, quotes bool) (n int, token []byte) {
	n = bytes.IndexByte(data, '\n') + 1
	if n == 0 && len(data) > r.o.MaxRecord {
		return r.tooLarge(data)
	}
	if n == 0 {
		n = len(data)
	}
	r.rec.Original = bytes.TrimRight(data[:n], "\r\n")
	r.rec.Value = r.rec.Original
	r.rec.Error, r.rec.Cause = BadQuotes, "a quoted cell has no end"
	if quotes && len(r.csv.cells) > 0 {
		r.rec.Cause = fmt.Sprintf("the quoted cell %d is not closed, or text follows behind it; a quote inside is written twice", len(r.csv.cells))
	}
	return n, data[:n]
}

// takeRow makes a record of the row that was scanned.
func (r *Reader) takeRow(data, text []byte) {
	whole := string(data[:len(text)])
	r.csv.texts = r.csv.texts[:0]
	for _, c := range r.csv.cells {
		cell := whole[min(c.start, len(whole)):min(c.end, len(whole))]
		if c.escaped {
			cell = strings.ReplaceAll(cell, `""`, `"`)
		}
		r.csv.texts = append(r.csv.texts, cell)
	}
	r.rec.Original = text
	if r.header != nil {
		r.value = codec.CSVRecord(r.header, r.csv.texts, r.value[:0])
		r.rec.Value = r.value
	}
	switch {
	case !utf8.Valid(text):
		r.rec.Error, r.rec.Cause = NotUTF8, r.notUTF8()
	case r.header != nil && len(r.csv.texts) != len(r.header):
		r.rec.Error, r.rec.Cause = BadCells, fmt.Sprintf("%d cells, the header has %d", len(r.csv.texts), len(r.header))
	}
}

func (r *Reader) notUTF8() string {
	for i, cell := range r.csv.texts {
		if !utf8.ValidString(cell) && i < len(r.header) {
			return fmt.Sprintf("column %q: convert the file to UTF-8, as with iconv -f windows-1252 -t utf-8", r.header[i])
		}
	}
	return "convert the file to UTF-8, as with iconv -f windows-1252 -t utf-8"
}

// scan finds the cells of the row that data begins with and returns the row's length with its line feed, unfinished or
// badQuotes.
func (row *csvRow) scan(data []byte, delimiter byte, atEOF bool) int {
	row.cells = row.cells[:0]
	for i := 0; ; {
		cell, next := scanCell(data[i:], delimiter)
		row.cells = append(row.cells, csvCell{i + cell.start, i + cell.end, cell.escaped})
		switch {
		case next == badQuotes, next == unfinished && (cell.start > 0 || !atEOF):
			return next
		case next == unfinished:
			return len(data)
		}
		i += next
		switch {
		case i == len(data) && atEOF:
			return i
		case i == len(data):
			return unfinished
		case data[i] == '\n':
			return i + 1
		}
		i++ // the delimiter
	}
}

// scanCell finds the first cell; next is where the delimiter or line feed behind it stands.
func scanCell(data []byte, delimiter byte) (cell csvCell, next int) {
	if len(data) == 0 || data[0] != '"' {
		for i, c := range data {
			if c == delimiter || c == '\n' {
				return csvCell{end: plainEnd(data, i)}, i
			}
		}
		return csvCell{end: len(data)}, unfinished
	}
	cell.start = 1
	for i := 1; i < len(data); i++ {
		if data[i] != '"' {
			continue
		}
		if i+1 < len(data) && data[i+1] == '"' {
			cell.escaped = true
			i++
			continue
		}
		cell.end = i
		rest := data[i+1:]
		if len(rest) > 0 && rest[0] == '\r' {
			rest, i = rest[1:], i+1
		}
		switch {
		case len(rest) == 0:
			return cell, len(data) // what follows may not have been read yet
		case rest[0] == delimiter || rest[0] == '\n':
			return cell, i + 1
		}
		return cell, badQuotes
	}
	cell.end = len(data)
	return cell, unfinished
}

// plainEnd leaves out the carriage return before a line feed.
func plainEnd(data []byte, i int) int {
	if data[i] == '\n' && i > 0 && data[i-1] == '\r' {
		return i - 1
	}
	return i
}

// findDelimiter returns which of the usual delimiters stands most often in the header, outside quotes.
func findDelimiter(header []byte) byte {
	best, most := byte(','), 0
	for _, d := range []byte{',', ';', '\t', '|'} {
		n, quoted := 0, false
		for _, c := range header {
			if c == '"' {
				quoted = !quoted
			} else if c == d && !quoted {
				n++
			}
		}
		if n > most {
			best, most = d, n
		}
	}
	return best
}
