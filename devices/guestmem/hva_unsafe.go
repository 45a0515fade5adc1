package guestmem

import "unsafe"

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
