//go:build !linux

package embedded

// keepSignals runs f. Putting the handlers back is written for Linux only.
func keepSignals(f func()) { f() }
