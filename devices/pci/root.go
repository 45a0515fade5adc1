package pci

import (
	"errors"
	"fmt"
	"sync/atomic"

	"minivmm/devices/bus"
)

// ECAMSize is the size of the configuration spaces of one bus: 32 devices with
// 8 functions each (PCI Express 4.0 §7.2.2).
const ECAMSize = 32 * 8 * ConfigSize

// Window is a range of guest physical addresses or of I/O ports.
type Window struct{ Base, SizeBytes uint64 }

// Options configure the addresses of a [Root].
type Options struct {
	// MMIO decodes memory BARs, IO port BARs.
	MMIO, IO *bus.Bus
	// Low and High are the windows for memory BARs. Low ends at 4 GiB or below and is used for any
	// BAR, High only for 64-bit BARs. Either may be empty.
	Low, High Window
	// Ports is the window for port BARs, below 64 Ki. If it is empty, no function may have a port
	// BAR, and IO may be nil.
	Ports Window
	// ECAM, if not nil, stores configuration space: the first len(ECAM) bytes of the bus's
	// ECAMSize; len(ECAM) is a multiple of ConfigSize. Except for [Function.OnConfig] ranges it
	// always holds what the guest reads through [Root.ECAM]. A machine may therefore map it
	// read-only into the guest, so that only writes cause an exit. Functions beyond its end use
	// their own memory; pages of absent functions are filled with ones.
	ECAM []byte
}

// Root is bus 0 with the host bridge at 00:00.0.
type Root struct {
	mmio    *bus.Bus
	io      *bus.Bus
	windows [3]Window // the free parts of High, Low and Ports
	image   []byte
	devices []*Function // device number -> function 0
	address atomic.Uint32
}

// Windows, in the order in which they are tried.
const (
	windowHigh = iota
	windowLow
	windowPorts
)

// NewRoot creates the bus. The caller attaches [Root.ECAM] and [Root.Ports].
func NewRoot(o Options) (*Root, error) {
	for _, w := range []Window{o.Low, o.High} {
		if w.SizeBytes > -w.Base && w.Base != 0 {
			return nil, fmt.Errorf("pci window %#x+%#x: beyond the address space", w.Base, w.SizeBytes)
		}
	}
	if o.Low.Base > 1<<32 || o.Low.SizeBytes > 1<<32-o.Low.Base {
		return nil, fmt.Errorf("pci window %#x+%#x: beyond 4 GiB", o.Low.Base, o.Low.SizeBytes)
	}
	if o.Ports.Base > 1<<16 || o.Ports.SizeBytes > 1<<16-o.Ports.Base {
		return nil, fmt.Errorf("pci port window %#x+%#x: beyond 64 Ki", o.Ports.Base, o.Ports.SizeBytes)
	}
	if len(o.ECAM)%ConfigSize != 0 || len(o.ECAM) > ECAMSize {
		return nil, fmt.Errorf("pci ecam image of %#x bytes: not a multiple of the page size, or more than %#x", len(o.ECAM), ECAMSize)
	}
	ones(o.ECAM)
	r := &Root{mmio: o.MMIO, io: o.IO, windows: [3]Window{windowHigh: o.High, windowLow: o.Low, windowPorts: o.Ports}, image: o.ECAM}
	bridge := NewFunction(Identity{
		Vendor: 0x1b36, Device: 0x0008, // PCI_VENDOR_ID_REDHAT, "QEMU PCIe Host bridge"
		Class: 0x060000, // PCI_CLASS_BRIDGE_HOST
	})
	if _, err := r.Insert(bridge); err != nil {
		return nil, err
	}
	return r, nil
}

// Insert puts f on the bus as function 0 of the next device number (1 to 31), assigns its BARs and
// attaches them. It fails if the bus or the windows are full, or if another device occupies part of
// a window. On error nothing has changed.
func (r *Root) Insert(f *Function) (device int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	device = len(r.devices)
	if f.inserted {
		return 0, fmt.Errorf("pci device %d: %w", device, errInserted)
	}
	if device == 32 {
		return 0, errors.New("pci bus 0: the bus already has 32 devices")
	}
	var undo []func()
	before := r.windows
	for i, b := range f.bars {
		if b == nil || b.index != i {
			continue
		}
		detach, err := r.claim(b)
		if err != nil {
			for _, detach := range undo {
				detach()
			}
			r.windows = before
			return 0, fmt.Errorf("pci device %d: bar %d: %w", device, i, err)
		}
		undo = append(undo, detach)
	}
	for i := range f.bars {
		f.writeBAR(i, false)
	}
	f.inserted = true
	if at := device << 15; at < len(r.image) {
		page := r.image[at : at+ConfigSize]
		copy(page, f.space)
		f.space = page
	}
	r.devices = append(r.devices, f)
	return device, nil
}

// claim assigns an address to b and attaches it.
func (r *Root) claim(b *bar) (detach func(), err error) {
	if b.base, err = r.place(b); err != nil {
		return nil, err
	}
	if b.IO {
		return r.io.Attach(b.base, b.SizeBytes, b)
	}
	return r.mmio.Attach(b.base, b.SizeBytes, b)
}

// place allocates an address for b in the first window that has space. No two memory BARs share a
// page.
func (r *Root) place(b *bar) (uint64, error) {
	align := b.SizeBytes
	if !b.IO {
		align = max(align, 4096)
	}
	for i := range r.windows {
		w := &r.windows[i]
		if b.IO != (i == windowPorts) || i == windowHigh && !b.Is64 {
			continue
		}
		skip := -w.Base & (align - 1)
		if skip > w.SizeBytes || align > w.SizeBytes-skip {
			continue
		}
		base := w.Base + skip
		*w = Window{base + align, w.SizeBytes - skip - align}
		return base, nil
	}
	return 0, fmt.Errorf("no space for %#x bytes in the windows", b.SizeBytes)
}

// ECAM returns the handler of the bus's configuration spaces, [ECAMSize] bytes of memory: device <<
// 15 | function << 12 | register (PCI Express 4.0 §7.2.2). It accepts any width and alignment.
// Absent functions read as ones.
func (r *Root) ECAM() bus.Handler { return (*ecam)(r) }

type ecam Root

func (e *ecam) Read(off uint64, p []byte) {
	for off, p := range parts(off, p) {
		if f := (*Root)(e).function(off); f != nil {
			f.Read(off%ConfigSize, p)
			continue
		}
		ones(p)
	}
}

func (e *ecam) Write(off uint64, p []byte) {
	for off, p := range parts(off, p) {
		if f := (*Root)(e).function(off); f != nil {
			f.Write(off%ConfigSize, p)
		}
	}
}

// function returns the function at off of the ECAM range, or nil.
func (r *Root) function(off uint64) *Function {
	device, fn := off>>15, off>>12&7
	if fn != 0 || device >= uint64(len(r.devices)) {
		return nil
	}
	return r.devices[device]
}

// Ports returns the handler of the 8 ports from 0xcf8: CONFIG_ADDRESS and CONFIG_DATA (PCI 3.0
// §3.2.2.3.2). The address accepts only dwords, the data only accesses that lie inside CONFIG_DATA.
// Other accesses read as ones and write nothing, so that software probing for configuration
// mechanism 2 does not find it.
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
	ones(p)
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

// data returns the offset in the ECAM range of an access to CONFIG_DATA.
func (c *ports) data(off uint64) (at uint64, ok bool) {
	a := uint64(c.address.Load())
	if off < 4 || a&addressEnable == 0 || a>>16&0xff != 0 {
		return 0, false
	}
	return a>>8&0xff<<12 | a&0xfc + (off - 4), true
}
