package pipeline

import (
	"bytes"
	"math/bits"

	"github.com/cespare/xxhash/v2"
)

// slab holds the records of customers at rest: bytes in cells of a few sizes, found by the customer's id. It holds
// no pointers per customer, so that the garbage collector has nothing to walk.
//
// A customer is named by its slot, which never changes. Slots are handed out in order of first appearance.
type slab struct {
	classes []class
	cells   []cell   // by slot
	hashes  []uint64 // by slot
	table   []uint32 // open addressing: slot+1, 0 is free; length is a power of two
	id      func(record []byte) []byte
	bytes   int64 // in use by records
	held    int64 // reserved from memory
}

// cell says where a slot's record lies.
type cell struct {
	index uint32 // within the class
	size  uint32 // bytes in use
	class uint8
}

// class hands out cells of one size from chunks of chunkBytes.
type class struct {
	size     int
	perChunk int
	chunks   [][]byte
	free     []uint32
	used     uint32
}

const (
	chunkBytes   = 1 << 18
	smallestCell = 48
	// MaxRecord is the greatest size of a customer's record at rest, in bytes.
	MaxRecord = 1 << 20
)

// newSlab returns an empty slab; id finds the customer id within a record, to tell equal hashes apart.
func newSlab(id func(record []byte) []byte) *slab {
	s := &slab{id: id, table: make([]uint32, 1024)}
	for size := smallestCell; size < MaxRecord*5/4; size += max(16, size/8) &^ 7 {
		s.classes = append(s.classes, class{size: size, perChunk: max(1, chunkBytes/size)})
	}
	return s
}

// len returns the number of customers.
func (s *slab) len() int { return len(s.cells) }

// find returns the slot of a customer.
func (s *slab) find(id []byte) (slot uint32, ok bool) {
	h := xxhash.Sum64(id)
	mask := uint64(len(s.table) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		t := s.table[i]
		if t == 0 {
			return 0, false
		}
		if s.hashes[t-1] == h && bytes.Equal(s.id(s.get(t-1)), id) {
			return t - 1, true
		}
	}
}

// get returns the record of a slot. It is valid until the slot is put again.
func (s *slab) get(slot uint32) []byte {
	c := &s.cells[slot]
	return s.at(c)[:c.size:c.size]
}

func (s *slab) at(c *cell) []byte {
	k := &s.classes[c.class]
	chunk := k.chunks[int(c.index)/k.perChunk]
	begin := int(c.index) % k.perChunk * k.size
	return chunk[begin : begin+k.size]
}

// add stores the record of a customer that is not there yet and returns its slot.
func (s *slab) add(id, record []byte) uint32 {
	if len(s.cells)*8 >= len(s.table)*5 {
		s.grow()
	}
	slot := uint32(len(s.cells))
	h := xxhash.Sum64(id)
	s.cells = append(s.cells, s.alloc(len(record)))
	s.hashes = append(s.hashes, h)
	s.index(slot, h)
	copy(s.at(&s.cells[slot]), record)
	return slot
}

// put replaces the record of a slot. The record must not alias the slab.
func (s *slab) put(slot uint32, record []byte) {
	c := &s.cells[slot]
	k := &s.classes[c.class]
	if len(record) <= k.size && (c.class == 0 || len(record) > s.classes[c.class-1].size) {
		s.bytes += int64(len(record)) - int64(c.size)
		c.size = uint32(len(record))
	} else {
		s.bytes -= int64(c.size)
		k.free = append(k.free, c.index)
		*c = s.alloc(len(record))
	}
	copy(s.at(c), record)
}

func (s *slab) alloc(size int) cell {
	n := s.classFor(size)
	k := &s.classes[n]
	s.bytes += int64(size)
	if f := len(k.free); f > 0 {
		index := k.free[f-1]
		k.free = k.free[:f-1]
		return cell{index: index, size: uint32(size), class: uint8(n)}
	}
	if int(k.used) == len(k.chunks)*k.perChunk {
		k.chunks = append(k.chunks, make([]byte, k.perChunk*k.size))
		s.held += int64(k.perChunk * k.size)
	}
	k.used++
	return cell{index: k.used - 1, size: uint32(size), class: uint8(n)}
}

func (s *slab) classFor(size int) int {
	lo, hi := 0, len(s.classes)-1
	for lo < hi {
		mid := (lo + hi) / 2
		if s.classes[mid].size < size {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if s.classes[lo].size < size {
		panic("BUG: a record larger than MaxRecord reached the slab")
	}
	return lo
}

func (s *slab) index(slot uint32, h uint64) {
	mask := uint64(len(s.table) - 1)
	i := h & mask
	for s.table[i] != 0 {
		i = (i + 1) & mask
	}
	s.table[i] = slot + 1
}

func (s *slab) grow() {
	s.table = make([]uint32, 1<<bits.Len(uint(len(s.table))))
	for slot, h := range s.hashes {
		s.index(uint32(slot), h)
	}
}
