// Package verify recomputes customers from the input topic by the oracle and compares what it finds with the state in the
// changelog and with the rows in ClickHouse. It only reads, and may do so beside running instances.
//
// A partition is read as of one checkpoint: the changelog to its end, then the input up to the position of the state.
// Then each customer is judged (judge.go): first whether all agrees exactly, which needs no excuse. What does not agree is
// looked at again a moment later, because instances go on meanwhile. What still does not agree is a difference, unless the
// log itself says why the oracle cannot know (excuse.go); then lifetime totals and the chain of transitions must agree.
package verify
