package embedded

import "syscall"

// childAttributes gives a child its own process group, so that Ctrl-C reaches
// the parent only, and has the kernel stop it when the parent dies.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
