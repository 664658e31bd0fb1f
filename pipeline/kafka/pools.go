package kafka

import (
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Bounds of what a recordPool holds while it is not lent: some 48 MB.
const (
	pooledBytes   = 32 << 20
	pooledRecords = 96 << 10 // of 170 bytes each
)

// recordPool lends the feed's client the memory of fetched batches: the records and their decompressed bytes, some 450
// bytes an event. A batch's memory comes back, zeroed, when the last of its records is recycled; what is not recycled
// is left to the collector. A sync.Pool would be emptied by every second collection, which is sooner than a batch comes
// back.
type recordPool struct {
	bytes   freeList[byte]
	records freeList[kgo.Record]
}

var (
	_ kgo.PoolDecompressBytes = (*recordPool)(nil)
	_ kgo.PoolRecords         = (*recordPool)(nil)
)

func newRecordPool() *recordPool {
	return &recordPool{bytes: freeList[byte]{max: pooledBytes}, records: freeList[kgo.Record]{max: pooledRecords}}
}

// GetDecompressBytes implements kgo.PoolDecompressBytes. A slice that is too small grows, and comes back grown.
func (p *recordPool) GetDecompressBytes(compressed []byte, _ kgo.CompressionCodecType) []byte {
	return p.bytes.get(6 * len(compressed))
}

// PutDecompressBytes implements kgo.PoolDecompressBytes.
func (p *recordPool) PutDecompressBytes(b []byte) { p.bytes.put(b) }

// GetRecords implements kgo.PoolRecords.
func (p *recordPool) GetRecords(n int) []kgo.Record { return p.records.get(n) }

// PutRecords implements kgo.PoolRecords.
func (p *recordPool) PutRecords(r []kgo.Record) { p.records.put(r) }

// freeList keeps slices for use again, up to max elements together. Safe for concurrent use.
type freeList[T any] struct {
	max int

	mu   sync.Mutex
	free [][]T
	held int // elements of all free slices
}

// get returns an empty slice, with room for n elements if it has to be made.
func (l *freeList[T]) get(n int) []T {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := len(l.free) - 1
	if last < 0 {
		return make([]T, 0, n)
	}
	s := l.free[last]
	l.free[last] = nil
	l.free = l.free[:last]
	l.held -= cap(s)
	return s[:0]
}

func (l *freeList[T]) put(s []T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held+cap(s) <= l.max {
		l.free = append(l.free, s)
		l.held += cap(s)
	}
}

// turn is a lock for who waits for brokers while holding it: a mutex is for moments.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

func (t turn) take() { t <- struct{}{} }
func (t turn) give() { <-t }
