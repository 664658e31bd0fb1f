// Package progress shows how far long work is: a bar on a terminal, a log line every few seconds elsewhere.
package progress
