package boot

import "minivmm/devices/guestmem"

// Guest addresses of the boot structures. All are in the first 64 KiB, which Linux always reserves
// for itself (early_reserve_memory, arch/x86/kernel/setup.c), so the structures do not fragment
// memory that the guest could use. The structures are also below 640 KiB, where every machine has
// RAM.
//
// Page 0 stays unused: it holds the real-mode interrupt table and the BIOS data area, and null
// pointers refer to it.
const (
	gdtGPA        guestmem.GPA = 0x1000
	zeroPageGPA   guestmem.GPA = 0x2000 // struct boot_params, one page
	startInfoGPA  guestmem.GPA = 0x3000 // struct hvm_start_info with its lists, one page
	cmdlineGPA    guestmem.GPA = 0x4000
	cmdlineRoom                = 0x4000 // eight times COMMAND_LINE_SIZE (2 KiB on x86), including the final NUL
	pageTablesGPA guestmem.GPA = 0x8000

	// LowEnd is the first byte after all structures.
	LowEnd = pageTablesGPA + identityMapSize
)

const (
	// legacyHole is the range from 640 KiB to 1 MiB that a PC reserves for video memory and
	// firmware. Linux removes it from RAM (trim_bios_range), so the memory map never contains it.
	legacyHoleStart = 0xa0000
	legacyHoleEnd   = 0x100000

	// fourGiB is the end of the memory where anything is placed: addresses are passed in 32-bit
	// fields, and the identity map ends at 4 GiB.
	fourGiB = 1 << 32
)
