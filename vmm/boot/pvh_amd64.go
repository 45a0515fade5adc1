package boot

import (
	"encoding/binary"
	"fmt"

	"minivmm/devices/guestmem"
)

const (
	startInfoMagic     = 0x336ec578 // XEN_HVM_START_MAGIC_VALUE
	startInfoSize      = 56         // struct hvm_start_info, version 1
	modlistEntrySize   = 32         // struct hvm_modlist_entry
	memmapEntrySize    = 24         // struct hvm_memmap_table_entry
	startInfoPageBytes = 4096
)

// startInfoParams are the values passed to a PVH kernel.
type startInfoParams struct {
	RSDP    guestmem.GPA // 0: none
	E820    []E820Entry
	Cmdline guestmem.GPA
	Initrd  guestmem.Range // empty: none
}

// startInfo returns struct hvm_start_info, version 1, followed by its module list and memory map,
// to be placed at gpa. The result is at most one page
// (xen/include/public/arch-x86/hvm/start_info.h).
func startInfo(gpa guestmem.GPA, p startInfoParams) ([]byte, error) {
	if len(p.E820) > maxE820 {
		return nil, fmt.Errorf("hvm_start_info: %d memory ranges, at most %d", len(p.E820), maxE820)
	}
	b := make([]byte, startInfoSize+modlistEntrySize+memmapEntrySize*len(p.E820))
	le := binary.LittleEndian
	const modlist, memmap = startInfoSize, startInfoSize + modlistEntrySize
	le.PutUint32(b[0:], startInfoMagic) // magic
	le.PutUint32(b[4:], 1)              // version
	if p.Initrd.SizeBytes != 0 {
		le.PutUint32(b[12:], 1)                         // nr_modules
		le.PutUint64(b[16:], uint64(gpa)+modlist)       // modlist_paddr
		le.PutUint64(b[modlist:], uint64(p.Initrd.GPA)) // paddr
		le.PutUint64(b[modlist+8:], p.Initrd.SizeBytes) // size
	}
	le.PutUint64(b[24:], uint64(p.Cmdline))   // cmdline_paddr
	le.PutUint64(b[32:], uint64(p.RSDP))      // rsdp_paddr
	le.PutUint64(b[40:], uint64(gpa)+memmap)  // memmap_paddr
	le.PutUint32(b[48:], uint32(len(p.E820))) // memmap_entries
	for i, e := range p.E820 {
		at := b[memmap+i*memmapEntrySize:]
		le.PutUint64(at, uint64(e.GPA))
		le.PutUint64(at[8:], e.SizeBytes)
		le.PutUint32(at[16:], uint32(e.Type))
	}
	return b, nil
}
