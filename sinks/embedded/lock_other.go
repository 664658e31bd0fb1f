//go:build !unix

package embedded

import "context"

// lockFile does nothing: there is no libchdb for other platforms to fetch.
func lockFile(context.Context, string) (unlock func(), err error) {
	return func() {}, nil
}
