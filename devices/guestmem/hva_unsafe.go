package guestmem

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// HVA returns the host virtual address of the n bytes at gpa, for the kernel:
// the same rule and the same error as [Memory.Window]. The address is of an
// mmap outside the Go heap, so it stays true until Close.
func (m *Memory) HVA(gpa GPA, n uint64) (uintptr, error) {
	r, off, err := m.find(gpa, n)
	if err != nil {
		return 0, err
	}
	return r.HVA() + uintptr(off), nil
}

// HVA is the host virtual address of the region's first byte.
func (r Region) HVA() uintptr {
	return uintptr(unsafe.Pointer(unsafe.SliceData(r.Bytes)))
}

// mapFixed replaces the pages under w, a window of a live region, by a private
// mapping of f. w is page aligned because regions and MapFile's arguments are.
func mapFixed(w []byte, f *os.File, off int64) error {
	addr := unsafe.Pointer(unsafe.SliceData(w))
	_, err := unix.MmapPtr(int(f.Fd()), off, addr, uintptr(len(w)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_FIXED)
	runtime.KeepAlive(f)
	if err != nil {
		return &os.PathError{Op: "mmap", Path: f.Name(), Err: err}
	}
	for _, advice := range []int{unix.MADV_DONTFORK, unix.MADV_DONTDUMP} {
		if err := unix.Madvise(w, advice); err != nil {
			return &os.PathError{Op: "madvise", Path: f.Name(), Err: err}
		}
	}
	return nil
}
