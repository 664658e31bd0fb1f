// Package embedded runs the two servers Zyklus needs without installing them:
// a ClickHouse and a Kafka broker.
//
// The ClickHouse is the real engine, libchdb, loaded without cgo and put behind
// endpoints that speak ClickHouse's HTTP and native protocols. It always lives in
// a process of its own, because the engine and Go fight over signal handlers and
// because a crash of one must not take the other:
//
//	StartClickHouse  (parent)  starts, supervises and stops the child
//	ServeClickHouse  (child)   Library -> engine -> HTTP and native TCP, prints
//	                           "READY http://host:port" and "NATIVE host:port"
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
//	server.go, request.go,      what a client asks for, by either protocol: requests,
//	insert.go, external.go      inserts and their data, tables that come along
//	users.go, sessions.go,      who may come in, what is kept from one request to
//	held.go                     the next
//	respond.go, response.go,    the HTTP endpoint: results, exceptions, progress
//	progress.go, earlyheaders.go
//	tcp.go, tcp_conn.go         the native endpoint: connections, packets
//	tcp_wire.go, tcp_block.go   what a client sends, read within bounds
//	tcp_query.go, tcp_insert.go,
//	tcp_result.go,
//	tcp_session.go              one statement of a native connection
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
// TLS, quotas, roles, the handlers for pages, query logs, and cross-origin
// headers. Over HTTP a session cannot be made read-only for good. Over the native
// protocol totals, extremes, logs and profile events are not sent,
// low_cardinality_allow_in_native_format does not change results, inserted blocks
// cannot have types such as JSON and AggregateFunction, and clients before
// protocol revision 54429 (ClickHouse 20.1) are refused.
package embedded
