package codec

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"zyklus/pipeline"
)

// TestMappingRefusals holds that everything wrong is said at once, each with its place and what to do.
func TestMappingRefusals(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "m.yaml: is empty: see the examples of zyklus mapping --help"},
		{"# nothing\n", "m.yaml: is empty: see the examples of zyklus mapping --help"},
		{"- a\n", `m.yaml:1:1: is a list: want keys with values, such as "key: value"
m.yaml:1:1: mapping is missing: add the key
m.yaml:1:1: events is missing: add the key`},
		{"mapping: [\n", "m.yaml:1:10: is not YAML: sequence end token ']' not found"},
		{"mapping: a\nevents: []\n---\nmapping: b\n", "m.yaml:4:1: a second YAML document begins: a mapping is one"},
		{`mapping: shop
tim: record.t
customer: user_id
anonymous: "record.a + "
currency: "'EUR'"
currency: "'EUR'"
time_unit: h
let: {Order: record.o, record: record.x, in: record.y}
ignore:
  - when: record.test
  - name: tests
events:
  - when: record.kind == "order"
    type: order.complete
  - when: true
  - "x"
`, `m.yaml:2:1: unknown key "tim": choose among mapping, description, let, time, time_unit, customer, anonymous, id, currency, ignore, events
m.yaml:3:11: customer: 'user_id' is neither a variable (record, key, headers, those of let; line in lines) nor a function: put texts in quotes
m.yaml:4:24: anonymous: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}
m.yaml:6:1: "currency" is given twice: remove one
m.yaml:7:12: time_unit: want s, ms, us or ns
m.yaml:8:7: let.Order: is no name for a variable: write a word of a-z, 0-9 and _ that CEL has no use for
m.yaml:8:24: let.record: is no name for a variable: write a word of a-z, 0-9 and _ that CEL has no use for
m.yaml:8:42: let.in: is no name for a variable: write a word of a-z, 0-9 and _ that CEL has no use for
m.yaml:10:11: ignore[0].when: a condition must be true or false: compare it, such as with == true
m.yaml:11:5: ignore[1]: when is missing: add the condition under which to ignore a record
m.yaml:14:11: events[0].type: "order.complete" is not an event type: choose one of heartbeat, identity.identified, touch.page, product.viewed, cart.changed, checkout.started, order.completed, order.updated, order.refunded, order.cancelled
m.yaml:15:5: events[1]: type is missing: add the event type
m.yaml:16:5: events[2]: is a text: want keys with values, such as "key: value"`},
		{`mapping: shop
time: record.t
customer: record.c
events:
  - when: record.a == 1
    type: order.completed
  - when: record.a == 2
    type: order.updated
    order_id: record.o
    amount: record.x
    amount_minor: record.x
    lines: {product: line.sku, price: line.p, price_minor: line.p}
  - when: record.a == 3
    type: order.cancelled
    order_id: "'o1'"
    amount: 1
  - when: record.a == 4
    type: touch.page
    order_id: record.o
    lines: {from: record.l, price: line.p}
  - when: line.x == 1
    type: touch.page
  - when: |
      record.a == 5 ||
        foo == 6
    type: touch.page
  - when: record.b.exists(i, record.b.exists(j, j == i))
    type: touch.page
    time: 1 / 0
    id: record.x == 1
`, `m.yaml:5:5: events[0]: order_id is missing: add the id by which refunds find the order
m.yaml:5:5: events[0]: amount is missing: add it, or amount_minor, or lines with a price or amount
m.yaml:11:5: events[1]: both amount and amount_minor are given: keep one
m.yaml:12:5: events[1].lines: both price and price_minor are given: keep one
m.yaml:12:5: events[1].lines: from is missing: add the list that the lines come from
m.yaml:15:15: events[2].order_id: is the same for every record: name a member of it, such as record.order_id
m.yaml:16:5: events[2].amount: has no meaning for order.cancelled: remove it
m.yaml:19:5: events[3].order_id: has no meaning for touch.page: remove it
m.yaml:20:5: events[3].lines: has no meaning for touch.page: remove it
m.yaml:21:11: events[4].when: 'line' is neither a variable (record, key, headers, those of let; line in lines) nor a function: put texts in quotes
m.yaml:25:9: events[5].when: 'foo' is neither a variable (record, key, headers, those of let; line in lines) nor a function: put texts in quotes
m.yaml:27:11: events[6].when: too costly: about 1e+11 steps for the largest record, at most 1e+08 are allowed: avoid a loop in a loop and calculating with texts in a loop
m.yaml:29:11: events[6].time: is always an error: division by zero
m.yaml:30:9: events[6].id: want a text or a number, this is a bool`},
		{`mapping: 3
description: {a: b}
time: [record.t]
time_unit: &unit s
1: x
customer: ""
anonymous:
ignore: yes
events:
  - when: "'x'"
    type: order.completed
    order_id: 'record.o == "x"'
    lines:
      from: "'x'"
      price: has(line.p)
  - when: 1 / 0 == 1
    type: null
`, `m.yaml:1:10: mapping: is a number: want a text
m.yaml:2:15: description: is a section: want a text
m.yaml:3:7: time: is a list: want an expression, such as record.user.id
m.yaml:4:12: time_unit: is an anchor, alias or tag, which mappings do not have: want a text
m.yaml:5:1: a key must be a plain word
m.yaml:6:11: customer: is empty: want an expression, such as record.user.id
m.yaml:7:11: anonymous: is empty: want an expression, such as record.user.id
m.yaml:8:9: ignore: is a text: want a list, each item after "- "
m.yaml:10:12: events[0].when: a condition must be true or false, this is a string
m.yaml:12:16: events[0].order_id: want a text or a number, this is a bool
m.yaml:14:14: events[0].lines.from: want a list, this is a string
m.yaml:15:14: events[0].lines.price: want a text or a number, this is a bool
m.yaml:16:11: events[1].when: is always an error: division by zero
m.yaml:17:11: events[1].type: is empty: want a text`},
		{`mapping: shop
events:
  - when: record.a == 1
    type: touch.page
`, `m.yaml:3:5: events[0]: time is missing: add it here, or once at the top for all events
m.yaml:3:5: events[0]: customer is missing: add it or anonymous here, or once at the top for all events`},
		{`mapping: shop
time: record.t
customer: record.c
ignore:
  - when: record.kind in ["test", "ping"]
events:
  - when: record.kind in ["page", "screen"]
    type: touch.page
  - when: '"ping" == record.kind'
    type: touch.page
  - when: record.kind in ["screen", "page"]
    type: cart.changed
  - when: record.kind in ["page", "cart"]
    type: cart.changed
  - when: 1 == 2
    type: touch.page
  - name: rest
    when: true
    type: touch.page
  - when: record.kind == "x"
    type: touch.page
`, `m.yaml:9:5: events[1].when: never matches: rules before it take every value of record.kind that it asks for
m.yaml:11:5: events[2].when: never matches: rules before it take every value of record.kind that it asks for
m.yaml:15:5: events[4].when: is never true: remove the rule or mend its condition
m.yaml:20:5: events[6]: never matches: rest before it always does; move that to the end`},
	} {
		_, err := ParseMapping("m.yaml", []byte(c.text))
		var problems *Problems
		if !errors.As(err, &problems) || problems.Error() != c.want {
			t.Errorf("%s\n got %v\nwant %s", c.text, err, c.want)
		}
	}
}

const shopMapping = `
mapping: shop
let:
  order: record.payload.order
  total: order.total.orValue(0)
time: record.at
time_unit: ms
customer: record.user.id
anonymous: record.visitor
id: record.id
currency: order.currency
ignore:
  - when: record.test == true
events:
  - name: beat
    when: record.kind == "beat"
    type: heartbeat
    time: record.until
  - name: sale
    when: record.kind == "sale"
    type: order.completed
    order_id: order.id
    amount: total * (100 - order.discount_percent.orValue(0)) / 100
    lines:
      from: order.lines
      product: line.sku
      category: line.path.map(p, p.name)[0]
      quantity: line.quantity
      price: line.price
      amount: line.amount
  - name: cents
    when: record.kind == "cents"
    type: order.updated
    order_id: order.id
    amount_minor: order.cents
    lines: {from: order.lines, amount_minor: line.cents, price_minor: line.price_cents, quantity: line.quantity}
  - name: by lines
    when: record.kind == "lines"
    type: order.completed
    order_id: order.id
    lines: {from: order.lines, price: line.price, quantity: line.quantity}
  - name: refund
    when: record.kind == "refund"
    type: order.refunded
    order_id: order.id
    amount: -order.change
    lines: {from: order.lines, price: line.price}
  - name: whole
    when: record.kind == "whole"
    type: order.refunded
    order_id: order.id
    amount: order.amount
  - name: keyed
    when: headers.kind == "keyed"
    type: touch.page
    time_unit: us
    customer: key
`

func TestMappedRecords(t *testing.T) {
	d, err := NewMapped(Options{Source: "shop", Currency: "EUR", Convert: true, Mapping: mustMapping(t, []byte(shopMapping))})
	if err != nil {
		t.Fatal(err)
	}
	const head = `{"at":1709296496789,"user":{"id":"u1"},"id":"e1","kind":`
	const at = " 2024-03-01T12:34:56.789Z u1 known=true"
	order := func(kind, members string) string {
		return head + `"` + kind + `","payload":{"order":{"id":"o1",` + members + `}}}`
	}
	for _, c := range []struct{ name, value, want string }{
		{"exact", order("sale", `"total":0.30`), "order.completed" + at + " order=o1 30"},
		{"one rounding", order("sale", `"total":10.03,"discount_percent":50`), "order.completed" + at + " order=o1 502"},
		{"more digits than a double has", order("sale", `"total":99999999999.994,"discount_percent":0.0`),
			"order.completed" + at + " order=o1 9999999999999"},
		{"rounded to the order's currency", order("sale", `"total":10.0049,"currency":"KWD"`), "order.completed" + at + " order=o1 10005 KWD"},
		{"no decimals", order("sale", `"total":1500.4,"currency":"jpy"`), "order.completed" + at + " order=o1 1500 JPY"},
		{"lines", order("sale", `"total":9,"lines":[{"sku":7,"path":[{"name":"a"},{"name":"b"}],"quantity":"1.5","price":"0.333333"},`+
			`{"sku":"s","price":9,"amount":"4.005"},{}]`),
			"order.completed" + at + " order=o1 900 [184a a 1500 50] [7a08  1000 401] [0  1000]"},
		{"minor units", order("cents", `"cents":1250,"lines":[{"cents":"1000"},{"price_cents":12.5,"quantity":2}]`),
			"order.updated" + at + " order=o1 1250 [0  1000 1000] [0  2000 25]"},
		{"sum of lines", order("lines", `"lines":[{"price":1.005,"quantity":3},{"price":2}]`),
			"order.completed" + at + " order=o1 502 [0  3000 302] [0  1000 200]"},
		{"refund of an amount", order("refund", `"change":-4.5`), "order.refunded" + at + " order=o1 450"},
		{"refund of lines", order("refund", `"change":-4.5,"lines":[{"price":1}]`), "order.refunded" + at + " order=o1 [0  1000 100]"},
		{"refund of the whole order in no currency", order("whole", `"currency":"none"`), "order.refunded" + at + " order=o1"},
		{"number as id", strings.Replace(order("whole", `"x":1`), `"u1"`, `12345678901234567890`, 1),
			"order.refunded 2024-03-01T12:34:56.789Z 12345678901234567890 known=true order=o1"},
		{"heartbeat without customer", `{"kind":"beat","until":"2024-03-01"}`, "heartbeat 2024-03-01T00:00:00.000Z"},
		{"time as text of digits", `{"kind":"beat","until":"1709296496789"}`, "heartbeat 2024-03-01T12:34:56.789Z"},
		{"visitor", strings.Replace(order("whole", `"x":1`), `"user":{"id":"u1"}`, `"user":{"id":"Guest"},"visitor":"v1"`, 1),
			"order.refunded 2024-03-01T12:34:56.789Z v1 known=false order=o1"},
		{"ignored id", strings.Replace(order("whole", `"x":1`), `"u1"`, `"guest"`, 1), "the record is ignored by configuration"},
		{"ignored", `{"test":true,"kind":"sale"}`, "the record is ignored by configuration"},

		{"no rule", head + `"x"}`, `unknown_event: no rule of mapping "shop" matches: record.kind is "x"`},
		{"no kind", `{"at":"2024-03-01"}`, `unknown_event: no rule of mapping "shop" matches: record.kind is missing`},
		{"no time", `{"kind":"beat"}`, `no_time: rule "beat": time is missing`},
		{"no date", `{"kind":"beat","until":"soon"}`, `time_format: rule "beat": time "soon" is not a time of RFC 3339, a date or a number`},
		{"too old", `{"kind":"beat","until":1709296}`, `time_too_old: rule "beat": time "1709296" is before the earliest time accepted`},
		{"no customer", `{"kind":"sale","at":1709296496789}`, `no_customer: rule "sale": neither customer nor anonymous has a value`},
		{"id of the wrong type", `{"kind":"sale","at":1709296496789,"user":{"id":["u1"]}}`, `not_json: rule "sale": customer is an array`},
		{"long id", `{"kind":"sale","at":1709296496789,"user":{"id":"` + strings.Repeat("x", 257) + `"}}`,
			`id_too_long: rule "sale": customer has 257 bytes, at most 256 are kept`},
		{"no order id", head + `"sale"}`, `no_order_id: rule "sale": order_id is missing`},
		{"no amount", order("lines", `"lines":[{}]`), `no_amount: rule "by lines": neither amount nor lines with a price have a value`},
		{"calculation fails", order("refund", `"x":1`), `mapping: rule "refund": amount: - of missing, want a number: give missing ones with .orValue(0)`},
		{"below zero", order("refund", `"change":4.5`), `negative_amount: rule "refund": amount is "-4.50"`},
		{"no number", order("lines", `"lines":[{},{"price":"1,5"}]`), `amount_out_of_range: rule "by lines": line 1: price "1,5" is not a decimal number`},
		{"unknown currency", order("sale", `"total":1,"currency":"EURO"`), `unknown_currency: rule "sale": currency "EURO" is not a code of ISO 4217`},
		{"lines that are no list", order("lines", `"lines":{}`), `mapping: rule "by lines": lines.from: an object is not a list`},
		{"too many lines", order("lines", `"lines":[`+strings.Repeat("{},", 10_000)+`{}]`),
			`too_large: rule "by lines": lines.from has 10001 elements, at most 10000 are read`},
		{"no object", `[1]`, `not_json: byte 0: expected '{', found "["`},
		{"cut off", `{"kind":"sale"`, `truncated: ends after byte 14, before ',' or '}'`},
		{"nothing", ` null `, `null_value: the value is the JSON null`},
	} {
		var e pipeline.Event
		err := d.Decode(&pipeline.Record{Value: []byte(c.value)}, &e)
		if got := outcome(&e, err); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
	var e pipeline.Event
	r := pipeline.Record{Key: []byte("k1"), Value: []byte(`{"at":1709296496789000}`), Headers: []pipeline.Header{{Key: "kind", Value: []byte("keyed")}}}
	if got := outcome(&e, d.Decode(&r, &e)); got != "touch.page 2024-03-01T12:34:56.789Z k1 known=true" {
		t.Error(got)
	}
	r.Key = []byte("\xff")
	if got := outcome(&e, d.Decode(&r, &e)); got != `not_json: rule "keyed": customer is not UTF-8` {
		t.Error(got)
	}
	if e.At != march {
		t.Errorf("the refused event is at %d", e.At)
	}
}

// segmentMapping states by a mapping what Segment does, for orders that name revenue or value.
const segmentMapping = `
mapping: segment
let: {name: record.event, p: record.properties}
time: record.timestamp.orValue(record.originalTimestamp).orValue(record.receivedAt)
customer: record.userId
anonymous: record.anonymousId
id: record.messageId
currency: p.currency
events:
  - {when: record.type == "heartbeat", type: heartbeat}
  - {when: record.type == "identify", type: identity.identified}
  - {when: 'record.type in ["page", "screen"]', type: touch.page}
  - {when: record.type == "track" && name == "Product Viewed", type: product.viewed}
  - {when: record.type == "track" && name == "Order Cancelled", type: order.cancelled, order_id: p.order_id.orValue(p.orderId)}
  - when: record.type == "track" && name == "Order Refunded"
    type: order.refunded
    order_id: p.order_id.orValue(p.orderId)
    amount: p.total.orValue(p.value).orValue(p.revenue).orValue(p.amount)
    lines: {from: p.products, product: line.product_id.orValue(line.sku), category: line.category, quantity: line.quantity, price: line.price}
  - when: record.type == "track" && name in ["Order Completed", "order completed", "Order Updated"]
    type: order.completed
    order_id: p.order_id.orValue(p.orderId)
    amount: p.revenue.orValue(p.value)
    lines: {from: p.products, product: line.product_id.orValue(line.sku), category: line.category, quantity: line.quantity, price: line.price}
`

// TestMappingEqualsSegment decodes random records by Segment and by a mapping that says the same.
func TestMappingEqualsSegment(t *testing.T) {
	options := Options{Source: "random", Currency: "EUR", Convert: true}
	s := mustSegment(t, options)
	options.Mapping = mustMapping(t, []byte(segmentMapping))
	d, err := NewMapped(options)
	if err != nil {
		t.Fatal(err)
	}
	g := generator{rand.New(rand.NewPCG(11, 12))}
	orders := 0
	for range 20_000 {
		r := &pipeline.Record{Value: []byte(g.record())}
		var want, got pipeline.Event
		wantErr, err := s.Decode(r, &want), d.Decode(r, &got)
		if want.Kind == pipeline.KindOrderUpdated {
			want.Kind = pipeline.KindOrderCompleted
		}
		bySum := want.Kind == pipeline.KindOrderCompleted && (strings.Contains(string(r.Value), `total"`) || strings.Contains(string(r.Value), `discount"`))
		if wantErr != nil || bySum {
			continue
		}
		if err != nil {
			if kindOf(t, err) == pipeline.ErrNotJSON {
				continue // a label of the wrong type, which Segment forgives
			}
			t.Fatalf("%s gives %v", r.Value, err)
		}
		if !want.HasAmount && len(want.Lines) == 0 {
			want.Currency = [3]byte{} // of nothing
		}
		compareEvents(t, r.Value, &got, &want)
		if want.Kind.Order() {
			orders++
		}
	}
	if orders < 1000 {
		t.Errorf("only %d orders were compared", orders)
	}
}

func TestPresets(t *testing.T) {
	var names []string
	for _, p := range Presets() {
		names = append(names, p.Name)
		if p.Text != nil {
			if m := mustMapping(t, p.Text); m.Name() != p.Name {
				t.Errorf("preset %s calls itself %s", p.Name, m.Name())
			}
		}
		if found, err := FindPreset(p.Name); err != nil || found.Name != p.Name || p.About == "" || (p.Text != nil) != (p.Format == FormatMapping) {
			t.Errorf("preset %+v: %v", p, err)
		}
	}
	want := "ga4 jitsu jitsu-classic klaviyo rudderstack segment shopify snowplow"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("presets are %s", got)
	}
	if _, err := FindPreset("ga3"); err == nil || !strings.Contains(err.Error(), "choose one of ga4, jitsu,") {
		t.Error(err)
	}
}

func TestNew(t *testing.T) {
	m := mustMapping(t, []byte(shopMapping))
	for format, want := range map[string]string{
		"xml": `unknown format "xml": choose one of cloudevents, mapping, segment`, FormatMapping: "format mapping needs a mapping",
	} {
		if _, err := New(format, Options{Currency: "EUR"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("format %s: %v", format, err)
		}
	}
	if _, err := New(FormatSegment, Options{Currency: "EUR", Mapping: m}); err == nil || !strings.Contains(err.Error(), "takes no mapping") {
		t.Error(err)
	}
	for _, format := range Formats() {
		if _, err := New(format, Options{Currency: "XXX", Mapping: map[bool]*Mapping{true: m}[format == FormatMapping]}); err == nil {
			t.Errorf("format %s takes any currency", format)
		}
	}
}

// TestCSVRecord reads cells of a CSV file back by encoding/json, and by a mapping.
func TestCSVRecord(t *testing.T) {
	rows, err := csv.NewReader(strings.NewReader("id,when,\"total, net\",who\n1,2024-03-01,12.50,\"a \"\"b\"\" \\ \n\té\"\n")).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	value := CSVRecord(rows[0], rows[1], nil)
	var cells map[string]string
	if err := json.Unmarshal(value, &cells); err != nil || len(cells) != 4 || cells["who"] != "a \"b\" \\ \n\té" || cells["total, net"] != "12.50" {
		t.Errorf("%s is %v (%v)", value, cells, err)
	}
	if got := string(CSVRecord([]string{"a", "b"}, []string{"1"}, []byte("x"))); got != `x{"a":"1"}` {
		t.Error(got)
	}
	d, err := NewMapped(Options{Currency: "EUR", Mapping: mustMapping(t, []byte(
		"mapping: csv\ntime: record.when\ncustomer: record.who\nid: record.id\nevents:\n"+
			"  - {when: true, type: order.completed, order_id: record.id, amount: 'record[\"total, net\"]'}\n"))})
	if err != nil {
		t.Fatal(err)
	}
	var e pipeline.Event
	err = d.Decode(&pipeline.Record{Value: value}, &e)
	if got := outcome(&e, err); got != "order.completed 2024-03-01T00:00:00.000Z a \"b\" \\ \n\té known=true order=1 1250" {
		t.Error(got)
	}
}

// TestMappingIsShared decodes by one mapping in several goroutines; the race detector watches.
func TestMappingIsShared(t *testing.T) {
	p, err := FindPreset("klaviyo")
	if err != nil {
		t.Fatal(err)
	}
	m := mustMapping(t, p.Text)
	list := samples(t, "klaviyo")
	outcomes := make([]string, 4)
	var all sync.WaitGroup
	for i := range outcomes {
		all.Go(func() {
			d, err := NewMapped(Options{Currency: "EUR", Mapping: m})
			if err != nil {
				t.Error(err)
				return
			}
			for range 50 {
				outcomes[i] = ""
				for _, s := range list {
					var e pipeline.Event
					err := d.Decode(s.record(), &e)
					outcomes[i] += outcome(&e, err) + "\n"
				}
			}
		})
	}
	all.Wait()
	for _, o := range outcomes {
		if o != outcomes[0] || o == "" {
			t.Errorf("one says\n%s\nanother\n%s", outcomes[0], o)
		}
	}
}
