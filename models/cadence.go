package models

// ExpectedGap is a customer's expected days between two purchase days: the mean
// of x observed gaps, together spanDays long (first to last purchase day),
// shrunk to priorDays, which count as much as weight observed gaps:
//
//	(weight*priorDays + spanDays) / (weight + x)
//
// With no gap and no weight it is priorDays.
func ExpectedGap(x, spanDays, priorDays, weight float64) float64 {
	if weight+x <= 0 {
		return priorDays
	}
	return (weight*priorDays + spanDays) / (weight + x)
}

// OverdueRatio is the time since the last purchase, in milliseconds, over the
// expected gap: above 1 the next purchase is overdue. It divides once, so that it
// exceeds a whole number of gaps at the exact millisecond.
func OverdueRatio(silent int64, x, spanDays, priorDays, weight float64) float64 {
	const day = 24 * 60 * 60 * 1000
	if weight+x <= 0 {
		return float64(silent) / (priorDays * day)
	}
	return float64(silent) * (weight + x) / ((weight*priorDays + spanDays) * day)
}
