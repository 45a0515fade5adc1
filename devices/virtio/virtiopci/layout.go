package virtiopci

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"minivmm/devices/bus"
	"minivmm/devices/pci"
	"minivmm/devices/virtio"
)

var le = binary.LittleEndian

// What lies where in the BAR. A BAR of 16 KiB holds 480 vectors.
const (
	theBAR       = 0
	commonOff    = 0x0000
	commonSize   = 0x38 // sizeof(struct virtio_pci_common_cfg)
	isrOff       = 0x0040
	isrSize      = 4 // the status byte, padded
	deviceOff    = 0x0800
	deviceSize   = 0x0800
	notifyOff    = 0x1000
	notifySize   = 0x1000
	notifyStep   = 4 // notify_off_multiplier
	msixOff      = 0x2000
	smallestBAR  = 0x4000
	maxQueues    = notifySize / notifyStep
	capVendor    = 0x09 // PCI_CAP_ID_VNDR
	vendor       = 0x1af4
	modernDevice = 0x1040 // + device type
	subsystem    = 0x40   // + device type: not a transitional one
)

// Capability types (virtio 1.2 §4.1.4, VIRTIO_PCI_CAP_*).
const (
	capCommon = 1
	capNotify = 2
	capISR    = 3
	capDevice = 4
	capPCI    = 5
)

// class is the PCI class code of a device type; 0x00ff00 is "unclassified".
func class(id virtio.DeviceID) uint32 {
	switch id {
	case virtio.NetID:
		return 0x020000 // PCI_CLASS_NETWORK_ETHERNET
	case virtio.ConsoleID:
		return 0x078000 // PCI_CLASS_COMMUNICATION_OTHER
	case virtio.SCSIID:
		return 0x010000 // PCI_CLASS_STORAGE_SCSI
	}
	return 0x00ff00
}

// region is one part of the BAR.
type region struct {
	off, size uint64
	h         bus.Handler
}

// regions is the BAR from low to high.
func (t *Transport) regions() space {
	return space{
		{commonOff, commonSize, common{t}},
		{isrOff, isrSize, isr{t}},
		{deviceOff, deviceSize, config{t}},
		{notifyOff, notifyStep * uint64(t.front.NumQueues()), notify{t}},
		{msixOff, t.msix.SizeBytes(), t.msix},
	}
}

// space is the BAR: it gives each access to the region that holds all of it.
// Elsewhere reads are ones and writes are dropped.
type space []region

func (s space) find(off uint64, n int) (bus.Handler, uint64) {
	for _, r := range s {
		if off >= r.off && off-r.off < r.size && uint64(n) <= r.size-(off-r.off) {
			return r.h, off - r.off
		}
	}
	return nil, 0
}

func (s space) Read(off uint64, p []byte) {
	if h, at := s.find(off, len(p)); h != nil {
		h.Read(at, p)
		return
	}
	ones(p)
}

func (s space) Write(off uint64, p []byte) {
	if h, at := s.find(off, len(p)); h != nil {
		h.Write(at, p)
	}
}

func ones(p []byte) {
	for i := range p {
		p[i] = 0xff
	}
}

// function describes the device to PCI: identity, the BAR, MSI-X, and a
// capability for each region.
func (t *Transport) function() (*pci.Function, error) {
	id := t.front.ID()
	f := pci.NewFunction(pci.Identity{
		Vendor: vendor, Device: modernDevice + uint16(id), Revision: 1, Class: class(id),
		SubsystemVendor: vendor, Subsystem: subsystem + uint16(id),
	})
	size := max(smallestBAR, uint64(1)<<bits.Len64(msixOff+t.msix.SizeBytes()-1))
	if err := f.AddBAR(theBAR, pci.BAR{SizeBytes: size, Handler: t.bar}); err != nil {
		return nil, err
	}
	if err := f.AddMSIX(t.msix, theBAR, msixOff); err != nil {
		return nil, err
	}
	for _, c := range []struct {
		kind      uint8
		off, size uint32
		extra     []byte
		writable  []byte
	}{
		{kind: capCommon, off: commonOff, size: commonSize},
		{kind: capNotify, off: notifyOff, size: uint32(max(1, t.front.NumQueues())) * notifyStep, extra: le.AppendUint32(nil, notifyStep)},
		{kind: capISR, off: isrOff, size: isrSize},
		{kind: capDevice, off: deviceOff, size: deviceSize},
		{kind: capPCI, extra: make([]byte, 4), writable: windowWritable},
	} {
		// struct virtio_pci_cap behind its first two bytes.
		body := []byte{uint8(16 + len(c.extra)), c.kind, theBAR, 0, 0, 0}
		body = le.AppendUint32(body, c.off)
		body = le.AppendUint32(body, c.size)
		body = append(body, c.extra...)
		at, err := f.AddCapability(capVendor, body, c.writable)
		if err != nil {
			return nil, fmt.Errorf("capability type %d: %w", c.kind, err)
		}
		if c.kind == capPCI {
			t.window = window{t: t, at: uint64(at)}
			if err := f.OnConfig(at+windowData, 4, &t.window); err != nil {
				return nil, err
			}
		}
	}
	return f, nil
}
