// Package verify recomputes customers from the input topic by the oracle and compares what it finds with the state in the
// changelog and with the rows in ClickHouse. It only reads, and may do so beside running instances.
//
// A partition is read as of one checkpoint: the changelog to its end, then the input up to the position of the state.
// Then each customer is judged (judge.go): first whether all agrees exactly, which needs no excuse. Of ClickHouse the rows
// of that checkpoint are taken; what came later may have replaced them. Who does not agree is looked at again a moment
// later, as of the checkpoint that ClickHouse has acknowledged by then. What still does not agree is a difference, unless
// the log itself says why the oracle cannot know (excuse.go); then the chain of transitions must agree, and lifetime totals
// where they follow from what is known.
package verify
