package guestmem

import "unsafe"

// HVA returns the host virtual address of the n bytes at gpa, for use by the kernel. It accepts the
// same ranges as [Memory.Window] and returns the same errors. The address belongs to an mmap
// outside the Go heap and stays valid until m is closed.
func (m *Memory) HVA(gpa GPA, n uint64) (uintptr, error) {
	r, off, err := m.find(gpa, n)
	if err != nil {
		return 0, err
	}
	return r.HVA() + uintptr(off), nil
}

// HVA returns the host virtual address of the region's first byte.
func (r Region) HVA() uintptr {
	return uintptr(unsafe.Pointer(unsafe.SliceData(r.Bytes)))
}
