package codec

import (
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"

	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// evaluator gives the value of an expression for the record at hand. Its errors are for people and hold nothing of the
// record but numbers of bytes and kinds.
type evaluator func(d *Mapped) (value, error)

// compiler makes evaluators of a checked expression.
type compiler struct {
	tree     *celast.AST
	slots    map[string]int // of the variables of loops, in Mapped.vars
	depth    int            // variables in scope
	lets     []string
	total    string // the name of the innermost loop's result
	constant bool   // no variable was met
	faults   []fault
}

func (c *compiler) refuse(e celast.Expr, format string, args ...any) evaluator {
	at := c.tree.SourceInfo().GetStartLocation(e.ID())
	c.faults = append(c.faults, fault{
		at: position{max(at.Line(), 1), max(at.Column(), 0) + 1}, reason: fmt.Sprintf(format, args...),
	})
	return func(*Mapped) (value, error) { return value{}, nil }
}

func (c *compiler) compile(e celast.Expr) evaluator {
	e = untyped(e)
	switch e.Kind() {
	case celast.LiteralKind:
		v, ok := literal(e)
		if !ok {
			return c.refuse(e, "only texts, numbers, true, false and null are constants of the language of mappings")
		}
		return func(*Mapped) (value, error) { return v, nil }
	case celast.IdentKind:
		return c.variable(e)
	case celast.SelectKind:
		s := e.AsSelect()
		return c.selection(c.compile(s.Operand()), s.FieldName(), s.IsTestOnly())
	case celast.ListKind:
		return c.listOf(e.AsList().Elements())
	case celast.ComprehensionKind:
		return c.loop(e)
	case celast.CallKind:
		return c.call(e)
	}
	return c.refuse(e, "this is not part of the language of mappings")
}

// literal returns the value of a constant.
func literal(e celast.Expr) (v value, ok bool) {
	if e = untyped(e); e.Kind() != celast.LiteralKind {
		return value{}, false
	}
	switch l := e.AsLiteral().(type) {
	case types.String:
		return value{kind: tokenString, text: []byte(l)}, true
	case types.Bool:
		return truth(bool(l)), true
	case types.Int:
		return value{kind: tokenNumber, text: strconv.AppendInt(nil, int64(l), 10)}, true
	case types.Double:
		// The shortest text that gives this double is the text that was written, up to 15 digits.
		return value{kind: tokenNumber, text: strconv.AppendFloat(nil, float64(l), 'g', -1, 64)}, !math.IsInf(float64(l), 0)
	case types.Null:
		return value{kind: tokenNull}, true
	}
	return value{}, false
}

// untyped is an expression without a dyn() around it.
func untyped(e celast.Expr) celast.Expr {
	if e.Kind() == celast.CallKind && e.AsCall().FunctionName() == anyType {
		return e.AsCall().Args()[0]
	}
	return e
}

func (c *compiler) variable(e celast.Expr) evaluator {
	name := e.AsIdent()
	if slot, ok := c.slots[name]; ok {
		return func(d *Mapped) (value, error) { return d.vars[slot], d.spend(1) }
	}
	c.constant = false
	if i := slices.Index(c.lets, name); i >= 0 {
		return func(d *Mapped) (value, error) { return d.let(i) }
	}
	switch name {
	case "record":
		return func(d *Mapped) (value, error) { return value{kind: tokenObject, json: true}, d.spend(1) }
	case "line":
		return func(d *Mapped) (value, error) { return d.line, d.spend(1) }
	case "key":
		return func(d *Mapped) (value, error) { return value{kind: tokenString, text: d.record.Key}, d.spend(1) }
	case "headers":
		return func(d *Mapped) (value, error) { return value{kind: tokenObject}, d.spend(1) }
	}
	return c.refuse(e, "%s is a type, which is not part of the language of mappings", name)
}

func (c *compiler) selection(of evaluator, name string, has bool) evaluator {
	key := value{kind: tokenString, text: []byte(name)}
	return func(d *Mapped) (value, error) {
		v, err := of(d)
		if err != nil {
			return value{}, err
		}
		if v, err = d.get(v, key); has {
			v = truth(!v.absent())
		}
		return v, err
	}
}

func (c *compiler) listOf(elements []celast.Expr) evaluator {
	if items, ok := literals(elements); ok { // never changed: appendTo copies a full list
		v := value{kind: tokenArray, items: items}
		return func(*Mapped) (value, error) { return v, nil }
	}
	list := c.compileAll(elements)
	return func(d *Mapped) (value, error) {
		items := make([]value, len(list))
		for i, e := range list {
			var err error
			if items[i], err = e(d); err != nil {
				return value{}, err
			}
		}
		return value{kind: tokenArray, items: items}, d.spend(len(items))
	}
}

// literals returns the values of a list of constants.
func literals(elements []celast.Expr) ([]value, bool) {
	items := make([]value, len(elements))
	for i, e := range elements {
		var ok bool
		if items[i], ok = literal(e); !ok {
			return nil, false
		}
	}
	return items, true
}

func (c *compiler) compileAll(list []celast.Expr) []evaluator {
	out := make([]evaluator, len(list))
	for i, e := range list {
		out[i] = c.compile(e)
	}
	return out
}

// bind puts a variable of a loop in scope; the result takes it out again.
func (c *compiler) bind(name string) (slot int, unbind func()) {
	before, had := c.slots[name]
	slot = c.depth
	c.slots[name] = slot
	c.depth++
	return slot, func() {
		c.depth--
		delete(c.slots, name)
		if had {
			c.slots[name] = before
		}
	}
}

// loop is what the macros all, exists, exists_one, map and filter expand to.
func (c *compiler) loop(e celast.Expr) evaluator {
	l := e.AsComprehension()
	if l.HasIterVar2() {
		return c.refuse(e, "loops with two variables are not part of the language of mappings")
	}
	over, first := c.compile(l.IterRange()), c.compile(l.AccuInit())
	total, unbind := c.bind(l.AccuVar())
	outer := c.total
	c.total = l.AccuVar()
	defer func() {
		c.total = outer
		unbind()
	}()
	item, unbindItem := c.bind(l.IterVar())
	goOn, step := c.compile(l.LoopCondition()), c.compile(l.LoopStep())
	unbindItem()
	result := c.compile(l.Result())
	return func(d *Mapped) (value, error) {
		v, err := over(d)
		if err != nil {
			return value{}, err
		}
		items, err := d.list(v)
		if err != nil {
			return value{}, err
		}
		for len(d.vars) <= item {
			d.vars = append(d.vars, value{})
		}
		if d.vars[total], err = first(d); err != nil {
			return value{}, err
		}
		for _, d.vars[item] = range items {
			if v, err = goOn(d); err != nil || !v.truth {
				break
			}
			if v, err = step(d); err != nil {
				break
			}
			d.vars[total] = v
		}
		if err != nil {
			return value{}, err
		}
		return result(d)
	}
}

func (c *compiler) call(e celast.Expr) evaluator {
	call := e.AsCall()
	args := call.Args()
	if call.IsMemberFunction() {
		args = append([]celast.Expr{call.Target()}, args...)
	}
	name := call.FunctionName()
	if name == operators.Add && args[0].Kind() == celast.IdentKind && args[0].AsIdent() == c.total {
		return c.appendTo(args[0], args[1])
	}
	if name == "matches" {
		return c.matches(e, args)
	}
	list := c.compileAll(args)
	switch name {
	case operators.LogicalAnd:
		return logical(list[0], list[1], false)
	case operators.LogicalOr:
		return logical(list[0], list[1], true)
	case operators.Conditional:
		return choose(list)
	}
	f, ok := functions()[name]
	if !ok {
		return c.refuse(e, "%s is not part of the language of mappings", describeCall(name))
	}
	return func(d *Mapped) (value, error) {
		base := len(d.operands)
		for _, arg := range list {
			v, err := arg(d)
			if err != nil {
				d.operands = d.operands[:base]
				return value{}, err
			}
			d.operands = append(d.operands, v)
		}
		v, err := f(d, d.operands[base:])
		if d.operands = d.operands[:base]; err != nil {
			return value{}, err
		}
		return v, d.spend(1)
	}
}

// appendTo is the step of map and filter, or of exists_one, which counts. Only the loop holds the list, so that it may
// grow in place.
func (c *compiler) appendTo(list, elements celast.Expr) evaluator {
	to, more := c.compile(list), c.compile(elements)
	return func(d *Mapped) (value, error) {
		v, err := to(d)
		if err != nil {
			return value{}, err
		}
		w, err := more(d)
		if err != nil {
			return value{}, err
		}
		if v.kind != tokenArray {
			return add(d, []value{v, w})
		}
		v.items = append(v.items, w.items...)
		return v, nil
	}
}

// logical is && or ||: decides is the operand that decides alone, even if the other one is an error.
func logical(a, b evaluator, decides bool) evaluator {
	return func(d *Mapped) (value, error) {
		left, errLeft := condition(d, a)
		if errLeft == nil && left == decides {
			return truth(decides), nil
		}
		right, err := condition(d, b)
		if err == nil && right == decides {
			return truth(decides), nil
		}
		if errLeft != nil {
			err = errLeft
		}
		return truth(!decides), err
	}
}

// condition evaluates what must be true or false.
func condition(d *Mapped, e evaluator) (bool, error) {
	v, err := e(d)
	switch {
	case err != nil:
		return false, err
	case v.kind <= tokenNull:
		return false, errMissing
	case v.kind != tokenBool:
		return false, fmt.Errorf("a condition is %s where it must be true or false", v.kind)
	}
	return v.truth, nil
}

func choose(list []evaluator) evaluator {
	return func(d *Mapped) (value, error) {
		yes, err := condition(d, list[0])
		switch {
		case err != nil:
			return value{}, err
		case yes:
			return list[1](d)
		}
		return list[2](d)
	}
}

// path returns the path of an expression that is nothing but a member, else nothing.
func (c *compiler) path(e celast.Expr) string {
	switch e.Kind() {
	case celast.IdentKind:
		return e.AsIdent()
	case celast.SelectKind:
		s := e.AsSelect()
		if of := c.path(s.Operand()); of != "" && !s.IsTestOnly() {
			return of + "." + s.FieldName()
		}
	}
	return ""
}

// among recognises member == constant and member in [constants].
func (c *compiler) among(e celast.Expr) *members {
	if e.Kind() != celast.CallKind {
		return nil
	}
	call := e.AsCall()
	args := call.Args()
	switch call.FunctionName() {
	case operators.Equals:
		if _, constant := literal(args[0]); constant {
			return c.amongThese(args[1], args[:1])
		}
		return c.amongThese(args[0], args[1:])
	case operators.In:
		if args[1].Kind() == celast.ListKind {
			return c.amongThese(args[0], args[1].AsList().Elements())
		}
	}
	return nil
}

func (c *compiler) amongThese(member celast.Expr, list []celast.Expr) *members {
	path := c.path(member)
	values, ok := literals(list)
	if !ok || path == "" {
		return nil
	}
	return &members{path: path, member: c.compile(member), values: values}
}

// first recognises a condition that begins with such a question, as in record.kind == "order" && record.paid == true.
func (c *compiler) first(e celast.Expr) *members {
	for e.Kind() == celast.CallKind && e.AsCall().FunctionName() == operators.LogicalAnd {
		e = e.AsCall().Args()[0]
	}
	return c.among(e)
}

// truncated returns a number without its fraction.
func truncated(r *big.Rat) *big.Rat {
	return new(big.Rat).SetInt(new(big.Int).Quo(r.Num(), r.Denom()))
}
