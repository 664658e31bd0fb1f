package codec

import "bytes"

// node is one value of a JSON text. The nodes of a text stand in its order: behind an object or array come its members,
// each followed by what it holds.
type node struct {
	token
	name []byte // of a member; nil for elements and the whole
	next int32  // index of the node that follows this one and all that it holds
	size int32  // number of members or elements
}

// scanTree reads the object that the scanner stands at, and all that it holds, into d.nodes.
func (d *Mapped) scanTree() {
	d.nodes = d.nodes[:0]
	d.scanNode(nil)
}

// scanNode reads the value that the scanner stands at. Its recursion is bounded by maxDepth.
func (d *Mapped) scanNode(name []byte) {
	s, at := &d.scan, len(d.nodes)
	d.nodes = append(d.nodes, node{name: name})
	n := node{name: name}
	switch s.peek() {
	case '{':
		n.token = token{start: int32(s.i), kind: tokenObject}
		s.open()
		for member, ok := s.member(true); ok; member, ok = s.member(false) {
			d.scanNode(d.name(member))
			n.size++
		}
		n.end = int32(s.i)
	case '[':
		n.token = token{start: int32(s.i), kind: tokenArray}
		s.open()
		for ok := s.element(true); ok; ok = s.element(false) {
			d.scanNode(nil)
			n.size++
		}
		n.end = int32(s.i)
	default:
		n.token = s.value()
	}
	n.next = int32(len(d.nodes))
	d.nodes[at] = n
}

// member returns the index of an object's member, the last of equal names; 0 if there is none.
func (d *Mapped) member(object int32, name []byte) (at int32, err error) {
	o := &d.nodes[object]
	if err = d.spend(int(o.size)); err != nil {
		return 0, err
	}
	for i := object + 1; i < o.next; i = d.nodes[i].next {
		if bytes.Equal(d.nodes[i].name, name) {
			at = i
		}
	}
	return at, nil
}

// nodeValue returns what a node stands for.
func (d *Mapped) nodeValue(at int32) (value, error) {
	n := &d.nodes[at]
	switch n.kind {
	case tokenBool:
		return value{kind: tokenBool, truth: n.end-n.start == int32(len("true"))}, nil
	case tokenNumber:
		return value{kind: tokenNumber, text: d.scan.b[n.start:n.end]}, nil
	case tokenString:
		if n.start == n.end {
			return value{kind: tokenString}, nil
		}
		text, err := d.readText("a text", n.token)
		return value{kind: tokenString, text: text}, err
	case tokenArray, tokenObject:
		return value{kind: n.kind, node: at, json: true}, nil
	}
	return value{kind: tokenNull}, nil
}
