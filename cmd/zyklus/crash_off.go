//go:build !crashpoints

package main

// crashPoint returns what is called at the steps of a checkpoint: nothing, but in builds for crash tests.
func crashPoint() func(step string) { return nil }
