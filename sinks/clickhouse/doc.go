// Package clickhouse writes the projection of committed state to ClickHouse and owns its schema there.
//
//	Open      one Client per process: connections, metrics, clear errors
//	Migrate   database, tables, columns, comments and views, all derived from the declared pipeline.Tables
//	Check     what of that is missing; the pipeline refuses to start until `zyklus migrate` has run
//	Writer    pipeline.Sink: many partitions Write, one goroutine (Run) inserts what waits together; a waiting one
//	          lets the pipeline start while the server is away, and checks before the first row
//
// Nothing here is lost and nothing is counted twice: every table is a ReplacingMergeTree by the row's version, so an
// insert whose outcome is unknown is simply made again. Write therefore returns only when its rows are stored or its
// context ends; errors that will not pass on their own are retried slowly and told by Writer.Healthy.
//
// Files:
//
//	options.go, client.go      settings, connections
//	errors.go                  error classes (wait or stop) and what to tell a person
//	schema.go, ddl.go, view.go declaration to SQL
//	plan.go, migrate.go        what the server lacks, and making it so
//	writer.go, group.go        group commit
//	insert.go                  one insert: our own block over HTTP, a batch of the driver over TCP
//	block.go, transport.go     rows in ClickHouse's format, and how they are sent
//	columns.go                 rows as the slices that the driver's batches take
//	retry.go, metrics.go
package clickhouse
