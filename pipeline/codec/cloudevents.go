package codec

import (
	"bytes"
	"encoding/base64"
	"unicode/utf8"

	"zyklus/pipeline"
)

// CloudEvents decodes CloudEvents 1.0 in the Kafka binding: structured (one JSON object that holds everything) and binary
// (attributes in headers ce_*, the value is the data). A record says by itself which it is, so that a topic may hold both.
//
//	event id     source and id
//	event type   type: a canonical name, a name of the alias table, either behind a prefix or before a version, such as
//	             com.example.order.completed.v1
//	event time   time
//	customer     data.customer_id or customerId, else data.user_id or userId, else subject; these are user ids. Else
//	             data.anonymous_id or anonymousId, else the extension anonymousid.
//	order        data, whose members are those of Segment's properties
//
// It is used by one goroutine.
type CloudEvents struct {
	reader
	structured structured // of the record at hand, if it is one
	attributes attributes
	data       token
	unique     []byte // scratch: source and id
	plain      []byte // scratch: data_base64, decoded
}

// structured holds the members of the JSON object.
type structured struct {
	id, source, version, kind, subject, time, contentType, anonymous token
	data, base64                                                     token
}

// attributes are the context attributes of an event, wherever they were found; those that are missing are empty.
type attributes struct {
	id, source, version, kind, subject, contentType, anonymous []byte
	time                                                       written
}

// NewCloudEvents returns a decoder. It fails if the reporting currency is unknown or a limit is out of its range.
func NewCloudEvents(options Options) (*CloudEvents, error) {
	names := aliasIndex()
	for k := pipeline.KindInvalid + 1; k.Valid(); k++ {
		names[k.String()] = k
	}
	r, err := newReader(options, names)
	if err != nil {
		return nil, err
	}
	return &CloudEvents{reader: r}, nil
}

// Decode implements Decoder. It allocates nothing once the scratch memory has grown, except for the cause of an error.
func (d *CloudEvents) Decode(r *pipeline.Record, e *pipeline.Event) error {
	*e = pipeline.Event{Origin: e.Origin}
	if err := d.read(r); err != nil {
		return err
	}
	timeErr := d.readTime(e)
	if err := d.readKind(e); err != nil {
		return err
	}
	if timeErr != nil {
		return timeErr
	}
	if err := d.readID(e); err != nil || e.Kind == pipeline.KindHeartbeat {
		return err
	}
	if err := d.readCustomer(e); err != nil || !e.Kind.Order() {
		return err
	}
	e.Raw = r.Value
	return d.readOrder(e, "data", d.data)
}

// read finds the attributes and scans the data.
func (d *CloudEvents) read(r *pipeline.Record) (err error) {
	d.structured, d.attributes, d.data, d.order = structured{}, attributes{}, token{}, order{}
	d.text, d.products = d.text[:0], d.products[:0]
	if len(r.Value) > d.options.MaxBytes {
		return d.fail(pipeline.ErrTooLarge, "%d bytes, at most %d are read", len(r.Value), d.options.MaxBytes)
	}
	if d.binary(r.Headers) {
		err = d.readBinary(r)
	} else {
		err = d.readStructured(r.Value)
	}
	if err != nil {
		return err
	}
	if v := d.attributes.version; string(v) != "1.0" {
		return d.fail(pipeline.ErrUnknownEvent, "specversion is %s, only 1.0 is read", excerpt(v))
	}
	return nil
}

// binary reports whether the headers are those of an event in binary mode.
func (d *CloudEvents) binary(headers []pipeline.Header) bool {
	versioned := false
	for i := range headers {
		switch h := &headers[i]; h.Key {
		case "content-type":
			if bytes.HasPrefix(h.Value, []byte("application/cloudevents")) {
				return false
			}
		case "ce_specversion":
			versioned = true
		}
	}
	return versioned
}

func (d *CloudEvents) readBinary(r *pipeline.Record) (err error) {
	a := &d.attributes
	for i := range r.Headers {
		h := &r.Headers[i]
		if !utf8.Valid(h.Value) {
			return d.fail(pipeline.ErrNotJSON, "header %s is not UTF-8", excerpt([]byte(h.Key)))
		}
		switch h.Key {
		case "ce_id":
			a.id = h.Value
		case "ce_source":
			a.source = h.Value
		case "ce_specversion":
			a.version = h.Value
		case "ce_type":
			a.kind = h.Value
		case "ce_subject":
			a.subject = h.Value
		case "ce_time":
			a.time = written{name: "time", text: h.Value}
		case "ce_anonymousid":
			a.anonymous = h.Value
		case "content-type":
			a.contentType = h.Value
		}
	}
	if len(r.Value) == 0 {
		return nil // an event without data
	}
	return d.scanData(r.Value)
}

// scanData scans a text that is the data and nothing else.
func (d *CloudEvents) scanData(text []byte) error {
	if t := d.attributes.contentType; !jsonType(t) {
		return d.fail(pipeline.ErrNotJSON, "the data is %s, only JSON is read", excerpt(t))
	}
	if err := d.begin(text); err != nil {
		return err
	}
	d.data = d.scanProperties()
	return d.end()
}

// jsonType reports whether a content type stands for JSON, as none does.
func jsonType(t []byte) bool {
	if i := bytes.IndexByte(t, ';'); i >= 0 {
		t = t[:i]
	}
	t = bytes.TrimSpace(t)
	return len(t) == 0 || bytes.EqualFold(t, []byte("application/json")) || bytes.EqualFold(t, []byte("text/json")) ||
		len(t) > len("+json") && bytes.EqualFold(t[len(t)-len("+json"):], []byte("+json"))
}

func (d *CloudEvents) readStructured(value []byte) error {
	if err := d.begin(value); err != nil {
		return err
	}
	d.scanStructured()
	if err := d.end(); err != nil {
		return err
	}
	s, a := &d.structured, &d.attributes
	for _, m := range [...]struct {
		name string
		from token
		to   *[]byte
	}{
		{"specversion", s.version, &a.version}, {"id", s.id, &a.id}, {"source", s.source, &a.source},
		{"type", s.kind, &a.kind}, {"subject", s.subject, &a.subject}, {"datacontenttype", s.contentType, &a.contentType},
		{"anonymousid", s.anonymous, &a.anonymous},
	} {
		var err error
		if *m.to, err = d.readText(m.name, m.from); err != nil {
			return err
		}
	}
	if len(a.version) == 0 {
		return d.fail(pipeline.ErrUnknownEvent, "neither headers ce_* nor a member specversion: this is no CloudEvent")
	}
	var err error
	if a.time, err = d.readWritten("time", s.time); err != nil || s.base64.absent() {
		d.data = s.data
		return err
	}
	return d.scanBase64(s.base64)
}

// scanStructured reads the object that the scanner stands at.
func (d *CloudEvents) scanStructured() {
	s, v := &d.scan, &d.structured
	s.open()
	for name, ok := s.member(true); ok; name, ok = s.member(false) {
		switch string(d.name(name)) {
		case "id":
			v.id = s.value()
		case "source":
			v.source = s.value()
		case "specversion":
			v.version = s.value()
		case "type":
			v.kind = s.value()
		case "subject":
			v.subject = s.value()
		case "time":
			v.time = s.value()
		case "datacontenttype":
			v.contentType = s.value()
		case "anonymousid":
			v.anonymous = s.value()
		case "data":
			v.data = d.scanProperties()
		case "data_base64":
			v.base64 = s.value()
		default:
			s.value()
		}
	}
}

// scanBase64 decodes and scans the data.
func (d *CloudEvents) scanBase64(t token) error {
	if !d.structured.data.absent() {
		return d.fail(pipeline.ErrNotJSON, "both data and data_base64 are given")
	}
	text, err := d.readText("data_base64", t)
	if err != nil {
		return err
	}
	if d.plain, err = base64.StdEncoding.AppendDecode(d.plain[:0], text); err != nil {
		return d.fail(pipeline.ErrNotJSON, "data_base64 is not base64")
	}
	return d.scanData(d.plain)
}

func (d *CloudEvents) readTime(e *pipeline.Event) error {
	if len(d.attributes.time.text) == 0 {
		return d.fail(pipeline.ErrNoTime, "no attribute time")
	}
	return d.setTime(e, d.attributes.time)
}

// readKind sets e.Kind from the type without prefix and version.
func (d *CloudEvents) readKind(e *pipeline.Event) error {
	whole := d.attributes.kind
	if len(whole) == 0 {
		return d.fail(pipeline.ErrUnknownEvent, "no attribute type")
	}
	for name := trimVersion(whole); ; {
		if e.Kind = d.aliases[string(d.key(name))]; e.Kind != pipeline.KindInvalid {
			return nil
		}
		dot := bytes.IndexByte(name, '.')
		if dot < 0 {
			return d.fail(pipeline.ErrUnknownEvent, "type %s ends in no name of an event type", excerpt(whole))
		}
		name = name[dot+1:]
	}
}

// trimVersion cuts a last part such as .v1 off.
func trimVersion(name []byte) []byte {
	dot := bytes.LastIndexByte(name, '.')
	if dot < 0 || len(name) < dot+3 || name[dot+1]|0x20 != 'v' {
		return name
	}
	for _, c := range name[dot+2:] {
		if !isDigit(c) {
			return name
		}
	}
	return name[:dot]
}

// readID sets e.ID: events are unique by source and id.
func (d *CloudEvents) readID(e *pipeline.Event) error {
	a := &d.attributes
	switch {
	case len(a.id) == 0:
		return d.fail(pipeline.ErrUnknownEvent, "no attribute id, which every CloudEvent has")
	case len(a.source) == 0:
		return d.fail(pipeline.ErrUnknownEvent, "no attribute source, which every CloudEvent has")
	}
	d.unique = append(append(append(d.unique[:0], a.source...), 0), a.id...)
	e.ID = EventID(d.options.Source, d.unique)
	return nil
}

// readCustomer sets e.Customer and e.Known from the first id that is a person's.
func (d *CloudEvents) readCustomer(e *pipeline.Event) (err error) {
	if d.data.kind != tokenObject {
		d.order = order{}
	}
	given := false
	for _, id := range [...]struct {
		name  string
		from  token
		known bool
	}{{"customer_id", d.order.customer, true}, {"user_id", d.order.user, true}, {"subject", token{}, true},
		{"anonymous_id", d.order.anonymous, false}, {"anonymousid", token{}, false}} {
		var text []byte
		switch id.name {
		case "subject":
			text, err = d.checkKey(id.name, d.attributes.subject)
		case "anonymousid":
			text, err = d.checkKey(id.name, d.attributes.anonymous)
		default:
			text, err = d.readKey(id.name, id.from)
		}
		if err != nil {
			return err
		}
		if id.known && d.setCustomer(e, text, nil) || !id.known && d.setCustomer(e, nil, text) {
			return nil
		}
		given = given || len(text) > 0
	}
	if given {
		return pipeline.ErrIgnored
	}
	return d.fail(pipeline.ErrNoCustomer, "neither an id in data nor subject")
}
