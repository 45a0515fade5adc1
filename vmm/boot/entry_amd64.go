package boot

import (
	"encoding/binary"

	"minivmm/kvm"
)

// Protocol is how the kernel is entered.
type Protocol string

const (
	Auto    Protocol = "auto"    // Linux64 if the image supports it, else PVH
	Linux64 Protocol = "linux64" // boot.rst "64-bit boot protocol": startup_64, boot_params in RSI
	PVH     Protocol = "pvh"     // XEN_ELFNOTE_PHYS32_ENTRY: 32-bit, hvm_start_info in EBX
)

// Entry is the state of the first vCPU before its first instruction.
type Entry struct {
	Regs                kvm.Regs // RFLAGS is 2, the bit that is always set, so interrupts are off
	CR0, CR3, CR4, EFER uint64
	Code                kvm.Segment // CS; the other segments are the same for all entries
}

// Control register bits, Intel SDM volume 3 §2.5.
const (
	cr0PE   = 1 << 0
	cr0ET   = 1 << 4 // reads as 1 on every CPU
	cr0PG   = 1 << 31
	cr4PAE  = 1 << 5
	eferLME = 1 << 8
	eferLMA = 1 << 10
)

// linux64Entry returns the state that boot.rst requires: "CPU must be in 64-bit mode with
// paging enabled", flat segments, interrupts off.
func linux64Entry(rip uint64) Entry {
	return Entry{
		Regs: kvm.Regs{RIP: rip, RSI: uint64(zeroPageGPA), RFLAGS: 2},
		CR0:  cr0PE | cr0ET | cr0PG,
		CR3:  uint64(pageTablesGPA),
		CR4:  cr4PAE,
		EFER: eferLME | eferLMA,
		Code: code64,
	}
}

// pvhEntry returns the state that xen/docs/misc/pvh.pandoc requires: 32-bit protected mode, paging
// off, only PE set in CR0, CR4 zero.
func pvhEntry(rip uint64) Entry {
	return Entry{
		Regs: kvm.Regs{RIP: rip, RBX: uint64(startInfoGPA), RFLAGS: 2},
		CR0:  cr0PE | cr0ET,
		Code: code32,
	}
}

// Apply copies the entry state to s.
func (e Entry) Apply(s *kvm.Sregs) {
	s.CR0, s.CR3, s.CR4, s.EFER = e.CR0, e.CR3, e.CR4, e.EFER
	s.GDT = kvm.DTable{Base: uint64(gdtGPA), Limit: gdtSize - 1}
	s.CS, s.TR = e.Code, task
	s.DS, s.ES, s.FS, s.GS, s.SS = flatData, flatData, flatData, flatData, flatData
}

// The segments of both entries. boot.rst defines the selectors __BOOT_CS for code and __BOOT_DS for
// data; PVH does not define selectors. The types (Intel SDM volume 3 §3.4.5.1 and §3.5) include the
// accessed bit, which the CPU would have set: SVM and VMX reject a code segment without it.
//
// task is a busy TSS: in protected mode a 32-bit TSS, as PVH requires ("a 32-bit TSS with a base of
// 0 and a limit of 0x67"), in long mode a 64-bit TSS. Both have the same type.
var (
	code64   = kvm.Segment{Selector: 0x10, Limit: 0xffffffff, Type: 0xb, Present: 1, S: 1, L: 1, G: 1}
	code32   = kvm.Segment{Selector: 0x10, Limit: 0xffffffff, Type: 0xb, Present: 1, S: 1, DB: 1, G: 1}
	flatData = kvm.Segment{Selector: 0x18, Limit: 0xffffffff, Type: 0x3, Present: 1, S: 1, DB: 1, G: 1}
	task     = kvm.Segment{Selector: 0x20, Limit: 0x67, Type: 0xb, Present: 1}
)

// gdtSize includes a zero entry after the TSS, whose descriptor is 16 bytes in long mode.
const gdtSize = 0x20 + 16

// gdt returns the descriptor table with e's segments, each at its selector.
func (e Entry) gdt() []byte {
	b := make([]byte, gdtSize)
	for _, s := range []kvm.Segment{e.Code, flatData, task} {
		binary.LittleEndian.PutUint64(b[s.Selector:], descriptor(s))
	}
	return b
}

// descriptor encodes s as a GDT entry, Intel SDM volume 3 figure 3-8.
func descriptor(s kvm.Segment) uint64 {
	limit := uint64(s.Limit)
	if s.G != 0 { // the limit is in pages
		limit >>= 12
	}
	d := limit&0xffff | limit>>16&0xf<<48 | s.Base&0xffffff<<16 | s.Base>>24<<56
	d |= uint64(s.Type)<<40 | uint64(s.S)<<44 | uint64(s.Present)<<47
	return d | uint64(s.L)<<53 | uint64(s.DB)<<54 | uint64(s.G)<<55
}

// Page table entry bits, Intel SDM volume 3 §4.5.
const (
	ptePresent = 1 << 0
	pteWrite   = 1 << 1
	pteHuge    = 1 << 7 // in a page directory: a 2 MiB page
)

// identityMapSize is the size in bytes of one PML4, one page directory pointer table and four page
// directories. It uses 2 MiB pages because every x86-64 CPU has them; 1 GiB pages would save four
// pages of RAM but depend on a CPUID bit.
const identityMapSize = 6 * 4096

// identityMap returns page tables, to be placed at pageTablesGPA. The tables identity-map the first
// 4 GiB as writable 2 MiB pages. boot.rst requires that the kernel's range, the zero page and the
// command line are mapped; all are below 4 GiB.
func identityMap() []byte {
	b := make([]byte, identityMapSize)
	put := func(index int, entry uint64) { binary.LittleEndian.PutUint64(b[8*index:], entry) }
	put(0, uint64(pageTablesGPA)+4096|ptePresent|pteWrite)
	for gib := range 4 {
		put(512+gib, uint64(pageTablesGPA)+uint64(2+gib)*4096|ptePresent|pteWrite)
	}
	for page := range 4 * 512 {
		put(2*512+page, uint64(page)<<21|ptePresent|pteWrite|pteHuge)
	}
	return b
}
