package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"zyklus/pipeline"
)

// FuzzProgress reads how far a load has come: what is accepted is written as the same again.
func FuzzProgress(f *testing.F) {
	f.Add(`{"records":17,"hash":"ef46db3751d8e999","done":true,"at":"2024-03-01T10:00:00.5Z"}`)
	f.Add(`{"records":-1,"hash":"","at":"0000-00-00T00:00:00Z"}`)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parseProgress(text)
		if err != nil {
			return
		}
		written, err := p.text()
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		again, err := parseProgress(written)
		if err != nil || p.Records < 0 || again.Records != p.Records || again.Hash != p.Hash || again.Done != p.Done || !again.At.Equal(p.At) {
			t.Fatalf("%q became %+v, then %+v (%v)", text, p, again, err)
		}
	})
}

// FuzzPlace reads the name of a dead letter: what is accepted is written as a name of the same record.
func FuzzPlace(f *testing.F) {
	f.Add("events/3/4711")
	f.Add("a/-1/00/1")
	f.Fuzz(func(t *testing.T, text string) {
		o, err := parsePlace(text)
		if err != nil {
			return
		}
		if again, err := parsePlace(placeText(&o)); err != nil || again != o || !strings.HasPrefix(text, o.Topic+"/") {
			t.Fatalf("%q became %+v, then %+v (%v)", text, o, again, err)
		}
	})
}

// FuzzFlagTexts reads the texts of flags that have a form of their own: each is refused in one line, or in its range.
func FuzzFlagTexts(f *testing.F) {
	for _, text := range []string{"events:4", "24h", "7d", "65535d", "1998-07-01", "1998-07-01T12:00:00Z", "tab", ";"} {
		f.Add(text)
	}
	now := time.Date(2024, 3, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		topics, err := parseTopics([]string{text})
		for name, n := range topics {
			if name == "" || n < 1 || n > 1000 {
				t.Fatalf("%q is %d partitions of %q", text, n, name)
			}
		}
		refusals := []error{err}
		_, err = parseDelimiter(text)
		refusals = append(refusals, err)
		_, err = parseInstant(text)
		refusals = append(refusals, err)
		_, err = parseSince(text, now)
		refusals = append(refusals, err)
		for _, err := range refusals {
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Fatalf("%q is refused in more than a line: %q", text, err)
			}
		}
	})
}

// FuzzSamples splits a text of JSON values as encoding/json sees them.
func FuzzSamples(f *testing.F) {
	f.Add([]byte("{\"a\":1}\n[2,\"x\"] 3 []"))
	f.Add([]byte(`[{"key":"k","headers":{"a":"b"},"value":{}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		values, ok := jsonValues(text)
		var whole []json.RawMessage
		if json.Unmarshal(text, &whole) == nil && (!ok || whole != nil && len(values) != len(whole)) {
			t.Fatalf("%q is an array of %d, not %d", text, len(whole), len(values))
		}
		for _, v := range values {
			if !json.Valid(v) {
				t.Fatalf("%q of %q is no JSON", v, text)
			}
			m := mappingTest{whole: true}
			if r, err := m.record(v); err == nil && len(r.Value) > 0 && !json.Valid(r.Value) {
				t.Fatalf("%q has the value %q", v, r.Value)
			}
		}
	})
}

// FuzzSort brings items into the order of their time through files: all of them, unchanged, equal times as they came.
func FuzzSort(f *testing.F) {
	f.Add([]byte("some items"), uint8(3))
	f.Add([]byte{0, 0, 0, 255, 255, 1, 1}, uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, spill uint8) {
		s, err := newSorter()
		if err != nil {
			t.Fatal(err)
		}
		defer s.close()
		items := sortable(data)
		for i := range items {
			if err := s.add(&items[i]); err != nil {
				t.Fatal(err)
			}
			if spill > 0 && i%int(spill) == 0 && i < 200 {
				if err := s.spill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		slices.SortStableFunc(items, func(a, b item) int { return compareItems(&sortItem{item: a}, &sortItem{item: b}) })
		i := 0
		err = s.each(func(got item) error {
			want := items[i]
			i++
			if got.at != want.at || got.file != want.file || got.line != want.line || got.kind != want.kind ||
				!bytes.Equal(got.key, want.key) || !bytes.Equal(got.value, want.value) {
				return fmt.Errorf("item %d is %+v, not %+v", i-1, got, want)
			}
			return nil
		})
		if err != nil || i != len(items) {
			t.Fatalf("%d of %d items: %v", i, len(items), err)
		}
	})
}

// sortable makes an item of each byte.
func sortable(data []byte) (items []item) {
	for i, b := range data[:min(len(data), 400)] {
		it := item{file: fmt.Sprint("file", b%3), line: int64(i), at: int64(int8(b)), kind: pipeline.Kind(b), value: data[i:min(len(data), i+int(b))]}
		switch {
		case b%16 == 0:
			it.at = math.MaxInt64 - int64(b)
		case b%2 == 1:
			it.key = data[i : i+1]
		}
		items = append(items, it)
	}
	return items
}
