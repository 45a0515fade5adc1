package boot

import (
	"encoding/binary"
	"fmt"

	"minivmm/devices/guestmem"
)

// Offsets in struct boot_params, asm/bootparam.h; those from 0x1f1 on are also
// offsets in a bzImage.
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
	typeUndefinedLoader = 0xff   // type_of_loader without an assigned number
)

// zeroPageParams are the values passed to the kernel in struct boot_params.
type zeroPageParams struct {
	Header  []byte       // struct setup_header of the bzImage; nil for a vmlinux
	RSDP    guestmem.GPA // 0: none
	E820    []E820Entry
	Cmdline guestmem.GPA   // a NUL-terminated string
	Initrd  guestmem.Range // empty: none
}

// zeroPage returns the 4096 bytes of struct boot_params for the 64-bit entry
// (zero-page.rst, boot.rst). All fields that it does not set are zero.
func zeroPage(p zeroPageParams) ([]byte, error) {
	if len(p.E820) > maxE820 {
		return nil, fmt.Errorf("boot_params: %d memory ranges, at most %d", len(p.E820), maxE820)
	}
	if len(p.Header) > offHdrMax-offHdr {
		return nil, fmt.Errorf("boot_params: setup_header of %d bytes, at most %d", len(p.Header), offHdrMax-offHdr)
	}
	if uint64(p.Cmdline) >= fourGiB || uint64(p.Initrd.GPA) >= fourGiB || p.Initrd.SizeBytes > fourGiB-uint64(p.Initrd.GPA) {
		return nil, fmt.Errorf("boot_params: command line at %#x or initrd at %#x+%#x is above 4 GiB",
			uint64(p.Cmdline), uint64(p.Initrd.GPA), p.Initrd.SizeBytes)
	}
	b := make([]byte, zeroPageSize)
	le := binary.LittleEndian
	if p.Header == nil {
		// A vmlinux has no header. Linux checks these fields before it trusts the rest.
		le.PutUint16(b[offBootFlag:], bootFlag)
		copy(b[offHeader:], headerMagic)
		le.PutUint16(b[offVersion:], 0x20f)
		le.PutUint32(b[offKernelAlignment:], 2<<20)
		le.PutUint32(b[offInitrdAddrMax:], defaultInitrdMax)
	}
	copy(b[offHdr:], p.Header)

	le.PutUint64(b[offACPIRSDPAddr:], uint64(p.RSDP))
	b[offTypeOfLoader] = typeUndefinedLoader
	// Only this flag: the decompressor sets KASLR_FLAG, and there is no heap_end_ptr.
	b[offLoadflags] = loadedHigh
	// Do not pass on lists and pointers from the image.
	le.PutUint64(b[offSetupData:], 0)
	le.PutUint32(b[offCmdLinePtr:], uint32(p.Cmdline))
	le.PutUint32(b[offRamdiskImage:], 0)
	le.PutUint32(b[offRamdiskSize:], 0)
	if p.Initrd.SizeBytes != 0 {
		le.PutUint32(b[offRamdiskImage:], uint32(p.Initrd.GPA))
		le.PutUint32(b[offRamdiskSize:], uint32(p.Initrd.SizeBytes))
	}
	b[offE820Entries] = uint8(len(p.E820))
	for i, e := range p.E820 {
		at := b[offE820Table+i*e820EntrySize:]
		le.PutUint64(at, uint64(e.GPA))
		le.PutUint64(at[8:], e.SizeBytes)
		le.PutUint32(at[16:], uint32(e.Type))
	}
	return b, nil
}
