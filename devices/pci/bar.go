package pci

import (
	"fmt"
	"math/bits"
	"sync/atomic"

	"minivmm/devices/bus"
)

// BAR is a range of memory or I/O ports that a function decodes (PCI 3.0 §6.2.5.1).
type BAR struct {
	SizeBytes    uint64 // a power of two: at least 16 for memory, 4 to 256 for ports
	IO           bool   // I/O ports, placed in Options.Ports; Is64 and Prefetchable must be false
	Is64         bool   // uses this index and the next; placed in Options.High if that window exists
	Prefetchable bool
	Handler      bus.Handler // serves accesses while CommandMemory or CommandIO is set
}

// possible reports whether the BAR is valid.
func (b BAR) possible() bool {
	if bits.OnesCount64(b.SizeBytes) != 1 {
		return false
	}
	if b.IO {
		return b.SizeBytes >= 4 && b.SizeBytes <= 256 && !b.Is64 && !b.Prefetchable
	}
	return b.SizeBytes >= 16 && (b.Is64 || b.SizeBytes <= 1<<31)
}

// enable returns the command bit that makes the function decode the BAR.
func (b BAR) enable() uint16 {
	if b.IO {
		return CommandIO
	}
	return CommandMemory
}

// bar is a BAR at its address. It is never detached from the bus, so that nothing can fail when the
// guest switches decoding on or off. decode reports whether it serves accesses.
type bar struct {
	BAR
	index  int
	base   uint64 // fixed at Insert
	decode atomic.Bool
}

// AddBAR adds a BAR at base address register index, 0 to 5.
func (f *Function) AddBAR(index int, b BAR) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.inserted {
		return fmt.Errorf("pci bar %d: %w", index, errInserted)
	}
	last := index
	if b.Is64 {
		last++
	}
	if index < 0 || last >= len(f.bars) || f.bars[index] != nil || f.bars[last] != nil {
		return fmt.Errorf("pci bar %d: the register does not exist or is in use", index)
	}
	if !b.possible() {
		return fmt.Errorf("pci bar %d: size %#x is not a power of two in the allowed range, or the BAR has invalid flags", index, b.SizeBytes)
	}
	placed := &bar{BAR: b, index: index}
	f.bars[index], f.bars[last] = placed, placed
	f.writable[regCommand] |= uint8(b.enable())
	f.writeBAR(index, false)
	f.writeBAR(last, false)
	return nil
}

// BARAddress returns the guest physical address, or the first port, of BAR index. ok is false
// before [Root.Insert] and if the BAR does not exist.
func (f *Function) BARAddress(index int) (addr uint64, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.inserted || index < 0 || index >= len(f.bars) || f.bars[index] == nil {
		return 0, false
	}
	return f.bars[index].base, true
}

// writeBAR sets register i to the size mask after a write of 32 ones, which is how software sizes a
// BAR (PCI 3.0 §6.2.5.1), and to the assigned address after any other write. The two halves of a
// 64-bit BAR are independent. The BAR stays decoded at the assigned address in all cases.
func (f *Function) writeBAR(i int, size bool) {
	b := f.bars[i]
	if b == nil {
		return
	}
	v := b.base
	if size {
		v = ^(b.SizeBytes - 1)
	}
	if i != b.index {
		f.set(regBAR+4*uint64(i), uint32(v>>32))
		return
	}
	low := uint32(v)
	if b.IO {
		low |= 1 << 0 // PCI_BASE_ADDRESS_SPACE_IO
	}
	if b.Is64 {
		low |= 1 << 2 // PCI_BASE_ADDRESS_MEM_TYPE_64
	}
	if b.Prefetchable {
		low |= 1 << 3 // PCI_BASE_ADDRESS_MEM_PREFETCH
	}
	f.set(regBAR+4*uint64(i), low)
}

func (b *bar) Read(off uint64, p []byte) {
	if !b.decode.Load() {
		ones(p)
		return
	}
	b.Handler.Read(off, p)
}

func (b *bar) Write(off uint64, p []byte) {
	if b.decode.Load() {
		b.Handler.Write(off, p)
	}
}
