// Package ioctl describes ioctls by their C names and arguments, and issues them.
package ioctl

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Request identifies an ioctl by its number. Its C name appears in errors.
type Request struct {
	Name   string
	Number uintptr
}

// None describes a request that has no argument or an integer argument (_IO in C). kind is the type
// byte of the request's number, and nr is the lowest byte.
func None(name string, kind, nr uintptr) Request { return Request{name, kind<<8 | nr} }

// Write describes a request whose argument the kernel reads (_IOW in C). T is the argument's type.
// If the argument has a variable length, T is only the argument's header.
func Write[T any](name string, kind, nr uintptr) Request {
	return Request{name, 1<<30 | unsafe.Sizeof(*new(T))<<16 | kind<<8 | nr}
}

// Read is like Write, but for an argument that the kernel writes (_IOR in C).
func Read[T any](name string, kind, nr uintptr) Request {
	return Request{name, 2<<30 | unsafe.Sizeof(*new(T))<<16 | kind<<8 | nr}
}

// Both is like Write, but for an argument that the kernel reads and writes (_IOWR in C).
func Both[T any](name string, kind, nr uintptr) Request {
	return Request{name, 3<<30 | unsafe.Sizeof(*new(T))<<16 | kind<<8 | nr}
}

// Error returns an *os.PathError for a failed request on the named file.
func (r Request) Error(file string, err error) error {
	return &os.PathError{Op: r.Name, Path: file, Err: err}
}

// Once issues a request that has an integer argument or none. If a signal interrupts the request
// (EINTR), Once does not repeat it. Once does not allocate memory.
//
// This package uses unix.Syscall and never RawSyscall: Syscall tells Go's scheduler that the thread
// is in the kernel, so a garbage collection need not kick a vCPU out of the guest.
func Once(f *os.File, r Request, n uintptr) (int, unix.Errno) {
	ret, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), r.Number, n)
	runtime.KeepAlive(f)
	return int(ret), errno
}

// Value issues a request that has an integer argument or none. It repeats the request whenever a
// signal interrupts it (EINTR). The error is an *os.PathError.
func Value(f *os.File, r Request, n uintptr) (int, error) {
	for {
		if ret, errno := Once(f, r, n); errno == 0 {
			return ret, nil
		} else if errno != unix.EINTR {
			return 0, r.Error(f.Name(), errno)
		}
	}
}

// Pointer is like Value, but for a request whose argument is a structure. The kernel copies as many
// bytes as the request's number encodes, plus the entries that a header in the argument declares. T
// must be at least as large as both together.
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
