package codec

import (
	"bytes"
	"encoding/json"
	"math/big"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"

	"zyklus/pipeline"
)

// oracle decodes a Segment record the slow way: encoding/json, math/big and time.Parse. It states the rules a second
// time, so that a decoder and its oracle only agree where both are right or both make the same mistake.
type oracle struct {
	options  Options
	exponent int
	members  map[string]json.RawMessage
	props    map[string]json.RawMessage
}

// refusal is how the oracle says no; it travels by panic, so that the rules read without error plumbing.
type refusal struct {
	kind    pipeline.ErrorKind
	ignored bool
}

func newOracle(options Options) *oracle {
	options, err := options.withDefaults()
	if err != nil {
		panic(err)
	}
	return &oracle{options: options}
}

func refuse(kind pipeline.ErrorKind) { panic(refusal{kind: kind}) }

// decode returns the event or the refusal. The value must be valid JSON and nest no deeper than maxDepth.
func (o *oracle) decode(value []byte) (e pipeline.Event, no refusal) {
	defer func() {
		if r := recover(); r != nil {
			no = r.(refusal)
		}
	}()
	if trimmed := bytes.TrimSpace(value); string(trimmed) == "null" {
		refuse(pipeline.ErrNullValue)
	}
	o.members, o.props = nil, nil
	if json.Unmarshal(value, &o.members) != nil {
		refuse(pipeline.ErrNotJSON)
	}
	e.Kind = o.kind()
	e.At = o.time()
	e.ID = o.id(value)
	if e.Kind == pipeline.KindHeartbeat {
		return e, no
	}
	o.customer(&e)
	if e.Kind.Order() {
		e.Raw = value
		o.order(&e)
	}
	return e, no
}

// raw returns a member as written, "" if it is missing, null or an empty string.
func raw(m map[string]json.RawMessage, name string) string {
	s := strings.TrimSpace(string(m[name]))
	if s == "null" || s == `""` {
		return ""
	}
	return s
}

var ufffd = regexp.MustCompile(`\x{FFFD}|\\u[fF]{3}[dD]`)

// text returns the text of a string or number.
func text(s string) string {
	switch {
	case s == "":
		return ""
	case s[0] == '-' || s[0] >= '0' && s[0] <= '9':
		return s
	case s[0] != '"' || !utf8.ValidString(s):
		refuse(pipeline.ErrNotJSON)
	}
	var t string
	if json.Unmarshal([]byte(s), &t) != nil {
		refuse(pipeline.ErrNotJSON)
	}
	// encoding/json puts U+FFFD in place of half a surrogate pair.
	if strings.Count(t, "\uFFFD") != len(ufffd.FindAllString(strings.ReplaceAll(s, `\\`, "  "), -1)) {
		refuse(pipeline.ErrNotJSON)
	}
	return t
}

func (o *oracle) kind() pipeline.Kind {
	switch text(raw(o.members, "type")) {
	case "identify":
		return pipeline.KindIdentified
	case "page", "screen":
		return pipeline.KindPageViewed
	case "heartbeat":
		return pipeline.KindHeartbeat
	case "track":
		event := text(raw(o.members, "event"))
		for _, a := range aliasTable() {
			if len(a.name) == len(event) && strings.EqualFold(a.name, event) {
				return a.kind
			}
		}
	}
	refuse(pipeline.ErrUnknownEvent)
	return 0
}

var timeForms = regexp.MustCompile(
	`^(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d:\d\d(?:\.\d+)?)(?:([+-](?:[01]\d|2[0-3])):?([0-5]\d)|[Zz])?)?$`)

func (o *oracle) time() int64 {
	for _, name := range []string{"timestamp", "originalTimestamp", "receivedAt"} {
		s := raw(o.members, name)
		if s == "" {
			continue
		}
		ms, ok := oracleTime(text(s))
		if s[0] != '"' {
			ms, ok = oracleUnix(s), true
		}
		switch {
		case !ok:
			refuse(pipeline.ErrTimeFormat)
		case ms < o.options.MinTime:
			refuse(pipeline.ErrTimeTooOld)
		case ms > time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli():
			refuse(pipeline.ErrTimeInFuture)
		}
		return ms
	}
	refuse(pipeline.ErrNoTime)
	return 0
}

func oracleTime(s string) (ms int64, ok bool) {
	m := timeForms.FindStringSubmatch(s)
	if m == nil {
		return 0, false
	}
	clock, offset := m[2], "+00:00"
	if clock == "" {
		clock = "00:00:00"
	}
	if m[3] != "" {
		offset = m[3] + ":" + m[4]
	}
	t, err := time.Parse(time.RFC3339, m[1]+"T"+clock+offset)
	return t.UnixMilli(), err == nil
}

func oracleUnix(s string) int64 {
	r, _ := rational(s)
	thousands := new(big.Rat).Mul(r, big.NewRat(1000, 1))
	ms := new(big.Int).Quo(thousands.Num(), thousands.Denom())
	if ms.CmpAbs(big.NewInt(100_000_000_000_000)) > 0 {
		ms.Quo(r.Num(), r.Denom())
	}
	if !ms.IsInt64() {
		return int64(ms.Sign()) << 62
	}
	return ms.Int64()
}

func (o *oracle) id(value []byte) uint64 {
	if id := text(raw(o.members, "messageId")); id != "" {
		return xxhash.Sum64String(o.options.Source + "\x00" + id)
	}
	return xxhash.Sum64String(o.options.Source + "\x01" + string(value))
}

func (o *oracle) customer(e *pipeline.Event) {
	person := func(name string) (id string, given bool) {
		id = text(raw(o.members, name))
		if len(id) > pipeline.MaxID {
			refuse(pipeline.ErrIDTooLong)
		}
		for _, ignored := range o.options.IgnoredIDs {
			if len(id) == len(ignored) && strings.EqualFold(id, ignored) {
				return "", id != ""
			}
		}
		return id, id != ""
	}
	user, given := person("userId")
	if user != "" {
		e.Customer, e.Known = []byte(user), true
		return
	}
	anonymous, alsoGiven := person("anonymousId")
	switch {
	case anonymous != "":
		e.Customer = []byte(anonymous)
	case given || alsoGiven:
		panic(refusal{ignored: true})
	default:
		refuse(pipeline.ErrNoCustomer)
	}
}

func (o *oracle) order(e *pipeline.Event) {
	if s := raw(o.members, "properties"); s != "" && json.Unmarshal([]byte(s), &o.props) != nil {
		refuse(pipeline.ErrNotJSON)
	}
	for _, name := range []string{"order_id", "orderId"} {
		if id := text(raw(o.props, name)); id != "" {
			e.OrderID = []byte(id)
			break
		}
	}
	switch {
	case len(e.OrderID) > pipeline.MaxID:
		refuse(pipeline.ErrIDTooLong)
	case len(e.OrderID) == 0:
		refuse(pipeline.ErrNoOrderID)
	case e.Kind == pipeline.KindOrderRefunded:
		o.refund(e)
	case e.Kind != pipeline.KindOrderCancelled:
		o.sale(e)
	}
}

func (o *oracle) refund(e *pipeline.Event) {
	amount := ""
	for _, name := range []string{"total", "value", "revenue", "amount"} {
		if amount == "" {
			amount = raw(o.props, name)
		}
	}
	if amount == "" && raw(o.props, "products") == "" {
		return
	}
	o.currency(e)
	if o.lines(e); len(e.Lines) == 0 && amount != "" {
		e.Amount, e.HasAmount = o.money(amount), true
	}
}

func (o *oracle) sale(e *pipeline.Event) {
	o.currency(e)
	o.lines(e)
	get := func(name string) string { return raw(o.props, name) }
	e.HasAmount = true
	switch {
	case get("revenue") != "":
		e.Amount = o.money(get("revenue"))
	case get("total") != "":
		e.Amount = o.money(get("total")) - o.money(get("shipping")) - o.money(get("tax"))
	case get("value") != "":
		e.Amount = o.money(get("value"))
	default:
		e.HasAmount = false
		for _, l := range e.Lines {
			e.Amount += l.Amount
			e.HasAmount = e.HasAmount || l.HasAmount
		}
		e.Amount -= o.money(get("discount"))
	}
	switch {
	case !e.HasAmount:
		refuse(pipeline.ErrNoAmount)
	case e.Amount < 0:
		refuse(pipeline.ErrNegativeAmount)
	case e.Amount > maxMagnitude:
		refuse(pipeline.ErrAmountOutOfRange)
	}
}

func (o *oracle) currency(e *pipeline.Event) {
	code := upperASCII(text(raw(o.props, "currency")))
	o.exponent, _ = KnownCurrency(o.options.Currency)
	if code == "" || code == o.options.Currency {
		return
	}
	exponent, known := KnownCurrency(code)
	if !known {
		refuse(pipeline.ErrUnknownCurrency)
	}
	if !o.options.Convert {
		refuse(pipeline.ErrCurrencyWithoutRate)
	}
	o.exponent = exponent
	copy(e.Currency[:], code)
}

// upperASCII returns s with a to z in upper case.
func upperASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			r -= 'a' - 'A'
		}
		return r
	}, s)
}

func (o *oracle) lines(e *pipeline.Event) {
	s := raw(o.props, "products")
	if s == "" {
		return
	}
	var elements []json.RawMessage
	if json.Unmarshal([]byte(s), &elements) != nil {
		refuse(pipeline.ErrNotJSON)
	}
	for _, element := range elements {
		if element[0] != '{' {
			refuse(pipeline.ErrNotJSON)
		}
	}
	if len(elements) > maxLines {
		refuse(pipeline.ErrTooLarge)
	}
	for _, element := range elements {
		var p map[string]json.RawMessage
		if json.Unmarshal(element, &p) != nil {
			refuse(pipeline.ErrNotJSON)
		}
		e.Lines = append(e.Lines, o.line(p))
	}
}

func (o *oracle) line(p map[string]json.RawMessage) (l pipeline.Line) {
	label := func(name string) string {
		s := raw(p, name)
		if s == "" || strings.ContainsRune("tf[{", rune(s[0])) {
			return ""
		}
		return text(s)
	}
	id := label("product_id")
	if id == "" {
		id = label("sku")
	}
	if id != "" {
		l.Product = xxhash.Sum64String(id)
	}
	l.Category = []byte(label("category"))
	l.Quantity = 1000
	if s := raw(p, "quantity"); s != "" {
		l.Quantity = bounded(s, 3)
	}
	price := raw(p, "price")
	if price == "" {
		return l
	}
	l.HasAmount = true
	r := oracleNumber(price, 6)
	if r.Sign() < 0 {
		refuse(pipeline.ErrNegativeAmount)
	}
	if r.Cmp(new(big.Rat).SetUint64(maxPrice)) > 0 {
		refuse(pipeline.ErrAmountOutOfRange)
	}
	r.Mul(r, big.NewRat(l.Quantity, int64(pow10(9-o.exponent))))
	if r = halfAway(r); r.Cmp(big.NewRat(maxMagnitude, 1)) > 0 {
		refuse(pipeline.ErrAmountOutOfRange)
	}
	l.Amount = r.Num().Int64()
	return l
}

func (o *oracle) money(s string) int64 {
	if s == "" {
		return 0
	}
	return bounded(s, o.exponent)
}

// bounded reads a number in units of 10^-digits, from 0 to maxMagnitude.
func bounded(s string, digits int) int64 {
	r := oracleNumber(s, digits)
	switch {
	case r.Sign() < 0:
		refuse(pipeline.ErrNegativeAmount)
	case r.Cmp(big.NewRat(maxMagnitude, 1)) > 0:
		refuse(pipeline.ErrAmountOutOfRange)
	}
	return r.Num().Int64()
}

// oracleNumber reads a member as a whole number of 10^-digits.
func oracleNumber(s string, digits int) *big.Rat {
	r, ok := rational(text(s))
	if !ok {
		refuse(pipeline.ErrAmountOutOfRange)
	}
	return halfAway(r.Mul(r, new(big.Rat).SetInt64(int64(pow10(digits)))))
}

var decimalForm = regexp.MustCompile(`^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE]([+-]?)(\d+))?$`)

// rational reads a decimal number. Exponents of more than five digits would take too long: they stand for 10^±99999,
// which behaves alike for every text short of 90 kB.
func rational(s string) (*big.Rat, bool) {
	m := decimalForm.FindStringSubmatchIndex(s)
	if m == nil {
		return nil, false
	}
	if m[4] >= 0 {
		if digits := strings.TrimLeft(s[m[4]:m[5]], "0"); len(digits) > 5 {
			s = s[:m[4]] + "99999"
		}
	}
	return new(big.Rat).SetString(s)
}

// halfAway rounds to a whole number, halves away from zero.
func halfAway(r *big.Rat) *big.Rat {
	half := big.NewRat(int64(r.Sign()), 2)
	sum := new(big.Rat).Add(r, half)
	return new(big.Rat).SetInt(new(big.Int).Quo(sum.Num(), sum.Denom()))
}
