package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"zyklus/bench/dataset"
	"zyklus/cmd/zyklus/internal/recordfile"
	"zyklus/pipeline"
	"zyklus/pipeline/kafka"
)

// item is one record of the files on its way to the topic.
type item struct {
	file    string
	line    int64
	at      int64 // event time, Unix ms; 0: unknown
	kind    pipeline.Kind
	key     []byte // the customer; nil: a heartbeat, or refused
	value   []byte // nil: cannot be sent
	ignored bool

	refused, cause string // why it is refused; empty: it is not
	original       []byte // of a refused one
}

const (
	chunkItems = 512
	chunkBytes = 256 << 10
)

// intake reads and decodes the files in a goroutine of its own. Items go out in chunks: a full one, and whatever there is
// before the reader may have to wait for more of its file.
type intake struct {
	o          *loadOptions
	currency   string
	stdin      io.Reader
	decoder    kafka.Decoder
	believable int64 // latest instant that is no future, Unix ms
	log        *slog.Logger
	read       func(n int64) // is told of each read of n bytes
	sorter     *sorter       // nil: items go out in the order of the files

	first  *fileReader // opened before the goroutine begins, so that a mistake is told at once
	out    chan<- []item
	chunk  []item
	bytes  int
	blocks blocks
	event  pipeline.Event
	stop   context.Context
}

// run reads all files and closes out.
func (in *intake) run(ctx context.Context, out chan<- []item) error {
	in.out, in.stop = out, ctx
	defer close(out)
	if err := in.files(); err != nil {
		in.flush()
		return err
	}
	if in.sorter != nil {
		if err := in.sorter.each(func(it item) error { return in.emit(it) }); err != nil {
			return err
		}
	}
	in.flush()
	return ctx.Err()
}

func (in *intake) files() error {
	for i, path := range in.o.paths {
		f := in.first
		if i > 0 {
			var err error
			if f, err = in.open(path); err != nil {
				return fileError{err}
			}
		}
		in.first = nil
		err := in.file(f)
		f.close()
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return nil
}

func (in *intake) file(f *fileReader) error {
	for in.stop.Err() == nil {
		var it item
		more, err := f.next(&it)
		if err != nil {
			return fileError{err}
		}
		if !more {
			return nil
		}
		it.file = f.name
		if err := in.take(&it); err != nil {
			return err
		}
	}
	return in.stop.Err()
}

// take decodes a record and passes it on. The bytes of it belong to the reader of the file.
func (in *intake) take(it *item) error {
	original := it.original
	if original == nil {
		original = it.value
	}
	if it.refused == "" {
		in.decode(it)
	}
	it.value = in.blocks.keep(it.value)
	if it.key != nil {
		it.key = in.blocks.keep(it.key)
	}
	it.original = nil
	if it.refused != "" {
		it.original = in.blocks.keep(original)
	}
	if in.sorter != nil && it.refused == "" && !it.ignored {
		return in.sorter.add(it)
	}
	return in.emit(*it)
}

// decode finds out what the service will make of a record.
func (in *intake) decode(it *item) {
	e := &in.event
	err := in.decoder.Decode(&pipeline.Record{Value: it.value}, e)
	if err == nil && e.At > in.believable {
		err = &pipeline.RecordError{Kind: pipeline.ErrTimeInFuture, Cause: "the event time " +
			time.UnixMilli(e.At).UTC().Format(time.RFC3339) + " is in the future"}
	}
	refused, isRefused := errors.AsType[*pipeline.RecordError](err)
	switch {
	case errors.Is(err, pipeline.ErrIgnored):
		it.ignored = true
	case isRefused:
		it.refused, it.cause = refused.Kind.String(), refused.Cause
	default:
		it.kind, it.at = e.Kind, e.At
		if e.Kind != pipeline.KindHeartbeat {
			it.key = e.Customer
		}
	}
}

func (in *intake) emit(it item) error {
	in.chunk = append(in.chunk, it)
	if in.bytes += len(it.key) + len(it.value) + len(it.original); len(in.chunk) == chunkItems || in.bytes >= chunkBytes {
		in.flush()
	}
	return in.stop.Err()
}

// flush hands over what there is.
func (in *intake) flush() {
	if len(in.chunk) == 0 {
		return
	}
	select {
	case in.out <- in.chunk:
	case <-in.stop.Done():
	}
	in.chunk, in.bytes = nil, 0
}

// fileReader reads the records of one file.
type fileReader struct {
	name string
	file io.Closer
	next func(*item) (bool, error)
	done func()
}

func (f *fileReader) close() {
	f.done()
	_ = f.file.Close()
}

// notedReader tells of each read before and after it.
type notedReader struct {
	r      io.Reader
	before func()
	after  func(n int64)
}

func (n *notedReader) Read(p []byte) (int, error) {
	n.before()
	read, err := n.r.Read(p)
	n.after(int64(read))
	return read, err
}

// interruptible returns standard input such that unblock ends a read that waits, where that can be: a pipe is opened anew.
func interruptible(stdin io.Reader) io.Reader {
	f, ok := stdin.(*os.File)
	if !ok || f != os.Stdin {
		return stdin
	}
	if info, err := f.Stat(); err != nil || info.Mode()&(os.ModeNamedPipe|os.ModeCharDevice) == 0 {
		return stdin
	}
	again, err := os.Open("/dev/stdin")
	if err != nil {
		return stdin
	}
	return again
}

// unblock ends a read of standard input.
func (in *intake) unblock() {
	if f, ok := in.stdin.(*os.File); ok {
		_ = f.SetReadDeadline(time.Now())
	}
}

// open opens a file. What is wrong with its name, its header or its kind is the user's to mend.
func (in *intake) open(path string) (*fileReader, error) {
	f := &fileReader{name: path, done: func() {}, file: io.NopCloser(nil)}
	raw := in.stdin
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		raw, f.file = file, file
	}
	before := func() {
		if in.out != nil && in.sorter == nil {
			in.flush()
		}
	}
	noted := &notedReader{r: raw, before: before, after: in.read}
	var err error
	if in.o.preset != "" {
		err = in.openPreset(f, noted)
	} else {
		err = in.openRecords(f, noted)
	}
	if err != nil {
		f.close()
		return nil, usageError{fmt.Errorf("%s: %w", path, err)}
	}
	return f, nil
}

// openRecords reads the records that the source takes.
func (in *intake) openRecords(f *fileReader, raw io.Reader) error {
	o, known := recordfile.ByName(f.name)
	if in.o.fileFormat != "" {
		o = recordfile.Options{Format: recordfile.Format(in.o.fileFormat), Delimiter: o.Delimiter}
	} else if !known {
		return fmt.Errorf("its name does not tell what it holds: add --file-format, one of %s", strings.Join(recordfile.Formats(), ", "))
	}
	if in.o.comma != 0 {
		o.Delimiter = in.o.comma
	}
	if o.Format == recordfile.CSV && in.o.source.Format != "mapping" {
		return fmt.Errorf("rows of CSV become events by a mapping, but the format of source %s is %s: give --format mapping --mapping FILE, or the same in the configuration",
			in.o.source.Name, in.o.source.Format)
	}
	o.MaxRecord = int(min(in.o.source.MaxRecord, maxFileRecord))
	r, err := recordfile.Open(raw, o)
	if err != nil {
		return err
	}
	if name, twice := duplicate(r.Columns()); twice {
		in.log.Warn("a column is there twice: the last counts", "file", f.name, "column", name)
	}
	f.done = r.Close
	var rec recordfile.Record
	f.next = func(it *item) (bool, error) {
		more, err := r.Next(&rec)
		*it = item{line: rec.Line, value: rec.Value, refused: rec.Error, cause: rec.Cause, original: rec.Original}
		return more, err
	}
	return nil
}

// maxFileRecord bounds the memory for one record, whatever the source takes.
const maxFileRecord = 16 << 20

func duplicate(names []string) (string, bool) {
	sorted := slices.Sorted(slices.Values(names))
	for i := 1; i < len(sorted); i++ {
		if sorted[i] == sorted[i-1] {
			return sorted[i], true
		}
	}
	return "", false
}

// openPreset reads a published data set, which is sorted in memory.
func (in *intake) openPreset(f *fileReader, raw io.Reader) error {
	if in.o.source.Format != "segment" {
		return fmt.Errorf("a preset makes Segment JSON, but the format of source %s is %s: choose another --source, or --format segment", in.o.source.Name, in.o.source.Format)
	}
	plain, done, err := recordfile.Unpack(raw)
	if err != nil {
		return err
	}
	r, err := dataset.Open(in.o.preset, plain, in.currency)
	if err != nil {
		done()
		return err
	}
	var refused []dataset.Refusal
	r.OnRefuse = func(l dataset.Refusal) { refused = append(refused, l) }
	f.done = done
	var e dataset.Event
	more, held := true, false // held: e waits behind the refused rows
	f.next = func(it *item) (bool, error) {
		if more && !held {
			if more, err = r.Next(&e); err != nil {
				return false, err
			}
			held = true
		}
		if len(refused) > 0 {
			*it = item{line: int64(refused[0].Line), refused: "bad_row", cause: refused[0].Error}
			refused = refused[1:]
			return true, nil
		}
		held = false
		*it = item{line: int64(e.Line), value: e.Value}
		return more, nil
	}
	return nil
}
