package acpi

import "encoding/binary"

// Config holds the values that the tables report. Addresses are guest physical and below 4 GiB.
// Sizes are in bytes.
type Config struct {
	// NumCPUs is 1 to 255. The APIC ID and the processor UID of CPU n are both n. A 256th CPU would
	// need a wider entry: the 8-bit ID 255 is the broadcast (ACPI 6.5 §5.2.12.12).
	NumCPUs int

	IOAPIC uint32 // address of the I/O APIC, whose global system interrupts start at 0

	ECAM        uint32 // address of the configuration space (1 MiB) of bus 0, the only bus
	PCIWindow32 Window // memory BARs
	PCIPorts    Window // BARs of I/O ports

	SerialPort uint16 // first of 8 I/O ports of COM1
	SerialIRQ  uint32 // global system interrupt of COM1: edge-triggered, active high

	// EventIRQ is the global system interrupt of the Generic Event Device: edge-triggered, active
	// high. One pulse is one press of the power button.
	EventIRQ uint32

	// The following are 8-bit I/O ports. The guest powers off by writing SleepValue(5) to
	// SleepControl, and resets by writing ResetValue to Reset. SleepStatus reads as 0 and
	// ignores writes.
	SleepControl uint16
	SleepStatus  uint16
	Reset        uint16
	ResetValue   uint8
}

// Window is a range of guest physical addresses, or of I/O ports, that PCI devices may decode.
type Window struct{ Base, Size uint32 }

// S5 is the SLP_TYP value for power off, the first element of \_S5.
const S5 = 5

// SleepValue returns the value that OSPM writes to the sleep control register to enter the state
// with the given SLP_TYP. The value consists of SLP_EN and SLP_TYPx (ACPI 6.5 table 4.18).
func SleepValue(slpTyp uint8) uint8 { return 1<<5 | slpTyp&7<<2 }

// Sizes of the RSDP (table 5.27) and of the header of every other table (table 5.28).
const (
	rsdpSize   = 36
	headerSize = 36
	align      = 16
)

// The creator of the tables, in each header.
const (
	oemID     = "MINVMM"   // 6 bytes
	oemTable  = "MINIVMM " // 8 bytes
	creatorID = "MVMM"     // 4 bytes
)

// Build returns the tables as one blob for the guest physical address in base, which must be
// 16-byte aligned. The RSDP comes first, so its address, which boot_params or hvm_start_info must
// contain, is also base. The caller must reserve the range in the guest's memory map: E820 type
// ACPI. Build does not check c, because all machines have the same layout.
func Build(c Config, base uint32) []byte {
	b := make([]byte, rsdpSize)
	add := func(table []byte) (gpa uint64) {
		b = append(b, make([]byte, -len(b)&(align-1))...)
		gpa = uint64(base) + uint64(len(b))
		b = append(b, table...)
		return gpa
	}
	le := binary.LittleEndian
	dsdtAddr := add(table("DSDT", 2, dsdt(c)))
	var entries []byte
	for _, t := range [][]byte{fadt(c, dsdtAddr), madt(c), mcfg(c)} {
		entries = le.AppendUint64(entries, add(t))
	}
	copy(b, rsdp(add(table("XSDT", 1, entries))))
	return b
}

// table returns a table that consists of a header (DESCRIPTION_HEADER, table 5.28) and the body.
func table(signature string, revision uint8, body []byte) []byte {
	le := binary.LittleEndian
	b := make([]byte, headerSize, headerSize+len(body))
	copy(b[0:], signature)
	le.PutUint32(b[4:], uint32(headerSize+len(body)))
	b[8] = revision
	copy(b[10:], oemID)
	copy(b[16:], oemTable)
	le.PutUint32(b[24:], 1) // OEM revision
	copy(b[28:], creatorID)
	le.PutUint32(b[32:], 1) // creator revision
	b = append(b, body...)
	b[9] = checksum(b)
	return b
}

// checksum returns a byte. When this byte replaces a zero byte of b, the sum of all bytes is 0.
func checksum(b []byte) byte {
	var sum byte
	for _, v := range b {
		sum += v
	}
	return -sum
}

// rsdp returns the Root System Description Pointer, revision 2: table 5.27.
func rsdp(xsdt uint64) []byte {
	le := binary.LittleEndian
	b := make([]byte, rsdpSize)
	copy(b[0:], "RSD PTR ")
	copy(b[9:], oemID)
	b[15] = 2                      // revision
	le.PutUint32(b[20:], rsdpSize) // length
	le.PutUint64(b[24:], xsdt)     // XsdtAddress
	b[8] = checksum(b[:20])        // checksum of the ACPI 1.0 part
	b[32] = checksum(b)            // extended checksum
	return b
}

// mcfg describes the enhanced configuration space: PCI firmware specification tables 4-2 and 4-3.
func mcfg(c Config) []byte {
	b := make([]byte, 8+16) // a reserved field, then one allocation: segment 0, bus 0
	binary.LittleEndian.PutUint64(b[8:], uint64(c.ECAM))
	return table("MCFG", 1, b)
}

// lapicAddr is the address of every local APIC, Intel SDM volume 3 §11.4.1.
const lapicAddr = 0xfee00000

const cpuEnabled = 1 << 0 // table 5.47

// madt lists the interrupt controllers (table 5.43). PCAT_COMPAT is 0: no interrupt reaches KVM's
// dual-8259, so the guest need not mask it. There are no source overrides because no ISA interrupt
// is wired elsewhere.
func madt(c Config) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, lapicAddr)
	b = le.AppendUint32(b, 0)  // flags
	for i := range c.NumCPUs { // Processor Local APIC, table 5.46
		b = append(b, 0, 8, byte(i), byte(i))
		b = le.AppendUint32(b, cpuEnabled)
	}
	b = append(b, 1, 12, 0, 0) // I/O APIC, table 5.48
	b = le.AppendUint32(b, c.IOAPIC)
	b = le.AppendUint32(b, 0) // global system interrupt base
	return table("APIC", 5, b)
}
