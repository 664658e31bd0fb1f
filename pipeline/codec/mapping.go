package codec

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"github.com/goccy/go-yaml/ast"

	"zyklus/pipeline"
)

// Mapping says how JSON objects of any shape become events. It never changes, so that many decoders may share it.
type Mapping struct {
	name  string
	time  *expression // for dead letters of records that no rule takes; may be nil
	unit  *timeUnit
	lets  []*expression
	rules []rule   // in the order in which they are tried: ignore, then events
	asks  *members // the member that most rules ask first, by which records are told apart; nil if fewer than two do
}

// Name is the mapping's name, as it stands in causes.
func (m *Mapping) Name() string { return m.name }

// rule is one of ignore or events. Expressions that are not given are nil.
type rule struct {
	name   string
	when   *expression
	ignore bool
	kind   pipeline.Kind

	fields
	orderID, amount *expression
	minor           bool // amount is in minor units
	lines           *lineRule
}

// fields may be given once for all events, and again for one.
type fields struct {
	time                              *expression
	unit                              *timeUnit
	customer, anonymous, id, currency *expression
}

// lineRule says how elements of a list become lines.
type lineRule struct {
	from, product, category, quantity, price, amount *expression
	minorPrice, minorAmount                          bool
	priced                                           bool // a price or amount is given
}

// ParseMapping reads and checks a mapping:
//
//	mapping: shop                       # its name
//	time: record.created_at             # RFC 3339, a date, or Unix time; for all events
//	time_unit: ms                       # s, ms, us or ns; without it seconds or milliseconds by size
//	customer: record.user.id            # the user id; anonymous: is used where it is missing
//	let:                                # names for what is needed more than once
//	  order: record.payload.order
//	ignore:                             # tried first; such records are counted, not kept
//	  - when: record.test == true
//	events:                             # the first whose condition holds
//	  - when: record.kind == "order"
//	    type: order.completed
//	    id: record.event_id             # without it only equal records are one event
//	    order_id: order.id
//	    amount: order.total - order.tax.orValue(0)    # or amount_minor
//	    currency: order.currency
//	    lines:                          # product, category, quantity, price or amount (price_minor, amount_minor)
//	      from: order.items
//	      product: line.sku
//	      price: line.price
//	  - when: record.kind in ["page", "screen"]
//	    type: touch.page
//
// Expressions are CEL with the variables record (the JSON), key (text), headers (texts by name), those of let that stand
// before, and in lines also line; a member that is missing is null, and numbers are exact decimals. The error is *Problems; file is what it calls the
// text.
func ParseMapping(file string, text []byte) (*Mapping, error) {
	p := mappingParser{yamlReader: yamlReader{text: text}}
	var err error
	if p.env, err = language(); err != nil {
		return nil, err
	}
	m, err := p.mapping()
	if err != nil {
		return nil, err
	}
	if len(p.problems) > 0 {
		slices.SortStableFunc(p.problems, func(a, b Problem) int { return cmp.Or(a.Line-b.Line, a.Column-b.Column) })
		return nil, &Problems{File: file, List: p.problems}
	}
	return m, nil
}

type mappingParser struct {
	yamlReader
	env, lineEnv *cel.Env // the latter for the fields of lines
	lets         []string
}

// mapping reads the whole. The error is one of ours.
func (p *mappingParser) mapping() (*Mapping, error) {
	body := p.root()
	if body == nil {
		return nil, nil
	}
	m := &Mapping{}
	var common fields
	var ignore, events []ast.Node
	given := map[string]bool{}
	list := p.section(body, "", "mapping", "description", "let", "time", "time_unit", "customer", "anonymous", "id", "currency",
		"ignore", "events")
	if err := p.letAll(m, list); err != nil {
		return nil, err
	}
	for _, f := range list {
		given[f.key] = true
		switch f.key {
		case "let": // has been read
		case "mapping":
			m.name = p.word(f)
		case "description":
			p.word(f)
		case "ignore":
			ignore = p.list(f)
		case "events":
			events = p.list(f)
		default:
			p.common(&common, f)
		}
	}
	for _, key := range []string{"mapping", "events"} {
		if !given[key] {
			p.add(place(body), "", "%s is missing: add the key", key)
		}
	}
	m.time, m.unit = common.time, common.unit
	for i, n := range ignore {
		m.rules = append(m.rules, p.ignoreRule(n, fmt.Sprintf("ignore[%d]", i)))
	}
	for i, n := range events {
		m.rules = append(m.rules, p.eventRule(n, fmt.Sprintf("events[%d]", i), common))
	}
	if len(p.problems) == 0 {
		p.reach(m, append(ignore, events...))
		m.asks = m.discriminator()
	}
	return m, nil
}

// discriminator returns the member that most rules ask first, the earliest of those that are asked as often.
func (m *Mapping) discriminator() (most *members) {
	asked := map[string]int{}
	for i := range m.rules {
		if first := m.rules[i].when.first; first != nil && first.path != "key" { // which may be a customer's id
			asked[first.path]++
		}
	}
	for i := range m.rules {
		first := m.rules[i].when.first
		if first != nil && asked[first.path] > 1 && (most == nil || asked[first.path] > asked[most.path]) {
			most = first
		}
	}
	return most
}

// letAll reads the names of let, of which each may use those before it, and then declares line. The error is one of ours.
func (p *mappingParser) letAll(m *Mapping, list []field) (err error) {
	for _, f := range list {
		if f.key != "let" {
			continue
		}
		for _, g := range p.section(f.value, f.where) {
			if !letName.MatchString(g.key) || slices.Contains(reserved(), g.key) {
				p.add(g.at, g.where, "is no name for a variable: write a word of a-z, 0-9 and _ that CEL has no use for")
				continue
			}
			m.lets = append(m.lets, p.expression(g, p.env, wantAny))
			p.lets = append(p.lets, g.key)
			if p.env, err = p.env.Extend(cel.Variable(g.key, cel.DynType)); err != nil {
				return fmt.Errorf("declare %s: %w", g.key, err)
			}
		}
	}
	if p.lineEnv, err = p.env.Extend(cel.Variable("line", cel.DynType)); err != nil {
		return fmt.Errorf("declare line: %w", err)
	}
	return nil
}

var letName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// reserved lists the words that let may not declare.
func reserved() []string {
	return []string{"record", "key", "headers", "line", "in", "true", "false", "null", "as", "break", "const", "continue", "else",
		"for", "function", "if", "import", "let", "loop", "package", "namespace", "return", "var", "void", "while",
		"int", "uint", "double", "bool", "string", "bytes", "list", "map", "type", "dyn", "optional"}
}

// common takes a field that may be given for all events.
func (p *mappingParser) common(to *fields, f field) {
	switch f.key {
	case "time":
		to.time = p.varying(f)
	case "time_unit":
		to.unit = p.timeUnit(f)
	case "customer":
		to.customer = p.varying(f)
	case "anonymous":
		to.anonymous = p.varying(f)
	case "id":
		to.id = p.varying(f)
	case "currency":
		to.currency = p.expression(f, p.env, wantText)
	}
}

func (p *mappingParser) timeUnit(f field) *timeUnit {
	units := map[string]timeUnit{"s": unitSecond, "ms": unitMillisecond, "us": unitMicrosecond, "ns": unitNanosecond}
	name := p.word(f)
	unit, ok := units[name]
	if !ok && name != "" {
		p.add(place(f.value), f.where, "want s, ms, us or ns")
	}
	return &unit
}

// expression compiles the value of a field; nil after noting a problem.
func (p *mappingParser) expression(f field, env *cel.Env, w want) *expression {
	text, at := p.formula(f)
	if text == "" {
		if f.value.Type() == ast.StringType {
			p.add(at, f.where, "is empty: want an expression, such as record.user.id")
		}
		return nil
	}
	e, list := compile(env, text, w, p.lets)
	for _, q := range list {
		where := position{line: at.line + q.at.line - 1, column: q.at.column}
		if q.at.line == 1 || at.column > 1 && at.line != place(f.value).line {
			where.column += at.column - 1
		}
		p.add(where, f.where, "%s", q.reason)
	}
	if e == nil || !e.constant {
		return e
	}
	if _, err := e.eval(&Mapped{}); err != nil {
		p.add(at, f.where, "is always an error: %v", err)
		return nil
	}
	return e
}

// varying is expression for what cannot be the same for all records.
func (p *mappingParser) varying(f field) *expression {
	e := p.expression(f, p.env, wantText)
	if e != nil && e.constant {
		p.add(place(f.value), f.where, "is the same for every record: name a member of it, such as record.%s", f.key)
	}
	return e
}

func (p *mappingParser) ignoreRule(n ast.Node, where string) rule {
	r := rule{ignore: true, name: where}
	for _, f := range p.section(n, where, "name", "when") {
		switch f.key {
		case "name":
			r.name = p.word(f)
		case "when":
			r.when = p.expression(f, p.env, wantTruth)
		}
	}
	if r.when == nil && !p.has(where+".when") {
		p.add(place(n), where, "when is missing: add the condition under which to ignore a record")
	}
	return r
}

// has reports whether a problem with a part was noted.
func (p *mappingParser) has(where string) bool {
	return slices.ContainsFunc(p.problems, func(q Problem) bool { return q.Where == where })
}

func (p *mappingParser) eventRule(n ast.Node, where string, common fields) rule {
	r := rule{fields: common}
	given := map[string]position{}
	list := p.section(n, where, "name", "when", "type", "time", "time_unit", "customer", "anonymous", "id", "order_id",
		"amount", "amount_minor", "currency", "lines")
	if list == nil {
		return r
	}
	for _, f := range list {
		given[f.key] = f.at
		switch f.key {
		case "name":
			r.name = p.word(f)
		case "when":
			r.when = p.expression(f, p.env, wantTruth)
		case "type":
			r.kind = p.kind(f)
		case "order_id":
			r.orderID = p.varying(f)
		case "amount", "amount_minor":
			r.amount, r.minor = p.expression(f, p.env, wantText), f.key == "amount_minor"
		case "lines":
			r.lines = p.lineRule(f)
		default:
			p.common(&r.fields, f)
		}
	}
	if r.name == "" {
		r.name = fmt.Sprintf("%s (%s)", where, r.kind)
	}
	p.complete(&r, n, where, given)
	return r
}

func (p *mappingParser) kind(f field) pipeline.Kind {
	name := p.word(f)
	var names []string
	for k := pipeline.KindInvalid + 1; k.Valid(); k++ {
		if k.String() == name {
			return k
		}
		names = append(names, k.String())
	}
	if name != "" {
		p.add(place(f.value), f.where, "%q is not an event type: choose one of %s", name, strings.Join(names, ", "))
	}
	return pipeline.KindInvalid
}

// complete notes what an event lacks and what it has no use for.
func (p *mappingParser) complete(r *rule, n ast.Node, where string, given map[string]position) {
	lacks := func(key, what string) { p.add(place(n), where, "%s is missing: add %s", key, what) }
	for _, key := range []string{"when", "type"} {
		if _, ok := given[key]; !ok {
			lacks(key, map[string]string{"when": "the condition, or true for all that is left", "type": "the event type"}[key])
		}
	}
	if !r.kind.Valid() {
		return
	}
	if r.time == nil && !p.has(where+".time") && !p.has("time") {
		lacks("time", "it here, or once at the top for all events")
	}
	if r.kind != pipeline.KindHeartbeat && r.customer == nil && r.anonymous == nil && !p.has(where+".customer") && !p.has("customer") &&
		!p.has(where+".anonymous") && !p.has("anonymous") {
		lacks("customer", "it or anonymous here, or once at the top for all events")
	}
	if _, ok := given["order_id"]; r.kind.Order() && !ok {
		lacks("order_id", "the id by which refunds find the order")
	}
	_, major := given["amount"]
	_, minor := given["amount_minor"]
	sale := r.kind == pipeline.KindOrderCompleted || r.kind == pipeline.KindOrderUpdated
	switch {
	case major && minor:
		p.add(given["amount_minor"], where, "both amount and amount_minor are given: keep one")
	case sale && !major && !minor && (r.lines == nil || !r.lines.priced) && !p.has(where+".lines"):
		lacks("amount", "it, or amount_minor, or lines with a price or amount")
	}
	useless := []string{"order_id", "amount", "amount_minor", "lines"}
	switch {
	case r.kind == pipeline.KindOrderCancelled:
		useless = useless[1:]
	case r.kind.Order():
		return
	}
	for _, key := range useless {
		if at, ok := given[key]; ok {
			p.add(at, where+"."+key, "has no meaning for %s: remove it", r.kind)
		}
	}
}

func (p *mappingParser) lineRule(f field) *lineRule {
	l := &lineRule{}
	given := map[string]bool{}
	list := p.section(f.value, f.where, "from", "product", "category", "quantity", "price", "price_minor", "amount", "amount_minor")
	for _, g := range list {
		given[g.key] = true
		l.priced = l.priced || strings.HasPrefix(g.key, "price") || strings.HasPrefix(g.key, "amount")
		switch g.key {
		case "from":
			l.from = p.expression(g, p.env, wantList)
		case "product":
			l.product = p.expression(g, p.lineEnv, wantText)
		case "category":
			l.category = p.expression(g, p.lineEnv, wantText)
		case "quantity":
			l.quantity = p.expression(g, p.lineEnv, wantText)
		case "price", "price_minor":
			l.price, l.minorPrice = p.expression(g, p.lineEnv, wantText), g.key == "price_minor"
		case "amount", "amount_minor":
			l.amount, l.minorAmount = p.expression(g, p.lineEnv, wantText), g.key == "amount_minor"
		}
	}
	for _, key := range []string{"price", "amount"} {
		if given[key] && given[key+"_minor"] {
			p.add(f.at, f.where, "both %s and %[1]s_minor are given: keep one", key)
		}
	}
	if list != nil && !given["from"] {
		p.add(f.at, f.where, "from is missing: add the list that the lines come from")
	}
	return l
}
