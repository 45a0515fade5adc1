package target

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// fewIovecs is the number of iovecs for which vector has space on the stack. It is enough for a
// request of 256 KiB, which covers at most 64 whole pages and two partial pages.
const fewIovecs = 66

// vector calls preadv2(2) or pwritev2(2). unix.Preadv2 and unix.Pwritev2 do the same, but allocate
// on the heap each time. bufs has at most UIO_MAXIOV elements.
func vector(call uintptr, fd int, bufs [][]byte, off int64, flags int) (int, error) {
	var few [fewIovecs]unix.Iovec
	iovs := few[:0]
	for _, b := range bufs {
		iov := unix.Iovec{Base: unsafe.SliceData(b)}
		iov.SetLen(len(b))
		iovs = append(iovs, iov)
	}
	// The system call takes the offset in two arguments, a low and a high half. On 64-bit systems
	// the low half is the whole offset.
	n, _, err := unix.Syscall6(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(iovs))), uintptr(len(iovs)), uintptr(off), 0, uintptr(flags))
	if err != 0 {
		return int(n), err
	}
	return int(n), nil
}

// discard calls ioctl(2) BLKDISCARD for the n bytes at the offset off.
func discard(fd int, off, n uint64) error {
	span := [2]uint64{off, n}
	if _, _, err := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.BLKDISCARD, uintptr(unsafe.Pointer(&span))); err != 0 {
		return err
	}
	return nil
}
