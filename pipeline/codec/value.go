package codec

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"
	"strconv"
)

const (
	// maxSteps bounds the work that the expressions of a mapping do for one record.
	maxSteps = 2_000_000
	// maxText is the length in bytes from which a text is not calculated with; it may be compared and passed on.
	maxText = 10_000
	// maxItems is the number of elements from which a list is not iterated over.
	maxItems = maxLines
	// maxDigits bounds the digits and the exponent of numbers that are calculated with.
	maxDigits = 64
)

// value is what an expression of a mapping stands for. Numbers are exact decimals or fractions, never binary ones.
type value struct {
	kind  tokenKind // tokenNull also stands for what is missing
	truth bool
	json  bool     // a list or object of the record: node is set. Else a list is items and an object the headers
	node  int32    // of the record
	text  []byte   // of a text; of a number as it is written, if ratio is nil
	ratio *big.Rat // of a number that was calculated; never changed once set
	items []value
}

// absent reports what orValue and has take for missing: null and the empty text, which trackers send alike.
func (v value) absent() bool {
	return v.kind <= tokenNull || v.kind == tokenString && len(v.text) == 0
}

func truth(b bool) value { return value{kind: tokenBool, truth: b} }

func number(r *big.Rat) value { return value{kind: tokenNumber, ratio: r} }

// errTooMuch stops expressions that take too long on a record.
var errTooMuch = errors.New("the record takes too many steps")

// spend counts steps.
func (d *Mapped) spend(n int) error {
	if d.steps += n; d.steps > maxSteps {
		return errTooMuch
	}
	return nil
}

// short returns the text of an operand.
func (d *Mapped) short(v value, of string) ([]byte, error) {
	switch {
	case v.kind != tokenString:
		return nil, fmt.Errorf("%s of %s, want a text", of, v.kind)
	case len(v.text) > maxText:
		return nil, fmt.Errorf("%s of a text of %d bytes, at most %d are calculated with", of, len(v.text), maxText)
	}
	return v.text, d.spend(len(v.text) / 16)
}

// rational returns a number to calculate with.
func (v value) rational(of string) (*big.Rat, error) {
	switch {
	case v.kind != tokenNumber:
		return nil, fmt.Errorf("%s of %s, want a number%s", of, v.kind, v.hint())
	case v.ratio != nil:
		return v.ratio, nil
	}
	r, ok := parseRational(v.text)
	if !ok {
		return nil, fmt.Errorf("%s of a number with more than %d digits", of, maxDigits)
	}
	return r, nil
}

// hint says what to do about a value that is not a number.
func (v value) hint() string {
	switch v.kind {
	case tokenNone, tokenNull:
		return ": give missing ones with .orValue(0)"
	case tokenString:
		return ": convert texts with double()"
	}
	return ""
}

// parseRational reads a number of JSON, or a text that is one. ok is false for other texts and for those with so many
// digits that calculating with them would be work.
func parseRational(text []byte) (r *big.Rat, ok bool) {
	d, ok := parseDecimal(text, 0)
	if !ok {
		return nil, false
	}
	mantissa, exponent, _ := splitExponent(text)
	if len(mantissa) > maxDigits || exponent > maxDigits || exponent < -maxDigits {
		return nil, false
	}
	if len(mantissa) == len(text) && len(text) < 18 && bytes.IndexByte(text, '.') < 0 { // a small whole number
		n := int64(d.units)
		if d.negative {
			n = -n
		}
		return new(big.Rat).SetInt64(n), true
	}
	return new(big.Rat).SetString(string(text))
}

// digits returns the text of a number with at least so many decimal digits, of which the last is rounded half away from
// zero if the number was calculated.
func (v value) digits(n int) []byte {
	switch {
	case v.ratio == nil:
		return v.text
	case v.ratio.IsInt():
		return v.ratio.Num().Append(nil, 10)
	}
	return []byte(v.ratio.FloatString(n))
}

// equal reports whether two values are the same; values of two kinds are not.
func (d *Mapped) equal(a, b value) (bool, error) {
	if err := d.spend(1 + len(a.text)/16); err != nil || a.kind != b.kind {
		return a.kind <= tokenNull && b.kind <= tokenNull, err
	}
	switch a.kind {
	case tokenBool:
		return a.truth == b.truth, nil
	case tokenString:
		return bytes.Equal(a.text, b.text), nil
	case tokenNumber:
		if a.ratio == nil && b.ratio == nil && bytes.Equal(a.text, b.text) {
			return true, nil
		}
		order, err := compareNumbers(a, b, "==")
		return order == 0, err
	case tokenArray, tokenObject:
		return false, fmt.Errorf("== of %s: compare what it holds", a.kind)
	}
	return true, nil
}

func compareNumbers(a, b value, of string) (int, error) {
	x, err := a.rational(of)
	if err != nil {
		return 0, err
	}
	y, err := b.rational(of)
	if err != nil {
		return 0, err
	}
	return x.Cmp(y), nil
}

// compare orders two numbers or two texts.
func (d *Mapped) compare(a, b value, of string) (int, error) {
	switch {
	case a.kind == tokenNumber && b.kind == tokenNumber:
		return compareNumbers(a, b, of)
	case a.kind == tokenString && b.kind == tokenString:
		return bytes.Compare(a.text, b.text), d.spend(len(a.text) / 16)
	}
	return 0, fmt.Errorf("%s of %s and %s, want two numbers or two texts", of, a.kind, b.kind)
}

// list returns the elements of a list to iterate over; what is missing has none.
func (d *Mapped) list(v value) ([]value, error) {
	switch {
	case v.kind <= tokenNull:
		return nil, nil
	case v.kind != tokenArray:
		return nil, fmt.Errorf("%s is not a list", v.kind)
	case !v.json:
		return v.items, d.spend(len(v.items))
	}
	n := &d.nodes[v.node]
	if n.size > maxItems {
		return nil, fmt.Errorf("a list of %d elements, at most %d are read", n.size, maxItems)
	}
	if err := d.spend(int(n.size)); err != nil {
		return nil, err
	}
	items := make([]value, 0, n.size)
	for i := v.node + 1; i < n.next; i = d.nodes[i].next {
		item, err := d.nodeValue(i)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return items, nil
}

// size is the number of members or elements, or of characters of a text.
func (d *Mapped) size(v value) (value, error) {
	n := 0
	switch {
	case v.kind == tokenString:
		text, err := d.short(v, "size()")
		if err != nil {
			return value{}, err
		}
		n = len(bytes.Runes(text))
	case v.kind == tokenArray && !v.json:
		n = len(v.items)
	case v.json:
		n = int(d.nodes[v.node].size)
	case v.kind == tokenObject:
		n = len(d.record.Headers)
	case v.kind > tokenNull:
		return value{}, fmt.Errorf("size() of %s", v.kind)
	}
	return whole(n), nil
}

func whole(n int) value {
	return value{kind: tokenNumber, text: strconv.AppendInt(nil, int64(n), 10)}
}

// get returns a member of an object, or an element of a list by its place from 0; null where there is none.
func (d *Mapped) get(v, key value) (value, error) {
	switch {
	case v.kind == tokenObject && key.kind == tokenString && v.json:
		at, err := d.member(v.node, key.text)
		if err != nil || at == 0 {
			return value{}, err
		}
		return d.nodeValue(at)
	case v.kind == tokenObject && key.kind == tokenString:
		return d.header(key.text)
	case v.kind == tokenArray && key.kind == tokenNumber:
		return d.element(v, key)
	}
	return value{}, nil // as of anything that has no such member
}

func (d *Mapped) element(v, key value) (value, error) {
	at, err := strconv.Atoi(string(key.digits(0)))
	if err != nil || at < 0 {
		return value{}, nil
	}
	if !v.json {
		if at < len(v.items) {
			return v.items[at], nil
		}
		return value{}, nil
	}
	n := &d.nodes[v.node]
	if at >= int(n.size) {
		return value{}, nil
	}
	i := v.node + 1
	for ; at > 0; at-- {
		i = d.nodes[i].next
		if err := d.spend(1); err != nil {
			return value{}, err
		}
	}
	return d.nodeValue(i)
}

// contains is the operator in: an element of a list, or the name of a member.
func (d *Mapped) contains(v, in value) (bool, error) {
	if in.kind == tokenObject {
		member, err := d.get(in, v)
		return member.kind > tokenNull, err
	}
	items, err := d.list(in)
	if err != nil {
		return false, fmt.Errorf("in: %w", err)
	}
	for i := range items {
		if items[i].kind != v.kind {
			continue
		}
		if same, err := d.equal(v, items[i]); same || err != nil {
			return same, err
		}
	}
	return false, nil
}
