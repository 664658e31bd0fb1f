package embedded

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"github.com/ebitengine/purego"
)

// chdb holds the C functions of libchdb this package calls. The library is
// never unloaded: the engine's threads live as long as the process.
//
// A result belongs to the caller, who frees it with destroy; its buffer and its
// error text live until then.
type chdb struct {
	connect            func(argc int32, argv unsafe.Pointer) unsafe.Pointer
	closeConn          func(cell unsafe.Pointer)
	query              func(conn, sql unsafe.Pointer, sqlLen uintptr, format unsafe.Pointer, formatLen uintptr, names, nameLens, values, valueLens unsafe.Pointer, n uintptr) unsafe.Pointer
	destroy            func(result unsafe.Pointer)
	resultBuffer       func(result unsafe.Pointer) unsafe.Pointer
	resultLength       func(result unsafe.Pointer) uintptr
	resultError        func(result unsafe.Pointer) unsafe.Pointer
	resultRowsRead     func(result unsafe.Pointer) uint64
	resultBytesRead    func(result unsafe.Pointer) uint64
	resultRowsScanned  func(result unsafe.Pointer) uint64
	resultBytesScanned func(result unsafe.Pointer) uint64
	resultRowsWritten  func(result unsafe.Pointer) uint64
	resultBytesWritten func(result unsafe.Pointer) uint64
	setSignalHandlers  func(enabled int32)
}

// loadChdb opens the library and resolves every function. Errors name the
// library or the missing symbol.
func loadChdb(path string) (*chdb, error) {
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", path, err)
	}
	lib := &chdb{}
	for name, target := range lib.symbols() {
		symbol, err := purego.Dlsym(handle, name)
		if err != nil {
			return nil, fmt.Errorf("symbol %s of %s: %w", name, path, err)
		}
		purego.RegisterFunc(target, symbol)
	}
	return lib, nil
}

// symbols lists the C name of every function.
func (c *chdb) symbols() map[string]any {
	return map[string]any{
		"chdb_connect":                     &c.connect,
		"chdb_close_conn":                  &c.closeConn,
		"chdb_query_with_params_n":         &c.query,
		"chdb_destroy_query_result":        &c.destroy,
		"chdb_result_buffer":               &c.resultBuffer,
		"chdb_result_length":               &c.resultLength,
		"chdb_result_error":                &c.resultError,
		"chdb_result_rows_read":            &c.resultRowsRead,
		"chdb_result_bytes_read":           &c.resultBytesRead,
		"chdb_result_storage_rows_read":    &c.resultRowsScanned,
		"chdb_result_storage_bytes_read":   &c.resultBytesScanned,
		"chdb_result_rows_written":         &c.resultRowsWritten,
		"chdb_result_bytes_written":        &c.resultBytesWritten,
		"chdb_set_signal_handlers_enabled": &c.setSignalHandlers,
	}
}

// open connects with the arguments of a command line. It returns the cell that
// holds the connection, which closeConn wants, and the connection, which query
// wants. All connections of a process must use the same arguments.
func (c *chdb) open(args ...string) (cell, conn unsafe.Pointer, err error) {
	argv := newCStrings(args)
	defer argv.unpin()
	cell = c.connect(int32(len(args)), argv.pointers())
	if cell == nil || *(*unsafe.Pointer)(cell) == nil {
		return nil, nil, errors.New("the engine refused the connection (see its standard error)")
	}
	return cell, *(*unsafe.Pointer)(cell), nil
}

// param is one query parameter: {name:Type} in the statement. The value is
// text escaped as in a TSV field, as ClickHouse's HTTP protocol has it.
type param struct{ name, value string }

// exec runs one statement to its end and returns the result, never nil. It
// blocks the calling thread. format is used where the statement names none.
func (c *chdb) exec(conn unsafe.Pointer, sql, format string, params []param) unsafe.Pointer {
	text := newCStrings([]string{sql, format})
	names := newCStrings(paramNames(params))
	values := newCStrings(paramValues(params))
	defer text.unpin()
	defer names.unpin()
	defer values.unpin()
	return c.query(conn, unsafe.Pointer(text.ptrs[0]), text.lens[0], unsafe.Pointer(text.ptrs[1]), text.lens[1],
		names.pointers(), names.lengths(), values.pointers(), values.lengths(), uintptr(len(params)))
}

func paramNames(params []param) []string {
	names := make([]string, len(params))
	for i, p := range params {
		names[i] = p.name
	}
	return names
}

func paramValues(params []param) []string {
	values := make([]string, len(params))
	for i, p := range params {
		values[i] = p.value
	}
	return values
}

// cstrings is an array of NUL-terminated strings with their lengths, pinned so
// that C may follow the pointers inside it.
type cstrings struct {
	pin  runtime.Pinner
	ptrs []*byte
	lens []uintptr
}

func newCStrings(list []string) *cstrings {
	c := &cstrings{ptrs: make([]*byte, len(list)+1), lens: make([]uintptr, len(list)+1)}
	for i, s := range list {
		b := make([]byte, len(s)+1)
		copy(b, s)
		c.pin.Pin(&b[0])
		c.ptrs[i], c.lens[i] = &b[0], uintptr(len(s))
	}
	c.pin.Pin(&c.ptrs[0])
	c.pin.Pin(&c.lens[0])
	return c
}

func (c *cstrings) pointers() unsafe.Pointer { return unsafe.Pointer(&c.ptrs[0]) }
func (c *cstrings) lengths() unsafe.Pointer  { return unsafe.Pointer(&c.lens[0]) }
func (c *cstrings) unpin()                   { c.pin.Unpin() }

// goString copies a C string; nil gives "".
func goString(p unsafe.Pointer) string {
	if p == nil {
		return ""
	}
	n := 0
	for *(*byte)(unsafe.Add(p, n)) != 0 {
		n++
	}
	return string(unsafe.Slice((*byte)(p), n))
}
