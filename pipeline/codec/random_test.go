package codec

import (
	"math/rand/v2"
	"strings"
	"testing"

	"zyklus/pipeline"
)

// generator writes random records: mostly right, in any order of members, with members twice, missing, null or of the
// wrong type now and then. A fuzzer that flips bytes seldom gets past the grammar; this one always does.
type generator struct{ *rand.Rand }

func (g generator) oneOf(values ...string) string { return values[g.IntN(len(values))] }

// member writes a member whose value comes from values, or rarely is any JSON value.
func (g generator) member(name string, values ...string) string {
	value := g.oneOf(values...)
	if g.IntN(100) == 0 {
		value = g.oneOf(`null`, `""`, `true`, `false`, `[]`, `{}`, `7`, `"x"`, `-1e-3`, `"\ud800"`, `"\ufffd"`, `[{"a":[]}]`)
	}
	space := g.oneOf("", "", "", " ", "\n\t")
	return space + `"` + name + `"` + space + ":" + space + value + space
}

// object joins some of the members in random order; each has a chance of one in rarity to be left out or doubled.
func (g generator) object(rarity int, members ...func() string) string {
	var kept []string
	for _, m := range members {
		switch g.IntN(rarity) {
		case 0:
		case 1:
			kept = append(kept, m(), m())
		default:
			kept = append(kept, m())
		}
	}
	g.Shuffle(len(kept), func(i, j int) { kept[i], kept[j] = kept[j], kept[i] })
	return "{" + strings.Join(kept, ",") + "}"
}

// field makes a member for object.
func (g generator) field(name string, values ...string) func() string {
	return func() string { return g.member(name, values...) }
}

func (g generator) amount() string {
	s := randomDecimal(g.Rand)
	if g.IntN(20) > 0 {
		s = g.oneOf("0", "1", "12.5", "99.995", "1e3", "0.004", "123456789.01", "1e10")
	}
	if s[0] == '+' || len(s) > 1 && strings.Trim(s[:2], "-0123456789") == "" || strings.HasSuffix(s, ".") || strings.Contains(s, ".e") ||
		strings.Contains(s, ".E") || g.IntN(4) == 0 {
		return `"` + s + `"`
	}
	return s
}

func (g generator) money(name string) func() string {
	return func() string { return g.member(name, g.amount()) }
}

func (g generator) products() string {
	var elements []string
	for range g.IntN(4) {
		elements = append(elements, g.object(5,
			g.field("product_id", `"p1"`, `"p\u0032"`, `3`), g.field("sku", `"s1"`), g.field("category", `"a/b"`, `"\u00fc"`, `1`),
			g.money("price"), g.field("quantity", "1", "2", `"0.5"`, "1e-1", "3.0005", "0", "1e12"), g.field("name", `"n"`)))
	}
	return "[" + strings.Join(elements, ", ") + "]"
}

func (g generator) properties() string {
	members := []func() string{
		g.field("order_id", `"o1"`, `17`, `"\u006f"`), g.field("currency", `"EUR"`, `"eur"`, `""`, `"EUR"`, `"EUR"`, `"USD"`, `"jpy"`, `"KWD"`, `"ZZZ"`),
	}
	optional := []func() string{
		g.field("orderId", `"o2"`), g.money("revenue"), g.money("total"), g.money("value"), g.money("amount"),
		g.money("shipping"), g.money("tax"), g.money("discount"), func() string { return g.member("products", g.products()) },
		g.field("unknown", `{"order_id":[1,{"price":2}]}`),
	}
	for _, m := range optional {
		if g.IntN(3) == 0 {
			members = append(members, m)
		}
	}
	return g.object(20, members...)
}

func (g generator) record() string {
	times := []string{`"2024-03-01T12:34:56.789Z"`, `"2024-03-01 12:34:56"`, `"2024-03-01"`, `1709296496.5`, `1709296496789`,
		`"2024-03-01T12:34:56+0130"`, `"\u0032024-03-01T12:34:56-01:30"`}
	if g.IntN(20) == 0 {
		times = []string{`"2024-02-30"`, `0`, `"1970-01-01T00:00:00Z"`, `1e30`, `"9999-12-31"`, `"soon"`, `100000000000`, `1e11`}
	}
	members := []func() string{
		g.field("type", `"track"`, `"track"`, `"track"`, `"track"`, `"page"`, `"identify"`, `"heartbeat"`, `"group"`),
		g.field("event", `"Order Completed"`, `"order completed"`, `"Order Updated"`, `"Order Refunded"`, `"Order Refunded"`,
			`"Order Cancelled"`, `"Product Viewed"`, `"Song Played"`),
		g.field("userId", `"u1"`, `42`, `"\ud83d\ude00"`, `"guest"`, `null`),
		g.field("anonymousId", `"a1"`, `"NULL"`, `0`),
		g.field("messageId", `"m1"`, `1`, `null`),
		g.field("timestamp", times...),
		func() string { return g.member("properties", g.properties()) },
	}
	if g.IntN(2) == 0 {
		members = append(members, g.field("receivedAt", times...), g.field("originalTimestamp", times...), g.field("context", `{"a":[1]}`))
	}
	return g.object(30, members...)
}

func TestRandomRecords(t *testing.T) {
	const seed1, seed2 = 9, 10
	g := generator{rand.New(rand.NewPCG(seed1, seed2))}
	for _, convert := range []bool{false, true} {
		options := Options{Source: "random", Currency: "EUR", Convert: convert}
		testRandomRecords(t, g, mustSegment(t, options), newOracle(options))
	}
}

func testRandomRecords(t *testing.T, g generator, d *Segment, o *oracle) {
	outcomes := make(map[string]int)
	for range 15_000 {
		value := []byte(g.record())
		var e pipeline.Event
		err := d.Decode(&pipeline.Record{Value: value}, &e)
		checkAgainstOracle(t, o, value, &e, err)
		if err == nil {
			outcomes[e.Kind.String()]++
			continue
		}
		outcomes[kindOf(t, err).String()]++
	}
	// The test is worth little if most records fail alike.
	for _, k := range []pipeline.Kind{pipeline.KindOrderCompleted, pipeline.KindOrderRefunded, pipeline.KindPageViewed} {
		if outcomes[k.String()] < 300 {
			t.Errorf("only %d records of 15,000 are %v: %v", outcomes[k.String()], k, outcomes)
		}
	}
	t.Log(outcomes)
}
