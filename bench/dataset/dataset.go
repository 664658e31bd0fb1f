package dataset

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Preset is a file format that Open reads.
type Preset struct {
	Name     string // for Open, such as cdnow
	Describe string // one line for people

	columns  []string // that the header must have; rows are parsed by their position here
	load     func(*Reader, *row) error
	finish   func(*Reader)
	appendID func(b []byte, p *purchase) []byte // order id and message id
}

// Presets returns the known formats.
func Presets() []Preset { return []Preset{cdnow(), completeJourney()} }

// Event is one record for the topic.
type Event struct {
	At    time.Time // when it happened, UTC
	Key   []byte    // user id
	Value []byte    // Segment JSON
	Line  int       // of the file, from 1 (the header); the first one of a basket
}

// Refusal says why a row was left out.
type Refusal struct {
	Line  int // of the file, from 1 (the header)
	Error string
}

// maxRefusals bounds what Refused remembers.
const maxRefusals = 100

// Reader reads one file. It is not safe for concurrent use.
type Reader struct {
	// OnRefuse, if set before the first Next, is called with each row that is left out.
	OnRefuse func(Refusal)

	preset   Preset
	currency string
	in       *bufio.Reader
	row      row

	loaded    bool
	err       error // of the file, kept
	purchases []purchase
	next      int
	lines     []orderLine
	texts     map[string]string // each text kept once
	baskets   map[string]int    // index into purchases

	refused  []Refusal
	refusals int
	key      []byte
	value    []byte
}

// purchase is one order.
type purchase struct {
	at       int64 // Unix ms
	customer string
	id       string // of the basket; empty where orders are counted
	number   int    // of the order within the customer, from 1, where orders are counted
	line     int    // of the file
	revenue  int64  // millionths
	first    int32  // of its lines, -1: none; they are chained, as those of a basket need not be neighbours
	last     int32
}

type orderLine struct {
	product, category string
	quantity          int64
	price             int64 // of one unit, millionths
	next              int32 // line of the same order, -1: none
}

// Open checks the header of a file, gzipped or not, in the format of a preset. The currency is the ISO 4217 code that
// events get. Errors: an unknown preset, no currency code, an unreadable file, columns that are missing.
func Open(preset string, r io.Reader, currency string) (*Reader, error) {
	all := Presets()
	at := slices.IndexFunc(all, func(p Preset) bool { return p.Name == preset })
	if at < 0 {
		return nil, fmt.Errorf("find preset %q: known are %s", preset, names(all))
	}
	if len(currency) != 3 || strings.Trim(currency, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return nil, fmt.Errorf("check currency %q: not three capital letters", currency)
	}
	in, err := unzip(r)
	if err != nil {
		return nil, fmt.Errorf("open %s file: %w", preset, err)
	}
	reader := &Reader{
		preset: all[at], currency: currency, in: in, texts: map[string]string{}, baskets: map[string]int{},
	}
	if err := reader.row.readHeader(in, all[at].columns); err != nil {
		return nil, fmt.Errorf("read header of %s file: %w", preset, err)
	}
	return reader, nil
}

func names(presets []Preset) string {
	var list []string
	for _, p := range presets {
		list = append(list, p.Name)
	}
	return strings.Join(list, ", ")
}

// unzip detects gzip by its magic bytes.
func unzip(r io.Reader) (*bufio.Reader, error) {
	in := bufio.NewReaderSize(r, maxRow)
	magic, err := in.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if !bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		return in, nil
	}
	zipped, err := gzip.NewReader(in)
	if err != nil {
		return nil, fmt.Errorf("unzip: %w", err)
	}
	return bufio.NewReaderSize(zipped, maxRow), nil
}

// Next stores the next event and returns true, or false after the last one. Events come in order of time, then of
// customer id, then of the file. Key and Value are overwritten by the following call.
//
// The first call reads the whole file to sort it, which takes about 200 bytes of memory for each row. An error says
// that the file could not be read to its end; no event is returned then or later.
func (r *Reader) Next(e *Event) (bool, error) {
	if !r.loaded {
		r.loaded, r.err = true, r.load()
	}
	if r.err != nil {
		return false, fmt.Errorf("read %s file: %w", r.preset.Name, r.err)
	}
	if r.next == len(r.purchases) {
		return false, nil
	}
	p := &r.purchases[r.next]
	r.next++
	r.key = append(r.key[:0], p.customer...)
	r.value = r.appendOrder(r.value[:0], p)
	*e = Event{At: time.UnixMilli(p.at).UTC(), Key: r.key, Value: r.value, Line: p.line}
	return true, nil
}

// Refused returns the first rows that were left out, at most 100. It is complete once Next was called.
func (r *Reader) Refused() []Refusal { return r.refused }

// RefusedCount returns how many rows were left out. It is complete once Next was called.
func (r *Reader) RefusedCount() int { return r.refusals }

// load reads all rows and puts the orders into their order.
func (r *Reader) load() error {
	for {
		err := r.row.read(r.in)
		if errors.Is(err, io.EOF) {
			break
		}
		if refusal := (*refusedError)(nil); err != nil && !errors.As(err, &refusal) {
			return fmt.Errorf("line %d: %w", r.row.line, err)
		}
		if err == nil {
			err = r.preset.load(r, &r.row)
		}
		if err != nil {
			r.refuse(err)
		}
	}
	slices.SortFunc(r.purchases, func(a, b purchase) int {
		return cmp.Or(cmp.Compare(a.at, b.at), strings.Compare(a.customer, b.customer), cmp.Compare(a.line, b.line))
	})
	if r.preset.finish != nil {
		r.preset.finish(r)
	}
	r.texts, r.baskets = nil, nil
	return nil
}

func (r *Reader) refuse(err error) {
	r.refusals++
	refusal := Refusal{Line: r.row.line, Error: err.Error()}
	if len(r.refused) < maxRefusals {
		r.refused = append(r.refused, refusal)
	}
	if r.OnRefuse != nil {
		r.OnRefuse(refusal)
	}
}

// add starts an order without lines.
func (r *Reader) add(p purchase) *purchase {
	p.line, p.first, p.last = r.row.line, -1, -1
	r.purchases = append(r.purchases, p)
	return &r.purchases[len(r.purchases)-1]
}

// addLine appends a line that cost amount (millionths) to an order.
func (r *Reader) addLine(p *purchase, l orderLine, amount int64) {
	l.quantity, l.price = unitPrice(amount, l.quantity)
	l.next = -1
	at := int32(len(r.lines))
	r.lines = append(r.lines, l)
	if p.last >= 0 {
		r.lines[p.last].next = at
	} else {
		p.first = at
	}
	p.last = at
	p.revenue += amount
}

// keep returns a copy of a text, the same one each time.
func (r *Reader) keep(text []byte) string {
	if kept, ok := r.texts[string(text)]; ok {
		return kept
	}
	kept := string(text)
	r.texts[kept] = kept
	return kept
}

// Len is the number of events in the file, known once Next has been called.
func (r *Reader) Len() int { return len(r.purchases) }
