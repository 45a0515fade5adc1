package pci

import (
	"errors"
	"fmt"
	"iter"
	"sync/atomic"

	"minivmm/devices/bus"
)

// ECAMSize is the size of the configuration spaces of one bus: 32 devices with 8 functions each
// (PCI Express 4.0 §7.2.2).
const ECAMSize = 32 * 8 * ConfigSize

// Window is a range of guest physical addresses or of I/O ports.
type Window struct{ Base, SizeBytes uint64 }

// Options configure the addresses of a [Root].
type Options struct {
	// Memory BARs are attached to MMIO, port BARs to IO.
	MMIO, IO *bus.Bus
	// Memory and Ports are the windows for memory BARs, below 4 GiB, and for port BARs, below port
	// 65536. If a window is empty, no function may have a BAR of that kind.
	Memory, Ports Window
	// ECAM, if not nil, is the memory that stores the first len(ECAM) of the ECAMSize bytes of
	// configuration space; len(ECAM) is a multiple of ConfigSize. Except in [Function.OnConfig]
	// ranges, it always holds what the guest reads through [Root.ECAM]. A VMM may therefore map
	// ECAM read-only into the guest, so that only writes cause an exit. Functions beyond the end of
	// ECAM use their own memory; pages of absent functions are filled with ones.
	ECAM []byte
}

// Root is bus 0 with the host bridge at 00:00.0.
type Root struct {
	options Options     // Memory and Ports shrink as BARs are placed
	devices []*Function // device number -> function 0
	address atomic.Uint32
}

// NewRoot creates the bus. The caller attaches [Root.ECAM] and [Root.Ports]. NewRoot panics if the
// options are impossible, which is a bug in the caller.
func NewRoot(o Options) *Root {
	for _, w := range []struct {
		Window
		end uint64
	}{{o.Memory, 1 << 32}, {o.Ports, 1 << 16}} {
		if w.Base > w.end || w.SizeBytes > w.end-w.Base {
			panic(fmt.Sprintf("pci window %#x+%#x: beyond %#x", w.Base, w.SizeBytes, w.end))
		}
	}
	if len(o.ECAM)%ConfigSize != 0 || len(o.ECAM) > ECAMSize {
		panic(fmt.Sprintf("pci ecam image of %#x bytes: not whole pages, or more than %#x", len(o.ECAM), ECAMSize))
	}
	bus.Ones(o.ECAM)
	r := &Root{options: o}
	r.add(NewFunction(Identity{
		Vendor: 0x1b36, Device: 0x0008, // PCI_VENDOR_ID_REDHAT, "QEMU PCIe Host bridge"
		Class: 0x060000, // PCI_CLASS_BRIDGE_HOST
	}))
	return r
}

// Insert puts f on the bus as function 0 of the next device number (1 to 31), assigns its BARs and
// attaches them. Insert fails if the bus or a window is full, or if another device occupies part of
// a window. After an error no machine can be built from the bus.
func (r *Root) Insert(f *Function) (device int, err error) {
	if len(r.devices) == 32 {
		return 0, errors.New("pci bus 0: the bus already has 32 devices")
	}
	for i, b := range f.bars {
		if b == nil {
			continue
		}
		if err := r.place(b); err != nil {
			return 0, fmt.Errorf("pci device %d: bar %d: %w", len(r.devices), i, err)
		}
		f.writeBAR(i, false)
	}
	return r.add(f), nil
}

// add gives f the next device number.
func (r *Root) add(f *Function) (device int) {
	device = len(r.devices)
	if at := device << 15; at < len(r.options.ECAM) {
		page := r.options.ECAM[at : at+ConfigSize]
		copy(page, f.space)
		f.space = page
	}
	r.devices = append(r.devices, f)
	return device
}

// place allocates an address for b in its window and attaches b there. No two memory BARs share a
// page.
func (r *Root) place(b *bar) error {
	w, on, size := &r.options.Memory, r.options.MMIO, max(b.SizeBytes, 4096)
	if b.IO {
		w, on, size = &r.options.Ports, r.options.IO, b.SizeBytes
	}
	skip := -w.Base & (size - 1)
	if skip > w.SizeBytes || size > w.SizeBytes-skip {
		return fmt.Errorf("no space for %#x bytes in the window", b.SizeBytes)
	}
	b.base = w.Base + skip
	*w = Window{b.base + size, w.SizeBytes - skip - size}
	return on.Attach(b.base, b.SizeBytes, b)
}

// parts splits an access into naturally aligned parts of 1, 2 or 4 bytes, lowest address first. PCI
// guarantees nothing for wider or unaligned accesses to configuration space, so no register sees
// such an access.
func parts(off uint64, p []byte) iter.Seq2[uint64, []byte] {
	return func(yield func(uint64, []byte) bool) {
		for len(p) > 0 {
			n := 4
			for off%uint64(n) != 0 || n > len(p) {
				n /= 2
			}
			if !yield(off, p[:n]) {
				return
			}
			off, p = off+uint64(n), p[n:]
		}
	}
}

// ECAM returns the handler of the bus's configuration spaces, [ECAMSize] bytes of memory: device <<
// 15 | function << 12 | register (PCI Express 4.0 §7.2.2). It accepts accesses of any width and
// alignment. Absent functions read as ones.
func (r *Root) ECAM() bus.Handler { return (*ecam)(r) }

type ecam Root

func (e *ecam) Read(off uint64, p []byte) {
	for off, p := range parts(off, p) {
		if f := (*Root)(e).function(off); f != nil {
			f.Read(off%ConfigSize, p)
			continue
		}
		bus.Ones(p)
	}
}

func (e *ecam) Write(off uint64, p []byte) {
	for off, p := range parts(off, p) {
		if f := (*Root)(e).function(off); f != nil {
			f.write(off%ConfigSize, p)
		}
	}
}

// function returns the function at offset off in the ECAM range, or nil.
func (r *Root) function(off uint64) *Function {
	device, fn := off>>15, off>>12&7
	if fn != 0 || device >= uint64(len(r.devices)) {
		return nil
	}
	return r.devices[device]
}

// Ports returns the handler of the 8 ports from 0xcf8: CONFIG_ADDRESS and CONFIG_DATA (PCI 3.0
// §3.2.2.3.2). CONFIG_ADDRESS accepts only dword accesses; CONFIG_DATA accepts only accesses that
// lie inside it. Other accesses read as ones and write nothing, so that software that probes for
// configuration mechanism 2 does not find it.
func (r *Root) Ports() bus.Handler { return (*ports)(r) }

type ports Root

func (c *ports) Read(off uint64, p []byte) {
	if off == 0 && len(p) == 4 {
		le.PutUint32(p, c.address.Load())
		return
	}
	if at, ok := c.data(off); ok {
		(*ecam)(c).Read(at, p)
		return
	}
	bus.Ones(p)
}

func (c *ports) Write(off uint64, p []byte) {
	if off == 0 && len(p) == 4 {
		c.address.Store(le.Uint32(p) & (addressEnable | 0xfffffc))
		return
	}
	if at, ok := c.data(off); ok {
		(*ecam)(c).Write(at, p)
	}
}

const addressEnable = 1 << 31

// data returns the offset in the ECAM range that an access to CONFIG_DATA reaches.
func (c *ports) data(off uint64) (at uint64, ok bool) {
	a := uint64(c.address.Load())
	if off < 4 || a&addressEnable == 0 || a>>16&0xff != 0 {
		return 0, false
	}
	return a>>8&0xff<<12 | a&0xfc + (off - 4), true
}
