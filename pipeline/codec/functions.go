package codec

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"strings"

	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// function is an operator or function whose operands are evaluated before it is.
type function func(d *Mapped, in []value) (value, error)

// functions lists the operators and functions by the names that cel-go gives them.
func functions() map[string]function {
	return map[string]function{
		operators.Equals:    func(d *Mapped, in []value) (value, error) { return truthOf(d.equal(in[0], in[1])) },
		operators.NotEquals: func(d *Mapped, in []value) (value, error) { return opposite(d.equal(in[0], in[1])) },
		operators.In:        func(d *Mapped, in []value) (value, error) { return truthOf(d.contains(in[0], in[1])) },

		operators.Less:          ordered("<", func(order int) bool { return order < 0 }),
		operators.LessEquals:    ordered("<=", func(order int) bool { return order <= 0 }),
		operators.Greater:       ordered(">", func(order int) bool { return order > 0 }),
		operators.GreaterEquals: ordered(">=", func(order int) bool { return order >= 0 }),

		operators.Add:      add,
		operators.Subtract: arithmetic("-", (*big.Rat).Sub),
		operators.Multiply: arithmetic("*", (*big.Rat).Mul),
		operators.Divide:   divide,
		operators.Negate:   negate,

		operators.LogicalNot:       not,
		operators.NotStrictlyFalse: func(_ *Mapped, in []value) (value, error) { return in[0], nil },

		operators.Index:     func(d *Mapped, in []value) (value, error) { return d.get(in[0], in[1]) },
		operators.OptIndex:  func(d *Mapped, in []value) (value, error) { return d.get(in[0], in[1]) },
		operators.OptSelect: func(d *Mapped, in []value) (value, error) { return d.get(in[0], in[1]) },
		"orValue":           orValue,

		"size":   func(d *Mapped, in []value) (value, error) { return d.size(in[0]) },
		"string": toText,
		"double": toNumber,
		"int":    toInteger,

		"startsWith": tests("startsWith()", bytes.HasPrefix),
		"endsWith":   tests("endsWith()", bytes.HasSuffix),
		"contains":   tests("contains()", bytes.Contains),
		"lowerAscii": changes("lowerAscii()", func(dst, src []byte) []byte { copyLower(dst, src); return dst }),
		"upperAscii": changes("upperAscii()", func(dst, src []byte) []byte { copyUpper(dst, src); return dst }),
		"trim":       changes("trim()", func(_, src []byte) []byte { return bytes.TrimSpace(src) }),
		"substring":  substring,
		"split":      split,
		"replace":    replace,
	}
}

// describeCall names an operator or function for people.
func describeCall(name string) string {
	if operator, ok := operators.FindReverse(name); ok && operator != "" {
		return "operator " + operator
	}
	return "function " + name + "()"
}

func truthOf(b bool, err error) (value, error) { return truth(b), err }

func opposite(b bool, err error) (value, error) { return truth(!b), err }

func ordered(of string, holds func(order int) bool) function {
	return func(d *Mapped, in []value) (value, error) {
		order, err := d.compare(in[0], in[1], of)
		return truth(holds(order)), err
	}
}

func not(_ *Mapped, in []value) (value, error) {
	switch v := in[0]; {
	case v.kind == tokenBool:
		return truth(!v.truth), nil
	case v.kind <= tokenNull:
		return value{}, errMissing
	}
	return value{}, fmt.Errorf("! of %s, want true or false", in[0].kind)
}

func arithmetic(of string, f func(z, x, y *big.Rat) *big.Rat) function {
	return func(d *Mapped, in []value) (value, error) {
		x, err := in[0].rational(of)
		if err != nil {
			return value{}, err
		}
		y, err := in[1].rational(of)
		if err != nil {
			return value{}, err
		}
		return number(f(new(big.Rat), x, y)), d.spend(10)
	}
}

func divide(d *Mapped, in []value) (value, error) {
	if y, err := in[1].rational("/"); err == nil && y.Sign() == 0 {
		return value{}, errors.New("division by zero")
	}
	return arithmetic("/", (*big.Rat).Quo)(d, in)
}

func negate(_ *Mapped, in []value) (value, error) {
	x, err := in[0].rational("-")
	if err != nil {
		return value{}, err
	}
	return number(new(big.Rat).Neg(x)), nil
}

// add adds numbers and joins texts.
func add(d *Mapped, in []value) (value, error) {
	if in[0].kind == tokenNumber && in[1].kind == tokenNumber {
		return arithmetic("+", (*big.Rat).Add)(d, in)
	}
	if in[0].kind == tokenString && in[1].kind == tokenString {
		a, err := d.short(in[0], "+")
		if err != nil {
			return value{}, err
		}
		b, err := d.short(in[1], "+")
		if err != nil {
			return value{}, err
		}
		return d.scratch(func(dst []byte) []byte { return append(append(dst, a...), b...) }), nil
	}
	return value{}, fmt.Errorf("+ of %s and %s, want two numbers or two texts", in[0].kind, in[1].kind)
}

// scratch makes a text in scratch memory.
func (d *Mapped) scratch(write func(dst []byte) []byte) value {
	start := len(d.text)
	d.text = write(d.text)
	return value{kind: tokenString, text: d.text[start:len(d.text):len(d.text)]}
}

func orValue(_ *Mapped, in []value) (value, error) {
	if in[0].absent() {
		return in[1], nil
	}
	return in[0], nil
}

// idDigits is how many decimal digits a calculated fraction has as a text.
const idDigits = 9

func toText(d *Mapped, in []value) (value, error) {
	switch v := in[0]; v.kind {
	case tokenString:
		return v, nil
	case tokenNumber:
		return value{kind: tokenString, text: v.digits(idDigits)}, nil
	case tokenBool:
		return d.scratch(func(dst []byte) []byte { return fmt.Append(dst, v.truth) }), nil
	}
	return value{}, fmt.Errorf("string() of %s", in[0].kind)
}

func toNumber(d *Mapped, in []value) (value, error) {
	v := in[0]
	if v.kind == tokenNumber {
		return v, nil
	}
	text, err := d.short(v, "double()")
	if err != nil {
		return value{}, err
	}
	if _, ok := parseRational(text); !ok {
		return value{}, errors.New("double() of a text that is not a decimal number, or too long")
	}
	return value{kind: tokenNumber, text: text}, nil
}

func toInteger(d *Mapped, in []value) (value, error) {
	v, err := toNumber(d, in)
	if err != nil {
		return value{}, err
	}
	r, err := v.rational("int()")
	if err != nil {
		return value{}, err
	}
	return number(truncated(r)), nil
}

func tests(of string, f func(text, part []byte) bool) function {
	return func(d *Mapped, in []value) (value, error) {
		text, err := d.short(in[0], of)
		if err != nil {
			return value{}, err
		}
		part, err := d.short(in[1], of)
		if err != nil {
			return value{}, err
		}
		return truth(f(text, part)), nil
	}
}

// changes makes a text of one that is at least as long. dst is scratch memory as long as src.
func changes(of string, f func(dst, src []byte) []byte) function {
	return func(d *Mapped, in []value) (value, error) {
		src, err := d.short(in[0], of)
		if err != nil {
			return value{}, err
		}
		v := d.scratch(func(dst []byte) []byte { return append(dst, src...) })
		v.text = f(v.text, src)
		return v, nil
	}
}

// substring counts characters, not bytes.
func substring(d *Mapped, in []value) (value, error) {
	text, err := d.short(in[0], "substring()")
	if err != nil {
		return value{}, err
	}
	runes := []rune(string(text))
	from, to := 0, len(runes)
	for i, at := range []*int{&from, &to}[:len(in)-1] {
		r, err := in[i+1].rational("substring()")
		if err != nil {
			return value{}, err
		}
		if !r.IsInt() || r.Sign() < 0 || r.Cmp(big.NewRat(int64(len(runes)), 1)) > 0 {
			return value{}, fmt.Errorf("substring() of a text of %d characters goes beyond it", len(runes))
		}
		*at = int(r.Num().Int64())
	}
	if from > to {
		return value{}, errors.New("substring() that ends before it begins")
	}
	return value{kind: tokenString, text: []byte(string(runes[from:to]))}, nil
}

func split(d *Mapped, in []value) (value, error) {
	text, err := d.short(in[0], "split()")
	if err != nil {
		return value{}, err
	}
	separator, err := d.short(in[1], "split()")
	if err != nil {
		return value{}, err
	}
	parts := bytes.Split(text, separator)
	items := make([]value, len(parts))
	for i, p := range parts {
		items[i] = value{kind: tokenString, text: p}
	}
	return value{kind: tokenArray, items: items}, d.spend(len(items))
}

func replace(d *Mapped, in []value) (value, error) {
	var texts [3]string
	for i := range texts {
		text, err := d.short(in[i], "replace()")
		if err != nil {
			return value{}, err
		}
		texts[i] = string(text)
	}
	if n := strings.Count(texts[0], texts[1]); n*len(texts[2]) > maxText {
		return value{}, fmt.Errorf("replace() gives more than %d bytes", maxText)
	}
	return value{kind: tokenString, text: []byte(strings.ReplaceAll(texts[0], texts[1], texts[2]))}, nil
}

// matches compiles its pattern once, so that it must be constant.
func (c *compiler) matches(e celast.Expr, args []celast.Expr) evaluator {
	text := c.compile(args[0])
	if args[1].Kind() != celast.LiteralKind {
		return c.refuse(e, "the pattern of matches() must be a text in quotes")
	}
	pattern, ok := args[1].AsLiteral().(types.String)
	if !ok {
		return c.refuse(e, "the pattern of matches() must be a text in quotes")
	}
	re, err := regexp.Compile(string(pattern))
	if err != nil {
		return c.refuse(args[1], "the pattern is wrong: %v", err)
	}
	return func(d *Mapped) (value, error) {
		v, err := text(d)
		if err != nil {
			return value{}, err
		}
		b, err := d.short(v, "matches()")
		if err != nil {
			return value{}, err
		}
		return truth(re.Match(b)), d.spend(len(b))
	}
}
