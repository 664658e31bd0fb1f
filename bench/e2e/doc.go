// Package e2e measures the whole way from a topic to ClickHouse, beside fetch and decode alone in the same run.
//
// Broker and engine run in processes of their own; what is measured is this process: the pipeline. Run it with
//
//	go test ./bench/e2e -run '^$' -bench . -benchtime 1x -v
//
// and read README.md beside this file for results and what they leave out.
package e2e
