package codec

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"zyklus/pipeline"
)

func FuzzCSVRecord(f *testing.F) {
	f.Add("a", "b\x00\"\\")
	f.Fuzz(func(t *testing.T, name, cell string) {
		value := CSVRecord([]string{name}, []string{cell}, nil)
		var back map[string]string
		if err := json.Unmarshal(value, &back); err != nil {
			t.Fatalf("%q: %v", value, err)
		}
		if utf8.ValidString(name) && utf8.ValidString(cell) && back[name] != cell {
			t.Fatalf("%q is %v", value, back)
		}
	})
}

// checkDecoded holds what every decoder promises, whatever the record.
func checkDecoded(t *testing.T, d Decoder, r *pipeline.Record) {
	t.Helper()
	before := string(r.Value)
	var e, again pipeline.Event
	err := d.Decode(r, &e)
	first := outcome(&e, err)
	if string(r.Value) != before {
		t.Fatalf("Decode changed its input %q", before)
	}
	if err == nil {
		person := len(e.Customer) > 0 && len(e.Customer) <= pipeline.MaxID && utf8.Valid(e.Customer)
		if !e.Kind.Valid() || !person && e.Kind != pipeline.KindHeartbeat || e.At > latest || !e.Sound() ||
			e.Kind.Order() && (len(e.OrderID) == 0 || string(e.Raw) != before) || len(e.Lines) > maxLines {
			t.Fatalf("%q gives %+v", before, e)
		}
	}
	kindOf(t, err)
	if second := outcome(&again, d.Decode(r, &again)); first != second || e.ID != again.ID && err == nil {
		t.Fatalf("%q gives %s, then %s", before, first, second)
	}
}

// FuzzMapped decodes any value by all presets and a mapping of ours.
func FuzzMapped(f *testing.F) {
	var decoders []Decoder
	for _, p := range Presets() {
		if p.Format == FormatMapping {
			decoders = append(decoders, decoderOf(f, p.Name))
			for _, s := range samples(f, p.Name) {
				f.Add(s.record().Value)
			}
		}
	}
	own, err := New(FormatMapping, Options{Currency: "EUR", Mapping: mustMapping(f, []byte(shopMapping))})
	if err != nil {
		f.Fatal(err)
	}
	decoders = append(decoders, own)
	f.Fuzz(func(t *testing.T, value []byte) {
		for _, d := range decoders {
			checkDecoded(t, d, &pipeline.Record{Value: value})
		}
	})
}

// FuzzCloudEvents decodes any value with any headers, given as lines of name: value.
func FuzzCloudEvents(f *testing.F) {
	for _, s := range samples(f, "cloudevents") {
		r := s.record()
		var headers strings.Builder
		for _, h := range r.Headers {
			fmt.Fprintf(&headers, "%s: %s\n", h.Key, h.Value)
		}
		f.Add(headers.String(), r.Value)
	}
	d := decoderOf(f, FormatCloudEvents)
	f.Fuzz(func(t *testing.T, headers string, value []byte) {
		r := &pipeline.Record{Value: value}
		for _, line := range strings.Split(headers, "\n") {
			name, text, _ := strings.Cut(line, ": ")
			r.Headers = append(r.Headers, pipeline.Header{Key: name, Value: []byte(text)})
		}
		checkDecoded(t, d, r)
	})
}

// FuzzParseMapping holds that any text is a mapping that decodes, or is refused with reasons.
func FuzzParseMapping(f *testing.F) {
	for _, p := range Presets() {
		if p.Text != nil {
			f.Add(p.Text)
		}
	}
	f.Add([]byte(shopMapping))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := ParseMapping("m.yaml", text)
		var problems *Problems
		switch {
		case err == nil:
			d, err := NewMapped(Options{Currency: "EUR", Mapping: m})
			if err != nil {
				t.Fatal(err)
			}
			checkDecoded(t, d, &pipeline.Record{Value: []byte(ground)})
		case !errors.As(err, &problems) || len(problems.List) == 0:
			t.Fatalf("%q gives %v", text, err)
		}
	})
}
