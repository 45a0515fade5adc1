package boot

import (
	"cmp"
	"slices"

	"minivmm/devices/guestmem"
)

// E820Type is the type of a memory range in boot_params and in PVH memory maps.
type E820Type uint32

// The types of ACPI 6.5 table 15.4, with their names in asm/e820/types.h.
const (
	RAM      E820Type = 1 // E820_TYPE_RAM
	Reserved E820Type = 2 // E820_TYPE_RESERVED
	ACPIData E820Type = 3 // E820_TYPE_ACPI: ACPI tables; RAM once they have been read
)

// E820Entry is a range of guest physical addresses and its type:
// struct boot_e820_entry, asm/bootparam.h.
type E820Entry struct {
	GPA       guestmem.GPA
	SizeBytes uint64
	Type      E820Type
}

func (e E820Entry) end() guestmem.GPA { return e.GPA + guestmem.GPA(e.SizeBytes) }

// e820 returns the memory map reported to the guest. The map contains the reserved ranges, and the
// RAM outside the reserved ranges and outside the PC's hole at 640 KiB. Entries are ascending and
// disjoint, and adjacent entries of one type are merged. No range in either argument may be empty
// or wrap around. Reserved ranges must not overlap each other, but need not be inside RAM (ECAM is
// not).
func e820(ram []guestmem.Range, reserved []E820Entry) []E820Entry {
	// The hole and the reserved ranges are cut out of RAM. The hole gets no entry in the map.
	cuts := append(slices.Clone(reserved), E820Entry{GPA: legacyHoleStart, SizeBytes: legacyHoleEnd - legacyHoleStart})
	slices.SortFunc(cuts, byGPA)
	m := slices.Clone(reserved)
	for _, r := range ram {
		at, end := r.GPA, r.GPA+guestmem.GPA(r.SizeBytes)
		for _, c := range cuts {
			if c.GPA > at && at < end {
				m = append(m, E820Entry{at, uint64(min(c.GPA, end) - at), RAM})
			}
			at = max(at, c.end())
		}
		if at < end {
			m = append(m, E820Entry{at, uint64(end - at), RAM})
		}
	}
	slices.SortFunc(m, byGPA)

	merged := m[:0]
	for _, e := range m {
		if n := len(merged); n > 0 && merged[n-1].Type == e.Type && merged[n-1].end() == e.GPA {
			merged[n-1].SizeBytes += e.SizeBytes
			continue
		}
		merged = append(merged, e)
	}
	return merged
}

func byGPA(a, b E820Entry) int { return cmp.Compare(a.GPA, b.GPA) }

// holdsRAM reports whether the n bytes at gpa are inside one RAM entry of m.
func holdsRAM(m []E820Entry, gpa guestmem.GPA, n uint64) bool {
	return slices.ContainsFunc(m, func(e E820Entry) bool {
		return e.Type == RAM && gpa >= e.GPA && gpa <= e.end() && n <= uint64(e.end()-gpa)
	})
}
