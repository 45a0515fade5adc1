package kvm

import "structs"

// Regs is struct kvm_regs: the general registers.
type Regs struct {
	_                  structs.HostLayout
	RAX, RBX, RCX, RDX uint64
	RSI, RDI, RSP, RBP uint64
	R8, R9, R10, R11   uint64
	R12, R13, R14, R15 uint64
	RIP, RFLAGS        uint64
}

// Segment is struct kvm_segment. Limit is in bytes, regardless of G.
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
	Flags              uint32 // CPUIDSignificantIndex: Index is significant
	EAX, EBX, ECX, EDX uint32
	_                  [3]uint32
}

// CPUIDSignificantIndex is KVM_CPUID_FLAG_SIGNIFCANT_INDEX (sic).
const CPUIDSignificantIndex = 1 << 0

// maxCPUIDEntries is the kernel's KVM_MAX_CPUID_ENTRIES.
const maxCPUIDEntries = 256

// cpuid2 is struct kvm_cpuid2 with room for maxCPUIDEntries.
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

// maxMSREntries is far above the number that minivmm sets, and below the kernel's MAX_IO_MSRS (256).
const maxMSREntries = 16

// msrs is struct kvm_msrs with room for maxMSREntries.
type msrs struct {
	header
	entries [maxMSREntries]MSREntry
}
