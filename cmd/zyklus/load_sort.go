package main

import (
	"bufio"
	"cmp"
	"container/heap"
	varint "encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"zyklus/pipeline"
)

const (
	sortMemory = 64 << 20 // bytes of items that are sorted at once
	sortFanIn  = 64       // files that are merged at once
)

// sorter brings items of any number into the order of their time, and equal times into that of the files, within bounded
// memory: sorted runs go to temporary files, which are merged. It keeps file, line, time, kind, key and value.
type sorter struct {
	dir   string
	files []string // names of the items' files
	items []sortItem
	bytes int
	count int64
	runs  [][]string // paths by level: a run of level n is of sortFanIn of level n-1
}

type sortItem struct {
	item
	number int64 // of the item, in the order of the files
}

func compareItems(a, b *sortItem) int {
	return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.number, b.number))
}

func newSorter() (*sorter, error) {
	dir, err := os.MkdirTemp("", "zyklus-load-")
	if err != nil {
		return nil, fmt.Errorf("sort: %w", err)
	}
	return &sorter{dir: dir}, nil
}

// close removes the temporary files.
func (s *sorter) close() { _ = os.RemoveAll(s.dir) }

// add takes an item, with its bytes.
func (s *sorter) add(it *item) error {
	s.items = append(s.items, sortItem{*it, s.count})
	s.count++
	if s.bytes += len(it.key) + len(it.value) + 200; s.bytes < sortMemory {
		return nil
	}
	return s.spill()
}

// spill writes the items in memory as a run.
func (s *sorter) spill() error {
	slices.SortFunc(s.items, func(a, b sortItem) int { return compareItems(&a, &b) })
	i := 0
	err := s.writeRun(0, func() (*sortItem, error) {
		if i == len(s.items) {
			return nil, io.EOF
		}
		i++
		return &s.items[i-1], nil
	})
	clear(s.items)
	s.items, s.bytes = s.items[:0], 0
	return err
}

// writeRun writes what next returns as a run of a level, and merges the level once it is full.
func (s *sorter) writeRun(level int, next func() (*sortItem, error)) error {
	f, err := os.CreateTemp(s.dir, "run-")
	if err != nil {
		return fmt.Errorf("sort: %w", err)
	}
	w := bufio.NewWriterSize(f, 1<<20)
	var b []byte
	for {
		it, err := next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			b = s.append(b[:0], it)
			_, err = w.Write(b)
		}
		if err != nil {
			_ = f.Close()
			return fmt.Errorf("sort: %w", err)
		}
	}
	if err := errors.Join(w.Flush(), f.Close()); err != nil {
		return fmt.Errorf("sort: %w", err)
	}
	if level == len(s.runs) {
		s.runs = append(s.runs, nil)
	}
	if s.runs[level] = append(s.runs[level], f.Name()); len(s.runs[level]) < sortFanIn {
		return nil
	}
	full := s.runs[level]
	s.runs[level] = nil
	m, err := s.merge(full)
	if err != nil {
		return err
	}
	defer m.close()
	if err := s.writeRun(level+1, m.next); err != nil {
		return err
	}
	for _, path := range full {
		_ = os.Remove(path)
	}
	return nil
}

// each calls do with all items in order. Their bytes are the callee's.
func (s *sorter) each(do func(item) error) error {
	if err := s.spill(); err != nil {
		return err
	}
	s.items = nil
	m, err := s.merge(slices.Concat(s.runs...))
	if err != nil {
		return err
	}
	defer m.close()
	for {
		it, err := m.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("sort: %w", err)
		}
		if err := do(it.item); err != nil {
			return err
		}
	}
}

func (s *sorter) append(b []byte, it *sortItem) []byte {
	file := slices.Index(s.files, it.file)
	if file < 0 {
		file = len(s.files)
		s.files = append(s.files, it.file)
	}
	for _, n := range [...]int64{it.at, it.number, int64(file), it.line, int64(it.kind), int64(len(it.key)), int64(len(it.value))} {
		b = varint.AppendVarint(b, n)
	}
	return append(append(b, it.key...), it.value...)
}

// sortRun is a run that is being read.
type sortRun struct {
	r      *bufio.Reader
	f      *os.File
	sorter *sorter
	head   sortItem
}

// read reads the next item into head; io.EOF if there is none.
func (r *sortRun) read() error {
	var n [7]int64
	for i := range n {
		v, err := varint.ReadVarint(r.r)
		if err != nil {
			return err
		}
		n[i] = v
	}
	b := make([]byte, n[5]+n[6])
	if _, err := io.ReadFull(r.r, b); err != nil {
		return fmt.Errorf("read a temporary file: %w", io.ErrUnexpectedEOF)
	}
	r.head = sortItem{number: n[1], item: item{at: n[0], file: r.sorter.files[n[2]], line: n[3], kind: pipeline.Kind(n[4]), value: b[n[5]:]}}
	if n[5] > 0 {
		r.head.key = b[:n[5]:n[5]]
	}
	return nil
}

// merger merges runs. It is a heap of them by their heads.
type merger struct {
	runs []*sortRun
	out  sortItem
}

func (s *sorter) merge(paths []string) (*merger, error) {
	m := &merger{}
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			m.close()
			return nil, fmt.Errorf("sort: %w", err)
		}
		r := &sortRun{r: bufio.NewReaderSize(f, 64<<10), f: f, sorter: s}
		switch err := r.read(); {
		case errors.Is(err, io.EOF):
			_ = f.Close()
			continue
		case err != nil:
			_ = f.Close()
			m.close()
			return nil, fmt.Errorf("sort: %w", err)
		}
		m.runs = append(m.runs, r)
	}
	heap.Init(m)
	return m, nil
}

func (m *merger) next() (*sortItem, error) {
	if len(m.runs) == 0 {
		return nil, io.EOF
	}
	r := m.runs[0]
	m.out = r.head
	switch err := r.read(); {
	case err == nil:
		heap.Fix(m, 0)
	case errors.Is(err, io.EOF):
		_ = heap.Pop(m).(*sortRun).f.Close()
	default:
		return nil, err
	}
	return &m.out, nil
}

func (m *merger) close() {
	for _, r := range m.runs {
		_ = r.f.Close()
	}
}

// Len, Less, Swap, Push and Pop are for container/heap.
func (m *merger) Len() int           { return len(m.runs) }
func (m *merger) Less(i, j int) bool { return compareItems(&m.runs[i].head, &m.runs[j].head) < 0 }
func (m *merger) Swap(i, j int)      { m.runs[i], m.runs[j] = m.runs[j], m.runs[i] }
func (m *merger) Push(x any)         { m.runs = append(m.runs, x.(*sortRun)) }

func (m *merger) Pop() any {
	last := m.runs[len(m.runs)-1]
	m.runs = m.runs[:len(m.runs)-1]
	return last
}
