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

// Layout of the memory BAR. A BAR of 16 KiB holds 480 vectors.
const (
	memoryBAR    = 0
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
	subsystem    = 0x40   // + device type: not transitional
)

// The second BAR is I/O ports: the notify addresses of all queues in order. A driver writes 16 bits
// (virtio 1.2 §4.1.5.2).
const (
	portBAR       = 1
	portStep      = 2 // notify_off_multiplier
	fewestPorts   = 4 // of a BAR (PCI 3.0 §6.2.5.1)
	mostPorts     = 256
	maxPortQueues = mostPorts / portStep
)

// Capability types (virtio 1.2 §4.1.4, VIRTIO_PCI_CAP_*).
const (
	capCommon = 1
	capNotify = 2
	capISR    = 3
	capDevice = 4
	capPCI    = 5
)

// class returns the PCI class code of a device type; 0x00ff00 is "unclassified".
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

// region is one part of a BAR.
type region struct {
	off, size uint64
	h         bus.Handler
}

// regions returns the regions of the memory BAR in ascending order.
func (t *Transport) regions() space {
	return space{
		{commonOff, commonSize, common{t}},
		{isrOff, isrSize, isr{t}},
		{deviceOff, deviceSize, config{t}},
		{notifyOff, notifyStep * uint64(t.front.NumQueues()), &t.bells},
		{msixOff, t.msix.SizeBytes(), t.msix},
	}
}

// space is the address space of a BAR. An access goes to the region that contains all of it. Other
// reads return all ones, other writes are dropped.
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

// function describes the device to PCI: identity, BARs, MSI-X, and a capability for each region. A
// driver uses the first capability of a type that it supports (virtio 1.2 §4.1.4), so the notify
// ports precede the notify addresses in memory.
func (t *Transport) function() (*pci.Function, error) {
	id := t.front.ID()
	f := pci.NewFunction(pci.Identity{
		Vendor: vendor, Device: modernDevice + uint16(id), Revision: 1, Class: class(id),
		SubsystemVendor: vendor, Subsystem: subsystem + uint16(id),
	})
	size := max(smallestBAR, uint64(1)<<bits.Len64(msixOff+t.msix.SizeBytes()-1))
	if err := f.AddBAR(memoryBAR, pci.BAR{SizeBytes: size, Handler: t.bar}); err != nil {
		return nil, err
	}
	if err := f.AddMSIX(t.msix, memoryBAR, msixOff); err != nil {
		return nil, err
	}
	type capability struct {
		kind, bar uint8
		off, size uint32
		extra     []byte
		writable  []byte
	}
	queues := uint32(max(1, t.front.NumQueues()))
	caps := []capability{{kind: capCommon, off: commonOff, size: commonSize}}
	if t.ports != nil {
		size := max(fewestPorts, uint64(1)<<bits.Len32(queues*portStep-1))
		if err := f.AddBAR(portBAR, pci.BAR{IO: true, SizeBytes: size, Handler: t.ports}); err != nil {
			return nil, err
		}
		caps = append(caps, capability{kind: capNotify, bar: portBAR, size: queues * portStep, extra: le.AppendUint32(nil, portStep)})
	}
	caps = append(caps,
		capability{kind: capNotify, off: notifyOff, size: queues * notifyStep, extra: le.AppendUint32(nil, notifyStep)},
		capability{kind: capISR, off: isrOff, size: isrSize},
		capability{kind: capDevice, off: deviceOff, size: deviceSize},
		capability{kind: capPCI, extra: make([]byte, 4), writable: windowWritable},
	)
	for _, c := range caps {
		// struct virtio_pci_cap after its first two bytes.
		body := []byte{uint8(16 + len(c.extra)), c.kind, c.bar, 0, 0, 0}
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
