package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// spool holds the data of inserts under way in files of one directory. The
// engine sees an insert only once its data has arrived whole, so that a client
// that dies half-way inserts nothing.
type spool struct{ dir string }

// newSpool empties the directory of what a killed process left there.
func newSpool(dir string) (*spool, error) {
	if err := os.RemoveAll(dir); err != nil {
		return nil, fmt.Errorf("clear spool: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create spool: %w", err)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	return &spool{dir: abs}, nil
}

// fill copies data to a new file and returns its path and size. The caller
// removes the file. Errors of data are returned as *bodyError.
func (s *spool) fill(data io.Reader) (path string, size int64, err error) {
	f, err := os.CreateTemp(s.dir, "insert-*")
	if err != nil {
		return "", 0, fmt.Errorf("spool insert: %w", err)
	}
	size, err = io.Copy(f, data)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return "", 0, fmt.Errorf("receive insert: %w", err)
	}
	return f.Name(), size, nil
}

// runInsert inserts the data of a request, which it receives unless the request
// has it in a file already. An insert without any data does nothing but is
// checked by the engine.
func (s *server) runInsert(ctx context.Context, req *request, cmd command) (*result, error) {
	path := req.path
	if path == "" {
		var err error
		if path, _, err = s.spool.fill(req.data); err != nil {
			return nil, bodyException(err)
		}
	}
	defer func() { _ = os.Remove(path) }()
	ins := req.insert
	cmd.sql = ins.into + " FROM INFILE " + quoteString(path) + " COMPRESSION 'none' " + ins.settings + " FORMAT " + ins.format
	return s.engine.run(ctx, cmd)
}

// bodyException tells the client what is wrong with its body.
func bodyException(err error) error {
	var exc *exception
	switch {
	case errors.As(err, &exc):
		return exc
	case errors.Is(err, errTooLarge):
		return raise(codeQueryTooLarge, "QUERY_IS_TOO_LARGE", "Request body: "+err.Error())
	case errors.Is(err, syscall.ENOSPC):
		return raise(codeNotEnoughSpace, "NOT_ENOUGH_SPACE", "Request body: "+err.Error())
	case errors.Is(err, errChecksum):
		return raise(codeChecksumDoesntMatch, "CHECKSUM_DOESNT_MATCH", "Request body: "+err.Error())
	}
	return raise(codeCannotDecompress, "CANNOT_DECOMPRESS", "Request body: "+err.Error())
}
