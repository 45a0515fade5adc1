package net

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A structure of the wrong size does not compile: the kernel reads 4 bytes and
// then count addresses.
var _ [4 + filterMost*6]byte = [unsafe.Sizeof(tunFilter{})]byte{}

// setFilter says which frames the tap hands out, TUNSETTXFILTER. The kernel
// answers how many addresses it compares with, which is of no interest.
func setFilter(fd int, name string, f *tunFilter) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TUNSETTXFILTER, uintptr(unsafe.Pointer(f)))
	runtime.KeepAlive(f)
	if errno != 0 {
		return &os.PathError{Op: "TUNSETTXFILTER", Path: name, Err: errno}
	}
	return nil
}
