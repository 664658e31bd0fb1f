package embedded

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/ClickHouse/ch-go/proto"
)

// errCancelled is why a statement ended whose client sent Cancel.
var errCancelled = errors.New("cancelled by the client")

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
	q.request = &request{
		queryID: q.id, method: compress.LZ4, format: "Native", protocol: uint64(q.revision), maxSize: defaultQuerySize,
	}
	defer q.close()
	if err := q.receiveTables(); err != nil {
		return err
	}
	err := q.parse()
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

// parse completes the request with what the packet asks for. Its errors are
// *exception.
func (q *tcpQuery) parse() error {
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
	if err := q.checkSize(); err != nil {
		return err
	}
	if err := q.tcpConn.session.join(q.request); err != nil {
		return err
	}
	return q.restrict(q.held != nil)
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
	if q.verb != "INSERT" {
		q.statement = q.withoutOutput()
	}
	return nil
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
	case "max_query_size":
		return q.limitSize(value)
	case "readonly":
		q.readonly = value
		return nil
	case "replace_running_query":
		q.replace = value == "1"
		return nil
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
	ctx, cancel := context.WithCancelCause(q.server.life)
	defer cancel(nil)
	ctx, release, err := q.server.claim(ctx, q.request)
	if err != nil {
		return err
	}
	defer release()
	if q.follows {
		if q.path, err = q.receive(); err != nil {
			return err
		}
		q.insert.format = "Native"
	}
	stop := q.watch(cancel)
	err = q.execute(ctx)
	if gone := stop(); gone != nil {
		return gone
	}
	if err != nil && errors.Is(context.Cause(ctx), errCancelled) {
		return errCancelled
	}
	return err
}

// execute runs the statement and sends what it returns.
func (q *tcpQuery) execute(ctx context.Context) error {
	cmd, out := q.command(), newTCPResult(ctx, q)
	cmd.tag = q.server.engine.tag(cmd.queryID)
	stop := out.follow(cmd.tag)
	res, err := q.server.runRequest(ctx, q.request, cmd, out)
	stop()
	if res != nil {
		defer res.free()
	}
	if err != nil {
		return err
	}
	return out.finish(res)
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
