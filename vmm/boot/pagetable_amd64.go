package boot

import (
	"encoding/binary"

	"minivmm/devices/guestmem"
)

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

// identityMap returns page tables, to be placed at gpa, that identity-map the first 4 GiB,
// writable, with 2 MiB pages. boot.rst requires that the kernel's range, the zero page and the
// command line are mapped; all are below 4 GiB.
func identityMap(gpa guestmem.GPA) []byte {
	b := make([]byte, identityMapSize)
	put := func(index int, entry uint64) { binary.LittleEndian.PutUint64(b[8*index:], entry) }
	put(0, uint64(gpa)+4096|ptePresent|pteWrite)
	for gib := range 4 {
		put(512+gib, uint64(gpa)+uint64(2+gib)*4096|ptePresent|pteWrite)
	}
	for page := range 4 * 512 {
		put(2*512+page, uint64(page)<<21|ptePresent|pteWrite|pteHuge)
	}
	return b
}
