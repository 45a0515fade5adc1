package tracepoint

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// ioctlString passes a text, which the kernel copies.
func ioctlString(fd int, request uint, s string) error {
	p, err := unix.BytePtrFromString(s)
	if err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(unsafe.Pointer(p))); errno != 0 {
		return errno
	}
	return nil
}
