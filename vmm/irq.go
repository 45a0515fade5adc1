package vmm

import (
	"fmt"
	"sync"

	"minivmm/devices/guestmem"
	"minivmm/devices/virtio"
	"minivmm/kvm"
)

// host implements the part of the VM that transports use. It owns the GSI numbers and the one
// routing table of a VM. KVM replaces the table as a whole, so each change writes the whole table.
// A route is always written before an irqfd uses it.
type host struct {
	vm *kvm.VM

	mu   sync.Mutex
	msis map[uint32]*virtio.Message // by GSI; nil until programmed
}

var _ virtio.Host = (*host)(nil)

// newHost installs routes for the IOAPIC's pins only: the PIC that is part of the in-kernel
// controller gets no interrupts, and no guest uses that PIC.
func newHost(vm *kvm.VM) (*host, error) {
	h := &host{vm: vm, msis: make(map[uint32]*virtio.Message)}
	return h, h.write()
}

func (h *host) write() error {
	routes := make([]kvm.Route, 0, ioapicPins+len(h.msis))
	for pin := range uint32(ioapicPins) {
		routes = append(routes, kvm.Route{GSI: pin, Pin: pin})
	}
	for gsi, m := range h.msis {
		if m != nil {
			routes = append(routes, kvm.Route{GSI: gsi, MSI: &kvm.MSI{Address: m.Address, Data: m.Data}})
		}
	}
	return h.vm.SetGSIRouting(routes)
}

// AttachDoorbell matches writes of any width (length 0): the value that the driver writes only
// names the queue, and each queue has its own address.
func (h *host) AttachDoorbell(gpa guestmem.GPA, kick *virtio.Notifier) (func() error, error) {
	return h.attach(kvm.IOEvent{Addr: uint64(gpa), FD: kick.FD()}, kick)
}

// AttachPort is AttachDoorbell for an I/O port.
func (h *host) AttachPort(port uint16, kick *virtio.Notifier) (func() error, error) {
	return h.attach(kvm.IOEvent{Addr: uint64(port), PIO: true, FD: kick.FD()}, kick)
}

func (h *host) attach(e kvm.IOEvent, kick *virtio.Notifier) (func() error, error) {
	if err := h.vm.IOEventFD(e, true); err != nil {
		return nil, fmt.Errorf("%s: %w", kick.Name(), err)
	}
	return func() error { return h.vm.IOEventFD(e, false) }, nil
}

// NewMSI allocates a free GSI.
func (h *host) NewMSI() (virtio.MSI, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for gsi := uint32(ioapicPins); gsi < kvm.MaxRoutes; gsi++ {
		if _, taken := h.msis[gsi]; !taken {
			h.msis[gsi] = nil
			return &msi{h, gsi}, nil
		}
	}
	return nil, fmt.Errorf("all %d interrupt routes are in use", kvm.MaxRoutes)
}

// msi is one GSI with an MSI route.
type msi struct {
	host *host
	gsi  uint32
}

func (m *msi) Program(msg virtio.Message) error {
	h := m.host
	h.mu.Lock()
	defer h.mu.Unlock()
	old := h.msis[m.gsi]
	if old != nil && *old == msg {
		return nil // a rewrite costs an RCU grace period
	}
	h.msis[m.gsi] = &msg
	err := h.write()
	if err != nil {
		h.msis[m.gsi] = old
	}
	return err
}

func (m *msi) Connect(call *virtio.Notifier) error    { return m.irqfd(call, true) }
func (m *msi) Disconnect(call *virtio.Notifier) error { return m.irqfd(call, false) }

func (m *msi) irqfd(call *virtio.Notifier, assign bool) error {
	if err := m.host.vm.IRQFD(call.FD(), m.gsi, assign); err != nil {
		return fmt.Errorf("%s: %w", call.Name(), err)
	}
	return nil
}

// Close releases the GSI. The table keeps the stale route until the next change, but nothing
// signals that route.
func (m *msi) Close() error {
	m.host.mu.Lock()
	defer m.host.mu.Unlock()
	delete(m.host.msis, m.gsi)
	return nil
}
