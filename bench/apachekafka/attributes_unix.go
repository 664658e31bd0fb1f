//go:build unix && !linux

package apachekafka

import "syscall"

// attributes gives a broker its own process group, so that Ctrl-C does not reach it. Only Linux can have it die with the
// process that started it.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
