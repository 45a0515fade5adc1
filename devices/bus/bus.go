// Package bus directs a guest's memory-mapped I/O and port I/O to the devices that serve it. A
// [Bus] is a set of address ranges, each with a [Handler].
//
// The package depends neither on KVM nor on any device. A lookup takes no lock, because a vCPU does
// a lookup at every I/O exit.
package bus

import (
	"fmt"
	"slices"
	"sort"
)

// Handler serves accesses to one range. off is relative to the start of the range. p has 1, 2, 4 or
// 8 bytes in little-endian order, and the access never extends beyond the range. Several vCPUs may
// call both methods at once. Read must fill all of p.
type Handler interface {
	Read(off uint64, p []byte)
	Write(off uint64, p []byte)
}

// Bus is one address space. It is itself a Handler. The zero Bus is empty and ready to use. All
// ranges must be attached before vCPUs run.
type Bus struct {
	ranges []attached // ascending
}

type attached struct {
	base, last uint64 // both inclusive
	h          Handler
}

// Attach assigns the addresses base..base+sizeBytes-1 to h. It fails if the range is empty, wraps
// around or overlaps another attached range.
func (b *Bus) Attach(base, sizeBytes uint64, h Handler) error {
	last := base + sizeBytes - 1
	if sizeBytes == 0 || last < base {
		return fmt.Errorf("bus range %#x+%#x: empty or beyond the address space", base, sizeBytes)
	}
	i := b.search(base)
	if i < len(b.ranges) && b.ranges[i].base <= last {
		return fmt.Errorf("bus range %#x+%#x: overlaps %#x..%#x", base, sizeBytes, b.ranges[i].base, b.ranges[i].last)
	}
	b.ranges = slices.Insert(b.ranges, i, attached{base: base, last: last, h: h})
	return nil
}

// search returns the index of the first range that ends at addr or later.
func (b *Bus) search(addr uint64) int {
	return sort.Search(len(b.ranges), func(i int) bool { return b.ranges[i].last >= addr })
}

// Find returns the handler whose range contains all n bytes from address addr on. off is addr
// relative to the start of that range. If there is no such range, h is nil.
func (b *Bus) Find(addr uint64, n int) (h Handler, off uint64) {
	i := b.search(addr)
	if i == len(b.ranges) || b.ranges[i].base > addr || b.ranges[i].last-addr < uint64(n)-1 {
		return nil, 0
	}
	return b.ranges[i].h, addr - b.ranges[i].base
}

// Read fills p with the bytes from address addr on. If no range contains the whole access, Read
// fills p with ones, as on a PC.
func (b *Bus) Read(addr uint64, p []byte) {
	if h, off := b.Find(addr, len(p)); h != nil {
		h.Read(off, p)
		return
	}
	Ones(p)
}

// Write stores p from address addr on. If no range contains the whole access, the write is dropped.
func (b *Bus) Write(addr uint64, p []byte) {
	if h, off := b.Find(addr, len(p)); h != nil {
		h.Write(off, p)
	}
}

// Ones fills p with ones, the value of registers that do not exist.
func Ones(p []byte) {
	for i := range p {
		p[i] = 0xff
	}
}
