package usernet

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// sendNow and receiveNow are send(2) and recv(2) of at least a byte without
// waiting. They do not tell Go's scheduler that a system call begins: where the
// other end gets the CPU at once, the scheduler would take the call for one that
// waits and wake another thread, for more than the call itself costs.
func sendNow(fd int, p []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)),
		unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

func receiveNow(fd int, p []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)),
		unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}
