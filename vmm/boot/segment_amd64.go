package boot

import "encoding/binary"

// Segment is a segment register with the descriptor it caches. The fields are
// those of struct kvm_segment (asm/kvm.h); DPL and AVL are always 0, Present
// always 1.
type Segment struct {
	Selector uint16
	Base     uint32
	Limit    uint32 // in bytes, inclusive
	Type     uint8  // descriptor type, Intel SDM volume 3 §3.4.5.1 and §3.5
	S        bool   // code or data, not a system segment
	L        bool   // 64-bit code
	DB       bool   // 32-bit code, data or stack
	G        bool   // the descriptor counts the limit in pages
}

// Selectors. boot.rst defines the first two; PVH leaves them open, so both entries use these.
const (
	bootCS = 0x10 // __BOOT_CS
	bootDS = 0x18 // __BOOT_DS
	bootTR = 0x20
)

// Flat segments of both entries. The types include the accessed bit, which the CPU would have set:
// SVM and VMX reject a code segment without it.
func code64() Segment {
	return Segment{Selector: bootCS, Limit: 0xffffffff, Type: 0xb, S: true, L: true, G: true}
}
func code32() Segment {
	return Segment{Selector: bootCS, Limit: 0xffffffff, Type: 0xb, S: true, DB: true, G: true}
}
func flatData() Segment {
	return Segment{Selector: bootDS, Limit: 0xffffffff, Type: 0x3, S: true, DB: true, G: true}
}

// task returns a busy TSS: in protected mode a 32-bit TSS, as PVH requires ("a 32-bit TSS with a
// base of 0 and a limit of 0x67"), in long mode a 64-bit TSS. Both have the same type.
func task() Segment { return Segment{Selector: bootTR, Limit: 0x67, Type: 0xb} }

// descriptor encodes s as a GDT entry, Intel SDM volume 3 figure 3-8.
func (s Segment) descriptor() uint64 {
	limit := uint64(s.Limit)
	if s.G {
		limit >>= 12
	}
	d := limit&0xffff | limit>>16&0xf<<48 | uint64(s.Base)&0xffffff<<16 | uint64(s.Base)>>24<<56
	d |= uint64(s.Type)<<40 | 1<<47 // present
	if s.S {
		d |= 1 << 44
	}
	if s.L {
		d |= 1 << 53
	}
	if s.DB {
		d |= 1 << 54
	}
	if s.G {
		d |= 1 << 55
	}
	return d
}

// gdt returns a descriptor table with each segment at its selector. A TSS
// descriptor is 16 bytes in long mode, so the table ends in a zero entry.
func gdt(segments ...Segment) []byte {
	b := make([]byte, bootTR+16)
	for _, s := range segments {
		binary.LittleEndian.PutUint64(b[s.Selector:], s.descriptor())
	}
	return b
}
