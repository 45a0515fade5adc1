package virtiopci

import (
	"sync"

	"minivmm/devices/bus"
)

// Offsets in struct virtio_pci_cfg_cap (virtio 1.2 §4.1.4.9).
const (
	windowBAR    = 4
	windowOffset = 8
	windowLength = 12
	windowData   = 16 // pci_cfg_data
)

// windowWritable is the mask of the bits that a driver may write: bar, offset and length. The mask
// starts after the capability's two header bytes. The type window serves the data bytes.
var windowWritable = []byte{0, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}

// window is pci_cfg_data: access to a BAR for software that cannot map it, even while decoding is
// disabled. Only an access that includes the first data byte accesses the BAR. Any other access
// reads or writes the stored data of the last access. Only aligned accesses of 1, 2 or 4 bytes to
// this device's BARs work. For other accesses, and for offsets outside the BAR's regions, reads
// return all ones and writes are dropped.
type window struct {
	t  *Transport
	at uint64 // offset of the capability in configuration space

	mu   sync.Mutex
	data [4]byte
}

// target reads the capability once and checks that copy. The returned bar is nil if the access is
// not possible.
func (w *window) target() (bar *bus.Bus, off uint64, n int) {
	var c [windowData]byte
	w.t.fn.Read(w.at, c[:])
	off, length := uint64(le.Uint32(c[windowOffset:])), uint64(le.Uint32(c[windowLength:]))
	switch {
	case length != 1 && length != 2 && length != 4 || off%length != 0:
	case c[windowBAR] == memoryBAR:
		bar = &w.t.bar
	case c[windowBAR] == portBAR:
		bar = w.t.ports
	}
	return bar, off, int(length)
}

func (w *window) Read(off uint64, p []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if off == 0 {
		bus.Ones(w.data[:])
		if bar, target, n := w.target(); bar != nil {
			bar.Read(target, w.data[:n])
		}
	}
	copy(p, w.data[off:])
}

func (w *window) Write(off uint64, p []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	copy(w.data[off:], p)
	if bar, target, n := w.target(); bar != nil && off == 0 {
		bar.Write(target, w.data[:n])
	}
}
