// Package ioctl describes ioctls by their C names and arguments, and issues them.
package ioctl

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Request is an ioctl: its C name, for errors, and its number.
type Request struct {
	Name   string
	Number uintptr
}

// None describes a request that has no argument or an integer argument, _IO in C. kind is the type
// byte of the number.
func None(name string, kind, nr uintptr) Request { return Request{name, kind<<8 | nr} }

// Write describes a request whose argument the kernel reads, _IOW in C. If the argument has a
// variable length, T is only its header.
func Write[T any](name string, kind, nr uintptr) Request {
	return Request{name, 1<<30 | unsafe.Sizeof(*new(T))<<16 | kind<<8 | nr}
}

// Read is like Write, for an argument that the kernel writes, _IOR in C.
func Read[T any](name string, kind, nr uintptr) Request {
	return Request{name, 2<<30 | unsafe.Sizeof(*new(T))<<16 | kind<<8 | nr}
}

// Both is like Write, for an argument that the kernel reads and writes, _IOWR in C.
func Both[T any](name string, kind, nr uintptr) Request {
	return Request{name, 3<<30 | unsafe.Sizeof(*new(T))<<16 | kind<<8 | nr}
}

// Error returns the error of a failed request on the named file, an *os.PathError.
func (r Request) Error(file string, err error) error {
	return &os.PathError{Op: r.Name, Path: file, Err: err}
}

// Once issues a request whose argument is an integer, or absent, and does not repeat it if a signal
// interrupts it (EINTR). It does not allocate.
//
// This package uses unix.Syscall and never RawSyscall: Syscall tells Go's scheduler that the thread
// is in the kernel, so a garbage collection need not kick a vCPU out of the guest.
func Once(f *os.File, r Request, n uintptr) (int, unix.Errno) {
	ret, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), r.Number, n)
	runtime.KeepAlive(f)
	return int(ret), errno
}

// Value issues a request whose argument is an integer, or absent, and repeats it while signals
// interrupt it (EINTR). The error is an *os.PathError.
func Value(f *os.File, r Request, n uintptr) (int, error) {
	for {
		if ret, errno := Once(f, r, n); errno == 0 {
			return ret, nil
		} else if errno != unix.EINTR {
			return 0, r.Error(f.Name(), errno)
		}
	}
}

// Pointer is like Value, for a request whose argument is a structure. The kernel copies the size
// that the request's number encodes, plus the entries that a header in the argument declares. T
// must be at least that large.
func Pointer[T any](f *os.File, r Request, arg *T) (int, error) {
	for {
		ret, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), r.Number, uintptr(unsafe.Pointer(arg)))
		runtime.KeepAlive(f)
		if errno == 0 {
			return int(ret), nil
		} else if errno != unix.EINTR {
			return 0, r.Error(f.Name(), errno)
		}
	}
}
