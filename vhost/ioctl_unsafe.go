package vhost

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ioctl is the one place that enters the kernel. It issues a request with an
// argument, or with none if p is nil, and repeats it when a signal interrupts
// it.
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

// ioctlPtr issues a request whose argument is a structure. The kernel copies
// as many bytes as the row says, plus what a header in the argument announces:
// T must hold at least that. In tests d.hook stands for the kernel.
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
