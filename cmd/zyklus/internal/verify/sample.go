package verify

import (
	"container/heap"

	"github.com/cespare/xxhash/v2"
)

// Sample says which customers are verified. Without All, IDs and Share it is those whose ids have the least hashes, so
// that it is the same customers every time.
type Sample struct {
	All   bool
	IDs   []string
	Share float64 // of all customers, above 0 and at most 1; 0 for Count
	Count int     // of customers in all partitions together, about
}

// picker picks the customers of one partition. While it is open it learns who there is; then the choice stands.
type picker struct {
	all   bool
	ids   map[string]bool // nil if not by id
	limit uint64          // greatest hash that is picked
	room  int             // customers to pick while open; 0 if the limit is given
	least greatest        // picked while open
}

// hashed is a customer by hash.
type hashed struct {
	hash uint64
	id   string
}

// greatest is a heap with the greatest hash on top.
type greatest []hashed

func (g greatest) Len() int           { return len(g) }
func (g greatest) Less(a, b int) bool { return g[a].hash > g[b].hash }
func (g greatest) Swap(a, b int)      { g[a], g[b] = g[b], g[a] }

// Push implements heap.Interface.
func (g *greatest) Push(x any) { *g = append(*g, x.(hashed)) }

// Pop implements heap.Interface.
func (g *greatest) Pop() any {
	last := (*g)[len(*g)-1]
	*g = (*g)[:len(*g)-1]
	return last
}

func (s *Sample) picker(partitions int) *picker {
	p := &picker{all: s.All}
	switch {
	case s.All:
	case len(s.IDs) > 0:
		p.ids = map[string]bool{}
		for _, id := range s.IDs {
			p.ids[id] = true
		}
	case s.Share > 0:
		p.limit = ^uint64(0)
		if s.Share < 1 {
			p.limit = uint64(s.Share * (1 << 63) * 2)
		}
	default:
		p.limit, p.room = ^uint64(0), max(1, (s.Count+partitions-1)/partitions)
	}
	return p
}

// picks reports whether a customer is picked, as things stand.
func (p *picker) picks(id []byte) bool {
	switch {
	case p.all:
		return true
	case p.ids != nil:
		return p.ids[string(id)]
	}
	return xxhash.Sum64(id) <= p.limit
}

// add takes a new customer that is picked, and returns one who is not any more to make room.
func (p *picker) add(id string) (dropped string, drop bool) {
	if p.room == 0 {
		return "", false
	}
	heap.Push(&p.least, hashed{xxhash.Sum64String(id), id})
	if len(p.least) <= p.room {
		return "", false
	}
	dropped = heap.Pop(&p.least).(hashed).id
	p.limit = p.least[0].hash
	return dropped, true
}

// close ends the choice.
func (p *picker) close() {
	if p.room > 0 && len(p.least) == p.room {
		p.limit = p.least[0].hash
	}
	p.room, p.least = 0, nil
}
