package codec

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"zyklus/pipeline"
)

// FuzzCloudEventsModes sends an event in binary mode, structured, and structured with its data in base64: all three are the
// same event, or refused for the same kind of error.
func FuzzCloudEventsModes(f *testing.F) {
	f.Add("1.0", "e1", "/shop", "com.example.order.completed.v1", "anna", "2024-03-01T10:00:00Z", []byte(`{"order_id":"o1","value":"19.99","currency":"EUR"}`))
	f.Add("1.0", "e2", "/shop", "heartbeat", "", "2024-03-01T10:00:00.123+01:00", []byte(`{}`))
	f.Add("1.0", "e3", "/shop", "page.viewed", "guest", "1709287200", []byte(`{"user_id":5}`))
	f.Add("0.3", "\u0000", "é", "order.refunded", "a", "", []byte(`[1]`))
	d := decoderOf(f, FormatCloudEvents)
	decode := func(t *testing.T, r *pipeline.Record) (e pipeline.Event, text string, kind pipeline.ErrorKind) {
		err := d.Decode(r, &e)
		e.Raw = nil // that is the record itself
		return e, outcome(&e, err), kindOf(t, err)
	}
	f.Fuzz(func(t *testing.T, version, id, source, typ, subject, at string, data []byte) {
		attributes := [][2]string{{"specversion", version}, {"id", id}, {"source", source}, {"type", typ}, {"subject", subject}, {"time", at}}
		binary := &pipeline.Record{Value: data}
		for _, a := range attributes {
			if text := a[1]; text == "" || !utf8.ValidString(text) || strings.ContainsRune(text, utf8.RuneError) {
				return // an empty header is one that is given; what is no text cannot be structured
			}
			binary.Headers = append(binary.Headers, pipeline.Header{Key: "ce_" + a[0], Value: []byte(a[1])})
		}
		if !json.Valid(data) || len(data) > 10_000 || strings.TrimLeft(string(data), " \t\r\n")[0] != '{' || depth(data) >= maxDepth {
			return // the value of a record must be an object, and a structured event nests its data one deeper
		}
		first, text, kind := decode(t, binary)
		for _, data := range [][2]string{{"data", string(data)}, {"data_base64", `"` + base64.StdEncoding.EncodeToString(data) + `"`}} {
			var b strings.Builder
			b.WriteByte('{')
			for _, a := range attributes {
				quoted, err := json.Marshal(a[1])
				if err != nil {
					t.Fatal(err)
				}
				b.WriteString(`"` + a[0] + `":` + string(quoted) + ",")
			}
			b.WriteString(`"` + data[0] + `":` + data[1] + "}")
			again, other, otherKind := decode(t, &pipeline.Record{Value: []byte(b.String())})
			if kind != otherKind || kind == pipeline.ErrNone && (text != other || first.ID != again.ID) {
				t.Fatalf("%s in mode binary gives\n%s (%v), structured\n%s (%v)", b.String(), text, kind, other, otherKind)
			}
		}
	})
}
