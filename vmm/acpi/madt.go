package acpi

import "encoding/binary"

// lapicAddr is the address of every local APIC, Intel SDM volume 3 §11.4.1.
const lapicAddr = 0xfee00000

// firstX2APIC is the first APIC ID that requires the wider entry: the 8-bit ID 255 is the broadcast
// (§5.2.12.12).
const firstX2APIC = 255

const cpuEnabled = 1 << 0 // table 5.47

// madt lists the interrupt controllers (table 5.43). PCAT_COMPAT is 0 because there is no dual-8259
// to mask. There are no source overrides because no ISA interrupt is wired elsewhere.
func madt(c Config) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, lapicAddr)
	b = le.AppendUint32(b, 0) // flags
	for i := range c.NumCPUs {
		if i < firstX2APIC { // Processor Local APIC, table 5.46
			b = append(b, 0, 8, byte(i), byte(i))
			b = le.AppendUint32(b, cpuEnabled)
			continue
		}
		b = append(b, 9, 16, 0, 0) // Processor Local x2APIC, table 5.58
		b = le.AppendUint32(b, uint32(i))
		b = le.AppendUint32(b, cpuEnabled)
		b = le.AppendUint32(b, uint32(i))
	}
	b = append(b, 1, 12, c.IOAPICID, 0) // I/O APIC, table 5.48
	b = le.AppendUint32(b, c.IOAPICAddr)
	b = le.AppendUint32(b, 0) // global system interrupt base
	return table("APIC", 5, b)
}
