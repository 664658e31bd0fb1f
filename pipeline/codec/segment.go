package codec

import (
	"bytes"
	"fmt"
	"unicode/utf8"

	"zyklus/pipeline"
)

// Segment decodes the JSON records of Segment, RudderStack and Jitsu: one object with type, event, userId,
// anonymousId, messageId, timestamp and properties. It is used by one goroutine.
type Segment struct {
	options  Options
	exponent int                      // of the reporting currency
	aliases  map[string]pipeline.Kind // by lower-case name of a track call
	ignored  map[string]struct{}      // lower-case ids
	longest  int                      // length of the longest key of aliases and ignored

	// Of the value at hand:
	scan     scanner
	envelope envelope
	order    order
	products []product

	// Scratch, reused from value to value:
	text  []byte // unescaped strings; grows during one Decode only, as its slices are in use
	lower []byte // a lower-case key; its length is longest
	lines []pipeline.Line
	err   pipeline.RecordError
}

// envelope holds the members of the outer object.
type envelope struct {
	kind, event                   token
	user, anonymous, message      token
	timestamp, original, received token
	properties                    token
}

// NewSegment returns a decoder. It fails if the reporting currency is unknown or a limit is out of its range.
func NewSegment(options Options) (*Segment, error) {
	options, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	d := &Segment{options: options, aliases: aliasIndex(), ignored: make(map[string]struct{})}
	d.exponent, _ = KnownCurrency(options.Currency)
	for name := range d.aliases {
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

// Decode reads the value of a record into e, of which it sets all fields but Origin. The slices in e alias the value or memory
// of the decoder and are valid until the next call. It allocates nothing once the scratch memory has grown, except for
// the cause of an error.
//
// It returns nil; or pipeline.ErrIgnored for an event whose only ids are ignored ones; or a *pipeline.RecordError,
// valid until the next call. On a RecordError e is not to be used but for At, the event
// time if it was known by then, else 0. time_in_future is reported here only for times after 2199: comparing with the
// append time is the caller's part.
func (d *Segment) Decode(r *pipeline.Record, e *pipeline.Event) error {
	value := r.Value
	*e = pipeline.Event{Origin: e.Origin}
	if err := d.read(value); err != nil {
		return err
	}
	// The time comes before the kind, so that the dead letter of an unknown event has one.
	e.Kind = d.kind()
	err := d.readTime(e)
	if e.Kind == pipeline.KindInvalid {
		return d.unknownEvent()
	}
	if err != nil {
		return err
	}
	if err := d.readID(value, e); err != nil || e.Kind == pipeline.KindHeartbeat {
		return err
	}
	if err := d.readCustomer(e); err != nil || !e.Kind.Order() {
		return err
	}
	e.Raw = value
	return d.readOrder(e)
}

// read scans the whole value and fills the tokens.
func (d *Segment) read(value []byte) error {
	s := &d.scan
	s.reset(value)
	d.envelope, d.text = envelope{}, d.text[:0]
	if len(value) > d.options.MaxBytes {
		return d.fail(pipeline.ErrTooLarge, "%d bytes, at most %d are read", len(value), d.options.MaxBytes)
	}
	s.space()
	switch {
	case s.i == len(value):
		return d.fail(pipeline.ErrNullValue, "the value is empty")
	case s.peek() == '{':
		d.scanEnvelope()
	case string(bytes.TrimRight(value[s.i:], " \t\r\n")) == "null":
		return d.fail(pipeline.ErrNullValue, "the value is the JSON null")
	default:
		s.fail("'{'")
	}
	if s.why != "" {
		return d.malformed()
	}
	if s.space(); s.i < len(value) {
		s.fail("the end of the value")
		return d.malformed()
	}
	return nil
}

// malformed reports the scanner's error.
func (d *Segment) malformed() error {
	s := &d.scan
	if s.i >= len(s.b) {
		return d.fail(pipeline.ErrTruncated, "ends after byte %d, before %s", len(s.b), s.why)
	}
	return d.fail(pipeline.ErrNotJSON, "byte %d: expected %s, found %s", s.i, s.why, excerpt(s.b[s.i:s.i+1]))
}

// scanEnvelope reads the object that the scanner stands at.
func (d *Segment) scanEnvelope() {
	s, v := &d.scan, &d.envelope
	s.open()
	for name, ok := s.member(true); ok; name, ok = s.member(false) {
		switch string(d.name(name)) {
		case "type":
			v.kind = s.value()
		case "event":
			v.event = s.value()
		case "userId":
			v.user = s.value()
		case "anonymousId":
			v.anonymous = s.value()
		case "messageId":
			v.message = s.value()
		case "timestamp":
			v.timestamp = s.value()
		case "originalTimestamp":
			v.original = s.value()
		case "receivedAt":
			v.received = s.value()
		case "properties":
			v.properties = d.scanProperties()
		default:
			s.value()
		}
	}
}

// kind returns the event type, KindInvalid if there is none for this record.
func (d *Segment) kind() pipeline.Kind {
	call, _ := d.readText("type", d.envelope.kind)
	switch string(call) {
	case "track":
		event, _ := d.readText("event", d.envelope.event)
		return d.aliases[string(d.key(event))]
	case "page", "screen":
		return pipeline.KindPageViewed
	case "identify":
		return pipeline.KindIdentified
	case "heartbeat":
		return pipeline.KindHeartbeat
	}
	return pipeline.KindInvalid
}

// unknownEvent says why kind returned KindInvalid.
func (d *Segment) unknownEvent() error {
	call, err := d.readText("type", d.envelope.kind)
	switch {
	case err != nil:
		return err
	case len(call) == 0:
		return d.fail(pipeline.ErrUnknownEvent, "no member type")
	case string(call) != "track":
		return d.fail(pipeline.ErrUnknownEvent,
			"type %s is none of track, identify, page, screen, heartbeat", excerpt(call))
	}
	event, err := d.readText("event", d.envelope.event)
	switch {
	case err != nil:
		return err
	case len(event) == 0:
		return d.fail(pipeline.ErrUnknownEvent, "a track call without member event")
	}
	return d.fail(pipeline.ErrUnknownEvent, "no alias maps the event name %s to an event type", excerpt(event))
}

// readTime sets e.At from the first time that is given.
func (d *Segment) readTime(e *pipeline.Event) error {
	name, t := "timestamp", d.envelope.timestamp
	if t.absent() {
		name, t = "originalTimestamp", d.envelope.original
	}
	if t.absent() {
		name, t = "receivedAt", d.envelope.received
	}
	if t.absent() {
		return d.fail(pipeline.ErrNoTime, "none of timestamp, originalTimestamp and receivedAt")
	}
	text, err := d.readText(name, t)
	if err != nil {
		return err
	}
	ms, ok := parseTime(text)
	if t.kind == tokenNumber {
		ms, ok = parseUnix(text), true
	}
	switch {
	case !ok:
		return d.fail(pipeline.ErrTimeFormat, "%s %s is not a time of RFC 3339, a date or a number", name, excerpt(text))
	case ms < d.options.MinTime:
		return d.fail(pipeline.ErrTimeTooOld, "%s %s is before the earliest time accepted", name, excerpt(text))
	case ms > latest:
		return d.fail(pipeline.ErrTimeInFuture, "%s %s is after 2200-01-01", name, excerpt(text))
	}
	e.At = ms
	return nil
}

// readID sets e.ID.
func (d *Segment) readID(value []byte, e *pipeline.Event) error {
	id, err := d.readText("messageId", d.envelope.message)
	switch {
	case err != nil:
		return err
	case len(id) == 0:
		e.ID = contentID(d.options.Source, value)
	default:
		e.ID = EventID(d.options.Source, id)
	}
	return nil
}

// readCustomer sets e.Customer and e.Known from the first id that is a person's.
func (d *Segment) readCustomer(e *pipeline.Event) error {
	user, err := d.readKey("userId", d.envelope.user)
	if err != nil {
		return err
	}
	if len(user) > 0 && !d.isIgnored(user) {
		e.Customer, e.Known = user, true
		return nil
	}
	anonymous, err := d.readKey("anonymousId", d.envelope.anonymous)
	switch {
	case err != nil:
		return err
	case len(anonymous) > 0 && !d.isIgnored(anonymous):
		e.Customer = anonymous
		return nil
	case len(user)+len(anonymous) > 0:
		return pipeline.ErrIgnored
	}
	return d.fail(pipeline.ErrNoCustomer, "neither userId nor anonymousId")
}

// isIgnored reports whether a customer id is one of Options.IgnoredIDs.
func (d *Segment) isIgnored(id []byte) bool {
	_, ignored := d.ignored[string(d.key(id))]
	return ignored
}

// key returns b in lower case for looking it up, empty where it is too long to be a key.
func (d *Segment) key(b []byte) []byte {
	if len(b) > d.longest {
		return nil
	}
	lower := d.lower[:len(b)]
	copyLower(lower, b)
	return lower
}

// name returns the text of a member's name. One that is no proper text equals no name we know.
func (d *Segment) name(t token) []byte {
	raw := d.scan.b[t.start:t.end]
	if !t.escaped {
		return raw
	}
	start := len(d.text)
	d.text, _ = unescape(d.text, raw)
	return d.text[start:]
}

// readKey is readText for an id that state is kept by: its length is limited.
func (d *Segment) readKey(name string, t token) ([]byte, error) {
	id, err := d.readText(name, t)
	if len(id) > pipeline.MaxID {
		return nil, d.fail(pipeline.ErrIDTooLong, "%s has %d bytes, at most %d are kept", name, len(id), pipeline.MaxID)
	}
	return id, err
}

// readText returns the text of a string, or of a number as it is written; nil if the member is absent. Anything else
// is a member of the wrong type. Text that is no Unicode is refused rather than repaired: repair would make one id of
// several.
func (d *Segment) readText(name string, t token) ([]byte, error) {
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

func (d *Segment) wrongType(name string, t token) error {
	return d.fail(pipeline.ErrNotJSON, "byte %d: %s is %s", t.start, name, t.kind)
}

// fail sets the decoder's one RecordError. Causes are for people and hold no customer id.
func (d *Segment) fail(kind pipeline.ErrorKind, format string, args ...any) error {
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
