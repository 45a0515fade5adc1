package boot

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"minivmm/devices/guestmem"
)

// Params are the inputs for the guest besides the kernel.
type Params struct {
	Cmdline  string
	Initrd   *os.File // nil: none; read from offset 0; the caller closes it
	RSDP     guestmem.GPA
	Reserved []E820Entry // disjoint ranges that the guest must not use as free RAM: ACPI tables, ECAM, ...
}

// Load writes the kernel, the initrd and the boot structures to mem and returns the entry state.
// mem need not be zeroed. On error the content of mem is undefined. k can be loaded any number of
// times.
func (k *Kernel) Load(mem *guestmem.Memory, p Params) (Entry, error) {
	pl, err := k.plan(ramOf(mem), p)
	if err != nil {
		return Entry{}, fmt.Errorf("kernel %s: %w", k.path, err)
	}
	for _, s := range pl.program.segments {
		if err := load(mem, k.file, s); err != nil {
			return Entry{}, fmt.Errorf("kernel %s: segment %#x: %w", k.path, uint64(s.gpa), err)
		}
	}
	if p.Initrd != nil {
		s := segment{gpa: pl.initrd.GPA, fileSize: pl.initrd.SizeBytes, memSize: pl.initrd.SizeBytes}
		if err := load(mem, p.Initrd, s); err != nil {
			return Entry{}, fmt.Errorf("initrd %s: %w", p.Initrd.Name(), err)
		}
	}
	for _, s := range pl.structures {
		w, err := mem.Window(s.gpa, uint64(len(s.data)))
		if err != nil {
			return Entry{}, fmt.Errorf("boot structures: %w", err)
		}
		copy(w, s.data)
	}
	return pl.entry, nil
}

// plan lists what Load will write and to which addresses.
type plan struct {
	program    program
	initrd     guestmem.Range
	structures []structure
	entry      Entry
}

// structure is data to be written to an address in guest RAM.
type structure struct {
	gpa  guestmem.GPA
	data []byte
}

// plan chooses the addresses of all data in a guest with the given RAM.
func (k *Kernel) plan(ram []guestmem.Range, p Params) (plan, error) {
	var pl plan
	if err := k.checkCmdline(p.Cmdline); err != nil {
		return pl, err
	}
	m := e820(ram, p.Reserved)
	if !holdsRAM(m, gdtGPA, uint64(LowEnd-gdtGPA)) {
		return pl, fmt.Errorf("boot structures at %#x to %#x: %w", uint64(gdtGPA), uint64(LowEnd), errNoRAM)
	}
	if err := k.place(&pl, m, p.Initrd); err != nil {
		return pl, err
	}
	info := params{rsdp: p.RSDP, e820: m, initrd: pl.initrd}
	pl.structures = []structure{{cmdlineGPA, append([]byte(p.Cmdline), 0)}}
	if k.info.Protocol == PVH {
		pl.structures = append(pl.structures, structure{startInfoGPA, startInfo(info)})
		pl.entry = pvhEntry(pl.program.pvh)
	} else {
		zero := structure{zeroPageGPA, zeroPage(k.header, info)}
		pl.structures = append(pl.structures, zero, structure{pageTablesGPA, identityMap()})
		pl.entry = linux64Entry(pl.program.linux64)
	}
	pl.structures = append(pl.structures, structure{gdtGPA, pl.entry.gdt()})
	return pl, nil
}

// place finds room for the kernel and the initrd. It places the kernel at its link address. If
// memory is too small for the link address, it uses a lower address at which the kernel can run.
func (k *Kernel) place(pl *plan, m []E820Entry, initrd *os.File) error {
	err := k.placeAt(pl, k.program, m, initrd)
	if low, ok := k.lowered(); err != nil && ok && k.placeAt(pl, low, m, initrd) == nil {
		return nil
	}
	return err
}

func (k *Kernel) placeAt(pl *plan, at program, m []E820Entry, initrd *os.File) error {
	pl.program = at
	for _, s := range at.segments {
		if s.gpa < LowEnd || !holdsRAM(m, s.gpa, s.memSize) {
			return fmt.Errorf("needs %#x bytes at %#x: %w", s.memSize, uint64(s.gpa), errNoRAM)
		}
	}
	if initrd == nil {
		return nil
	}
	var err error
	if pl.initrd, err = placeInitrd(m, at.span(), initrd, k.initrdMax); err != nil {
		return fmt.Errorf("initrd %s: %w", initrd.Name(), err)
	}
	return nil
}

// lowered returns the program at the lowest address where the kernel can run. A 64-bit vmlinux of
// Linux runs at any multiple of 2 MiB: startup_64 adds the offset to its page tables and to
// phys_base (__startup_64, arch/x86/kernel/head64.c). Kernels are linked at 16 MiB to avoid the
// addresses of old devices. Moving such a kernel to 2 MiB leaves 14 MiB more to a small guest.
// Kernels entered by PVH or at a bzImage's decompressor cannot move: the PVH entry has no such
// code, and the decompressor unpacks to the usual address.
func (k *Kernel) lowered() (program, bool) {
	const step = 2 << 20
	if k.info.Protocol != Linux64 || k.header != nil && k.info.Packing == "" {
		return program{}, false
	}
	low := k.program
	first := low.segments[0].gpa
	if first < 2*step {
		return program{}, false
	}
	down := (first - step) &^ (step - 1)
	low.segments = slices.Clone(low.segments)
	for i := range low.segments {
		low.segments[i].gpa -= down
	}
	low.linux64 -= uint64(down)
	return low, true
}

// errNoRAM means that an address range is not free guest RAM.
var errNoRAM = errors.New("not free RAM (not enough memory for this kernel, or a reserved range overlaps)")

func ramOf(mem *guestmem.Memory) []guestmem.Range {
	var ram []guestmem.Range
	for _, r := range mem.Regions() {
		ram = append(ram, guestmem.Range{GPA: r.GPA, SizeBytes: uint64(len(r.Bytes))})
	}
	return ram
}

func (k *Kernel) checkCmdline(s string) error {
	if i := strings.IndexAny(s, "\x00\n\r"); i >= 0 {
		return fmt.Errorf("command line: byte %d is %q", i, s[i])
	}
	limit := min(k.cmdlineSize, cmdlineRoom-1)
	if uint64(len(s)) > limit {
		return fmt.Errorf("command line of %d bytes is too long: this kernel accepts %d (cmdline_size)", len(s), limit)
	}
	return nil
}

// placeInitrd returns the highest free, page-aligned range for the file f. The range is above 1
// MiB, below 4 GiB and outside the kernel. The address of its last byte is not above the argument
// last (initrd_addr_max).
func placeInitrd(m []E820Entry, kernel guestmem.Range, f *os.File, last uint64) (guestmem.Range, error) {
	st, err := f.Stat()
	if err != nil {
		return guestmem.Range{}, err
	}
	if !st.Mode().IsRegular() {
		return guestmem.Range{}, errors.New("not a regular file")
	}
	size := uint64(st.Size())
	if size == 0 {
		return guestmem.Range{}, errors.New("empty file")
	}
	limit := guestmem.GPA(min(last, fourGiB-1) + 1)
	kernelEnd := kernel.GPA + guestmem.GPA(kernel.SizeBytes)
	room := uint64(0)
	for _, e := range slices.Backward(m) {
		if e.Type != RAM {
			continue
		}
		for _, free := range [][2]guestmem.GPA{
			{max(e.GPA, legacyHoleEnd, kernelEnd), min(e.end(), limit)},
			{max(e.GPA, legacyHoleEnd), min(e.end(), limit, kernel.GPA)},
		} {
			lo, hi := free[0], free[1]
			if lo >= hi {
				continue
			}
			if size > uint64(hi-lo) {
				room = max(room, uint64(hi-lo))
				continue
			}
			if at := (hi - guestmem.GPA(size)) &^ (guestmem.PageSize - 1); at >= lo {
				return guestmem.Range{GPA: at, SizeBytes: size}, nil
			}
		}
	}
	return guestmem.Range{}, fmt.Errorf("%d bytes do not fit: the largest free range outside the kernel at %#[3]x..%#[4]x and below %#[5]x is %[2]d bytes",
		size, room, uint64(kernel.GPA), uint64(kernelEnd), uint64(limit))
}

// load reads one segment of f into guest RAM and zeroes the rest of the segment's memory. Mapping
// the file instead would save the copy. But it would give the guest 4 KiB pages, which cause seven
// times as many exits until init starts, and truncating the file later would crash the guest.
func load(mem *guestmem.Memory, f *os.File, s segment) error {
	w, err := mem.Window(s.gpa, s.memSize)
	if err != nil {
		return err
	}
	if n, err := f.ReadAt(w[:s.fileSize], s.off); uint64(n) < s.fileSize {
		return orTruncated(err)
	}
	clear(w[s.fileSize:])
	return nil
}
