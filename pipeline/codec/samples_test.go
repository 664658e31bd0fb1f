package codec

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"zyklus/pipeline"
)

var update = flag.Bool("update", false, "write the golden files anew")

// sample is a record of an emitter, shortened and with other values.
type sample struct {
	Sample  string            `json:"sample"`
	Key     string            `json:"key"`
	Headers map[string]string `json:"headers"`
	Value   json.RawMessage   `json:"value"`
	Text    string            `json:"text"` // for values that are no JSON
}

func (s sample) record() *pipeline.Record {
	r := &pipeline.Record{Key: []byte(s.Key), Value: s.Value}
	if s.Value == nil {
		r.Value = []byte(s.Text)
	}
	var names []string
	for name := range s.Headers {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		r.Headers = append(r.Headers, pipeline.Header{Key: name, Value: []byte(s.Headers[name])})
	}
	return r
}

func samples(t testing.TB, name string) (list []sample) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "samples", name+".ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		var s sample
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatalf("%s: %v in %s", name, err, line)
		}
		list = append(list, s)
	}
	return list
}

// decoderOf returns the decoder of a preset or a format.
func decoderOf(t testing.TB, name string) Decoder {
	t.Helper()
	o := Options{Source: "shop", Currency: "EUR", Convert: true}
	format := name
	if p, err := FindPreset(name); err == nil {
		if format = p.Format; p.Text != nil {
			o.Mapping = mustMapping(t, p.Text)
		}
	}
	d, err := New(format, o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func mustMapping(t testing.TB, text []byte) *Mapping {
	t.Helper()
	m, err := ParseMapping("mapping.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// outcome says in one line what came of a record.
func outcome(e *pipeline.Event, err error) string {
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%v %s", e.Kind, time.UnixMilli(e.At).UTC().Format("2006-01-02T15:04:05.000Z"))
	if len(e.Customer) > 0 {
		fmt.Fprintf(&b, " %s known=%v", e.Customer, e.Known)
	}
	if e.Kind.Order() {
		fmt.Fprintf(&b, " order=%s", e.OrderID)
	}
	if e.HasAmount {
		fmt.Fprintf(&b, " %d", e.Amount)
	}
	if e.Currency != [3]byte{} {
		fmt.Fprintf(&b, " %s", e.Currency)
	}
	for _, l := range e.Lines {
		fmt.Fprintf(&b, " [%x %s %d", l.Product>>48, l.Category, l.Quantity)
		if l.HasAmount {
			fmt.Fprintf(&b, " %d", l.Amount)
		}
		b.WriteByte(']')
	}
	return b.String()
}

// TestSamples holds what comes of the records of real emitters to the golden files beside them.
func TestSamples(t *testing.T) {
	files, err := filepath.Glob("testdata/samples/*.ndjson")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".ndjson")
		t.Run(name, func(t *testing.T) {
			d := decoderOf(t, name)
			var got strings.Builder
			ids := map[uint64]string{}
			for _, s := range samples(t, name) {
				var e pipeline.Event
				err := d.Decode(s.record(), &e)
				fmt.Fprintf(&got, "%s\n\t%s\n", s.Sample, outcome(&e, err))
				if other, twice := ids[e.ID]; err == nil && twice {
					t.Errorf("%q has the event id of %q", s.Sample, other)
				}
				if err == nil {
					ids[e.ID] = s.Sample
				}
			}
			golden(t, strings.TrimSuffix(file, ".ndjson")+".golden", got.String())
		})
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n got %s\nwant %s", file, got, want)
	}
}

// TestSamplesCoverEveryKind holds the samples to be worth something.
func TestSamplesCoverEveryKind(t *testing.T) {
	met := map[pipeline.Kind]bool{}
	for _, name := range []string{"segment", "cloudevents", "ga4", "klaviyo", "jitsu-classic", "shopify", "snowplow"} {
		d := decoderOf(t, name)
		orders, refused := 0, 0
		for _, s := range samples(t, name) {
			var e pipeline.Event
			err := d.Decode(s.record(), &e)
			var r *pipeline.RecordError
			switch {
			case err == nil && e.Kind == pipeline.KindOrderCompleted:
				orders++
			case errors.As(err, &r):
				refused++
			}
			if err == nil {
				met[e.Kind] = true
			}
		}
		if orders == 0 || refused == 0 {
			t.Errorf("%s: %d orders, %d refused", name, orders, refused)
		}
	}
	for k := pipeline.KindInvalid + 1; k.Valid(); k++ {
		if !met[k] {
			t.Errorf("no sample is a %v", k)
		}
	}
}
