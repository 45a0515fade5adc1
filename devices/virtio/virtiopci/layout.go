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

// Layout of the memory BAR. A BAR of 16 KiB holds 508 vectors.
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
	subsystem    = 0x40   // plus the device type: not transitional
)

// The second BAR consists of I/O ports: the notify addresses of all queues in order. A driver
// writes 16 bits to such an address (virtio 1.2 §4.1.5.2).
const (
	portBAR       = 1
	portStep      = 2 // notify_off_multiplier
	fewestPorts   = 4 // minimum for a BAR (PCI 3.0 §6.2.5.1)
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

// classes are the PCI class codes of device types.
var classes = map[virtio.DeviceID]uint32{
	virtio.NetID:     0x020000, // PCI_CLASS_NETWORK_ETHERNET
	virtio.ConsoleID: 0x078000, // PCI_CLASS_COMMUNICATION_OTHER
	virtio.SCSIID:    0x010000, // PCI_CLASS_STORAGE_SCSI
	virtio.RngID:     0x00ff00, // "unclassified"
}

// attach puts the regions of the memory BAR, and those of the port BAR if there is one, on the
// buses that serve the BARs.
func (t *Transport) attach() {
	queues := uint64(t.front.NumQueues())
	for _, r := range []struct {
		bar       *bus.Bus
		off, size uint64
		h         bus.Handler
	}{
		{&t.bar, commonOff, commonSize, common{t}},
		{&t.bar, isrOff, isrSize, isr{t}},
		{&t.bar, deviceOff, deviceSize, config{t}},
		{&t.bar, notifyOff, notifyStep * queues, &t.bells},
		{&t.bar, msixOff, t.msix.SizeBytes(), t.msix},
		{t.ports, 0, portStep * queues, &t.portBells},
	} {
		if r.bar == nil {
			continue
		}
		if err := r.bar.Attach(r.off, r.size, r.h); err != nil {
			panic(fmt.Sprintf("virtiopci: %v", err)) // a constant of this file is wrong
		}
	}
}

// function describes the device to PCI: identity, BARs, MSI-X, and a capability for each region. Of
// several capabilities with the same type, a driver uses the first one that it supports (virtio 1.2
// §4.1.4), so the capability for the notify ports precedes the one for the notify addresses in
// memory.
func (t *Transport) function() *pci.Function {
	id := t.front.ID()
	f := pci.NewFunction(pci.Identity{
		Vendor: vendor, Device: modernDevice + uint16(id), Revision: 1, Class: classes[id],
		SubsystemVendor: vendor, Subsystem: subsystem + uint16(id),
	})
	size := max(smallestBAR, uint64(1)<<bits.Len64(msixOff+t.msix.SizeBytes()-1))
	f.AddBAR(memoryBAR, pci.BAR{SizeBytes: size, Handler: &t.bar})
	f.AddMSIX(t.msix, memoryBAR, msixOff)
	// add adds a capability: struct virtio_pci_cap, followed by extra.
	add := func(kind, bar uint8, off, size uint32, extra, writable []byte) int {
		body := []byte{uint8(16 + len(extra)), kind, bar, 0, 0, 0}
		body = le.AppendUint32(body, off)
		body = le.AppendUint32(body, size)
		return f.AddCapability(capVendor, append(body, extra...), writable)
	}
	queues := uint32(t.front.NumQueues())
	add(capCommon, memoryBAR, commonOff, commonSize, nil, nil)
	if t.ports != nil {
		size := max(fewestPorts, uint64(1)<<bits.Len32(queues*portStep-1))
		f.AddBAR(portBAR, pci.BAR{IO: true, SizeBytes: size, Handler: t.ports})
		add(capNotify, portBAR, 0, queues*portStep, le.AppendUint32(nil, portStep), nil)
	}
	add(capNotify, memoryBAR, notifyOff, queues*notifyStep, le.AppendUint32(nil, notifyStep), nil)
	add(capISR, memoryBAR, isrOff, isrSize, nil, nil)
	add(capDevice, memoryBAR, deviceOff, deviceSize, nil, nil)
	t.window = window{t: t, at: uint64(add(capPCI, 0, 0, 0, make([]byte, 4), windowWritable))}
	f.OnConfig(int(t.window.at)+windowData, 4, &t.window)
	return f
}
