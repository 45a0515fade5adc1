package boot

import (
	"bytes"
	"cmp"
	"debug/elf"
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

// segment is a part of guest memory: memSize bytes at gpa. The first fileSize bytes come from
// offset off in the file, and the rest are zero.
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

const (
	maxPhdrs   = 64
	maxNotes   = 64 << 10 // bytes of one PT_NOTE
	xenPhys32  = 18       // XEN_ELFNOTE_PHYS32_ENTRY
	maxSegment = 1 << 30  // no kernel is larger in memory
)

// Sizes of the ELF-64 header and of a program header.
var ehdrSize, phdrSize = binary.Size(elf.Header64{}), binary.Size(elf.Prog64{})

// parseELF parses the headers of the x86-64 vmlinux in the first size bytes of r.
func parseELF(r io.ReaderAt, size int64) (program, error) {
	var p program
	head := make([]byte, ehdrSize)
	if _, err := io.ReadFull(io.NewSectionReader(r, 0, size), head); err != nil {
		return p, fmt.Errorf("ELF header: %w", orTruncated(err))
	}
	le := binary.LittleEndian
	var eh elf.Header64
	if _, err := binary.Decode(head, le, &eh); err != nil || !isELF(head) {
		return p, errors.New("not an ELF file")
	}
	if eh.Ident[elf.EI_CLASS] != byte(elf.ELFCLASS64) || eh.Ident[elf.EI_DATA] != byte(elf.ELFDATA2LSB) ||
		elf.Type(eh.Type) != elf.ET_EXEC || elf.Machine(eh.Machine) != elf.EM_X86_64 {
		return p, fmt.Errorf("%s, want an executable for x86-64", describeELF(head))
	}
	if int(eh.Phentsize) != phdrSize {
		return p, fmt.Errorf("ELF program headers of %d bytes, want %d", eh.Phentsize, phdrSize)
	}
	if eh.Phnum == 0 || eh.Phnum > maxPhdrs {
		return p, fmt.Errorf("%d ELF program headers, want 1 to %d", eh.Phnum, maxPhdrs)
	}
	if eh.Phoff > uint64(size) {
		return p, fmt.Errorf("ELF program headers at %#x: %w", eh.Phoff, errTruncated)
	}
	headers := make([]elf.Prog64, eh.Phnum)
	if err := binary.Read(io.NewSectionReader(r, int64(eh.Phoff), size-int64(eh.Phoff)), le, headers); err != nil {
		return p, fmt.Errorf("ELF program headers at %#x: %w", eh.Phoff, orTruncated(err))
	}
	for i, h := range headers {
		if err := p.addHeader(r, size, h); err != nil {
			return p, fmt.Errorf("ELF program header %d: %w", i, err)
		}
	}
	if err := p.checkSegments(); err != nil {
		return p, err
	}

	// In an image built only for PVH, e_entry is either the same 32-bit entry or a virtual address.
	if p.hasCode(eh.Entry) && eh.Entry != p.pvh {
		p.linux64 = eh.Entry
	}
	if p.pvh != 0 && !p.hasCode(p.pvh) {
		return p, fmt.Errorf("PVH entry %#x is outside all segments", p.pvh)
	}
	if p.linux64 == 0 && p.pvh == 0 {
		return p, fmt.Errorf("entry %#x is outside all segments", eh.Entry)
	}
	return p, nil
}

// addHeader adds one program header to p.
func (p *program) addHeader(r io.ReaderAt, size int64, h elf.Prog64) error {
	kind := elf.ProgType(h.Type)
	switch kind {
	case elf.PT_INTERP, elf.PT_DYNAMIC:
		return errors.New("a dynamically linked program, not a kernel")
	case elf.PT_LOAD, elf.PT_NOTE:
	default:
		return nil
	}
	if h.Off > uint64(size) || h.Filesz > uint64(size)-h.Off {
		return fmt.Errorf("%#x bytes at %#x: %w", h.Filesz, h.Off, errTruncated)
	}
	if kind == elf.PT_NOTE {
		return p.addNotes(io.NewSectionReader(r, int64(h.Off), int64(h.Filesz)), h.Filesz, h.Align)
	}
	if h.Filesz > h.Memsz {
		return fmt.Errorf("p_filesz %#x is larger than p_memsz %#x", h.Filesz, h.Memsz)
	}
	if h.Memsz > maxSegment || h.Paddr > fourGiB-h.Memsz {
		return fmt.Errorf("segment of %#x bytes at %#x: larger than %d MiB or above 4 GiB", h.Memsz, h.Paddr, maxSegment>>20)
	}
	if h.Memsz != 0 {
		p.segments = append(p.segments, segment{gpa: guestmem.GPA(h.Paddr), off: int64(h.Off), fileSize: h.Filesz, memSize: h.Memsz})
	}
	return nil
}

// addNotes reads the PVH entry, if any, from the contents of one PT_NOTE segment.
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

// orTruncated returns errTruncated if err is an end-of-file error, and err otherwise.
func orTruncated(err error) error {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errTruncated
	}
	return err
}

// isELF reports whether head is the start of an ELF file.
func isELF(head []byte) bool { return bytes.HasPrefix(head, []byte(elf.ELFMAG)) }
