package pipeline

import "bytes"

// correct takes an order event that is later than allowed: it enters the settled record, and what follows from it is
// dated at the watermark, the first instant that is not final. One that changes nothing, most often because it was there
// already, leaves no date.
func (t *Task) correct(w *work, e *Event) {
	t.stats.Late++
	r := t.settleNow(w, t.Watermark())
	asOf, days := r.AsOf, len(r.past)
	t.buf = r.appendSettled(t.buf[:0], &t.sect)
	r.apply(&t.fold, e, max(t.Watermark(), asOf), true)
	if asOf > 0 && t.sameBut(r, asOf) {
		r.AsOf, r.timed, r.quiet = asOf, false, false
		r.forget(days)
	} else {
		t.stats.Corrections++
	}
	t.keepSettled(w, r)
	t.refold(w)
}

// sameBut reports whether r, as of another instant, is what t.buf holds.
func (t *Task) sameBut(r *Customer, asOf int64) bool {
	now := r.AsOf
	r.AsOf = asOf
	t.same = r.appendSettled(t.same[:0], &t.sect)
	r.AsOf = now
	return bytes.Equal(t.same, t.buf)
}
