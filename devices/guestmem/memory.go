package guestmem

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// GPA is a guest physical address.
type GPA uint64

// PageSize is the page size in bytes. The address and the size of every region are multiples of
// PageSize.
const PageSize = 4096

// ErrOutOfRange means that an address range is not entirely inside one RAM region. A caller that
// acts for the guest reports the error as the specification requires. The error is never a reason
// to stop the VM.
var ErrOutOfRange = errors.New("not inside one RAM region")

// Range is a span of guest physical addresses, in bytes.
type Range struct {
	GPA       GPA
	SizeBytes uint64
}

// Region is one contiguous range of RAM: Bytes is the memory at the guest physical address GPA.
// This memory is part of one mapping and never moves.
type Region struct {
	GPA   GPA
	Bytes []byte
}

// Memory is all RAM of one guest.
type Memory struct {
	regions []Region // ascending, disjoint
	mapped  [][]byte // mappings that contain the regions
}

// hugePageSize is the huge page size of x86-64. KVM maps a huge page only if the guest address and
// the host address have the same offset in the huge page. New therefore gives each region a host
// address with the same offset as its GPA. Linux 6.7 and later would choose such an address for
// most sizes.
const hugePageSize = 2 << 20

// New maps RAM for the given ranges, which must be page aligned, ascending, disjoint and not empty.
// The kernel allocates a page only when the page is first touched. Core dumps exclude all pages.
// Forked children do not inherit them: a child's copy-on-write reference would separate the guest's
// memory from what vhost and KVM see. The caller must call Close.
func New(ranges []Range) (*Memory, error) {
	m := &Memory{}
	var end GPA
	for i, r := range ranges {
		if r.SizeBytes == 0 || r.SizeBytes%PageSize != 0 || r.GPA%PageSize != 0 || (i > 0 && r.GPA < end) || r.GPA+GPA(r.SizeBytes) < r.GPA {
			m.Close()
			return nil, fmt.Errorf("guest memory %#x+%#x: ranges must be page aligned, ascending and disjoint", r.GPA, r.SizeBytes)
		}
		end = r.GPA + GPA(r.SizeBytes)
		mapped, err := unix.Mmap(-1, 0, int(r.SizeBytes)+hugePageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
		if err != nil {
			m.Close()
			return nil, fmt.Errorf("guest memory %#x+%#x: %w", r.GPA, r.SizeBytes, os.NewSyscallError("mmap", err))
		}
		m.mapped = append(m.mapped, mapped)
		pad := (uint64(r.GPA) - uint64(Region{Bytes: mapped}.HVA())) % hugePageSize
		b := mapped[pad : pad+r.SizeBytes : pad+r.SizeBytes]
		m.regions = append(m.regions, Region{GPA: r.GPA, Bytes: b})
		for _, advice := range []int{unix.MADV_DONTFORK, unix.MADV_DONTDUMP} {
			if err := unix.Madvise(b, advice); err != nil {
				m.Close()
				return nil, fmt.Errorf("guest memory %#x+%#x: %w", r.GPA, r.SizeBytes, os.NewSyscallError("madvise", err))
			}
		}
		// Huge pages save faults and nested page walks. They are optional, so an error is ignored.
		_ = unix.Madvise(b, unix.MADV_HUGEPAGE)
	}
	return m, nil
}

// Regions returns the RAM regions in ascending order.
func (m *Memory) Regions() []Region { return slices.Clone(m.regions) }

// Window returns the n bytes of guest memory at gpa. The slice aliases guest memory. The range must
// lie in one region; otherwise the error matches [ErrOutOfRange]. A window of length 0 is legal
// anywhere inside a region.
func (m *Memory) Window(gpa GPA, n uint64) ([]byte, error) {
	r, off, err := m.find(gpa, n)
	if err != nil {
		return nil, err
	}
	return r.Bytes[off : off+n : off+n], nil
}

// find returns the region that contains the n bytes at gpa, and their offset in it. No other
// function decides whether bytes are RAM.
func (m *Memory) find(gpa GPA, n uint64) (*Region, uint64, error) {
	for i := range m.regions {
		r := &m.regions[i]
		if gpa < r.GPA {
			break
		}
		off := uint64(gpa - r.GPA)
		size := uint64(len(r.Bytes))
		if off < size && n <= size-off {
			return r, off, nil
		}
	}
	return nil, 0, fmt.Errorf("guest memory %#x+%#x: %w", uint64(gpa), n, ErrOutOfRange)
}

// Close unmaps all memory. When Close is called, no window, vhost worker or vCPU may still use the
// memory. Close may be called twice.
func (m *Memory) Close() error {
	var errs []error
	for _, b := range m.mapped {
		if err := unix.Munmap(b); err != nil {
			errs = append(errs, fmt.Errorf("guest memory: %w", os.NewSyscallError("munmap", err)))
		}
	}
	m.regions, m.mapped = nil, nil
	return errors.Join(errs...)
}
