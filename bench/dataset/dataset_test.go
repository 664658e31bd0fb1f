package dataset

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

const (
	cdnowFile = "customer_id,date,quantity,value,master_id\n" +
		"2,1997-01-12,5,77.00,9\n" +
		"10,1997-01-02,3,10.0,4\n" +
		"\n" +
		"2,1997-01-02,1,12.5,9\n" +
		"7,1997-01-02,0,0.0,4\r\n"
	journeyFile = "\ufeffhousehold_id,basket_id,ts,store_id,product_id,product_category,quantity,sales_value\n" +
		`8,b2,2017-01-01 09:00:01,1,11,"BAGS, ""BIG""",3,1` + "\n" +
		"8,b1,2017-01-01 08:00:30,1,12,MILK,1,3.49\n" +
		"8,b2,2017-01-01 08:59:59,1,13,,0,2.01\n" +
		"9,b3,2017-01-01 08:00:30,1,12,MILK,32623,15.01\n"
)

// read returns all events as "time key value".
func read(t *testing.T, preset string, in io.Reader) ([]string, *Reader) {
	t.Helper()
	r, err := Open(preset, in, "USD")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	var e Event
	for {
		ok, err := r.Next(&e)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return list, r
		}
		if !json.Valid(e.Value) {
			t.Fatalf("not JSON: %s", e.Value)
		}
		list = append(list, fmt.Sprintf("%d %s %s", e.Line, e.Key, e.Value))
	}
}

func TestCDNOW(t *testing.T) {
	event := func(line int, customer, n, date, revenue, price, quantity string) string {
		id := "cdnow-" + customer + "-" + n
		return fmt.Sprintf(`%d %s {"type":"track","event":"Order Completed","userId":"%s","messageId":"cdnow/%s",`+
			`"timestamp":"%sT00:00:00.000Z","properties":{"order_id":"%s","revenue":%s,"currency":"USD",`+
			`"products":[{"product_id":"cd","category":"CDs","price":%s,"quantity":%s}]}}`,
			line, customer, customer, id, date, id, revenue, price, quantity)
	}
	want := []string{
		event(3, "10", "1", "1997-01-02", "10.00", "3.33", "3"),
		event(5, "2", "1", "1997-01-02", "12.50", "12.50", "1"),
		event(6, "7", "1", "1997-01-02", "0.00", "0.00", "1"),
		event(2, "2", "2", "1997-01-12", "77.00", "15.40", "5"),
	}
	// 3 × 3.33 is 9.99, so the price needs a third decimal.
	want[0] = strings.Replace(want[0], `"price":3.33`, `"price":3.333`, 1)
	got, r := read(t, "cdnow", strings.NewReader(cdnowFile))
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if r.RefusedCount() != 0 {
		t.Errorf("refused %v", r.Refused())
	}
}

func TestCompleteJourney(t *testing.T) {
	event := func(start, household, basket, ts, rest string) string {
		return start + ` {"type":"track","event":"Order Completed","userId":"` + household +
			`","messageId":"complete-journey/` + basket + `","timestamp":"2017-01-01T` + ts +
			`.000Z","properties":{"order_id":"` + basket + `",` + rest + `]}}`
	}
	want := []string{
		event("3 8", "8", "b1", "08:00:30", `"revenue":3.49,"currency":"USD","products":[`+
			`{"product_id":"12","category":"MILK","price":3.49,"quantity":1}`),
		event("5 9", "9", "b3", "08:00:30", `"revenue":15.01,"currency":"USD","products":[`+
			`{"product_id":"12","category":"MILK","price":0.00046,"quantity":32623}`),
		event("2 8", "8", "b2", "08:59:59", `"revenue":3.01,"currency":"USD","products":[`+
			`{"product_id":"11","category":"BAGS, \"BIG\"","price":0.333,"quantity":3},`+
			`{"product_id":"13","price":2.01,"quantity":1}`),
	}
	got, _ := read(t, "complete-journey", strings.NewReader(journeyFile))
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestGzip(t *testing.T) {
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	if _, err := w.Write([]byte(cdnowFile)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	want, _ := read(t, "cdnow", strings.NewReader(cdnowFile))
	got, _ := read(t, "cdnow", iotest.OneByteReader(bytes.NewReader(zipped.Bytes())))
	if !slices.Equal(got, want) {
		t.Errorf("got %v, not %v", got, want)
	}
	cut := zipped.Bytes()[:zipped.Len()-12]
	r, err := Open("cdnow", bytes.NewReader(cut), "USD")
	if err == nil {
		_, err = r.Next(&Event{})
		if ok, again := r.Next(&Event{}); ok || again == nil {
			t.Error("after an error an event was returned")
		}
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a file cut short gave %v", err)
	}
}

func TestOpenErrors(t *testing.T) {
	tests := []struct{ preset, currency, file, want string }{
		{"cdn", "USD", cdnowFile, `find preset "cdn": known are cdnow, complete-journey`},
		{"cdnow", "usd", cdnowFile, `check currency "usd"`},
		{"cdnow", "USD", "", "columns [customer_id date quantity value] are missing"},
		{"cdnow", "USD", journeyFile, "columns [customer_id date value] are missing"},
		{"cdnow", "USD", "\x1f\x8bnonsense", "unzip"},
		{"cdnow", "USD", strings.Repeat("x", maxRow+1), "longer than"},
	}
	for _, tt := range tests {
		_, err := Open(tt.preset, strings.NewReader(tt.file), tt.currency)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s, %s: %v, not %q", tt.preset, tt.currency, err, tt.want)
		}
	}
}

func TestRefusals(t *testing.T) {
	rows := []struct{ row, want string }{
		{",1997-01-01,1,1", "customer_id: 0 bytes"},
		{strings.Repeat("x", maxID+1) + ",1997-01-01,1,1", "customer_id: 201 bytes"},
		{"1,1997-13-01,1,1", "date: \"1997-13-01\""},
		{"1,1969-12-31,1,1", "1970 or later"},
		{"1,1997-01-01,-1,1", "quantity"},
		{"1,1997-01-01,1.5,1", "quantity"},
		{"1,1997-01-01,1,-1", "value"},
		{"1,1997-01-01,1,NaN", "value"},
		{"1,1997-01-01,1,1e99", "value"},
		{"1,1997-01-01,1", "3 fields, not 4"},
		{"\"1,1997-01-01,1,1", "quote without end"},
		{"\"1\"x,1997-01-01,1,1", "text after a quoted field"},
		{"\xff,1997-01-01,1,1", "not UTF-8"},
		{strings.Repeat("y", 3*maxRow), "longer than"},
	}
	file := "customer_id,date,quantity,value\n"
	for _, tt := range rows {
		file += tt.row + "\n"
	}
	got, r := read(t, "cdnow", strings.NewReader(file+"1,1997-01-01,1,1"))
	if len(got) != 1 || r.RefusedCount() != len(rows) || len(r.Refused()) != len(rows) {
		t.Fatalf("%d events, refused %d: %v", len(got), r.RefusedCount(), r.Refused())
	}
	for i, refusal := range r.Refused() {
		if refusal.Line != i+2 || !strings.Contains(refusal.Error, rows[i].want) {
			t.Errorf("line %d: %+v, not %q", i+2, refusal, rows[i].want)
		}
	}
}

func TestRefusalsAreBounded(t *testing.T) {
	_, r := read(t, "cdnow", strings.NewReader("customer_id,date,quantity,value\n"+strings.Repeat("x\n", 1000)))
	if r.RefusedCount() != 1000 || len(r.Refused()) != maxRefusals {
		t.Errorf("%d, %d kept", r.RefusedCount(), len(r.Refused()))
	}
}

func TestBasketOfTwoHouseholds(t *testing.T) {
	got, r := read(t, "complete-journey", strings.NewReader(journeyFile+"1,b1,2017-01-01 08:00:30,1,12,MILK,1,3.49\n"))
	if len(got) != 3 || r.RefusedCount() != 1 || !strings.Contains(r.Refused()[0].Error, "belongs to household") {
		t.Errorf("%d events, refused %v", len(got), r.Refused())
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte(cdnowFile))
	f.Add([]byte(journeyFile))
	f.Add([]byte("customer_id,date,quantity,value\n1,1997-01-01,7,1e-7\n\"\x01\\\"\"\",1997-01-01,9,9.999999"))
	f.Fuzz(func(t *testing.T, file []byte) {
		for _, preset := range Presets() {
			fuzzOne(t, preset.Name, file)
		}
	})
}

func fuzzOne(t *testing.T, preset string, file []byte) {
	r, err := Open(preset, bytes.NewReader(file), "EUR")
	if err != nil {
		return
	}
	var e, last Event
	ids := map[string]bool{}
	for {
		ok, err := r.Next(&e)
		if err != nil || !ok {
			return
		}
		var m struct {
			UserID, MessageID string
		}
		if err := json.Unmarshal(e.Value, &m); err != nil || m.UserID != string(e.Key) || len(e.Key) == 0 {
			t.Fatalf("%v: key %q, %s", err, e.Key, e.Value)
		}
		if ids[m.MessageID] {
			t.Fatalf("message id %q occurs twice", m.MessageID)
		}
		ids[m.MessageID] = true
		if e.At.Before(last.At) || e.At.Equal(last.At) && string(e.Key) < string(last.Key) {
			t.Fatalf("%v %q after %v %q", e.At, e.Key, last.At, last.Key)
		}
		last = Event{At: e.At, Key: bytes.Clone(e.Key)}
	}
}
