package models

// ExpectedGap is a customer's expected days between two purchase days: the mean
// of x observed gaps, together spanDays long (first to last purchase day),
// shrunk to priorDays, which count as much as weight observed gaps:
//
//	(weight*priorDays + spanDays) / (weight + x)
//
// With no gap and no weight it is priorDays. The overdue ratio is the days since
// the last purchase over this gap.
func ExpectedGap(x, spanDays, priorDays, weight float64) float64 {
	if weight+x <= 0 {
		return priorDays
	}
	return (weight*priorDays + spanDays) / (weight + x)
}
