package codec

import (
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"

	"zyklus/pipeline"
)

// binaryEvent is a record in binary mode with the attributes that every event of ours has, and more headers.
func binaryEvent(kind, data string, more ...string) *pipeline.Record {
	r := &pipeline.Record{Value: []byte(data)}
	list := append([]string{"ce_specversion", "1.0", "ce_id", "i1", "ce_source", "/s", "ce_type", kind, "ce_subject", "u1",
		"ce_time", "2024-03-01T12:34:56.789Z"}, more...)
	for i := 0; i < len(list); i += 2 {
		r.Headers = append(r.Headers, pipeline.Header{Key: list[i], Value: []byte(list[i+1])})
	}
	return r
}

func structuredEvent(members string) *pipeline.Record {
	return &pipeline.Record{Value: []byte(`{"specversion":"1.0","id":"i1","source":"/s","type":"touch.page","subject":"u1",` +
		`"time":"2024-03-01T12:34:56.789Z",` + members + `}`)}
}

func TestCloudEvents(t *testing.T) {
	d := decoderOf(t, FormatCloudEvents)
	const at = " 2024-03-01T12:34:56.789Z u1 known=true"
	for _, c := range []struct {
		name   string
		record *pipeline.Record
		want   string
	}{
		{"canonical name", binaryEvent("cart.changed", ""), "cart.changed" + at},
		{"any case", binaryEvent("com.Example.Cart.Changed", ""), "cart.changed" + at},
		{"version", binaryEvent("com.example.cart.changed.v12", ""), "cart.changed" + at},
		{"alias behind a prefix", binaryEvent("com.example.Product Viewed", ""), "product.viewed" + at},
		{"part of a word", binaryEvent("com.example.preorder.completed", ""),
			`unknown_event: type "com.example.preorder.completed" ends in no name of an event type`},
		{"data of another version", binaryEvent("touch.page.v1x", ""), `unknown_event: type "touch.page.v1x" ends in no name of an event type`},
		{"structured by header though there are others", &pipeline.Record{Value: structuredEvent(`"x":1`).Value, Headers: []pipeline.Header{
			{Key: "ce_specversion", Value: []byte("1.0")}, {Key: "content-type", Value: []byte("application/cloudevents+json")}}}, "touch.page" + at},
		{"user in data wins over the subject", structuredEvent(`"data":{"userId":"u2","customer_id":""}`),
			"touch.page 2024-03-01T12:34:56.789Z u2 known=true"},
		{"customer in data wins over the user", structuredEvent(`"data":{"user_id":"u2","customerId":"u3"}`),
			"touch.page 2024-03-01T12:34:56.789Z u3 known=true"},
		{"ignored subject, visitor in data", structuredEvent(`"subject":"guest","data":{"anonymous_id":"a1"}`),
			"touch.page 2024-03-01T12:34:56.789Z a1 known=false"},
		{"ignored subject", structuredEvent(`"subject":"guest"`), "the record is ignored by configuration"},
		{"last data wins", structuredEvent(`"data":{"user_id":"u2"},"data":null`), "touch.page" + at},
		{"data of another type is nothing to a page", structuredEvent(`"data":"text"`), "touch.page" + at},
		{"data of another type", binaryEvent("order.completed", `[1]`), `not_json: byte 0: expected '{', found "["`},
		{"text as data of an order", structuredEvent(`"type":"order.completed","data":"text"`), "not_json: byte 147: data is a string"},
		{"order without data", binaryEvent("order.completed", ""), "no_order_id: neither data.order_id nor data.orderId"},
		{"data twice", structuredEvent(`"data":{},"data_base64":"e30="`), "not_json: both data and data_base64 are given"},
		{"no base64", structuredEvent(`"data_base64":"*"`), "not_json: data_base64 is not base64"},
		{"escaped attributes and base64", structuredEvent(`"subject":"\u0075\u0031","data_base64":"eyJhIjoiXHUwMDYxIn0="`), "touch.page" + at},
		{"no id", structuredEvent(`"id":""`), "unknown_event: no attribute id, which every CloudEvent has"},
		{"no source", structuredEvent(`"source":null`), "unknown_event: no attribute source, which every CloudEvent has"},
		{"no type", structuredEvent(`"type":null`), "unknown_event: no attribute type"},
		{"no such time", structuredEvent(`"time":"soon"`), `time_format: time "soon" is not a time of RFC 3339, a date or a number`},
		{"attribute of another type", structuredEvent(`"subject":[]`), "not_json: byte 124: subject is an array"},
		{"header that is no text", binaryEvent("touch.page", "", "ce_subject", "\xff"), `not_json: header "ce_subject" is not UTF-8`},
		{"long subject", binaryEvent("touch.page", "", "ce_subject", strings.Repeat("x", 257)), "id_too_long: subject has 257 bytes, at most 256 are kept"},
		{"cut off", binaryEvent("touch.page", `{"a":`), "truncated: ends after byte 5, before a value"},
		{"nothing", &pipeline.Record{}, "null_value: the value is empty"},
		{"too large", &pipeline.Record{Value: make([]byte, 1<<20+1)}, "too_large: 1048577 bytes, at most 1048576 are read"},
	} {
		var e pipeline.Event
		err := d.Decode(c.record, &e)
		if got := outcome(&e, err); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
		if err == nil && e.ID != xxhash.Sum64String("shop\x00/s\x00i1") {
			t.Errorf("%s: the event id is %x", c.name, e.ID)
		}
	}
}

// TestCloudEventsAreSegmentInside decodes the properties of good orders as data.
func TestCloudEventsAreSegmentInside(t *testing.T) {
	ce, err := NewCloudEvents(Options{Source: "web", Currency: "EUR"})
	if err != nil {
		t.Fatal(err)
	}
	s := mustSegment(t, Options{Source: "web", Currency: "EUR"})
	for _, properties := range []string{
		`{"order_id":"o1","total":30,"shipping":4.9,"tax":"5.01","value":1,"currency":"eur"}`,
		`{"order_id":"o1","discount":1,"products":[{"product_id":"p1","category":"a/b","price":2.5,"quantity":3},{"sku":"s1","price":"0.333333"}]}`,
	} {
		var got, want pipeline.Event
		if err := ce.Decode(binaryEvent("order.completed", properties), &got); err != nil {
			t.Fatal(err)
		}
		value := []byte(record("Order Completed", properties))
		if err := s.Decode(&pipeline.Record{Value: value}, &want); err != nil {
			t.Fatal(err)
		}
		want.ID, want.Raw = got.ID, []byte(properties)
		compareEvents(t, value, &got, &want)
	}
}

func TestCloudEventsAllocateNothing(t *testing.T) {
	d := decoderOf(t, FormatCloudEvents)
	data := `{"order_id":"o1","total":30,"currency":"USD","products":[{"sku":"s","price":1}]}`
	for _, r := range []*pipeline.Record{
		binaryEvent("com.example.order.completed.v1", data), structuredEvent(`"type":"order.completed","data":` + data),
		structuredEvent(`"type":"order.completed","data_base64":"eyJvcmRlcl9pZCI6Im8xIiwicmV2ZW51ZSI6NX0="`),
	} {
		var e pipeline.Event
		if n := testing.AllocsPerRun(100, func() { _ = d.Decode(r, &e) }); n != 0 || e.Kind != pipeline.KindOrderCompleted {
			t.Errorf("%v allocations for %s", n, r.Value)
		}
	}
}
