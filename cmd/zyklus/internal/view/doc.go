// Package view shows a running pipeline: live on a terminal, as one line a second elsewhere.
//
// On a terminal it takes the alternate screen, so that Close gives back what was there, and writes only lines that have
// changed, so that a text selected with the mouse, such as a question to paste, stays selected. The cursor waits,
// hidden, at the top: keys typed meanwhile echo into the heading, which the next second writes again, and scroll nothing.
//
// Elsewhere a line is key=value pairs (logfmt) with the same keys in the same order.
package view
