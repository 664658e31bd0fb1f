package apachekafka

import "syscall"

// attributes gives a broker its own process group, so that Ctrl-C does not reach it, and has the kernel kill it when the
// process that started it dies.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
