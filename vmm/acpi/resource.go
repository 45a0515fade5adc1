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

	generalConsumer = 1 << 0
	generalFixed    = 1<<2 | 1<<3 // _MIF, _MAF

	memoryWritable = 1 << 0 // _RW; not cacheable, plain memory
	ioEntireRange  = 3      // _RNG: both ISA and non-ISA ranges
)

// busNumbers is a Word Address Space Descriptor (§6.4.3.5.3): the buses below
// a host bridge.
func busNumbers(first, last uint8) []byte {
	le := binary.LittleEndian
	b := []byte{0x88, 13, 0, spaceBus, generalFixed, 0}
	for _, v := range []uint16{0, uint16(first), uint16(last), 0, uint16(last) - uint16(first) + 1} {
		b = le.AppendUint16(b, v) // _GRA, _MIN, _MAX, _TRA, _LEN
	}
	return b
}

// portWindow is the same for I/O ports that a bridge forwards.
func portWindow(w Window) []byte {
	le := binary.LittleEndian
	b := []byte{0x88, 13, 0, spaceIO, generalFixed, ioEntireRange}
	for _, v := range []uint64{0, w.Base, w.Base + w.Size - 1, 0, w.Size} {
		b = le.AppendUint16(b, uint16(v)) // _GRA, _MIN, _MAX, _TRA, _LEN
	}
	return b
}

// memoryWindow is a DWord or QWord Address Space Descriptor (§6.4.3.5.2, .1): memory that a bridge
// forwards or, with generalConsumer, memory that a device uses.
func memoryWindow(base, size uint64, general byte) []byte {
	le := binary.LittleEndian
	fields := []uint64{0, base, base + size - 1, 0, size} // _GRA, _MIN, _MAX, _TRA, _LEN
	if base+size <= 1<<32 {
		b := []byte{0x87, 23, 0, spaceMemory, generalFixed | general, memoryWritable}
		for _, v := range fields {
			b = le.AppendUint32(b, uint32(v))
		}
		return b
	}
	b := []byte{0x8a, 43, 0, spaceMemory, generalFixed | general, memoryWritable}
	for _, v := range fields {
		b = le.AppendUint64(b, v)
	}
	return b
}
