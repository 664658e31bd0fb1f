// Package dataset turns published purchase histories into the events that a shop would have sent: Segment JSON, one
// Order Completed for each purchase, ordered by time.
//
// A Preset names a file format. The files are CSV with a header, columns in any order, optionally gzipped. Rows that
// make no sense are refused and counted; they never stop the reading.
//
//	r, err := dataset.Open("cdnow", file, "USD")
//	var e dataset.Event
//	for {
//		ok, err := r.Next(&e)
//		…
//	}
//
// Amounts are exact: decimal text is read into millionths and never becomes a floating point number.
package dataset
