package pipeline

// Hold bounds how far time may come in a partition while a required source is silent: what does not arrive may have
// happened all the same, so its absence must not be taken for silence of customers.
//
// Events later than Clock are accepted and kept, but wait to be folded. Settled is the instant of the last event of
// the source that has been silent longest: the watermark stays behind it by the allowed lateness, so that whatever the
// source brings when it returns finds its place in order.
type Hold struct {
	Clock   int64 // the clock does not pass it, Unix milliseconds
	Settled int64 // the watermark does not pass it less the allowed lateness, Unix milliseconds
}

// NoHold is the Hold that holds nothing.
func NoHold() Hold { return Hold{Clock: Never, Settled: Never} }

// And returns the stricter of two holds, bound by bound.
func (h Hold) And(o Hold) Hold {
	return Hold{Clock: min(h.Clock, o.Clock), Settled: min(h.Settled, o.Settled)}
}
