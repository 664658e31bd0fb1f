package codec

import (
	"bytes"
	"fmt"
	"unicode/utf8"

	"zyklus/pipeline"
)

// reader is what the decoders of all formats share: the scanner, the one way to read times, ids and money, and the
// scratch memory. It belongs to one goroutine.
type reader struct {
	options   Options
	reporting int                      // exponent of the reporting currency
	aliases   map[string]pipeline.Kind // by lower-case name of an event
	ignored   map[string]struct{}      // lower-case ids
	longest   int                      // length of the longest key of aliases and ignored

	// Of the record at hand:
	scan     scanner
	order    order
	products []product
	exponent int // of the order's currency

	// Scratch, reused from record to record:
	text  []byte // unescaped strings; grows during one Decode only, as its slices are in use
	lower []byte // a lower-case key; its length is longest
	lines []pipeline.Line
	err   pipeline.RecordError
}

// newReader returns a reader with the names of events that it is to look up.
func newReader(options Options, aliases map[string]pipeline.Kind) (reader, error) {
	options, err := options.withDefaults()
	if err != nil {
		return reader{}, err
	}
	d := reader{options: options, aliases: aliases, ignored: make(map[string]struct{})}
	d.reporting, _ = KnownCurrency(options.Currency)
	for name := range aliases {
		d.longest = max(d.longest, len(name))
	}
	for _, id := range options.IgnoredIDs {
		d.ignored[lowerASCII(id)] = struct{}{}
		d.longest = max(d.longest, len(id))
	}
	delete(d.ignored, "") // key is empty for whatever cannot be found
	d.lower = make([]byte, d.longest)
	return d, nil
}

// begin makes value the text to scan and moves to the object that it must be.
func (d *reader) begin(value []byte) error {
	s := &d.scan
	s.reset(value)
	if len(value) > d.options.MaxBytes {
		return d.fail(pipeline.ErrTooLarge, "%d bytes, at most %d are read", len(value), d.options.MaxBytes)
	}
	s.space()
	switch {
	case s.i == len(value):
		return d.fail(pipeline.ErrNullValue, "the value is empty")
	case s.peek() == '{':
		return nil
	case string(bytes.TrimRight(value[s.i:], " \t\r\n")) == "null":
		return d.fail(pipeline.ErrNullValue, "the value is the JSON null")
	}
	s.fail("'{'")
	return d.malformed()
}

// end reports what was wrong with the text, or follows it.
func (d *reader) end() error {
	s := &d.scan
	if s.why != "" {
		return d.malformed()
	}
	if s.space(); s.i < len(s.b) {
		s.fail("the end of the value")
		return d.malformed()
	}
	return nil
}

// malformed reports the scanner's error.
func (d *reader) malformed() error {
	s := &d.scan
	if s.i >= len(s.b) {
		return d.fail(pipeline.ErrTruncated, "ends after byte %d, before %s", len(s.b), s.why)
	}
	return d.fail(pipeline.ErrNotJSON, "byte %d: expected %s, found %s", s.i, s.why, excerpt(s.b[s.i:s.i+1]))
}

// written is a time or an id as it was found: its text, and the name by which causes speak of it.
type written struct {
	name   string
	text   []byte
	number bool // of a JSON number
}

// readWritten is readText with the member's name.
func (d *reader) readWritten(name string, t token) (written, error) {
	text, err := d.readText(name, t)
	return written{name: name, text: text, number: t.kind == tokenNumber}, err
}

// setTime sets e.At from a text that is a time of parseTime, or a number that is Unix time.
func (d *reader) setTime(e *pipeline.Event, w written) error {
	ms, ok := parseTime(w.text)
	if w.number {
		ms, ok = parseUnix(w.text), true
	}
	if !ok {
		return d.fail(pipeline.ErrTimeFormat, "%s %s is not a time of RFC 3339, a date or a number", w.name, excerpt(w.text))
	}
	return d.setInstant(e, w, ms)
}

// setInstant sets e.At to ms, which w says.
func (d *reader) setInstant(e *pipeline.Event, w written, ms int64) error {
	switch {
	case ms < d.options.MinTime:
		return d.fail(pipeline.ErrTimeTooOld, "%s %s is before the earliest time accepted", w.name, excerpt(w.text))
	case ms > latest:
		return d.fail(pipeline.ErrTimeInFuture, "%s %s is after 2200-01-01", w.name, excerpt(w.text))
	}
	e.At = ms
	return nil
}

// setCustomer sets e.Customer and e.Known from the first id that is a person's. A user id may hide an anonymous one.
func (d *reader) setCustomer(e *pipeline.Event, user, anonymous []byte) (found bool) {
	switch {
	case len(user) > 0 && !d.isIgnored(user):
		e.Customer, e.Known = user, true
		return true
	case len(anonymous) > 0 && !d.isIgnored(anonymous):
		e.Customer = anonymous
		return true
	}
	return false
}

// isIgnored reports whether a customer id is one of Options.IgnoredIDs.
func (d *reader) isIgnored(id []byte) bool {
	_, ignored := d.ignored[string(d.key(id))]
	return ignored
}

// key returns b in lower case for looking it up, empty where it is too long to be a key.
func (d *reader) key(b []byte) []byte {
	if len(b) > d.longest {
		return nil
	}
	lower := d.lower[:len(b)]
	copyLower(lower, b)
	return lower
}

// name returns the text of a member's name. One that is no proper text equals no name we know.
func (d *reader) name(t token) []byte {
	raw := d.scan.b[t.start:t.end]
	if !t.escaped {
		return raw
	}
	start := len(d.text)
	d.text, _ = unescape(d.text, raw)
	return d.text[start:]
}

// readKey is readText for an id that state is kept by: its length is limited.
func (d *reader) readKey(name string, t token) ([]byte, error) {
	id, err := d.readText(name, t)
	if err != nil {
		return nil, err
	}
	return d.checkKey(name, id)
}

// checkKey returns an id that state can be kept by.
func (d *reader) checkKey(name string, id []byte) ([]byte, error) {
	if len(id) > pipeline.MaxID {
		return nil, d.fail(pipeline.ErrIDTooLong, "%s has %d bytes, at most %d are kept", name, len(id), pipeline.MaxID)
	}
	return id, nil
}

// readText returns the text of a string, or of a number as it is written; nil if the member is absent. Anything else
// is a member of the wrong type. Text that is no Unicode is refused rather than repaired: repair would make one id of
// several.
func (d *reader) readText(name string, t token) ([]byte, error) {
	if t.absent() {
		return nil, nil
	}
	raw := d.scan.b[t.start:t.end]
	switch {
	case t.kind == tokenNumber:
		return raw, nil
	case t.kind != tokenString:
		return nil, d.wrongType(name, t)
	case !utf8.Valid(raw):
		return nil, d.fail(pipeline.ErrNotJSON, "byte %d: %s is not UTF-8", t.start, name)
	case !t.escaped:
		return raw, nil
	}
	start := len(d.text)
	text, ok := unescape(d.text, raw)
	if !ok {
		return nil, d.fail(pipeline.ErrNotJSON, "byte %d: %s holds half of a surrogate pair", t.start, name)
	}
	d.text = text
	return text[start:], nil
}

func (d *reader) wrongType(name string, t token) error {
	return d.fail(pipeline.ErrNotJSON, "byte %d: %s is %s", t.start, name, t.kind)
}

// fail sets the decoder's one RecordError. Causes are for people and hold no customer id.
func (d *reader) fail(kind pipeline.ErrorKind, format string, args ...any) error {
	d.err = pipeline.RecordError{Kind: kind, Cause: fmt.Sprintf(format, args...)}
	return &d.err
}

// excerpt quotes the beginning of a text in ASCII.
func excerpt(b []byte) string {
	const most = 48
	if len(b) <= most {
		return fmt.Sprintf("%+q", b)
	}
	return fmt.Sprintf("%+q...", b[:most])
}
