package guestmem

import (
	"sync/atomic"
	"unsafe"
)

// word returns the aligned 32-bit word around the 16-bit field at offset off in b, and the field's
// bit position in the word. sync/atomic has no 16-bit type, and a plain load of a field that the
// guest writes is a data race. Guest memory is page aligned, so the word never leaves the window's
// page.
func word(b []byte, off int) (p *uint32, shift uint) {
	field := unsafe.Pointer(&b[off : off+2][0])
	low := int(uintptr(field) & 3)
	if low&1 != 0 {
		panic("guestmem: unaligned 16-bit access")
	}
	return (*uint32)(unsafe.Add(field, -low)), uint(low) * 8
}

// Load16 reads the little-endian 16-bit field at offset off in b, with sequential consistency. Such
// fields are idx, flags and the event fields of a virtqueue (virtio 1.2 §2.7). The field must be
// aligned in memory.
func Load16(b []byte, off int) uint16 {
	p, shift := word(b, off)
	return uint16(atomic.LoadUint32(p) >> shift)
}

// Store16 writes the field that [Load16] reads, with sequential consistency. It preserves
// concurrent writes to the other half of the 32-bit word that contains the field.
func Store16(b []byte, off int, v uint16) {
	p, shift := word(b, off)
	for {
		old := atomic.LoadUint32(p)
		if atomic.CompareAndSwapUint32(p, old, old&^(0xffff<<shift)|uint32(v)<<shift) {
			return
		}
	}
}
