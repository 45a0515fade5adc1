package vhost

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ioctl is the only function that issues ioctls. The request has an argument unless p is nil. A
// call interrupted by a signal is repeated.
func ioctl(f *os.File, id requestID, p unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), requests[id].number(), uintptr(p))
		runtime.KeepAlive(f)
		if errno == 0 {
			return nil
		}
		if errno != unix.EINTR {
			return &os.PathError{Op: requests[id].name, Path: f.Name(), Err: errno}
		}
	}
}

// ioctlPtr issues a request whose argument is a structure. The kernel copies the number of bytes in
// the request's row, plus the tail that a header in the argument declares. T must be at least that
// large. In tests d.hook replaces the kernel.
func ioctlPtr[T any](d *Device, id requestID, arg *T) error {
	if d.hook != nil {
		return d.hook(id, arg)
	}
	return ioctl(d.f, id, unsafe.Pointer(arg))
}

// ioctlNone issues a request without an argument.
func ioctlNone(d *Device, id requestID) error {
	if d.hook != nil {
		return d.hook(id, nil)
	}
	return ioctl(d.f, id, nil)
}
