package embedded

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/ClickHouse/ch-go/proto"
)

// errCancelled is why a statement ended whose client sent Cancel.
var errCancelled = errors.New("cancelled by the client")

// settingName is what a setting may be called: names go into a SET statement.
var settingName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// tcpQuery is one statement of a native connection.
type tcpQuery struct {
	*tcpConn
	query
	*request
	// follows says that an insert's data comes in blocks of its own.
	follows bool
	// frames compresses the blocks sent; nil sends them plain.
	frames *frameWriter
}

// serveQuery answers a query packet. What is wrong with the statement is told
// to the client, and the connection goes on; errors end it.
func (c *tcpConn) serveQuery(r *wireReader) error {
	q := &tcpQuery{tcpConn: c, query: r.query(c.revision)}
	if r.err != nil {
		return malformed("Query", r.err)
	}
	tables, err := q.externalTables()
	if err != nil {
		return err
	}
	err = q.parse()
	if tables {
		err = raise(codeUnsupported, "NOT_IMPLEMENTED", "External tables are not supported by the embedded server")
	}
	if err == nil {
		err = q.run()
	}
	return q.finish(err)
}

// finish ends the answer to a query: with the end of the stream, or with an
// exception unless the connection is broken.
func (q *tcpQuery) finish(err error) error {
	var exc *exception
	var broken *protocolError
	switch {
	case err == nil, errors.Is(err, errCancelled):
		var b proto.Buffer
		proto.ServerCodeEndOfStream.Encode(&b)
		return q.send(&b)
	case errors.As(err, &broken), errors.Is(err, errGone):
		return err
	case errors.As(err, &exc):
		return q.sendException(exc)
	}
	return q.sendException(otherException(err))
}

// externalTables reads the blocks between a query and its end. It reports
// whether there was a table among them.
func (q *tcpQuery) externalTables() (found bool, err error) {
	for {
		name, last, err := q.readData(discard())
		if err != nil {
			return found, err
		}
		if last {
			return found, nil
		}
		found = found || name != ""
	}
}

// parse makes a request of the packet. Its errors are *exception.
func (q *tcpQuery) parse() error {
	q.request = &request{database: q.session.database, queryID: q.id, method: compress.LZ4, format: "Native", protocol: uint64(q.revision)}
	if q.stage != uint64(proto.StageComplete) {
		return raise(codeUnsupported, "NOT_IMPLEMENTED", fmt.Sprintf("Processing stage %d is for servers of a cluster", q.stage))
	}
	if err := q.parseText(); err != nil {
		return err
	}
	for _, p := range q.query.params {
		value, ok := restoreDump(p.value)
		if !ok {
			return raise(codeBadArguments, "BAD_ARGUMENTS", "Value of query parameter "+p.name+" is not a quoted string")
		}
		q.request.params = append(q.request.params, param{p.name, value})
	}
	for _, set := range q.query.settings {
		if err := q.addSetting(set); err != nil {
			return err
		}
	}
	if q.compressed {
		q.frames = newFrameWriter(q.out, q.method)
	}
	return nil
}

// parseText finds out what the statement is and where its data is.
func (q *tcpQuery) parseText() error {
	st := parseStatement(q.text)
	if st.verb == "INSERT" && st.insert == nil {
		// A format may be left out, since the data comes in blocks.
		if with := parseStatement(strings.TrimRight(q.text, "; \t\r\n") + " FORMAT Native"); with.insert != nil {
			q.statement, q.follows = with, true
			return nil
		}
	}
	if st.insert != nil && strings.Trim(q.text[st.insert.data:], "; \t\r\n") == "" {
		q.statement, q.follows = st, true
		return nil
	}
	if err := q.readStatement("", strings.NewReader(q.text)); err != nil {
		return err
	}
	q.dropFormat()
	return nil
}

// dropFormat removes the FORMAT clause of a statement that is no insert: over
// this protocol the client formats.
func (q *tcpQuery) dropFormat() {
	if q.statement.format == "" || q.insert != nil {
		return
	}
	l := &lexer{sql: q.sql, pos: q.tail}
	l.next()
	name := l.next()
	q.sql = q.sql[:q.tail] + " " + q.sql[name.end:]
}

// addSetting takes a setting of the query.
func (q *tcpQuery) addSetting(set wireSetting) error {
	value := set.value
	if set.custom {
		var ok bool
		if value, ok = restoreDump(set.value); !ok {
			return raise(codeBadArguments, "BAD_ARGUMENTS", "Value of custom setting "+set.name+" is not a quoted string")
		}
	}
	unknown := raise(codeUnknownSetting, "UNKNOWN_SETTING", "Unknown setting '"+set.name+"'")
	if !settingName.MatchString(set.name) {
		return unknown
	}
	switch set.name {
	case "database_atomic_wait_for_drop_and_detach_synchronously": // see dropped.go
		return nil
	case "network_compression_method":
		q.method = frameMethod(value)
	}
	if !set.custom {
		known, err := q.server.settings.known(q.server.life, q.server.engine, set.name)
		if err != nil {
			return err
		}
		if !known && set.important {
			return unknown
		}
		if !known {
			return nil
		}
	}
	q.request.settings = append(q.request.settings, setting{set.name, value})
	return nil
}

// run executes the statement and sends its result. A client that goes away
// kills what only reads; a cancellation kills anything.
func (q *tcpQuery) run() error {
	path := ""
	if q.insert != nil {
		var err error
		if path, err = q.receive(); err != nil {
			return err
		}
		defer func() { removeFile(path) }()
	}
	ctx, cancel := context.WithCancelCause(q.server.life)
	defer cancel(nil)
	stop := q.watch(cancel)
	err := q.execute(ctx, path)
	if gone := stop(); gone != nil {
		return gone
	}
	if err != nil && errors.Is(context.Cause(ctx), errCancelled) {
		return errCancelled
	}
	return err
}

// execute runs the statement and sends what it returns. path is the file with
// an insert's data, if it has any.
func (q *tcpQuery) execute(ctx context.Context, path string) error {
	cmd := q.command()
	switch {
	case path != "" && q.follows:
		cmd = q.fromFile(path, "Native")
	case path != "":
		cmd = q.fromFile(path, q.insert.format)
	}
	calm := q.keepAlive()
	res, err := q.session.run(ctx, cmd)
	if err == nil && len(res.data) == 0 && q.reads() {
		res.header, err = q.emptyResult(ctx)
	}
	if cerr := calm(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	defer res.free()
	return q.sendResult(ctx, res)
}

// emptyResult returns a block with the columns of a result without rows.
func (q *tcpQuery) emptyResult(ctx context.Context) ([]byte, error) {
	cmd := q.command()
	if q.wantsHeader() {
		cmd.sql, cmd.format = "DESCRIBE TABLE ("+q.core()+"\n)", "RowBinary"
		if res, err := q.session.run(ctx, cmd); err == nil {
			defer res.free()
			return describedBlock(res.data)
		}
	}
	// SHOW and the like are cheap enough to run again.
	cmd.sql, cmd.format = q.sql, "RowBinaryWithNamesAndTypes"
	res, err := q.session.run(ctx, cmd)
	if err != nil {
		return nil, err
	}
	defer res.free()
	return namedBlock(res.data)
}

// keepAlive tells the client now and then that its statement still runs, until
// the returned function is called. That waits, and returns why a packet could
// not be sent.
func (q *tcpQuery) keepAlive() func() error {
	over, result := make(chan struct{}), make(chan error, 1)
	go func() {
		tick := time.NewTicker(aliveInterval)
		defer tick.Stop()
		for {
			select {
			case <-over:
				result <- nil
				return
			case <-tick.C:
			}
			if err := q.sendProgress(proto.Progress{}); err != nil {
				result <- errGone
				return
			}
		}
	}()
	return func() error {
		close(over)
		return <-result
	}
}

// watch listens for a cancellation, or the client's end, until the returned
// function is called. That waits, and returns errGone if the client has gone.
func (q *tcpQuery) watch(cancel context.CancelCauseFunc) func() error {
	_ = q.nc.SetReadDeadline(time.Time{})
	done := make(chan error, 1)
	go func() { done <- q.listen(cancel) }()
	return func() error {
		_ = q.nc.SetReadDeadline(time.Unix(1, 0))
		return <-done
	}
}

// listen waits for one byte. Any other than a cancellation is left to be read.
func (q *tcpQuery) listen(cancel context.CancelCauseFunc) error {
	first, err := q.in.Peek(1)
	switch {
	case isTimeout(err):
		return nil
	case err != nil:
		if q.reads() {
			cancel(errGone)
		}
		return errGone
	case first[0] == byte(proto.ClientCodeCancel):
		_, _ = q.in.Discard(1)
		cancel(errCancelled)
	}
	return nil
}
