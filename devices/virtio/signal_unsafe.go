package virtio

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// signal adds one to a non-blocking eventfd. It does not announce the system call to Go's
// scheduler: the system call returns before the scheduler could run another goroutine, and every
// interrupt requires one such call.
func signal(fd int) unix.Errno {
	one := uint64(1)
	_, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&one)), unsafe.Sizeof(one))
	return errno
}
