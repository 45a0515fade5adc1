package usernet

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// sendNow is a non-blocking send(2) of at least one byte, and receiveNow the same for recv(2). They
// do not announce the system call to Go's scheduler: if the other end gets the CPU immediately, the
// scheduler would consider the call blocked and wake another thread, which costs more than the call
// itself.
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
