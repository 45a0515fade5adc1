package net

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Compile-time check of struct tun_filter: the kernel reads 4 bytes, and then as many addresses as
// the field count says.
var _ [4 + filterMost*6]byte = [unsafe.Sizeof(tunFilter{})]byte{}

// setFilter sets which frames the tap passes to the guest (TUNSETTXFILTER). It ignores the kernel's
// return value, which is the number of addresses that the kernel compares exactly.
func setFilter(fd int, name string, f *tunFilter) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TUNSETTXFILTER, uintptr(unsafe.Pointer(f)))
	runtime.KeepAlive(f)
	if errno != 0 {
		return &os.PathError{Op: "TUNSETTXFILTER", Path: name, Err: errno}
	}
	return nil
}
