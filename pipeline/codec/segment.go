package codec

import "zyklus/pipeline"

// Segment decodes the JSON records of Segment, RudderStack and Jitsu: one object with type, event, userId,
// anonymousId, messageId, timestamp and properties. It is used by one goroutine.
type Segment struct {
	reader
	envelope envelope // of the record at hand
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
	r, err := newReader(options, aliasIndex())
	if err != nil {
		return nil, err
	}
	return &Segment{reader: r}, nil
}

// Decode implements Decoder. It allocates nothing once the scratch memory has grown, except for the cause of an error.
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
	return d.readOrder(e, "properties", d.envelope.properties)
}

// read scans the whole value and fills the tokens.
func (d *Segment) read(value []byte) error {
	d.envelope, d.text = envelope{}, d.text[:0]
	if err := d.begin(value); err != nil {
		return err
	}
	d.scanEnvelope()
	return d.end()
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
	w, err := d.readWritten(name, t)
	if err != nil {
		return err
	}
	return d.setTime(e, w)
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

// readCustomer sets e.Customer and e.Known from the first id that is a person's. The anonymous id is only read where it
// is needed, so that it cannot fail the record of a known user.
func (d *Segment) readCustomer(e *pipeline.Event) error {
	user, err := d.readKey("userId", d.envelope.user)
	if err != nil || d.setCustomer(e, user, nil) {
		return err
	}
	anonymous, err := d.readKey("anonymousId", d.envelope.anonymous)
	switch {
	case err != nil || d.setCustomer(e, nil, anonymous):
		return err
	case len(user)+len(anonymous) > 0:
		return pipeline.ErrIgnored
	}
	return d.fail(pipeline.ErrNoCustomer, "neither userId nor anonymousId")
}
