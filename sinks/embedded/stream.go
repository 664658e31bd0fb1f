package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// streamable is a statement whose result can be written piece by piece. tail is
// the offset in the command's text at which INTO OUTFILE belongs.
type streamable struct {
	command
	tail int
}

// pipePath is a name under which the engine can open a file of this process.
func pipePath(f *os.File) string { return fmt.Sprintf("/dev/fd/%d", f.Fd()) }

// stream runs a statement that returns a result and copies the result to w as
// the engine makes it, about a megabyte at a time: however large it is, it is
// never held whole, and a slow w slows the engine down. The returned result has
// no data. After an error part of the result may have been written. When w
// fails the statement is killed and w's error returned.
//
// The engine writes into a pipe, to which it is told to write as to a file.
// Its own means of fetching results in pieces makes each piece a whole document,
// which no format with a head, a tail or a count can bear.
func (e *engine) stream(ctx context.Context, cmd streamable, w io.Writer) (*result, error) {
	r, pipe, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("pipe for the result: %w", err)
	}
	defer func() { _ = r.Close() }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	copied := make(chan error, 1)
	go func() { copied <- copyOut(w, r, cancel) }()
	into := "\nINTO OUTFILE " + quoteString(pipePath(pipe)) + " TRUNCATE "
	cmd.sql = cmd.sql[:cmd.tail] + into + cmd.sql[cmd.tail:]
	res, err := e.run(ctx, cmd.command)
	_ = pipe.Close()
	var exc *exception
	if errors.As(err, &exc) {
		exc.text = strings.ReplaceAll(exc.text, into, "") // the client wrote no such thing
	}
	if werr := <-copied; werr != nil {
		if res != nil {
			res.free()
		}
		return nil, fmt.Errorf("write result: %w", werr)
	}
	return res, err
}

// copyOut copies r to w. If w fails it calls failed and reads on to the end:
// the engine must always find a reader.
func copyOut(w io.Writer, r io.Reader, failed func()) error {
	buf := make([]byte, 256<<10)
	var werr error
	for {
		n, err := r.Read(buf)
		if n > 0 && werr == nil {
			if _, werr = w.Write(buf[:n]); werr != nil {
				failed()
			}
		}
		if err == io.EOF {
			return werr
		}
		if err != nil {
			return err
		}
	}
}
