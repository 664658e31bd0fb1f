package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"zyklus/pipeline"
)

// FuzzDecode holds the decoder to the oracle: the same events, the same kinds of errors, and JSON exactly where
// encoding/json sees JSON.
func FuzzDecode(f *testing.F) {
	for _, c := range goodRecords() {
		f.Add([]byte(c.value))
	}
	for _, c := range badRecords() {
		if len(c.value) < 10_000 {
			f.Add([]byte(c.value))
		}
	}
	for _, s := range scanSeeds() {
		f.Add([]byte(s))
	}
	options := Options{Source: "fuzz", Currency: "EUR", Convert: true}
	d := mustSegment(f, options)
	o := newOracle(options)
	f.Fuzz(func(t *testing.T, value []byte) {
		before := bytes.Clone(value)
		var e pipeline.Event
		err := d.Decode(&pipeline.Record{Value: value}, &e)
		if !bytes.Equal(before, value) {
			t.Fatalf("Decode changed its input %q", before)
		}
		checkAgainstOracle(t, o, value, &e, err)
	})
}

// checkAgainstOracle compares what Decode returned for value with what must come of it.
func checkAgainstOracle(t *testing.T, o *oracle, value []byte, e *pipeline.Event, err error) {
	t.Helper()
	kind := kindOf(t, err)
	if len(bytes.Trim(value, " \t\r\n")) == 0 {
		if kind != pipeline.ErrNullValue {
			t.Fatalf("an empty value gives %v", err)
		}
		return
	}
	if !json.Valid(value) {
		if kind != pipeline.ErrNotJSON && kind != pipeline.ErrTruncated {
			t.Fatalf("%q is no JSON but gives %v", value, err)
		}
		return
	}
	if depth(value) > maxDepth {
		if kind != pipeline.ErrNotJSON {
			t.Fatalf("%q is too deep but gives %v", value, err)
		}
		return
	}
	want, no := o.decode(value)
	if errors.Is(err, pipeline.ErrIgnored) != no.ignored || kind != no.kind {
		t.Fatalf("%q gives %v, want kind %v, ignored %v", value, err, no.kind, no.ignored)
	}
	if err == nil {
		compareEvents(t, value, e, &want)
		if !e.Sound() {
			t.Fatalf("%q gives %+v", value, e)
		}
	}
}

func compareEvents(t *testing.T, value []byte, got, want *pipeline.Event) {
	t.Helper()
	g, w := *got, *want
	if g.Kind != w.Kind || g.At != w.At || g.ID != w.ID || g.Known != w.Known || g.Amount != w.Amount ||
		g.HasAmount != w.HasAmount || g.Currency != w.Currency || !bytes.Equal(g.Customer, w.Customer) || !bytes.Equal(g.OrderID, w.OrderID) ||
		!bytes.Equal(g.Raw, w.Raw) || len(g.Lines) != len(w.Lines) {
		t.Fatalf("%q gives\n%+v, want\n%+v", value, g, w)
	}
	for i := range g.Lines {
		a, b := g.Lines[i], w.Lines[i]
		if a.Product != b.Product || a.Quantity != b.Quantity || a.Amount != b.Amount || a.HasAmount != b.HasAmount ||
			!bytes.Equal(a.Category, b.Category) {
			t.Fatalf("%q line %d gives\n%+v, want\n%+v", value, i, a, b)
		}
	}
}

// depth returns how deep a valid JSON text nests.
func depth(value []byte) (deepest int) {
	now, inString := 0, false
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			now++
			deepest = max(deepest, now)
		case c == '}' || c == ']':
			now--
		}
	}
	return deepest
}

// kindOf returns the kind of a RecordError, ErrNone for nil and ErrIgnored.
func kindOf(t testing.TB, err error) pipeline.ErrorKind {
	t.Helper()
	var refused *pipeline.RecordError
	switch {
	case err == nil || errors.Is(err, pipeline.ErrIgnored):
		return pipeline.ErrNone
	case !errors.As(err, &refused):
		t.Fatalf("Decode returned %T %v", err, err)
	case refused.Kind == pipeline.ErrNone || refused.Cause == "":
		t.Fatalf("an error without kind or cause: %+v", refused)
	}
	return refused.Kind
}

func mustSegment(t testing.TB, options Options) *Segment {
	t.Helper()
	d, err := NewSegment(options)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
