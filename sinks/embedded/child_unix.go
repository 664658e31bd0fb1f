//go:build unix && !linux

package embedded

import "syscall"

// childAttributes gives a child its own process group, so that Ctrl-C reaches
// the parent only. The end of its standard input tells it of the parent's death.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
