package embedded

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/ClickHouse/ch-go/proto"
)

// Protocol revisions of the native endpoint. The revision of a connection is
// the lower one of the client's and nativeRevision.
const (
	// nativeRevision is the newest that nativeWriter writes.
	nativeRevision = proto.Version
	// oldestRevision sends settings as text; before it their encoding depends
	// on each setting's type.
	oldestRevision = int(proto.FeatureSettingsSerializedAsStrings)
)

// Bounds of what a client may send besides data, in bytes.
const (
	maxName   = 64 << 10
	maxPacket = maxFormField + 1<<20
)

// wireReader reads the fields of packets. After the first error every further
// read returns zero, and err is that error. It never allocates more than has
// arrived.
type wireReader struct {
	r *bufio.Reader
	// left is how much the current packet may still hold, in bytes.
	left int
	err  error
}

func (w *wireReader) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

func (w *wireReader) byte() byte {
	if w.err != nil {
		return 0
	}
	b, err := w.r.ReadByte()
	if err != nil {
		w.fail(unexpected(err))
	}
	return b
}

// skip drops n bytes.
func (w *wireReader) skip(n int) {
	if w.err != nil {
		return
	}
	if _, err := w.r.Discard(n); err != nil {
		w.fail(unexpected(err))
	}
}

func (w *wireReader) uvarint() uint64 { return readUvarint(w) }

// readUvarint reads a number of at most 64 bits.
func readUvarint(r interface {
	byte() byte
	fail(error)
}) uint64 {
	var v uint64
	for shift := 0; shift < 64; shift += 7 {
		b := r.byte()
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v
		}
	}
	r.fail(errors.New("number of more than 64 bits"))
	return 0
}

// str reads a string of at most limit bytes.
func (w *wireReader) str(limit int) string {
	n := w.uvarint()
	if w.err == nil && n > uint64(min(limit, w.left)) {
		w.fail(fmt.Errorf("string of %d bytes: %w", n, errTooLarge))
	}
	if w.err != nil || n == 0 {
		return ""
	}
	w.left -= int(n)
	var text bytes.Buffer
	if _, err := io.CopyN(&text, w.r, int64(n)); err != nil {
		w.fail(unexpected(err))
	}
	return text.String()
}

// hello is the first packet of a client.
type hello struct {
	client                   string
	revision                 uint64
	database, user, password string
}

func (w *wireReader) hello() (h hello) {
	w.left = maxPacket
	h.client = w.str(maxName)
	w.uvarint() // the client's version
	w.uvarint()
	h.revision = w.uvarint()
	h.database = w.str(maxName)
	h.user = w.str(maxName)
	h.password = w.str(maxName)
	return h
}

// wireSetting is one setting, or one query parameter, of a query packet.
type wireSetting struct {
	name, value string
	// important settings must be known; others may be ignored.
	important bool
	// custom values are literals, which restoreDump reads.
	custom bool
}

// query is a packet that asks for a statement to be run.
type query struct {
	id         string
	text       string
	stage      uint64
	compressed bool
	settings   []wireSetting
	params     []wireSetting
}

// errUnsupported is wrapped by errors about parts of the protocol that only
// servers of a cluster use among themselves.
var errUnsupported = errors.New("not supported by the embedded server")

func (w *wireReader) query(revision int) (q query) {
	w.left = maxPacket
	q.id = w.str(maxName)
	w.clientInfo(revision)
	q.settings = w.settings()
	if proto.FeatureInterServerSecret.In(revision) && w.str(maxName) != "" {
		w.fail(fmt.Errorf("secret of a cluster: %w", errUnsupported))
	}
	q.stage = w.uvarint()
	q.compressed = w.uvarint() != 0
	q.text = w.str(maxFormField)
	if proto.FeatureParameters.In(revision) {
		q.params = w.settings()
	}
	return q
}

// settings reads a list that ends with an empty name.
func (w *wireReader) settings() (list []wireSetting) {
	const important, custom = 1, 2
	for name := w.str(maxName); name != "" && w.err == nil; name = w.str(maxName) {
		flags := w.uvarint()
		list = append(list, wireSetting{
			name: name, important: flags&important != 0, custom: flags&custom != 0, value: w.str(maxFormField),
		})
	}
	return list
}

// clientInfo moves past what a client says of itself, which nothing here needs.
func (w *wireReader) clientInfo(revision int) {
	if w.byte() == byte(proto.ClientQueryNone) {
		return
	}
	for range 3 { // initial user, query id and address
		w.str(maxName)
	}
	if proto.FeatureQueryStartTime.In(revision) {
		w.skip(8)
	}
	if kind := w.byte(); w.err == nil && kind != byte(proto.InterfaceTCP) {
		w.fail(fmt.Errorf("client interface %d: %w", kind, errUnsupported))
	}
	for range 3 { // user of the system, host, name of the client
		w.str(maxName)
	}
	for range 3 { // major, minor, revision
		w.uvarint()
	}
	w.str(maxName) // quota key
	if proto.FeatureDistributedDepth.In(revision) {
		w.uvarint()
	}
	w.uvarint() // patch
	if proto.FeatureOpenTelemetry.In(revision) && w.byte() != 0 {
		const traceAndSpan = 16 + 8
		w.skip(traceAndSpan)
		w.str(maxName)
		w.skip(1)
	}
	if proto.FeatureParallelReplicas.In(revision) {
		for range 3 {
			w.uvarint()
		}
	}
}

// restoreDump reads a value written as a literal: only strings are sent.
func restoreDump(dump string) (string, bool) {
	// With one more byte, a quote that is never closed ends after the dump.
	if len(dump) < 2 || dump[0] != '\'' || quotedEnd(dump+" ", 0) != len(dump) {
		return "", false
	}
	return unquote(dump), true
}

// unquote removes the quotes around a string or an identifier and undoes the
// escapes in it.
func unquote(quoted string) string {
	mark, inner := quoted[0], quoted[1:len(quoted)-1]
	if strings.IndexByte(inner, '\\') < 0 && strings.IndexByte(inner, mark) < 0 {
		return inner
	}
	var b strings.Builder
	for i := 0; i < len(inner); i++ {
		c := inner[i]
		switch {
		case c == '\\' && i+1 < len(inner):
			i++
			c = unescape(inner[i])
		case c == mark:
			i++ // a doubled quote
		}
		b.WriteByte(c)
	}
	return b.String()
}

// unescape returns what a backslash and c stand for.
func unescape(c byte) byte {
	const letters, bytes = "abfnrtv0", "\a\b\f\n\r\t\v\x00"
	if i := strings.IndexByte(letters, c); i >= 0 {
		return bytes[i]
	}
	return c
}
