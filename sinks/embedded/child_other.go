//go:build !unix

package embedded

import "syscall"

// childAttributes is empty: there is no libchdb for other platforms.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }
