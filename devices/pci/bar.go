package pci

import (
	"fmt"
	"math/bits"
	"sync/atomic"

	"minivmm/devices/bus"
)

// BAR is a range of memory, or of I/O ports, that a function decodes (PCI 3.0
// §6.2.5.1).
type BAR struct {
	SizeBytes    uint64 // a power of two: memory at least 16, ports 4 to 256
	IO           bool   // I/O ports, placed in Options.Ports; neither of the next two
	Is64         bool   // takes this index and the next; placed in Options.High if there is one
	Prefetchable bool
	Handler      bus.Handler // answers accesses while CommandMemory or CommandIO is set
}

// possible says whether there can be such a BAR.
func (b BAR) possible() bool {
	if bits.OnesCount64(b.SizeBytes) != 1 {
		return false
	}
	if b.IO {
		return b.SizeBytes >= 4 && b.SizeBytes <= 256 && !b.Is64 && !b.Prefetchable
	}
	return b.SizeBytes >= 16 && (b.Is64 || b.SizeBytes <= 1<<31)
}

// enable is the command bit that makes the function decode the BAR.
func (b BAR) enable() uint16 {
	if b.IO {
		return CommandIO
	}
	return CommandMemory
}

// bar is a BAR at its address. It stays on the bus for good, so that nothing
// can fail when the guest switches decoding; decode says whether it answers.
type bar struct {
	BAR
	index  int
	base   uint64 // fixed at Insert
	decode atomic.Bool
}

// AddBAR gives the function the base address register index, 0 to 5.
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
		return fmt.Errorf("pci bar %d: no such register, or taken", index)
	}
	if !b.possible() {
		return fmt.Errorf("pci bar %d: size %#x is not a power of two in range, or wrong for its kind", index, b.SizeBytes)
	}
	placed := &bar{BAR: b, index: index}
	f.bars[index], f.bars[last] = placed, placed
	f.writable[regCommand] |= uint8(b.enable())
	f.writeBAR(index, false)
	f.writeBAR(last, false)
	return nil
}

// BARAddress is the guest physical address of BAR index, or its first port,
// known from [Root.Insert] on; ok is false before and when there is no such BAR.
func (f *Function) BARAddress(index int) (addr uint64, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.inserted || index < 0 || index >= len(f.bars) || f.bars[index] == nil {
		return 0, false
	}
	return f.bars[index].base, true
}

// writeBAR shows the size mask in register i after a write of 32 ones, which is
// how software sizes a BAR (PCI 3.0 §6.2.5.1), and the assigned address after
// any other write. Each half of a 64-bit BAR does so for itself. Decoding stays
// at the assigned address all the while.
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
