package pci

import (
	"fmt"
	"math/bits"
	"sync/atomic"

	"minivmm/devices/bus"
)

// BAR is a range that a function decodes (PCI 3.0 §6.2.5.1): memory at a 32-bit address, or I/O
// ports.
type BAR struct {
	SizeBytes uint64      // a power of two: 16 bytes to 2 GiB of memory, 4 to 256 ports
	IO        bool        // the range is I/O ports, inside Options.Ports
	Handler   bus.Handler // serves accesses while CommandMemory or CommandIO is set
}

// enable returns the command bit that makes the function decode the BAR.
func (b BAR) enable() uint16 {
	if b.IO {
		return CommandIO
	}
	return CommandMemory
}

// bar is a BAR and its address. A bar is never detached from the bus, so that nothing can fail when
// the guest switches decoding on or off. decode is true while the bar serves accesses.
type bar struct {
	BAR
	base   uint64 // fixed at Insert
	decode atomic.Bool
}

// AddBAR adds the BAR b in the base address register with the given index, 0 to 5.
func (f *Function) AddBAR(index int, b BAR) {
	least, most := uint64(16), uint64(1<<31)
	if b.IO {
		least, most = 4, 256
	}
	if f.bars[index] != nil || bits.OnesCount64(b.SizeBytes) != 1 || b.SizeBytes < least || b.SizeBytes > most {
		panic(fmt.Sprintf("pci bar %d: in use, or %#x is not a power of two from %d to %d", index, b.SizeBytes, least, most))
	}
	f.bars[index] = &bar{BAR: b}
	f.writable[regCommand] |= uint8(b.enable())
}

// BARAddress returns the guest physical address or the first port of the BAR with the given index.
// The function must be on the bus.
func (f *Function) BARAddress(index int) uint64 { return f.bars[index].base }

// writeBAR serves a write to base address register i. Software finds out the size of a BAR by
// writing 32 ones (PCI 3.0 §6.2.5.1). size is true for this write, and the register then reads as
// the size mask. After any other write, it reads as the assigned address. The BAR stays decoded at
// the assigned address in both cases.
func (f *Function) writeBAR(i int, size bool) {
	b := f.bars[i]
	if b == nil {
		return
	}
	v := uint32(b.base)
	if size {
		v = -uint32(b.SizeBytes)
	}
	if b.IO {
		v |= 1 << 0 // PCI_BASE_ADDRESS_SPACE_IO
	}
	f.set(regBAR+4*uint64(i), v)
}

func (b *bar) Read(off uint64, p []byte) {
	if !b.decode.Load() {
		bus.Ones(p)
		return
	}
	b.Handler.Read(off, p)
}

func (b *bar) Write(off uint64, p []byte) {
	if b.decode.Load() {
		b.Handler.Write(off, p)
	}
}
