package kafka

import (
	"encoding/base64"
	"slices"

	"zyklus/pipeline"
)

// note is what a partition's owner tells the other members of the group. It travels as metadata of the committed group
// offset, so every process can judge over all partitions, at once after a restart, without a topic or service for it.
type note struct {
	watched uint64      // which families last is of: Stall.fingerprint
	reached int64       // instant up to which the partition has been read, Unix milliseconds; 0 if unknown
	last    []int64     // event time of the last believable event, by watched family; 0 for none
	sample  smallest    // of hashes of customer ids
	judged  []judgement // of partition 0 alone: what its owner has judged, by watched family
}

// judgement is what is known of the stalls of a family.
type judgement struct {
	stalled int64 // last event before it stalled; 0 while it flows
	since   int64 // when it was back, as read by all partitions; 0 while it is not
	over    int64 // last event before the last stall that is over; 0 for none
	back    int64 // when that was over
}

// or returns the one of two that is of the later stall, or says that this is over.
func (j judgement) or(k judgement) judgement {
	a, b := max(j.stalled, j.over), max(k.stalled, k.over)
	if b > a || b == a && k.over > j.over {
		return k
	}
	return j
}

// with returns the note with what an earlier one of the partition knew: a new owner has only seen what came since.
func (n note) with(earlier *note) note {
	if earlier == nil {
		return n
	}
	if earlier.watched == n.watched {
		switch {
		case n.judged == nil:
			n.judged = earlier.judged
		case len(n.judged) == len(earlier.judged):
			n.judged = slices.Clone(n.judged)
			for i, j := range earlier.judged {
				n.judged[i] = n.judged[i].or(j)
			}
		}
		n.last = slices.Clone(n.last)
		for i, at := range earlier.last {
			if i < len(n.last) {
				n.last[i] = max(n.last[i], at)
			}
		}
	}
	n.sample = slices.Clone(n.sample)
	for _, v := range earlier.sample {
		n.sample.add(v)
	}
	return n
}

// sampleSize is how many hashes a note keeps. If a topic is not keyed by customer, the customers of the smallest hashes
// are among the samples of several partitions; one is proof enough.
const sampleSize = 16

// smallest are the smallest distinct values seen, sorted.
type smallest []uint64

// add notes a value.
func (k *smallest) add(v uint64) {
	if n := len(*k); n == sampleSize && v >= (*k)[n-1] {
		return
	}
	i, found := slices.BinarySearch(*k, v)
	if found {
		return
	}
	if len(*k) == sampleSize {
		*k = (*k)[:sampleSize-1]
	}
	*k = slices.Insert(*k, i, v)
}

// meet reports whether two samples have a value in common.
func (k smallest) meet(o smallest) bool {
	for _, v := range k {
		if _, found := slices.BinarySearch(o, v); found {
			return true
		}
	}
	return false
}

const noteFormat = 1

// text encodes the note; at most some 250 bytes, of the 4,096 that brokers take by default.
func (n *note) text() string {
	b := pipeline.AppendInt(pipeline.AppendUint64([]byte{noteFormat}, n.watched), n.reached)
	b = pipeline.AppendUint(b, uint64(len(n.last)))
	for _, at := range n.last {
		b = pipeline.AppendInt(b, at)
	}
	b = pipeline.AppendUint(b, uint64(len(n.sample)))
	for _, v := range n.sample {
		b = pipeline.AppendUint64(b, v)
	}
	b = pipeline.AppendUint(b, uint64(len(n.judged)))
	for _, j := range n.judged {
		b = pipeline.AppendInt(pipeline.AppendInt(b, j.stalled), j.since)
		b = pipeline.AppendInt(pipeline.AppendInt(b, j.over), j.back)
	}
	return base64.RawStdEncoding.EncodeToString(b)
}

// parseNote reads what text wrote. Metadata of another kind or version is no note.
func parseNote(text string) (n note, ok bool) {
	b, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil || len(b) == 0 || b[0] != noteFormat {
		return n, false
	}
	r := pipeline.NewReader(b[1:])
	n.watched, n.reached = r.Uint64(), r.Int()
	for i := r.Count(); i > 0 && r.Err() == nil; i-- {
		n.last = append(n.last, r.Int())
	}
	for i := r.Count(); i > 0 && r.Err() == nil; i-- {
		n.sample = append(n.sample, r.Uint64())
	}
	for i := r.Count(); i > 0 && r.Err() == nil; i-- {
		n.judged = append(n.judged, judgement{stalled: r.Int(), since: r.Int(), over: r.Int(), back: r.Int()})
	}
	return n, r.Err() == nil && r.Len() == 0 && len(n.sample) <= sampleSize && slices.IsSorted(n.sample)
}
