package boot

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"minivmm/devices/guestmem"
)

// program is a loadable program: segments of a file at fixed guest addresses, and its entry points.
type program struct {
	segments []segment // ascending, disjoint, not empty
	linux64  uint64    // address of startup_64; 0: none
	pvh      uint64    // XEN_ELFNOTE_PHYS32_ENTRY; 0: none
}

// segment is memSize bytes at gpa: the first fileSize from offset off in the file, the rest zero.
type segment struct {
	gpa      guestmem.GPA
	off      int64
	fileSize uint64
	memSize  uint64
}

func (s segment) end() guestmem.GPA { return s.gpa + guestmem.GPA(s.memSize) }

// span returns the range from the first to the last byte of the program.
func (p program) span() guestmem.Range {
	lo, hi := p.segments[0].gpa, p.segments[len(p.segments)-1].end()
	return guestmem.Range{GPA: lo, SizeBytes: uint64(hi - lo)}
}

// ELF-64 header and program header: sizes, offsets and values, elf.h.
const (
	elfMagic   = "\x7fELF"
	ehdrSize   = 64
	phdrSize   = 56
	maxPhdrs   = 64
	maxNotes   = 64 << 10 // bytes of one PT_NOTE
	elfClass64 = 2        // ELFCLASS64
	elfLittle  = 1        // ELFDATA2LSB
	etExec     = 2        // ET_EXEC
	emX8664    = 62       // EM_X86_64
	ptLoad     = 1        // PT_LOAD
	ptDynamic  = 2        // PT_DYNAMIC
	ptInterp   = 3        // PT_INTERP
	ptNote     = 4        // PT_NOTE
	xenPhys32  = 18       // XEN_ELFNOTE_PHYS32_ENTRY
	maxSegment = 1 << 30  // no kernel is larger in memory
)

// parseELF parses the headers of the x86-64 vmlinux in the first size bytes of r.
func parseELF(r io.ReaderAt, size int64) (program, error) {
	var p program
	eh := make([]byte, ehdrSize)
	if _, err := r.ReadAt(eh, 0); err != nil || size < ehdrSize {
		return p, fmt.Errorf("ELF header: %w", orTruncated(err))
	}
	le := binary.LittleEndian
	if string(eh[:4]) != elfMagic {
		return p, errors.New("not an ELF file")
	}
	if eh[4] != elfClass64 || eh[5] != elfLittle || le.Uint16(eh[16:]) != etExec || le.Uint16(eh[18:]) != emX8664 {
		return p, fmt.Errorf("%s, want an executable for x86-64", describeELF(eh))
	}
	entry, phoff, count := le.Uint64(eh[24:]), le.Uint64(eh[32:]), int(le.Uint16(eh[56:]))
	if got := le.Uint16(eh[54:]); got != phdrSize {
		return p, fmt.Errorf("ELF program headers of %d bytes, want %d", got, phdrSize)
	}
	if count == 0 || count > maxPhdrs {
		return p, fmt.Errorf("%d ELF program headers, want 1 to %d", count, maxPhdrs)
	}
	if phoff > uint64(size) || uint64(count*phdrSize) > uint64(size)-phoff {
		return p, fmt.Errorf("ELF program headers at %#x: %w", phoff, errTruncated)
	}
	ph := make([]byte, count*phdrSize)
	if _, err := r.ReadAt(ph, int64(phoff)); err != nil {
		return p, fmt.Errorf("ELF program headers at %#x: %w", phoff, orTruncated(err))
	}
	for i := range count {
		if err := p.addHeader(r, size, ph[i*phdrSize:]); err != nil {
			return p, fmt.Errorf("ELF program header %d: %w", i, err)
		}
	}
	if err := p.checkSegments(); err != nil {
		return p, err
	}

	// In an image built only for PVH, e_entry is either the same 32-bit entry or a virtual address.
	if p.hasCode(entry) && entry != p.pvh {
		p.linux64 = entry
	}
	if p.pvh != 0 && !p.hasCode(p.pvh) {
		return p, fmt.Errorf("PVH entry %#x is outside all segments", p.pvh)
	}
	if p.linux64 == 0 && p.pvh == 0 {
		return p, fmt.Errorf("entry %#x is outside all segments", entry)
	}
	return p, nil
}

// addHeader adds one program header to p.
func (p *program) addHeader(r io.ReaderAt, size int64, h []byte) error {
	le := binary.LittleEndian
	kind, off, paddr := le.Uint32(h), le.Uint64(h[8:]), le.Uint64(h[24:])
	fileSize, memSize := le.Uint64(h[32:]), le.Uint64(h[40:])
	switch kind {
	case ptInterp, ptDynamic:
		return errors.New("a dynamically linked program, not a kernel")
	case ptLoad, ptNote:
	default:
		return nil
	}
	if off > uint64(size) || fileSize > uint64(size)-off {
		return fmt.Errorf("%#x bytes at %#x: %w", fileSize, off, errTruncated)
	}
	if kind == ptNote {
		return p.addNotes(io.NewSectionReader(r, int64(off), int64(fileSize)), fileSize, le.Uint64(h[48:]))
	}
	if fileSize > memSize {
		return fmt.Errorf("p_filesz %#x is larger than p_memsz %#x", fileSize, memSize)
	}
	if memSize > maxSegment || paddr > fourGiB-memSize {
		return fmt.Errorf("segment of %#x bytes at %#x: larger than %d MiB or above 4 GiB", memSize, paddr, maxSegment>>20)
	}
	if memSize != 0 {
		p.segments = append(p.segments, segment{gpa: guestmem.GPA(paddr), off: int64(off), fileSize: fileSize, memSize: memSize})
	}
	return nil
}

// addNotes reads the PVH entry, if any, from one PT_NOTE.
func (p *program) addNotes(r io.Reader, size, align uint64) error {
	if size > maxNotes {
		return fmt.Errorf("notes of %#x bytes are too large: at most %#x", size, maxNotes)
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(r, b); err != nil {
		return fmt.Errorf("notes: %w", orTruncated(err))
	}
	if align != 8 {
		align = 4
	}
	padded := func(n uint32) uint64 { return (uint64(n) + align - 1) &^ (align - 1) }
	le := binary.LittleEndian
	for len(b) >= 12 {
		nameSize, descSize, kind := le.Uint32(b), le.Uint32(b[4:]), le.Uint32(b[8:])
		b = b[12:]
		desc := padded(nameSize)
		if desc > uint64(len(b)) || uint64(descSize) > uint64(len(b))-desc {
			return fmt.Errorf("notes: %w", errTruncated)
		}
		if kind == xenPhys32 && string(b[:nameSize]) == "Xen\x00" {
			switch d := b[desc:]; descSize {
			case 4:
				p.pvh = uint64(le.Uint32(d))
			case 8:
				p.pvh = le.Uint64(d)
			default:
				return fmt.Errorf("PVH note of %d bytes, want 4 or 8", descSize)
			}
		}
		b = b[min(desc+padded(descSize), uint64(len(b))):]
	}
	return nil
}

// checkSegments sorts the segments and rejects overlaps.
func (p *program) checkSegments() error {
	if len(p.segments) == 0 {
		return errors.New("no loadable segments")
	}
	slices.SortFunc(p.segments, func(a, b segment) int { return cmp.Compare(a.gpa, b.gpa) })
	for i, s := range p.segments[1:] {
		if before := p.segments[i]; s.gpa < before.end() {
			return fmt.Errorf("segments %#x+%#x and %#x+%#x overlap", uint64(before.gpa), before.memSize, uint64(s.gpa), s.memSize)
		}
	}
	return nil
}

// hasCode reports whether the byte at addr is loaded from the file.
func (p *program) hasCode(addr uint64) bool {
	return slices.ContainsFunc(p.segments, func(s segment) bool {
		return addr >= uint64(s.gpa) && addr-uint64(s.gpa) < s.fileSize
	})
}

// errTruncated means that a header refers to data beyond the end of the image.
var errTruncated = errors.New("the image ends before it")

// orTruncated returns errTruncated for an end-of-file error, and err otherwise.
func orTruncated(err error) error {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errTruncated
	}
	return err
}

// isELF reports whether head starts an ELF file.
func isELF(head []byte) bool { return bytes.HasPrefix(head, []byte(elfMagic)) }
