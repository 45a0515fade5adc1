package boot

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"minivmm/devices/guestmem"
)

// Params is what a guest is started with.
type Params struct {
	Cmdline  string
	Initrd   *os.File // nil: none; read from its first byte; the caller closes it
	RSDP     guestmem.GPA
	Reserved []E820Entry // not for the guest's free use: ACPI tables, ECAM, ...
}

// Load puts everything into mem and returns how to enter it. On an error mem's
// content is undefined. mem need not be zero, k can be loaded many times.
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

// plan is the outcome of all decisions: what goes where, nothing written yet.
type plan struct {
	program    program
	initrd     guestmem.Range
	structures []structure
	entry      Entry
}

// plan decides where everything goes in a guest with the given RAM.
func (k *Kernel) plan(ram []guestmem.Range, p Params) (plan, error) {
	var pl plan
	if err := k.checkCmdline(p.Cmdline); err != nil {
		return pl, err
	}
	m, err := E820(ram, p.Reserved)
	if err != nil {
		return pl, err
	}
	l := LowLayout()
	if !holdsRAM(m, l.GDT, uint64(l.End-l.GDT)) {
		return pl, fmt.Errorf("boot structures at %#x to %#x: %w", uint64(l.GDT), uint64(l.End), errNoRAM)
	}
	if err := k.place(&pl, m, l.End, p.Initrd); err != nil {
		return pl, err
	}
	pl.structures = append(pl.structures, structure{l.Cmdline, append([]byte(p.Cmdline), 0)})
	switch k.info.Protocol {
	case PVH:
		info, err := StartInfo(l.StartInfo, StartInfoParams{RSDP: p.RSDP, E820: m, Cmdline: l.Cmdline, Initrd: pl.initrd})
		if err != nil {
			return pl, err
		}
		pl.structures = append(pl.structures, structure{l.StartInfo, info})
		pl.entry = pvhEntry(l, pl.program.pvh)
	case Linux64:
		zero, err := ZeroPage(ZeroPageParams{Header: k.header, RSDP: p.RSDP, E820: m, Cmdline: l.Cmdline, Initrd: pl.initrd})
		if err != nil {
			return pl, err
		}
		pl.structures = append(pl.structures, structure{l.ZeroPage, zero}, structure{l.PageTables, IdentityMap(l.PageTables)})
		pl.entry = linux64Entry(l, pl.program.linux64)
	}
	pl.structures = append(pl.structures, structure{l.GDT, pl.entry.gdtBytes()})
	return pl, nil
}

// place finds where kernel and initrd go: the kernel where it is linked to, and where memory is too small for that,
// further down if it can run there.
func (k *Kernel) place(pl *plan, m []E820Entry, lowest guestmem.GPA, initrd *os.File) error {
	err := k.placeAt(pl, k.program, m, lowest, initrd)
	if low, ok := k.lowered(); err != nil && ok && k.placeAt(pl, low, m, lowest, initrd) == nil {
		return nil
	}
	return err
}

func (k *Kernel) placeAt(pl *plan, at program, m []E820Entry, lowest guestmem.GPA, initrd *os.File) error {
	pl.program = at
	for _, s := range at.segments {
		if s.gpa < lowest || !holdsRAM(m, s.gpa, s.memSize) {
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

// lowered is the kernel as far down as it goes. A 64-bit vmlinux of Linux runs at any multiple of 2 MiB: startup_64 adds
// the distance to its page tables and to phys_base (__startup_64, arch/x86/kernel/head64.c). What is linked to 16 MiB to
// be out of old devices' way then leaves 14 MiB more to a small guest. The PVH entry and a bzImage's decompressor stay:
// the former has no such code, the latter unpacks to the usual place.
func (k *Kernel) lowered() (program, bool) {
	const step = 2 << 20
	if k.info.Protocol != Linux64 || k.header != nil && k.info.Source == FromImage {
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

// errNoRAM is the cause when a place is not free RAM of the guest.
var errNoRAM = errors.New("not free RAM (too little memory for this kernel, or a reserved range in the way)")

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
	limit := min(k.cmdlineSize, LowLayout().CmdlineRoom-1)
	if uint64(len(s)) > limit {
		return fmt.Errorf("command line of %d bytes: this kernel takes %d (cmdline_size)", len(s), limit)
	}
	return nil
}

// placeInitrd finds the highest free, page aligned place for f: above 1 MiB, not
// in the kernel, not behind last (initrd_addr_max), below 4 GiB.
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
	return guestmem.Range{}, fmt.Errorf("%d bytes do not fit: %d are free in one piece beside the kernel at %#x..%#x and below %#x",
		size, room, uint64(kernel.GPA), uint64(kernelEnd), uint64(limit))
}

// load reads one segment of f into guest RAM and zeroes the rest of memSize.
// Mapping the file there instead starts sooner by the copy, but gives the guest
// pages of 4 KiB: seven times as many exits on its way to init, and a file that
// somebody shortens takes the guest down.
func load(mem *guestmem.Memory, f *os.File, s segment) error {
	w, err := mem.Window(s.gpa, s.memSize)
	if err != nil {
		return err
	}
	if err := readFull(f, w[:s.fileSize], s.off); err != nil {
		return err
	}
	clear(w[s.fileSize:])
	return nil
}

// readFull reads len(b) bytes at off, straight into guest RAM.
func readFull(f *os.File, b []byte, off int64) error {
	if n, err := f.ReadAt(b, off); n < len(b) {
		return cutShort(err)
	}
	return nil
}
