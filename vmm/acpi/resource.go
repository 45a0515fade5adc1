package acpi

import "encoding/binary"

// Resource descriptors, ACPI 6.5 §6.4. Each function returns one descriptor.

// resources returns a buffer of descriptors, closed by an end tag with checksum 0, "treat as
// correct" (§6.4.2.9).
func resources(descriptors ...[]byte) aml {
	var b []byte
	for _, d := range descriptors {
		b = append(b, d...)
	}
	return buffer(append(b, 0x79, 0))
}

// ioPorts is the I/O Port Descriptor (§6.4.2.5), 16-bit decode, fixed.
func ioPorts(first uint16, n uint8) []byte {
	le := binary.LittleEndian
	b := []byte{0x47, 1}
	b = le.AppendUint16(b, first) // _MIN
	b = le.AppendUint16(b, first) // _MAX
	return append(b, 1, n)        // _ALN, _LEN
}

// memory32 is the 32-bit Fixed Memory Range Descriptor (§6.4.3.4), writable.
func memory32(base, size uint32) []byte {
	le := binary.LittleEndian
	b := []byte{0x86, 9, 0, 1}
	b = le.AppendUint32(b, base)
	return le.AppendUint32(b, size)
}

// interrupt is the Extended Interrupt Descriptor (§6.4.3.6): edge, active high, exclusive,
// consumed. Unlike with the older IRQ descriptor, Linux uses these values whatever the MADT reports
// for the line.
func interrupt(gsi uint32) []byte {
	const consumer, edge = 1 << 0, 1 << 1
	return binary.LittleEndian.AppendUint32([]byte{0x89, 6, 0, consumer | edge, 1}, gsi)
}

// Kinds and flags of address space descriptors, §6.4.3.5.
const (
	spaceMemory = 0
	spaceIO     = 1
	spaceBus    = 2

	generalFixed = 1<<2 | 1<<3 // _MIF, _MAF

	memoryWritable = 1 << 0 // _RW; not cacheable, plain memory
	ioEntireRange  = 3      // _RNG: both ISA and non-ISA ranges
)

// window is what a host bridge forwards: memory as a DWord Address Space Descriptor (§6.4.3.5.2),
// bus numbers and I/O ports as a Word Address Space Descriptor (§6.4.3.5.3).
func window(kind, flags byte, w Window) []byte {
	tag, size := byte(0x88), 2
	if kind == spaceMemory {
		tag, size = 0x87, 4
	}
	b := []byte{tag, byte(3 + 5*size), 0, kind, generalFixed, flags}
	for _, v := range []uint32{0, w.Base, w.Base + w.Size - 1, 0, w.Size} { // _GRA, _MIN, _MAX, _TRA, _LEN
		b = append(b, binary.LittleEndian.AppendUint32(nil, v)[:size]...)
	}
	return b
}
