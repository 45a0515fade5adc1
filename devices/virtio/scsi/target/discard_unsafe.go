package target

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// discard calls ioctl(2) BLKDISCARD on a range in bytes.
func discard(fd int, off, n uint64) error {
	span := [2]uint64{off, n}
	if _, _, err := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.BLKDISCARD, uintptr(unsafe.Pointer(&span))); err != 0 {
		return err
	}
	return nil
}
