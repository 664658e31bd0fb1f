// Package embedded runs the two servers Zyklus needs without installing them:
// a ClickHouse and a Kafka broker.
//
// The ClickHouse is the real engine, libchdb, loaded without cgo and put behind
// an HTTP endpoint that speaks ClickHouse's HTTP protocol. It always lives in a
// process of its own, because the engine and Go fight over signal handlers and
// because a crash of one must not take the other:
//
//	StartClickHouse  (parent)  starts, supervises and stops the child
//	ServeClickHouse  (child)   Library -> engine -> HTTP, prints "READY http://host:port"
//
// The broker is kfake, either inside the calling process (StartBroker) or as a
// process of its own (ServeBroker), which is what crash tests want.
//
// Files:
//
//	library.go, fetch.go        find, download, verify and unpack libchdb
//	chdb.go, signals_*.go       the C functions, and keeping Go's signal handlers
//	engine.go, session.go       pool of connections, one statement, cancellation
//	stream.go                   results that come piece by piece
//	queryid.go                  clients' query ids, which the engine does not take
//	version.go                  databases of a newer engine are refused
//	dropped.go                  removal of dropped tables, which the engine leaves
//	statement.go, lexer.go      what a statement is: reads, writes, inserts with data
//	server.go, request.go,      the HTTP endpoint: requests, inserts and their data,
//	insert.go, external.go      tables that come along with a statement
//	users.go, sessions.go,      who may come in, what is kept from one request to
//	held.go                     the next
//	respond.go, response.go,    results, exceptions, progress
//	progress.go, earlyheaders.go
//	native.go, nativetype.go    Native blocks from revision 0 to the one asked for
//	frames.go, encoding.go      ClickHouse's compressed frames, HTTP encodings
//	exception.go                error codes and HTTP statuses
//	process.go                  the child
//	clickhouse.go, supervise.go its parent
//	broker.go                   kfake
//	broker_recover.go           what kfake forgets after a kill
//
// What a ClickHouse server has and this one has not: access rights (a password
// opens the door, and then a user may do everything, reading files included),
// quotas, roles, the handlers for pages, query logs, and cross-origin headers.
package embedded
