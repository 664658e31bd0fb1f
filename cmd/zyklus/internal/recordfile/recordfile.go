package recordfile

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"strings"
)

// Format is what a file holds.
type Format string

// The formats of files.
const (
	CSV    Format = "csv"    // rows with a header; a row becomes a JSON object of texts by the names of the columns
	NDJSON Format = "ndjson" // a record on each line
	JSON   Format = "json"   // an array of records, or records one after the other
)

// Formats lists the formats.
func Formats() []string { return []string{string(CSV), string(NDJSON), string(JSON)} }

// Options say how to read a file.
type Options struct {
	Format    Format
	Delimiter byte // between the cells of CSV; 0: found in the header, one of , ; tab and |
	MaxRecord int  // greatest length of a record in bytes; longer ones are refused
}

// ByName returns the options that a file's name tells, such as orders.csv.gz; ok is false if it tells no format.
func ByName(name string) (o Options, ok bool) {
	name = strings.ToLower(filepath.Base(name))
	for _, packed := range []string{".gz", ".gzip", ".zst", ".zstd"} {
		name = strings.TrimSuffix(name, packed)
	}
	switch filepath.Ext(name) {
	case ".csv":
		o.Format = CSV
	case ".tsv":
		o.Format, o.Delimiter = CSV, '\t'
	case ".ndjson", ".jsonl":
		o.Format = NDJSON
	case ".json":
		o.Format = JSON
	}
	return o, o.Format != ""
}

// Why a record is refused.
const (
	TooLarge  = "too_large"
	BadQuotes = "bad_quotes"
	BadCells  = "wrong_number_of_cells"
	NotUTF8   = "not_utf8"
)

// Record is one record of a file. Its bytes are valid until the next call of Next.
type Record struct {
	Line     int64  // on which it begins, from 1
	Value    []byte // for the topic; nil if nothing can be made of it
	Original []byte // as it stands in the file, of one that is too large the beginning
	Error    string // why it is refused: one of the constants; empty if it is not
	Cause    string // what exactly is wrong
}

// Reader reads one file. It is not safe for concurrent use.
type Reader struct {
	o      Options
	in     *guarded
	scan   *bufio.Scanner
	close  func()
	rec    *Record // filled by cut
	line   int64   // on which the rest begins
	skip   bool    // the rest of a line that is too long
	header []string
	csv    csvRow
	json   jsonState
	value  []byte
}

// guarded remembers why reading failed.
type guarded struct {
	r   io.Reader
	err error // not io.EOF
}

func (g *guarded) Read(p []byte) (int, error) {
	n, err := g.r.Read(p)
	if err != nil && err != io.EOF {
		g.err = err
	}
	return n, err
}

const (
	firstBuffer = 64 << 10
	excerpt     = 4 << 10 // bytes kept of a record that is too large
)

// Open begins to read a file. Errors are of its beginning: no header, UTF-16, compressed data that is none.
func Open(in io.Reader, o Options) (*Reader, error) {
	plain, done, err := Unpack(in)
	if err != nil {
		return nil, err
	}
	r := &Reader{o: o, in: &guarded{r: plain}, close: done, line: 1}
	r.scan = bufio.NewScanner(r.in)
	r.scan.Buffer(make([]byte, 0, firstBuffer), 2*o.MaxRecord+2*firstBuffer)
	r.scan.Split(r.split)
	if o.Format == CSV {
		if err := r.readHeader(); err != nil {
			done()
			return nil, err
		}
	}
	return r, nil
}

// Close frees memory. It does not close the file.
func (r *Reader) Close() { r.close() }

// Columns are those of the header of CSV.
func (r *Reader) Columns() []string { return r.header }

// Next reads the next record, or returns false at the end of the file. An error says that the file cannot be read on.
func (r *Reader) Next(rec *Record) (bool, error) {
	*rec = Record{}
	r.rec = rec
	if r.scan.Scan() {
		return true, nil
	}
	if err := r.scan.Err(); err != nil {
		return false, fmt.Errorf("line %d: %w", r.line, err)
	}
	return false, nil
}

// split is called with what has been read behind the last record. What holds none, such as empty lines, is passed over
// here: bufio.Scanner would end at the first such piece behind which the file ends too.
func (r *Reader) split(data []byte, atEOF bool) (n int, token []byte, err error) {
	if r.in.err != nil && atEOF {
		return 0, nil, r.in.err // the rest may be half a record
	}
	for n < len(data) {
		cut, token, err := r.cut(data[n:], atEOF)
		r.line += int64(bytes.Count(data[n:n+cut], []byte("\n")))
		n += cut
		if token != nil || err != nil || cut == 0 {
			return n, token, err
		}
	}
	return n, nil, r.json.atEnd(atEOF)
}

// cut takes one record, or passes over what is none; 0 asks for more data.
func (r *Reader) cut(data []byte, atEOF bool) (n int, token []byte, err error) {
	r.rec.Line = r.line
	switch {
	case r.skip:
		n, token = r.skipLine(data)
	case r.o.Format == CSV:
		n, token = r.cutRow(data, atEOF)
	case r.o.Format == NDJSON:
		n, token = r.cutLine(data, atEOF)
	default:
		n, token, err = r.cutValue(data, atEOF)
	}
	return n, token, err
}

// cutLine takes one line that is not empty.
func (r *Reader) cutLine(data []byte, atEOF bool) (n int, token []byte) {
	end := bytes.IndexByte(data, '\n')
	switch {
	case end >= 0:
		n = end + 1
	case atEOF:
		n, end = len(data), len(data)
	case len(data) > r.o.MaxRecord:
		return r.tooLarge(data)
	default:
		return 0, nil
	}
	text := bytes.TrimSpace(data[:end])
	switch {
	case len(text) == 0:
		return n, nil
	case len(text) > r.o.MaxRecord:
		r.refuseLarge(text)
	default:
		r.rec.Value, r.rec.Original = text, text
	}
	return n, data[:end]
}

// tooLarge refuses a line whose end has not been read.
func (r *Reader) tooLarge(data []byte) (n int, token []byte) {
	r.refuseLarge(data)
	r.skip = true
	n = len(data) // without a line feed
	return n, data
}

func (r *Reader) refuseLarge(text []byte) {
	r.rec.Error, r.rec.Cause = TooLarge, fmt.Sprintf("longer than the %d bytes that the source takes (max_record)", r.o.MaxRecord)
	r.rec.Original = text[:min(len(text), excerpt)]
}

// skipLine passes over the rest of a line.
func (r *Reader) skipLine(data []byte) (n int, token []byte) {
	end := bytes.IndexByte(data, '\n')
	if end < 0 {
		return len(data), nil
	}
	r.skip = false
	return end + 1, nil
}
