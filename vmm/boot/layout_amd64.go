package boot

import "minivmm/devices/guestmem"

// Layout holds the addresses of the boot structures in guest RAM.
type Layout struct {
	GDT         guestmem.GPA
	ZeroPage    guestmem.GPA // struct boot_params, one page
	StartInfo   guestmem.GPA // struct hvm_start_info with its lists, one page
	Cmdline     guestmem.GPA
	CmdlineRoom uint64 // bytes, final NUL included
	PageTables  guestmem.GPA
	End         guestmem.GPA // first byte after all structures
}

// LowLayout returns the layout in use. All structures are in the first 64 KiB, which Linux always
// reserves for itself (early_reserve_memory, arch/x86/kernel/setup.c), so they do not fragment
// memory that the guest could use. It is also below 640 KiB, where every machine has RAM.
//
// Page 0 stays unused: it holds the real-mode interrupt table and the BIOS data area, and null
// pointers refer to it.
func LowLayout() Layout {
	return Layout{
		GDT:         0x1000,
		ZeroPage:    0x2000,
		StartInfo:   0x3000,
		Cmdline:     0x4000,
		CmdlineRoom: 0x4000, // eight times the 2 KiB of COMMAND_LINE_SIZE on x86
		PageTables:  0x8000,
		End:         0x8000 + identityMapSize,
	}
}

const (
	// legacyHole is the range from 640 KiB to 1 MiB that a PC reserves for video memory and
	// firmware. Linux removes it from RAM (trim_bios_range), so the memory map never contains it.
	legacyHoleStart = 0xa0000
	legacyHoleEnd   = 0x100000

	// fourGiB bounds all placements: their addresses are in 32-bit fields, and the identity map
	// ends there.
	fourGiB = 1 << 32
)
