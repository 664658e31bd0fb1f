package codec

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"zyklus/pipeline"
)

// ground is the record of the tests of the language.
const ground = `{"n":7,"f":12.50,"big":12345678901234567890.10,"s":"Tee","empty":"","nil":null,"yes":true,"no":false,
"user":{"id":"u1","tags":["a","b","vip"]},"items":[{"sku":"x","price":1.5,"n":2},{"sku":"y","price":2.25,"n":1}],"e":[],
"t":"a,b,,c","odd name":1,"u":"Grüße"}`

// evaluate gives the value of an expression over ground as text, or its error.
func evaluate(t *testing.T, text string) (string, error) {
	t.Helper()
	env, err := language()
	if err != nil {
		t.Fatal(err)
	}
	e, faults := compile(env, text, wantAny, nil)
	if len(faults) > 0 {
		return "", fmt.Errorf("at %d:%d: %s", faults[0].at.line, faults[0].at.column, faults[0].reason)
	}
	d, err := NewMapped(Options{Currency: "EUR", Mapping: &Mapping{}})
	if err != nil {
		t.Fatal(err)
	}
	var event pipeline.Event
	r := &pipeline.Record{Value: []byte(ground), Key: []byte("k"), Headers: []pipeline.Header{{Key: "h", Value: []byte("v")}}}
	if err := d.Decode(r, &event); kindOf(t, err) != pipeline.ErrUnknownEvent {
		t.Fatal(err)
	}
	v, err := e.eval(d)
	if err != nil {
		return "", err
	}
	return show(d, v), nil
}

func show(d *Mapped, v value) string {
	switch v.kind {
	case tokenNone, tokenNull:
		return "null"
	case tokenString:
		return fmt.Sprintf("%q", v.text)
	case tokenNumber:
		return string(v.digits(idDigits))
	case tokenBool:
		return fmt.Sprint(v.truth)
	case tokenArray:
		items, err := d.list(v)
		if err != nil {
			return err.Error()
		}
		parts := make([]string, len(items))
		for i := range items {
			parts[i] = show(d, items[i])
		}
		return "[" + strings.Join(parts, " ") + "]"
	}
	return v.kind.String()
}

// TestLanguageIsCEL evaluates what CEL defines as we do with cel-go's own interpreter.
func TestLanguageIsCEL(t *testing.T) {
	var record map[string]any
	decoder := json.NewDecoder(strings.NewReader(ground))
	decoder.UseNumber()
	if err := decoder.Decode(&record); err != nil {
		t.Fatal(err)
	}
	env, err := language()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		`record.n == 7`, `7 == record.n`, `record.n != 8`, `record.n < 8 && record.n >= 7`, `record.s == "Tee"`, `"Tee" != record.s`,
		`record.n in [1, 7]`, `record.s in ["a", "b"]`, `"id" in record.user`, `"name" in record.user`, `record.yes`, `!record.no`,
		`record.no || record.yes`, `record.yes && !record.no ? "a" : "b"`, `record.user.id`, `record["odd name"]`, `record.user["id"]`,
		`record.user.tags[1]`, `record.items[1].sku`, `record.n + 1`, `record.n - 9`, `record.n * 3`, `-record.n`, `record.s + "!"`,
		`record.user.tags.exists(x, x == "vip")`, `record.user.tags.all(x, x != "q")`, `record.user.tags.exists_one(x, x < "b")`,
		`record.user.tags.filter(x, x > "a")`, `record.items.map(i, i.sku)`, `record.items.map(i, i.n > 1, i.sku)`, `record.e.exists(x, true)`,
		`record.e.all(x, false)`, `record.items.exists(i, i.n == 1 && record.n == 7)`, `record.user.tags.map(x, [x, x])[0][1]`,
		`record.items.filter(i, record.user.tags.size() == 3).map(i, i.n)`, `size(record.items)`, `record.s.size()`, `size(record.u)`,
		`record.s.startsWith("T")`, `record.s.endsWith("x")`, `record.t.contains(",,")`, `record.s.matches("^T.e$")`, `record.s.matches("x")`,
		`string(record.n)`, `string(true)`, `int("12")`, `has(record.user.id)`, `has(record.user.name)`, `record.?user.?id.orValue("z")`,
		`record.?user.?name.orValue("z")`, `record.user.?name.orValue("z")`, `record.n > 3 || record.s > 3`, `record.s > 3 || record.n > 3`,
		`record.n < 3 && record.s > 3`, `record.s > 3 && record.n < 3`, `"a" < "b"`, `null == record.nil`, `record.nil != null`, `key + headers.h`,
		`[1, 2, 3].filter(x, x != 2)`, `record.items.map(i, i.n * 2)`, `record.f == 12.5`, `record.f > 12`, `12 < record.f`,
	} {
		want, wantErr := reference(t, env, record, text)
		got, err := evaluate(t, text)
		if got != want || (err != nil) != (wantErr != nil) {
			t.Errorf("%s is %s (%v), CEL says %s (%v)", text, got, err, want, wantErr)
		}
	}
}

func reference(t *testing.T, env *cel.Env, record map[string]any, text string) (string, error) {
	t.Helper()
	checked, issues := env.Compile(text)
	if issues.Err() != nil {
		t.Fatalf("%s: %v", text, issues.Err())
	}
	program, err := env.Program(checked)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	out, _, err := program.Eval(map[string]any{"record": natural(record), "key": "k", "headers": map[string]any{"h": "v"}})
	if err != nil {
		return "", err
	}
	return showCEL(out), nil
}

// natural gives numbers the types that CEL has for them.
func natural(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, _ := v.Float64()
		return f
	case map[string]any:
		for k, w := range v {
			v[k] = natural(w)
		}
	case []any:
		for i, w := range v {
			v[i] = natural(w)
		}
	}
	return v
}

func showCEL(v ref.Val) string {
	switch v := v.(type) {
	case types.Null:
		return "null"
	case types.String:
		return fmt.Sprintf("%q", string(v))
	case interface{ Size() ref.Val }:
		list := v.(interface{ Get(ref.Val) ref.Val })
		parts := []string{}
		for i := range int(v.Size().(types.Int)) {
			parts = append(parts, showCEL(list.Get(types.Int(i))))
		}
		return "[" + strings.Join(parts, " ") + "]"
	}
	return fmt.Sprint(v.Value())
}

// TestLanguageBeyondCEL states the points in which the language is not CEL.
func TestLanguageBeyondCEL(t *testing.T) {
	for text, want := range map[string]string{
		// what is missing is null, at any depth
		`record.nothing`: "null", `record.nothing.at.all`: "null", `record.s.member`: "null", `record.items[9].sku`: "null",
		`record.items["0"]`: "null", `record.user[0]`: "null", `record.items[-1]`: "null", `record.nothing == null`: "true",
		`record.nothing == "x"`: "false", `has(record.nothing.at.all)`: "false", `has(record.nil)`: "false", `has(record.empty)`: "false",
		`record.nothing.exists(x, true)`: "false", `has(record)`: "true", `has(record.items[0].sku)`: "true", `has(record["nil"])`: "false",
		`has(record.items[7])`: "false", `has(record.e)`: "true", `has(key)`: "true", `has(headers["none"])`: "false", `record.nothing.map(x, x)`: "[]", `size(record.nothing)`: "0",
		`"x" in record.nothing`: "false", `headers.none`: "null", `headers["h"]`: `"v"`,
		// orValue
		`record.nothing.orValue("z")`: `"z"`, `record.empty.orValue("z")`: `"z"`, `record.nil.orValue(3)`: "3", `record.n.orValue(3)`: "7",
		`record.?nothing.?at.orValue("z")`: `"z"`, `key.orValue("z")`: `"k"`, `record.no.orValue(true)`: "false",
		// numbers are exact
		`record.f`: "12.50", `string(record.f)`: `"12.50"`, `record.big`: "12345678901234567890.10", `string(record.big)`: `"12345678901234567890.10"`,
		`double("0.1") + 0.2 == 0.3`: "true", `record.n / 2`: "3.500000000", `record.n / 2 * 2 == record.n`: "true",
		`record.f * 3 - 0.1`: "37.400000000", `record.big + 0.9 == double("12345678901234567891")`: "true", `1 == 1.0`: "true", `size(record.items) / 4`: "0.500000000", `1 - record.f`: "-11.500000000",
		`record.big > 1234567890123456789`: "true", `double("1e2")`: "1e2", `int("12.99")`: "12", `int(-12.99)`: "-12", `record.n == 7.0`: "true",
		`record.n in [7.0]`: "true", `[record.f] == [12.5]`: "",
		// texts
		`record.s.lowerAscii() + record.s.upperAscii()`: `"teeTEE"`, `"  x ".trim()`: `"x"`, `record.t.split(",")`: `["a" "b" "" "c"]`,
		`record.u.substring(2)`: `"üße"`, `record.u.substring(0, 3)`: `"Grü"`, `record.t.replace(",", "")`: `"abc"`,
		`"12,50".replace(",", ".") == "12.50"`: "true", `double("12,50".replace(",", ".")) > 12`: "true",
	} {
		got, err := evaluate(t, text)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%s is %s (%v), want %s", text, got, err, want)
		}
	}
}

// TestLanguageErrors holds that what has no value says why, and that no text of the record is in it.
func TestLanguageErrors(t *testing.T) {
	for text, want := range map[string]string{
		`record.s + 1`:                "+ of a string and a number, want two numbers or two texts",
		`record.n - record.nothing`:   "- of missing, want a number: give missing ones with .orValue(0)",
		`record.nil * 2`:              "* of null, want a number: give missing ones with .orValue(0)",
		`!record.s`:                   "! of a string, want true or false",
		`int(record.s)`:               "double() of a text that is not a decimal number, or too long",
		`record.s * 2`:                "* of a string, want a number: convert texts with double()",
		`record.n / 0`:                "division by zero",
		`record.s < 3`:                "< of a string and a number, want two numbers or two texts",
		`!record.nothing`:             "a condition is missing where it must be true or false: compare with == true",
		`record.s && true`:            "a condition is a string where it must be true or false",
		`record.nothing ? 1 : 2`:      "a condition is missing where it must be true or false: compare with == true",
		`record.n.startsWith("x")`:    "startsWith() of a number, want a text",
		`record.nothing.lowerAscii()`: "lowerAscii() of missing, want a text",
		`record.user == record.user`:  "== of an object: compare what it holds",
		`record.s.map(x, x)`:          "a string is not a list",
		`double(record.s)`:            "double() of a text that is not a decimal number, or too long",
		`string(record.user)`:         "string() of an object",
		`size(record.n)`:              "size() of a number",
		`record.s.substring(9)`:       "substring() of a text of 3 characters goes beyond it",
		`record.s.substring(2, 1)`:    "substring() that ends before it begins",
		`record.s.substring(0 - 1)`:   "substring() of a text of 3 characters goes beyond it",
		`1 in record.s`:               "in: a string is not a list",
		`double("1e65") > 1`:          "double() of a text that is not a decimal number, or too long",
		`record.t.replace("", "` + strings.Repeat("x", 2000) + `")`: "replace() gives more than 10000 bytes",
		// refused when the mapping is read
		`user`:                       "at 1:1: 'user' is neither a variable (record, key, headers, those of let; line in lines) nor a function: put texts in quotes",
		`record.n % 2`:               "at 1:10: operator % is not part of the language of mappings",
		`timestamp(record.s)`:        "at 1:10: function timestamp() is not part of the language of mappings",
		`b"x"`:                       "at 1:1: only texts, numbers, true, false and null are constants of the language of mappings",
		`{"a": 1}`:                   "at 1:1: this is not part of the language of mappings",
		`record.s.matches(record.t)`: "at 1:17: the pattern of matches() must be a text in quotes",
		`record.s.matches("(")`:      "at 1:18: the pattern is wrong: error parsing regexp: missing closing ): `(`",
		`1 + "x"`:                    "+ of a number and a string, want two numbers or two texts",
		`record.items.exists(i, record.items.exists(j, i.n == j.n))`: "at 1:1: too costly: about ",
		`[1] + [2]`: "+ of an array and an array, want two numbers or two texts",
	} {
		got, err := evaluate(t, text)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s is %s, error\n %v, want\n %s", text, got, err, want)
		}
	}
}

// TestHostileRecords holds that no record makes an expression take long: it is refused, by the count of steps.
func TestHostileRecords(t *testing.T) {
	m := mustMapping(t, []byte(`
mapping: hostile
time: record.t
customer: record.c
events:
  - when: record.list.exists(i, i.a == 1 || i.b == 1)
    type: touch.page
  - when: record.list.filter(i, i.a == record.x).map(i, i.b).exists(i, i == record.y)
    type: touch.page
  - when: record.s.contains(record.s) && record.n * record.n > record.n
    type: touch.page
`))
	d, err := NewMapped(Options{Currency: "EUR", Mapping: m})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		value string
		kind  pipeline.ErrorKind
		cause string
	}{
		"long list":       {`{"list":[` + strings.Repeat("1,", 200_000) + `1]}`, pipeline.ErrMapping, "a list of 200001 elements, at most 10000"},
		"many members":    {`{"list":[` + strings.Repeat(`{"a":2},`, 9999) + `1]` + strings.Repeat(`,"m":1`, 100_000) + `}`, pipeline.ErrTooLarge, "too many steps"},
		"long text":       {`{"s":"` + strings.Repeat("x", 900_000) + `"}`, pipeline.ErrMapping, "a text of 900000 bytes"},
		"long number":     {`{"s":"x","n":` + strings.Repeat("9", 900_000) + `}`, pipeline.ErrMapping, "more than 64 digits"},
		"great exponent":  {`{"s":"x","n":1e999999999}`, pipeline.ErrMapping, "more than 64 digits"},
		"small exponent":  {`{"s":"x","n":1e-999999999}`, pipeline.ErrMapping, "more than 64 digits"},
		"escaped members": {`{"\u006cist":[{"\u0061":1}],"t":"2024-01-01"}`, pipeline.ErrNoCustomer, "neither"},
		"broken text":     {`{"s":"\ud800"}`, pipeline.ErrNotJSON, "half of a surrogate pair"},
	} {
		var e pipeline.Event
		err := d.Decode(&pipeline.Record{Value: []byte(c.value)}, &e)
		if kindOf(t, err) != c.kind || !strings.Contains(err.Error(), c.cause) {
			t.Errorf("%s gives %v", name, err)
		}
		if d.steps > maxSteps+maxText+200_000 {
			t.Errorf("%s took %d steps", name, d.steps)
		}
	}
}
