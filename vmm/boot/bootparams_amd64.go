package boot

import (
	"encoding/binary"

	"minivmm/devices/guestmem"
)

// Offsets in struct boot_params (asm/bootparam.h). The offsets from 0x1f1 on are also offsets in a
// bzImage.
const (
	offACPIRSDPAddr     = 0x070 // acpi_rsdp_addr
	offE820Entries      = 0x1e8 // e820_entries
	offHdr              = 0x1f1 // hdr: struct setup_header
	offSetupSects       = 0x1f1 // hdr.setup_sects
	offSyssize          = 0x1f4 // hdr.syssize, in units of 16 bytes
	offBootFlag         = 0x1fe // hdr.boot_flag
	offJump             = 0x200 // hdr.jump; its second byte gives the end of hdr
	offHeader           = 0x202 // hdr.header
	offVersion          = 0x206 // hdr.version
	offTypeOfLoader     = 0x210 // hdr.type_of_loader
	offLoadflags        = 0x211 // hdr.loadflags
	offRamdiskImage     = 0x218 // hdr.ramdisk_image
	offRamdiskSize      = 0x21c // hdr.ramdisk_size
	offCmdLinePtr       = 0x228 // hdr.cmd_line_ptr
	offInitrdAddrMax    = 0x22c // hdr.initrd_addr_max
	offKernelAlignment  = 0x230 // hdr.kernel_alignment
	offXloadflags       = 0x236 // hdr.xloadflags
	offCmdlineSize      = 0x238 // hdr.cmdline_size
	offPayloadOffset    = 0x248 // hdr.payload_offset
	offPayloadLength    = 0x24c // hdr.payload_length
	offSetupData        = 0x250 // hdr.setup_data
	offPrefAddress      = 0x258 // hdr.pref_address
	offInitSize         = 0x260 // hdr.init_size
	offHdrMin           = 0x264 // end of hdr in protocol 2.12
	offHdrMax           = 0x290 // the field after hdr: edd_mbr_sig_buffer
	offE820Table        = 0x2d0 // e820_table
	zeroPageSize        = 4096
	e820EntrySize       = 20
	bootFlag            = 0xaa55
	headerMagic         = "HdrS"
	loadedHigh          = 1 << 0 // LOADED_HIGH in loadflags
	xlfKernel64         = 1 << 0 // XLF_KERNEL_64 in xloadflags
	typeUndefinedLoader = 0xff   // type_of_loader of a loader that has no assigned number
)

// params are the values that a kernel gets at its entry, besides the command line.
type params struct {
	rsdp   guestmem.GPA   // 0: none
	e820   []E820Entry    // at most 128 (E820_MAX_ENTRIES_ZEROPAGE, asm/bootparam.h)
	initrd guestmem.Range // below 4 GiB; empty: none
}

// putE820 stores the memory map at the start of b. Each entry has the given size in bytes and
// starts with a struct boot_e820_entry.
func (p params) putE820(b []byte, size int) {
	for i, e := range p.e820 {
		at := b[i*size:]
		binary.LittleEndian.PutUint64(at, uint64(e.GPA))
		binary.LittleEndian.PutUint64(at[8:], e.SizeBytes)
		binary.LittleEndian.PutUint32(at[16:], uint32(e.Type))
	}
}

// zeroPage returns the 4096 bytes of struct boot_params for the 64-bit entry (zero-page.rst,
// boot.rst). header is the struct setup_header of a bzImage, nil for a vmlinux. All fields that
// zeroPage does not set are zero.
func zeroPage(header []byte, p params) []byte {
	b := make([]byte, zeroPageSize)
	le := binary.LittleEndian
	if header == nil {
		// A vmlinux has no header. Linux checks these fields before it trusts the rest.
		le.PutUint16(b[offBootFlag:], bootFlag)
		copy(b[offHeader:], headerMagic)
		le.PutUint16(b[offVersion:], 0x20f)
		le.PutUint32(b[offKernelAlignment:], 2<<20)
		le.PutUint32(b[offInitrdAddrMax:], defaultInitrdMax)
	}
	copy(b[offHdr:offHdrMax], header)

	le.PutUint64(b[offACPIRSDPAddr:], uint64(p.rsdp))
	b[offTypeOfLoader] = typeUndefinedLoader
	// Set only this flag: the decompressor itself sets KASLR_FLAG, and CAN_USE_HEAP would need a
	// heap_end_ptr.
	b[offLoadflags] = loadedHigh
	// Do not pass on lists and pointers from the image.
	le.PutUint64(b[offSetupData:], 0)
	le.PutUint32(b[offCmdLinePtr:], uint32(cmdlineGPA))
	le.PutUint32(b[offRamdiskImage:], uint32(p.initrd.GPA))
	le.PutUint32(b[offRamdiskSize:], uint32(p.initrd.SizeBytes))
	b[offE820Entries] = uint8(len(p.e820))
	p.putE820(b[offE820Table:], e820EntrySize)
	return b
}

const (
	startInfoMagic   = 0x336ec578 // XEN_HVM_START_MAGIC_VALUE
	startInfoSize    = 56         // struct hvm_start_info, version 1
	modlistEntrySize = 32         // struct hvm_modlist_entry
	memmapEntrySize  = 24         // struct hvm_memmap_table_entry
)

// startInfo returns struct hvm_start_info, version 1, followed by its module list and memory map,
// to be placed at startInfoGPA. The result is at most one page
// (xen/include/public/arch-x86/hvm/start_info.h).
func startInfo(p params) []byte {
	b := make([]byte, startInfoSize+modlistEntrySize+memmapEntrySize*len(p.e820))
	le := binary.LittleEndian
	const modlist, memmap = startInfoSize, startInfoSize + modlistEntrySize
	le.PutUint32(b[0:], startInfoMagic) // magic
	le.PutUint32(b[4:], 1)              // version
	if p.initrd.SizeBytes != 0 {
		le.PutUint32(b[12:], 1)                            // nr_modules
		le.PutUint64(b[16:], uint64(startInfoGPA)+modlist) // modlist_paddr
		le.PutUint64(b[modlist:], uint64(p.initrd.GPA))    // paddr
		le.PutUint64(b[modlist+8:], p.initrd.SizeBytes)    // size
	}
	le.PutUint64(b[24:], uint64(cmdlineGPA))          // cmdline_paddr
	le.PutUint64(b[32:], uint64(p.rsdp))              // rsdp_paddr
	le.PutUint64(b[40:], uint64(startInfoGPA)+memmap) // memmap_paddr
	le.PutUint32(b[48:], uint32(len(p.e820)))         // memmap_entries
	p.putE820(b[memmap:], memmapEntrySize)
	return b
}
