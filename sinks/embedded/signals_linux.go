package embedded

import (
	"syscall"
	"unsafe"
)

// lastSignal is the highest signal of the process's own: those above are the
// real-time signals, of which libc keeps some for its threads.
const lastSignal = 31

// sigaction is an opaque copy of the kernel's struct sigaction: at most 32
// bytes on the platforms Go supports, rounded up.
type sigaction [64]byte

// keepSignals runs f and then puts back every signal handler as it was before.
//
// The engine resets the handlers of SIGSEGV, SIGBUS, SIGFPE and others when it
// is loaded and on every connect. Without Go's handlers a recovered nil
// dereference would kill the process; with the engine's own ones it would shut
// the engine down.
func keepSignals(f func()) {
	var saved [lastSignal + 1]sigaction
	for sig := 1; sig <= lastSignal; sig++ {
		rtSigaction(sig, nil, &saved[sig])
	}
	f()
	for sig := 1; sig <= lastSignal; sig++ {
		rtSigaction(sig, &saved[sig], nil)
	}
}

// rtSigaction sets (if set is not nil) and reads (if old is not nil) the
// handler of one signal. It cannot fail but for SIGKILL and SIGSTOP, which have
// no handlers.
func rtSigaction(sig int, set, old *sigaction) {
	const sigsetSize = 8
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig),
		uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(old)), sigsetSize, 0, 0)
}
