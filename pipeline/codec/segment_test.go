package codec

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"

	"zyklus/pipeline"
)

// march is 2024-03-01 12:34:56.789 UTC.
const march = 1709296496789

// record returns a track call of customer u1 at march with an event name and properties.
func record(event, properties string) string {
	return `{"type":"track","event":"` + event + `","userId":"u1","messageId":"m1",` +
		`"timestamp":"2024-03-01T12:34:56.789Z","properties":` + properties + `}`
}

// with returns a page view with more members, which follow and so replace those of the same name.
func with(members string) string {
	return `{"type":"page","userId":"u1","messageId":"m1","timestamp":"2024-03-01T12:34:56.789Z",` + members + `}`
}

type goodRecord struct {
	name, value string
	want        pipeline.Event // ID 0 means that of message m1; Raw is checked apart
}

func event(kind pipeline.Kind, customer string) pipeline.Event {
	return pipeline.Event{Kind: kind, At: march, Customer: []byte(customer), Known: true}
}

func orderEvent(kind pipeline.Kind, amount int64, lines ...pipeline.Line) pipeline.Event {
	e := event(kind, "u1")
	e.OrderID, e.Amount, e.HasAmount, e.Lines = []byte("o1"), amount, true, lines
	return e
}

func wholeOrder(kind pipeline.Kind, lines ...pipeline.Line) pipeline.Event {
	e := orderEvent(kind, 0, lines...)
	e.HasAmount = false
	return e
}

func line(product, category string, quantity, amount int64) pipeline.Line {
	l := pipeline.Line{Category: []byte(category), Quantity: quantity, Amount: amount, HasAmount: true}
	if product != "" {
		l.Product = xxhash.Sum64String(product)
	}
	return l
}

func unpriced(l pipeline.Line) pipeline.Line {
	l.Amount, l.HasAmount = 0, false
	return l
}

func anonymous(e pipeline.Event, id string) pipeline.Event {
	e.Customer, e.Known = []byte(id), false
	return e
}

func goodRecords() []goodRecord {
	return append(goodEnvelopes(), goodOrders()...)
}

func goodEnvelopes() []goodRecord {
	page := event(pipeline.KindPageViewed, "u1")
	named := func(id string) pipeline.Event { e := page; e.ID = EventID("web", []byte(id)); return e }
	content := func(value string) goodRecord {
		e := page
		e.ID = xxhash.Sum64String("web\x01" + value)
		return goodRecord{"content id", value, e}
	}
	heartbeat := pipeline.Event{Kind: pipeline.KindHeartbeat, At: march}
	return []goodRecord{
		{"page", with(`"properties":{"path":"/"}`), page},
		{"screen", with(`"type":"screen"`), page},
		{"identify", with(`"type":"identify","traits":{"email":"a@b"}`), event(pipeline.KindIdentified, "u1")},
		{"heartbeat", `{"type":"heartbeat","messageId":"m1","timestamp":"2024-03-01T12:34:56.789Z"}`, heartbeat},
		{"heartbeat with customer", with(`"type":"heartbeat","userId":true`), heartbeat},
		{"view", record("Product Viewed", `{}`), event(pipeline.KindProductViewed, "u1")},
		{"name in any case", record("pRODUCTS sEARCHED", `{}`),
			event(pipeline.KindProductViewed, "u1")},
		{"name with escapes", record(`Cart\u0020Viewed`, `null`), event(pipeline.KindCartChanged, "u1")},
		{"member name with escapes", with(`"user\u0049d":"u2"`), event(pipeline.KindPageViewed, "u2")},
		{"properties of other events are not read", record("Checkout Started", `{"order_id":[],"products":7}`),
			event(pipeline.KindCheckoutStarted, "u1")},
		{"no properties", with(`"type":"track","event":"Payment Info Entered"`), event(pipeline.KindCheckoutStarted, "u1")},

		{"white space", " \r\n\t{ \"type\" : \"page\" ,\n\"userId\":\"u1\",\"messageId\":\"m1\",\t" +
			"\"timestamp\":\"2024-03-01T12:34:56.789Z\" , \"a\" : [ 1 , { } , [ ] ] } \n", page},
		{"unknown members", with(`"context":{"a":[{"b":"}\"]"},-0.5e-7,true,false,null]},"":0`), page},
		{"skipped text may be no UTF-8", with("\"x\":\"\xff\",\"\xfe\":1"), page},
		{"deepest nesting", with(`"x":` + strings.Repeat("[", 63) + strings.Repeat("]", 63)), page},
		{"last member wins", with(`"userId":"u3","userId":"u1"`), page},

		{"user id with escapes", with(`"userId":"\"\\\/\b\f\n\r\t\u00e9\uD83D\ude00"`),
			event(pipeline.KindPageViewed, "\"\\/\b\f\n\r\té😀")},
		{"user id is not trimmed", with(`"userId":" u1 "`), event(pipeline.KindPageViewed, " u1 ")},
		{"user id is a number", with(`"userId":12345.60`), event(pipeline.KindPageViewed, "12345.60")},
		{"longest user id", with(`"userId":"` + strings.Repeat("é", 128) + `"`),
			event(pipeline.KindPageViewed, strings.Repeat("é", 128))},
		{"anonymous id", with(`"userId":null,"anonymousId":"a1"`), anonymous(page, "a1")},
		{"anonymous id for an empty user id", with(`"userId":"","anonymousId":7`), anonymous(page, "7")},
		{"anonymous id for an ignored user id", with(`"userId":"Guest","anonymousId":"a1"`), anonymous(page, "a1")},
		{"anonymous id is not read where there is a user id", with(`"anonymousId":{}`), page},

		{"message id is a number", with(`"messageId":42`), named("42")},
		{"message id with escapes", with(`"messageId":"\u006d2"`), named("m2")},
		content(`{"type":"page","userId":"u1","timestamp":"2024-03-01T12:34:56.789Z"}`),
		content(`{"type":"page","userId":"u1","timestamp":"2024-03-01T12:34:56.789Z","messageId":""}`),

		{"original time", with(`"timestamp":null,"originalTimestamp":"2024-03-01T12:34:56.789Z"`), page},
		{"time of receipt", with(`"timestamp":"","receivedAt":"2024-03-01T12:34:56.789Z"`), page},
		{"offset", with(`"timestamp":"2024-03-01T18:04:56.789+05:30"`), page},
		{"offset without colon", with(`"timestamp":"2024-03-01T04:34:56.789-0800"`), page},
		{"space", with(`"timestamp":"2024-03-01 12:34:56.7899999"`), page},
		{"milliseconds", with(`"timestamp":1709296496789`), page},
		{"milliseconds with fraction", with(`"timestamp":1709296496789.9`), page},
		{"seconds", with(`"timestamp":1709296496.7899`), page},
		{"seconds with exponent", with(`"timestamp":1.709296496789e9`), page},
	}
}

func goodOrders() []goodRecord {
	const (
		completed = pipeline.KindOrderCompleted
		updated   = pipeline.KindOrderUpdated
		refunded  = pipeline.KindOrderRefunded
	)
	sale := func(name, properties string, amount int64, lines ...pipeline.Line) goodRecord {
		return goodRecord{name, record("Order Completed", properties), orderEvent(completed, amount, lines...)}
	}
	refund := func(name, properties string, want pipeline.Event) goodRecord {
		return goodRecord{name, record("Order Refunded", properties), want}
	}
	return []goodRecord{
		sale("revenue comes first", `{"order_id":"o1","revenue":12.5,"total":99,"value":98,"tax":true}`, 1250),
		sale("total less shipping and tax", `{"order_id":"o1","total":30,"shipping":4.9,"tax":"5.01","value":1}`, 2009),
		sale("total alone", `{"order_id":"o1","total":"30.005"}`, 3001),
		sale("value", `{"order_id":"o1","revenue":null,"total":"","value":0}`, 0),
		sale("products less discount",
			`{"order_id":"o1","discount":1,"products":[{"product_id":"p1","category":"a/b","price":2.5,"quantity":3},`+
				`{"sku":"s1","price":"0.333333","quantity":1.5},{"price":10},{"product_id":"p2"}]}`,
			750+50+1000-100,
			line("p1", "a/b", 3000, 750), line("s1", "", 1500, 50), line("", "", 1000, 1000), unpriced(line("p2", "", 1000, 0))),
		sale("labels of the wrong type are unknown",
			`{"order_id":"o1","value":1,"products":[{"product_id":false,"sku":7,"category":[]},{"product_id":"","sku":"s"}]}`, 100,
			unpriced(line("7", "", 1000, 0)), unpriced(line("s", "", 1000, 0))),
		sale("other order id", `{"order_id":"","orderId":"o1","revenue":1e0}`, 100),
		sale("known currency in lower case", `{"order_id":"o1","revenue":1,"currency":"eur"}`, 100),
		sale("empty currency", `{"order_id":"o1","revenue":1,"currency":""}`, 100),
		sale("residue below zero", `{"order_id":"o1","revenue":-1.1368683772161603e-13}`, 0),
		sale("greatest amount", `{"order_id":"o1","revenue":100000000000.00}`, 1e13),
		sale("last products win", `{"products":[7],"order_id":"o1","revenue":1,"products":[{"price":1}]}`, 100,
			line("", "", 1000, 100)),
		sale("empty products", `{"order_id":"o1","revenue":1,"products":[]}`, 100),
		{"completed, v1 name", record("Completed Order", `{"order_id":"o1","revenue":1}`), orderEvent(completed, 100)},
		{"properties before type", `{"properties":{"order_id":"o1","revenue":1},"messageId":"m1","event":"ORDER COMPLETED",` +
			`"timestamp":"2024-03-01T12:34:56.789Z","userId":"u1","type":"track"}`, orderEvent(completed, 100)},
		{"last properties win", strings.TrimSuffix(record("Order Completed", `{"products":[{"price":1}]}`), "}") +
			`,"properties":{"order_id":"o1","revenue":1}}`, orderEvent(completed, 100)},
		{"updated", record("Order Updated", `{"order_id":"o1","total":5,"tax":5}`), orderEvent(updated, 0)},
		{"order id is a number", record("Order Cancelled", `{"order_id":17,"currency":"XXX","revenue":-1}`),
			func() pipeline.Event {
				e := wholeOrder(pipeline.KindOrderCancelled)
				e.OrderID = []byte("17")
				return e
			}()},
		{"canceled", record("Order Canceled", `{"order_id":"o1","products":3}`), wholeOrder(pipeline.KindOrderCancelled)},

		refund("whole order", `{"order_id":"o1","currency":"USD"}`, wholeOrder(refunded)),
		refund("total of a refund", `{"order_id":"o1","total":3,"value":2,"revenue":1,"tax":9}`, orderEvent(refunded, 300)),
		refund("value of a refund", `{"order_id":"o1","value":2,"revenue":1}`, orderEvent(refunded, 200)),
		refund("revenue of a refund", `{"order_id":"o1","revenue":1,"amount":4}`, orderEvent(refunded, 100)),
		refund("amount of a refund", `{"order_id":"o1","amount":"4","products":[]}`, orderEvent(refunded, 400)),
		refund("lines win over the amount", `{"order_id":"o1","total":9,"products":[{"product_id":"p","price":1,"quantity":2},{}]}`,
			wholeOrder(refunded, line("p", "", 2000, 200), unpriced(line("", "", 1000, 0)))),
	}
}

func TestGoodRecords(t *testing.T) {
	d := mustSegment(t, Options{Source: "web", Currency: "EUR"})
	for _, c := range goodRecords() {
		t.Run(c.name, func(t *testing.T) {
			e := pipeline.Event{Origin: pipeline.Origin{Topic: "t", Offset: 7}, Lines: make([]pipeline.Line, 3)}
			if err := d.Decode(&pipeline.Record{Value: []byte(c.value)}, &e); err != nil {
				t.Fatal(err)
			}
			want := c.want
			if want.ID == 0 {
				want.ID = EventID("web", []byte("m1"))
			}
			if want.Kind.Order() {
				want.Raw = []byte(c.value)
			}
			compareEvents(t, []byte(c.value), &e, &want)
			if e.Origin != (pipeline.Origin{Topic: "t", Offset: 7}) {
				t.Errorf("Decode changed Origin to %+v", e.Origin)
			}
		})
	}
}

type badRecord struct {
	value string
	kind  pipeline.ErrorKind
	cause string // a part of it
}

func badRecords() []badRecord {
	return append(append(badValues(), badEnvelopes()...), badOrders()...)
}

func badValues() []badRecord {
	return []badRecord{
		{"", pipeline.ErrNullValue, "empty"},
		{" \n", pipeline.ErrNullValue, "empty"},
		{" null\r\n", pipeline.ErrNullValue, "JSON null"},
		{with(`"x":"` + strings.Repeat("x", 1<<20) + `"`), pipeline.ErrTooLarge, "1048668 bytes, at most 1048576"},
		{`{`, pipeline.ErrTruncated, "ends after byte 1, before a member name"},
		{`{"type":"page"`, pipeline.ErrTruncated, "ends after byte 14, before ',' or '}'"},
		{`{"type":"pa`, pipeline.ErrTruncated, "before the end of a string"},
		{`nul`, pipeline.ErrNotJSON, `byte 0: expected '{', found "n"`},
		{`null null`, pipeline.ErrNotJSON, "byte 0"},
		{`[]`, pipeline.ErrNotJSON, `byte 0: expected '{', found "["`},
		{"\xef\xbb\xbf{}", pipeline.ErrNotJSON, `byte 0: expected '{', found "\xef"`},
		{`{} {}`, pipeline.ErrNotJSON, "byte 3: expected the end of the value"},
		{`{,}`, pipeline.ErrNotJSON, "byte 1: expected a member name"},
		{`{"a":1,}`, pipeline.ErrNotJSON, "byte 7: expected a member name"},
		{`{"a" 1}`, pipeline.ErrNotJSON, "byte 5: expected ':'"},
		{`{"a":}`, pipeline.ErrNotJSON, "byte 5: expected a value"},
		{`{"a":1 "b":2}`, pipeline.ErrNotJSON, "byte 7: expected ',' or '}'"},
		{`{"a":[1}`, pipeline.ErrNotJSON, "byte 7: expected ',' or ']'"},
		{`{"a":tRue}`, pipeline.ErrNotJSON, "byte 6: expected 'true'"},
		{`{"a":01}`, pipeline.ErrNotJSON, "byte 6"},
		{`{"a":-}`, pipeline.ErrNotJSON, "byte 6: expected a digit"},
		{`{"a":1.}`, pipeline.ErrNotJSON, "byte 7: expected a digit"},
		{`{"a":1e}`, pipeline.ErrNotJSON, "byte 7: expected a digit"},
		{"{\"a\":\"\n\"}", pipeline.ErrNotJSON, "byte 6: expected the end of a string"},
		{`{"a":"\x"}`, pipeline.ErrNotJSON, "byte 7: expected an escape sequence"},
		{`{"a":"\u12g4"}`, pipeline.ErrNotJSON, "byte 10: expected a hexadecimal digit"},
		{with(`"x":` + strings.Repeat("[", 64) + strings.Repeat("]", 64)), pipeline.ErrNotJSON, "at most 64 levels"},
	}
}

func badEnvelopes() []badRecord {
	return []badRecord{
		{`{}`, pipeline.ErrUnknownEvent, "no member type"},
		{with(`"type":"group"`), pipeline.ErrUnknownEvent, `type "group" is none of track,`},
		{with(`"type":"alias"`), pipeline.ErrUnknownEvent, `type "alias"`},
		{with(`"type":"Page"`), pipeline.ErrUnknownEvent, `type "Page"`},
		{with(`"type":"track"`), pipeline.ErrUnknownEvent, "without member event"},
		{record("Song Played", `{}`), pipeline.ErrUnknownEvent, `event name "Song Played"`},
		{record(strings.Repeat("long ", 20), `{}`), pipeline.ErrUnknownEvent, `long lon"...`},
		{with(`"type":true`), pipeline.ErrNotJSON, "type is a boolean"},
		{with(`"type":"track","event":{}`), pipeline.ErrNotJSON, "event is an object"},

		{with(`"userId":""`), pipeline.ErrNoCustomer, "neither userId nor anonymousId"},
		{with(`"userId":false`), pipeline.ErrNotJSON, "byte 94: userId is a boolean"},
		{with(`"userId":null,"anonymousId":[]`), pipeline.ErrNotJSON, "anonymousId is an array"},
		{with("\"userId\":\"\xff\""), pipeline.ErrNotJSON, "userId is not UTF-8"},
		{with(`"userId":"\ud83dx"`), pipeline.ErrNotJSON, "userId holds half of a surrogate pair"},
		{with(`"userId":"\udc00\ud800"`), pipeline.ErrNotJSON, "half of a surrogate pair"},
		{with(`"userId":"` + strings.Repeat("x", 257) + `"`), pipeline.ErrIDTooLong, "userId has 257 bytes, at most 256"},
		{with(`"messageId":true`), pipeline.ErrNotJSON, "messageId is a boolean"},

		{with(`"timestamp":null`), pipeline.ErrNoTime, "none of timestamp, originalTimestamp and receivedAt"},
		{with(`"timestamp":{}`), pipeline.ErrNotJSON, "timestamp is an object"},
		{with(`"timestamp":"yesterday"`), pipeline.ErrTimeFormat, `timestamp "yesterday"`},
		{with(`"timestamp":"2024-02-30"`), pipeline.ErrTimeFormat, "2024-02-30"},
		{with(`"timestamp":"","receivedAt":"2023-02-29T00:00:00Z"`), pipeline.ErrTimeFormat, "receivedAt"},
		{with(`"timestamp":"1709296496"`), pipeline.ErrTimeFormat, "1709296496"},
		{with(`"timestamp":"1989-12-31T23:59:59.999Z"`), pipeline.ErrTimeTooOld, "before the earliest time"},
		{with(`"timestamp":0`), pipeline.ErrTimeTooOld, `timestamp "0"`},
		{with(`"timestamp":-1e400`), pipeline.ErrTimeTooOld, "before"},
		{with(`"timestamp":"2200-01-01T00:00:00.001Z"`), pipeline.ErrTimeInFuture, "after 2200-01-01"},
		{with(`"timestamp":1709296496789000`), pipeline.ErrTimeInFuture, "1709296496789000"},
		{with(`"timestamp":1e400`), pipeline.ErrTimeInFuture, "after"},
	}
}

func badOrders() []badRecord {
	sale := func(properties string) string { return record("Order Completed", properties) }
	refund := func(properties string) string { return record("Order Refunded", properties) }
	update := func(properties string) string { return record("Order Updated", properties) }
	return []badRecord{
		{sale(`{"revenue":1}`), pipeline.ErrNoOrderID, "neither properties.order_id nor"},
		{sale(`null`), pipeline.ErrNoOrderID, "order_id"},
		{with(`"type":"track","event":"Order Refunded"`), pipeline.ErrNoOrderID, "order_id"},
		{sale(`"x"`), pipeline.ErrNotJSON, "properties is a string"},
		{sale(`{"order_id":[1]}`), pipeline.ErrNotJSON, "order_id is an array"},
		{sale(`{"order_id":"` + strings.Repeat("x", 257) + `"}`), pipeline.ErrIDTooLong, "order_id has 257 bytes"},

		{sale(`{"order_id":"o"}`), pipeline.ErrNoAmount, "none of revenue, total, value and products"},
		{sale(`{"order_id":"o","products":[{"product_id":"p"}],"discount":5}`), pipeline.ErrNoAmount, "none"},
		{update(`{"order_id":"o","products":[]}`), pipeline.ErrNoAmount, "none"},
		{sale(`{"order_id":"o","revenue":-0.01}`), pipeline.ErrNegativeAmount, `revenue is "-0.01"`},
		{sale(`{"order_id":"o","revenue":-1e30}`), pipeline.ErrNegativeAmount, "revenue"},
		{sale(`{"order_id":"o","total":1,"tax":"-1"}`), pipeline.ErrNegativeAmount, "tax"},
		{sale(`{"order_id":"o","total":1,"tax":1.01}`), pipeline.ErrNegativeAmount, "the net value is -1 minor units"},
		{sale(`{"order_id":"o","products":[{"price":1},{"price":1,"quantity":-1}]}`), pipeline.ErrNegativeAmount,
			`product 1: quantity is "-1"`},
		{sale(`{"order_id":"o","products":[{"price":-1}]}`), pipeline.ErrNegativeAmount, "product 0: price"},
		{refund(`{"order_id":"o","total":-5}`), pipeline.ErrNegativeAmount, "total"},

		{sale(`{"order_id":"o","revenue":100000000000.01}`), pipeline.ErrAmountOutOfRange, "too large"},
		{sale(`{"order_id":"o","revenue":1e1000000000000000000000}`), pipeline.ErrAmountOutOfRange, "too large"},
		{sale(`{"order_id":"o","revenue":"12,50"}`), pipeline.ErrAmountOutOfRange, `revenue "12,50" is not a decimal number`},
		{sale(`{"order_id":"o","revenue":" 1"}`), pipeline.ErrAmountOutOfRange, "not a decimal number"},
		{sale(`{"order_id":"o","products":[{"price":1e11},{"price":1}]}`), pipeline.ErrAmountOutOfRange, "net value"},
		{sale(`{"order_id":"o","products":[{"price":1e10,"quantity":11}]}`), pipeline.ErrAmountOutOfRange, "price times quantity"},
		{sale(`{"order_id":"o","products":[{"quantity":1e11}]}`), pipeline.ErrAmountOutOfRange, "quantity"},
		{sale(`{"order_id":"o","products":[{"price":1e14}]}`), pipeline.ErrAmountOutOfRange, "price"},

		{sale(`{"order_id":"o","revenue":1,"currency":"EURO"}`), pipeline.ErrUnknownCurrency, `currency "EURO"`},
		{sale(`{"order_id":"o","revenue":1,"currency":978}`), pipeline.ErrUnknownCurrency, "978"},
		{sale(`{"order_id":"o","revenue":1,"currency":"usd"}`), pipeline.ErrCurrencyWithoutRate, "from USD to EUR"},
		{refund(`{"order_id":"o","amount":1,"currency":"USD"}`), pipeline.ErrCurrencyWithoutRate, "from USD to EUR"},

		{sale(`{"order_id":"o","revenue":true}`), pipeline.ErrNotJSON, "revenue is a boolean"},
		{sale(`{"order_id":"o","revenue":1,"currency":{}}`), pipeline.ErrNotJSON, "currency is an object"},
		{sale(`{"order_id":"o","revenue":1,"products":{}}`), pipeline.ErrNotJSON, "products is an object"},
		{sale(`{"order_id":"o","revenue":1,"products":[{},null]}`), pipeline.ErrNotJSON, "an element of products is null"},
		{sale(`{"order_id":"o","revenue":1,"products":[{"price":[]}]}`), pipeline.ErrNotJSON, "product 0: byte"},
		{sale("{\"order_id\":\"o\",\"revenue\":1,\"products\":[{\"category\":\"\xff\"}]}"), pipeline.ErrNotJSON, "category is not UTF-8"},
		{sale(`{"order_id":"o","revenue":1,"products":[{}` + strings.Repeat(",{}", 10_000) + `]}`), pipeline.ErrTooLarge,
			"more than 10000 products"},
	}
}

func TestBadRecords(t *testing.T) {
	d := mustSegment(t, Options{Source: "web", Currency: "EUR"})
	met := make(map[pipeline.ErrorKind]bool)
	for _, c := range badRecords() {
		var e pipeline.Event
		err := d.Decode(&pipeline.Record{Value: []byte(c.value)}, &e)
		value := c.value[:min(len(c.value), 300)]
		var refused *pipeline.RecordError
		switch {
		case !errors.As(err, &refused):
			t.Errorf("%s gives error %v, event %+v", value, err, e)
		case refused.Kind != c.kind || !strings.Contains(refused.Cause, c.cause):
			t.Errorf("%s gives %v, want %v with %q", value, err, c.kind, c.cause)
		case strings.Contains(refused.Cause, "u1"):
			t.Errorf("%s gives a cause with the customer: %v", value, err)
		}
		met[c.kind] = true
	}
	for k := pipeline.ErrNullValue; k <= pipeline.ErrIDTooLong; k++ {
		if !met[k] {
			t.Errorf("no record of kind %v", k)
		}
	}
}

func TestTablesAgreeWithOracle(t *testing.T) {
	options := Options{Source: "web", Currency: "EUR"}
	d, o := mustSegment(t, options), newOracle(options)
	check := func(value string) {
		if len(value) > 1<<20 {
			return
		}
		var e pipeline.Event
		err := d.Decode(&pipeline.Record{Value: []byte(value)}, &e)
		checkAgainstOracle(t, o, []byte(value), &e, err)
	}
	for _, c := range goodRecords() {
		check(c.value)
	}
	for _, c := range badRecords() {
		check(c.value)
	}
}

// TestDeadLetterHasTime holds that an event refused for its content says when it was.
func TestDeadLetterHasTime(t *testing.T) {
	d := mustSegment(t, Options{Currency: "EUR"})
	for _, value := range []string{record("Song Played", `{}`), record("Order Completed", `{}`), with(`"userId":null`)} {
		var e pipeline.Event
		if err := d.Decode(&pipeline.Record{Value: []byte(value)}, &e); err == nil || e.At != march {
			t.Errorf("%s gives %v at %d", value, err, e.At)
		}
	}
}

// TestTruncation holds that a record cut anywhere is reported as cut, never as something else and never as whole.
func TestTruncation(t *testing.T) {
	d := mustSegment(t, Options{Currency: "EUR"})
	for _, c := range goodRecords() {
		value := strings.TrimSpace(c.value)
		for n := 1; n < len(value); n++ {
			var e pipeline.Event
			if err := d.Decode(&pipeline.Record{Value: []byte(value[:n])}, &e); kindOf(t, err) != pipeline.ErrTruncated {
				t.Fatalf("%s gives %v", value[:n], err)
			}
		}
	}
}

func TestIgnoredIDs(t *testing.T) {
	decode := func(ids []string, members string) (pipeline.Event, error) {
		var e pipeline.Event
		err := mustSegment(t, Options{Currency: "EUR", IgnoredIDs: ids}).Decode(&pipeline.Record{Value: []byte(with(members))}, &e)
		return e, err
	}
	for _, id := range DefaultIgnoredIDs() {
		for _, members := range []string{
			fmt.Sprintf(`"userId":%q`, strings.ToUpper(id)),
			fmt.Sprintf(`"userId":null,"anonymousId":%q`, id),
			fmt.Sprintf(`"userId":%q,"anonymousId":"guest"`, id),
		} {
			if _, err := decode(nil, members); !errors.Is(err, pipeline.ErrIgnored) {
				t.Errorf("%s gives %v", members, err)
			}
		}
	}
	if _, err := decode(nil, `"userId":0`); !errors.Is(err, pipeline.ErrIgnored) {
		t.Errorf("the number 0 gives %v", err)
	}
	for _, ids := range [][]string{{}, {"Test"}, {""}} {
		if e, err := decode(ids, `"userId":"guest"`); err != nil || string(e.Customer) != "guest" {
			t.Errorf("guest with %q ignored gives %v", ids, err)
		}
	}
	if _, err := decode([]string{"Test"}, `"userId":"tEST"`); !errors.Is(err, pipeline.ErrIgnored) {
		t.Errorf("a configured id gives %v", err)
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{
		{}, {Currency: "eur"}, {Currency: "XXX"}, {Currency: "EUR", MaxBytes: -1}, {Currency: "EUR", MaxBytes: 1<<30 + 1},
		{Currency: "EUR", MinTime: latest + 1},
	} {
		if _, err := NewSegment(o); err == nil {
			t.Errorf("%+v gives no error", o)
		}
	}
	var e pipeline.Event
	value := []byte(with(`"timestamp":-86400`))
	if err := mustSegment(t, Options{Currency: "EUR", MinTime: -1e12}).Decode(&pipeline.Record{Value: value}, &e); err != nil || e.At != -86_400_000 {
		t.Errorf("a time before 1970 gives %v, %d", err, e.At)
	}
	if err := mustSegment(t, Options{Currency: "EUR", MaxBytes: len(value)}).Decode(&pipeline.Record{Value: value[:len(value)-1]}, &e); kindOf(t, err) != pipeline.ErrTruncated {
		t.Errorf("a value below the limit gives %v", err)
	}
	if err := mustSegment(t, Options{Currency: "EUR", MaxBytes: len(value) - 1}).Decode(&pipeline.Record{Value: value}, &e); kindOf(t, err) != pipeline.ErrTooLarge {
		t.Errorf("a value above the limit gives %v", err)
	}
}

func TestEventID(t *testing.T) {
	if got, want := EventID("web", []byte("m1")), xxhash.Sum64String("web\x00m1"); got != want {
		t.Errorf("EventID is %x, want %x", got, want)
	}
}

func TestAliases(t *testing.T) {
	lines := Aliases()
	if len(lines) != len(aliasIndex()) || len(lines) != len(aliasTable()) {
		t.Errorf("%d lines, %d names, %d lower-case names", len(lines), len(aliasTable()), len(aliasIndex()))
	}
	if lines[0] != "Added Product -> cart.changed" {
		t.Errorf("the first alias is %q", lines[0])
	}
	for _, a := range aliasTable() {
		if !a.kind.Valid() || a.kind == pipeline.KindHeartbeat {
			t.Errorf("%q maps to %v", a.name, a.kind)
		}
	}
}
