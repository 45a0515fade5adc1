package boot

import "minivmm/devices/guestmem"

// Protocol is how the kernel is entered.
type Protocol string

const (
	Auto    Protocol = "auto"    // Linux64 if the image supports it, else PVH
	Linux64 Protocol = "linux64" // boot.rst "64-bit boot protocol": startup_64, boot_params in RSI
	PVH     Protocol = "pvh"     // XEN_ELFNOTE_PHYS32_ENTRY: 32-bit, hvm_start_info in EBX
)

// Entry is the state of the first vCPU before its first instruction. Registers not listed are zero.
// RFLAGS is 2, the bit that is always set, so interrupts are off.
type Entry struct {
	Protocol Protocol // Linux64 or PVH
	RIP      uint64
	RSI      uint64 // Linux64: GPA of boot_params
	RBX      uint64 // PVH: GPA of hvm_start_info
	RFLAGS   uint64
	CR0      uint64
	CR3      uint64
	CR4      uint64
	EFER     uint64
	GDTBase  uint64
	GDTLimit uint16  // in bytes, inclusive
	Code     Segment // CS
	Data     Segment // DS, ES, FS, GS, SS
	Task     Segment // TR
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
func linux64Entry(l Layout, rip uint64) Entry {
	e := flatEntry(l, code64())
	e.Protocol = Linux64
	e.RIP = rip
	e.RSI = uint64(l.ZeroPage)
	e.CR0 = cr0PE | cr0ET | cr0PG
	e.CR3 = uint64(l.PageTables)
	e.CR4 = cr4PAE
	e.EFER = eferLME | eferLMA
	return e
}

// pvhEntry returns the state that xen/docs/misc/pvh.pandoc requires: 32-bit protected mode, paging
// off, only PE set in CR0, CR4 zero.
func pvhEntry(l Layout, rip uint64) Entry {
	e := flatEntry(l, code32())
	e.Protocol = PVH
	e.RIP = rip
	e.RBX = uint64(l.StartInfo)
	e.CR0 = cr0PE | cr0ET
	return e
}

func flatEntry(l Layout, cs Segment) Entry {
	return Entry{
		RFLAGS:   2,
		GDTBase:  uint64(l.GDT),
		GDTLimit: uint16(len(gdt()) - 1),
		Code:     cs,
		Data:     flatData(),
		Task:     task(),
	}
}

// gdtBytes returns the descriptor table that matches e's segment registers.
func (e Entry) gdtBytes() []byte { return gdt(e.Code, e.Data, e.Task) }

// structure is data to be written to an address in guest RAM.
type structure struct {
	gpa  guestmem.GPA
	data []byte
}
