package kvm

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawIoctl is the only function that issues ioctls. The argument is p if it is not nil, else n by
// value. A call interrupted by a signal is repeated, except KVM_RUN, where EINTR is how another
// goroutine interrupts the vCPU.
//
// It uses unix.Syscall and never RawSyscall: Syscall tells Go's scheduler that the thread is in the
// kernel, so a garbage collection need not kick a vCPU out of the guest.
func rawIoctl(f *os.File, id requestID, p unsafe.Pointer, n uintptr) (uintptr, unix.Errno) {
	for {
		var ret uintptr
		var errno unix.Errno
		if p != nil {
			ret, _, errno = unix.Syscall(unix.SYS_IOCTL, f.Fd(), requests[id].number(), uintptr(p))
		} else {
			ret, _, errno = unix.Syscall(unix.SYS_IOCTL, f.Fd(), requests[id].number(), n)
		}
		runtime.KeepAlive(f)
		if errno != unix.EINTR || id == run {
			return ret, errno
		}
	}
}

// ioctl is rawIoctl with the error wrapped.
func ioctl(f *os.File, id requestID, p unsafe.Pointer, n uintptr) (int, error) {
	ret, errno := rawIoctl(f, id, p, n)
	if errno != 0 {
		return 0, &os.PathError{Op: requests[id].name, Path: f.Name(), Err: errno}
	}
	return int(ret), nil
}

// ioctlValue issues a request whose argument is an integer, or absent.
func ioctlValue(f *os.File, id requestID, n uintptr) (int, error) {
	return ioctl(f, id, nil, n)
}

// ioctlPtr issues a request whose argument is a structure. The kernel copies the number of bytes in
// the request's row, plus the tail that a header in the argument declares. T must be at least that
// large.
func ioctlPtr[T any](f *os.File, id requestID, arg *T) (int, error) {
	return ioctl(f, id, unsafe.Pointer(arg), 0)
}

// ioctlRun issues KVM_RUN. It does not allocate.
func ioctlRun(f *os.File) unix.Errno {
	_, errno := rawIoctl(f, run, nil, 0)
	return errno
}
