package codec

import (
	"strings"
	"testing"

	"zyklus/pipeline"
)

const (
	benchView = `{"type":"track","event":"Product Viewed","messageId":"ajs-next-1709296496789-3f2a9c51","userId":"u-00482913",` +
		`"timestamp":"2024-03-01T12:34:56.789Z","properties":{"product_id":"sku-10482","category":"shoes/running","price":89.9,` +
		`"currency":"EUR"}}`
	benchOrder = `{"type":"track","event":"Order Completed","messageId":"ajs-next-1709296496789-3f2a9c52","userId":"u-00482913",` +
		`"anonymousId":"5a1b6f62-7e3c-4f1e-9a77-0c2b8f1d9e44","timestamp":"2024-03-01T12:34:56.789Z","properties":{` +
		`"order_id":"50314b8e9bcf","total":127.5,"shipping":4.95,"tax":20.36,"currency":"EUR","products":[` +
		`{"product_id":"sku-10482","category":"shoes/running","name":"Runner 3","price":89.9,"quantity":1},` +
		`{"product_id":"sku-20011","category":"shoes/care","name":"Laces","price":6.145,"quantity":2}]}}`
	benchRefund = `{"type":"track","event":"Order Refunded","messageId":"ajs-next-1709296496789-3f2a9c53","userId":"u-00482913",` +
		`"timestamp":"2024-03-01T12:34:56.789Z","properties":{"order_id":"50314b8e9bcf","total":89.9,"currency":"EUR"}}`
	// benchContext is a view as a browser library sends it, with context and library version around it.
	benchContext = `{"anonymousId":"5a1b6f62-7e3c-4f1e-9a77-0c2b8f1d9e44","context":{"campaign":{"name":"spring","source":"news"},` +
		`"ip":"192.0.2.7","library":{"name":"analytics.js","version":"next-1.62.0"},"locale":"de-DE","page":{"path":"/shoes/runner-3",` +
		`"referrer":"https://www.example.org/search?q=runner","search":"","title":"Runner 3","url":"https://www.example.org/shoes/runner-3"},` +
		`"timezone":"Europe/Berlin","userAgent":"Mozilla/5.0 (X11; Linux x86_64; rv:123.0) Gecko/20100101 Firefox/123.0"},` +
		`"event":"Product Viewed","integrations":{},"messageId":"ajs-next-1709296496789-3f2a9c51","originalTimestamp":` +
		`"2024-03-01T12:34:56.701Z","properties":{"category":"shoes/running","price":89.9,"product_id":"sku-10482"},"receivedAt":` +
		`"2024-03-01T12:34:57.012Z","sentAt":"2024-03-01T12:34:56.710Z","timestamp":"2024-03-01T12:34:56.789Z","type":"track",` +
		`"userId":null,"writeKey":"k"}`
)

func BenchmarkDecode(b *testing.B) {
	for _, c := range []struct{ name, value string }{
		{"view", benchView}, {"order", benchOrder}, {"refund", benchRefund}, {"context", benchContext},
	} {
		b.Run(c.name, func(b *testing.B) {
			d := mustSegment(b, Options{Source: "web", Currency: "EUR"})
			value := []byte(c.value)
			var e pipeline.Event
			b.SetBytes(int64(len(value)))
			b.ReportAllocs()
			for b.Loop() {
				if err := d.Decode(&pipeline.Record{Value: value}, &e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestDecodeAllocatesNothing(t *testing.T) {
	d := mustSegment(t, Options{Source: "web", Currency: "EUR"})
	escaped := with(`"userId":"\u00fc\"","type":"track","event":"Order\u0020Completed","properties":{"order\u005fid":"o\n",` +
		`"currency":"EUR","products":[{"category":"\u00fc","price":"1.5"}]}`)
	for _, value := range []string{benchView, benchOrder, benchRefund, benchContext, escaped,
		with(`"userId":"guest"`), with(`"messageId":null`)} {
		value := []byte(value)
		var e pipeline.Event
		if n := testing.AllocsPerRun(100, func() { _ = d.Decode(&pipeline.Record{Value: value}, &e) }); n != 0 {
			t.Errorf("%v allocations for %s", n, value)
		}
	}
}

// BenchmarkFormats compares the formats on one order, in one run.
func BenchmarkFormats(b *testing.B) {
	data := `{"order_id":"50314b8e9bcf","total":127.5,"shipping":4.95,"tax":20.36,"currency":"EUR","products":[` +
		`{"product_id":"sku-10482","category":"shoes/running","price":89.9,"quantity":1},{"product_id":"sku-20011","price":6.145,"quantity":2}]}`
	plain, err := New(FormatMapping, Options{Currency: "EUR", Mapping: mustMapping(b, []byte(segmentMapping))})
	if err != nil {
		b.Fatal(err)
	}
	segment := &pipeline.Record{Value: []byte(strings.Replace(record("Order Completed", data), `"total"`, `"revenue"`, 1))}
	for _, c := range []struct {
		name string
		d    Decoder
		r    *pipeline.Record
	}{
		{"segment", decoderOf(b, FormatSegment), segment},
		{"cloudevents binary", decoderOf(b, FormatCloudEvents), binaryEvent("order.completed", data)},
		{"cloudevents structured", decoderOf(b, FormatCloudEvents), structuredEvent(`"type":"order.completed","data":` + data)},
		{"mapping of segment", plain, segment},
		{"mapping ga4", decoderOf(b, "ga4"), samples(b, "ga4")[0].record()},
		{"mapping snowplow", decoderOf(b, "snowplow"), samples(b, "snowplow")[0].record()},
	} {
		b.Run(c.name, func(b *testing.B) {
			var e pipeline.Event
			b.SetBytes(int64(len(c.r.Value)))
			b.ReportAllocs()
			for b.Loop() {
				if err := c.d.Decode(c.r, &e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
