package usernet

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
)

// sendNow is a non-blocking send(2) and receiveNow a non-blocking recv(2). p must hold at least one
// byte. Neither announces the system call to Go's scheduler. If they did and the other end got the
// CPU immediately, the scheduler would consider the call blocked and wake another thread, which
// costs more than the call itself.
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

// Compile-time check that MonotonicTime has the size of a Duration.
var _ [unsafe.Sizeof(tcpip.MonotonicTime{})]byte = [unsafe.Sizeof(time.Duration(0))]byte{}

// monotonic returns the value of tcpip.MonotonicTime{}.Add(d) without calling Add, which takes as
// long as reading the clock.
func monotonic(d time.Duration) tcpip.MonotonicTime {
	return *(*tcpip.MonotonicTime)(unsafe.Pointer(&d))
}
