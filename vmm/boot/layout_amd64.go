package boot

import "minivmm/devices/guestmem"

// Layout says where the boot structures lie in guest RAM.
type Layout struct {
	GDT         guestmem.GPA
	ZeroPage    guestmem.GPA // struct boot_params, one page
	StartInfo   guestmem.GPA // struct hvm_start_info with its lists, one page
	Cmdline     guestmem.GPA
	CmdlineRoom uint64 // bytes, final NUL included
	PageTables  guestmem.GPA
	End         guestmem.GPA // first byte behind all of it
}

// LowLayout is the layout in use. Everything is inside the first 64 KiB, which
// Linux reserves for itself whatever is there (early_reserve_memory,
// arch/x86/kernel/setup.c), so nothing of it splits memory that the guest could
// use better; and it is below 640 KiB, where every machine has RAM.
//
// Page 0 stays free: it is the real-mode interrupt table, the BIOS data area,
// and what a null pointer hits.
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
	// legacyHole is what a PC keeps for video memory and firmware between
	// 640 KiB and 1 MiB: Linux takes it out of RAM (trim_bios_range), so it
	// is never offered.
	legacyHoleStart = 0xa0000
	legacyHoleEnd   = 0x100000

	// fourGiB bounds everything that is placed: 32-bit fields name it, and
	// the identity map ends there.
	fourGiB = 1 << 32
)
