package kvm

import (
	"structs"
)

// userMemoryRegion is struct kvm_userspace_memory_region.
type userMemoryRegion struct {
	_     structs.HostLayout
	slot  uint32
	flags uint32
	gpa   uint64 // guest_phys_addr
	size  uint64 // memory_size, bytes
	hva   uint64 // userspace_addr
}

// irqLevel is struct kvm_irq_level.
type irqLevel struct {
	_     structs.HostLayout
	irq   uint32
	level uint32
}

// header is the start of the structures with a variable number of entries: kvm_irq_routing,
// kvm_cpuid2 and kvm_msrs.
type header struct {
	_     structs.HostLayout
	count uint32 // nr, nent, nmsrs
	_     uint32
}

// routingEntry is struct kvm_irq_routing_entry. The union u has eight words. For an MSI, the first
// four are address_lo, address_hi, data and devid; for an irqchip pin, the first two are irqchip
// and pin.
type routingEntry struct {
	_     structs.HostLayout
	gsi   uint32
	typ   uint32
	flags uint32
	_     uint32
	u     [8]uint32
}

// irqfdArg is struct kvm_irqfd.
type irqfdArg struct {
	_          structs.HostLayout
	fd         uint32
	gsi        uint32
	flags      uint32
	resamplefd uint32
	_          [16]uint8
}

// ioeventfdArg is struct kvm_ioeventfd.
type ioeventfdArg struct {
	_         structs.HostLayout
	datamatch uint64
	addr      uint64
	length    uint32 // len
	fd        int32
	flags     uint32
	_         [36]uint8
}

// Regs is struct kvm_regs: the general registers.
type Regs struct {
	_                  structs.HostLayout
	RAX, RBX, RCX, RDX uint64
	RSI, RDI, RSP, RBP uint64
	R8, R9, R10, R11   uint64
	R12, R13, R14, R15 uint64
	RIP, RFLAGS        uint64
}

// Segment is struct kvm_segment. Limit is in bytes, whatever the granularity bit G is.
type Segment struct {
	_        structs.HostLayout
	Base     uint64
	Limit    uint32
	Selector uint16
	Type     uint8
	Present  uint8
	DPL      uint8
	DB       uint8
	S        uint8
	L        uint8
	G        uint8
	AVL      uint8
	Unusable uint8
	_        uint8
}

// DTable is struct kvm_dtable: the GDT's or IDT's address and limit.
type DTable struct {
	_     structs.HostLayout
	Base  uint64
	Limit uint16
	_     [3]uint16
}

// Sregs is struct kvm_sregs: segments, tables and control registers.
type Sregs struct {
	_                       structs.HostLayout
	CS, DS, ES, FS, GS, SS  Segment
	TR, LDT                 Segment
	GDT, IDT                DTable
	CR0, CR2, CR3, CR4, CR8 uint64
	EFER                    uint64
	APICBase                uint64
	InterruptBitmap         [4]uint64
}

// CPUIDEntry is struct kvm_cpuid_entry2: the values of one CPUID leaf.
type CPUIDEntry struct {
	_                  structs.HostLayout
	Function, Index    uint32
	Flags              uint32 // with CPUIDSignificantIndex, Index selects a subleaf
	EAX, EBX, ECX, EDX uint32
	_                  [3]uint32
}

// CPUIDSignificantIndex is KVM_CPUID_FLAG_SIGNIFCANT_INDEX (sic).
const CPUIDSignificantIndex = 1 << 0

// maxCPUIDEntries is the kernel's KVM_MAX_CPUID_ENTRIES.
const maxCPUIDEntries = 256

// cpuid2 is struct kvm_cpuid2 with room for maxCPUIDEntries entries.
type cpuid2 struct {
	header
	entries [maxCPUIDEntries]CPUIDEntry
}

// MSREntry is struct kvm_msr_entry.
type MSREntry struct {
	_     structs.HostLayout
	Index uint32
	_     uint32
	Data  uint64
}

// maxMSREntries is far above the number of MSRs that minivmm sets, and below the kernel's
// MAX_IO_MSRS (256).
const maxMSREntries = 16

// msrs is struct kvm_msrs with room for maxMSREntries entries.
type msrs struct {
	header
	entries [maxMSREntries]MSREntry
}
