package embedded

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// headerProgressInterval is how often headers tell progress unless the client
// asks for another interval.
const headerProgressInterval = 100 * time.Millisecond

// progress is how far a statement is.
type progress struct {
	readRows, readBytes, writtenRows, writtenBytes, totalRows uint64
	resultRows, resultBytes                                   uint64
	memory                                                    int64
	elapsed                                                   time.Duration
}

// since is what p has more than an earlier progress.
func (p progress) since(earlier progress) progress {
	more := func(now, before uint64) uint64 { return max(now, before) - before }
	return progress{
		readRows: more(p.readRows, earlier.readRows), readBytes: more(p.readBytes, earlier.readBytes),
		writtenRows: more(p.writtenRows, earlier.writtenRows), writtenBytes: more(p.writtenBytes, earlier.writtenBytes),
		totalRows: more(p.totalRows, earlier.totalRows), elapsed: max(p.elapsed-earlier.elapsed, 0),
	}
}

// plus adds a step that since returned.
func (p progress) plus(step progress) progress {
	p.readRows += step.readRows
	p.readBytes += step.readBytes
	p.writtenRows += step.writtenRows
	p.writtenBytes += step.writtenBytes
	p.totalRows += step.totalRows
	p.elapsed += step.elapsed
	return p
}

// json is the form in which headers tell progress.
func (p progress) json() string {
	return fmt.Sprintf(`{"read_rows":"%d","read_bytes":"%d","written_rows":"%d","written_bytes":"%d",`+
		`"total_rows_to_read":"%d","result_rows":"%d","result_bytes":"%d","elapsed_ns":"%d","memory_usage":"%d"}`,
		p.readRows, p.readBytes, p.writtenRows, p.writtenBytes, p.totalRows, p.resultRows, p.resultBytes, p.elapsed.Nanoseconds(), p.memory)
}

// progress is what a statement has done in all.
func (r *result) progress() progress {
	return progress{
		readRows: r.rowsScanned, readBytes: r.bytesScanned, resultRows: r.rowsRead, writtenRows: r.rowsWritten, writtenBytes: r.bytesWritten,
		resultBytes: r.bytesRead, elapsed: r.elapsed,
	}
}

// progress asks how far the tagged statement is. A statement that is not there
// has made none.
func (e *engine) progress(tag string) progress {
	s, err := e.connect()
	if err != nil {
		return progress{}
	}
	defer e.discard(s)
	return s.progress(tag)
}

func (s *session) progress(tag string) progress {
	res, err := s.exec("SELECT read_rows, read_bytes, written_rows, written_bytes, total_rows_approx, memory_usage, toUInt64(elapsed * 1e9) "+
		"FROM system.processes WHERE endsWith(Settings['log_comment'], "+quoteString(tag)+") LIMIT 1", "TSVRaw", nil)
	if err != nil {
		return progress{}
	}
	defer res.free()
	fields := strings.Fields(string(res.data))
	if len(fields) != 7 {
		return progress{}
	}
	number := func(i int) uint64 {
		n, _ := strconv.ParseUint(fields[i], 10, 64) // only a negative memory fails, and then none is right
		return n
	}
	return progress{
		readRows: number(0), readBytes: number(1), writtenRows: number(2), writtenBytes: number(3),
		totalRows: number(4), memory: int64(number(5)), elapsed: time.Duration(number(6)),
	}
}

// follow calls tell with the progress of the tagged statement again and again
// until the returned function is called, which waits for a call under way. A
// statement that waits for its turn has made no progress.
func (e *engine) follow(tag string, interval time.Duration, tell func(progress)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		e.followUntil(ctx.Done(), tag, interval, tell)
	}()
	return func() {
		cancel()
		<-gone
	}
}

// followUntil opens its connection only for a statement that outlives an
// interval: most do not.
func (e *engine) followUntil(over <-chan struct{}, tag string, interval time.Duration, tell func(progress)) {
	var s *session
	for {
		select {
		case <-over:
			if s != nil {
				e.discard(s)
			}
			return
		case <-time.After(interval):
		}
		if s == nil {
			var err error
			if s, err = e.connect(); err != nil {
				return
			}
		}
		tell(s.progress(tag))
	}
}
