package virtio

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// signal adds one to an eventfd that does not block. It does not tell Go's
// scheduler that a system call begins: this one is over before the scheduler
// could use the time, and there is one for each interrupt.
func signal(fd int) unix.Errno {
	one := uint64(1)
	_, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&one)), unsafe.Sizeof(one))
	return errno
}
