package vmm

import (
	"fmt"
	"sync"

	"minivmm/devices/guestmem"
	"minivmm/devices/virtio"
	"minivmm/kvm"
)

// router owns the GSI numbers and the one routing table of a VM. KVM replaces the table as a whole,
// so each change writes all of it; a route is always written before an irqfd uses it.
type router struct {
	vm *kvm.VM

	mu   sync.Mutex
	msis map[uint32]*virtio.Message // by GSI; nil until programmed
}

// newRouter installs routes for the IOAPIC's pins only: the PIC that is part of the in-kernel
// controller gets no interrupts, and no guest uses it.
func newRouter(vm *kvm.VM) (*router, error) {
	r := &router{vm: vm, msis: make(map[uint32]*virtio.Message)}
	if err := r.write(); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *router) write() error {
	routes := make([]kvm.Route, 0, ioapicPins+len(r.msis))
	for pin := range uint32(ioapicPins) {
		routes = append(routes, kvm.Route{GSI: pin, Pin: pin})
	}
	for gsi, m := range r.msis {
		if m != nil {
			routes = append(routes, kvm.Route{GSI: gsi, MSI: &kvm.MSI{Address: m.Address, Data: m.Data}})
		}
	}
	return r.vm.SetGSIRouting(routes)
}

// newMSI allocates a free GSI.
func (r *router) newMSI() (*msi, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for gsi := uint32(ioapicPins); gsi < kvm.MaxRoutes; gsi++ {
		if _, taken := r.msis[gsi]; !taken {
			r.msis[gsi] = nil
			return &msi{router: r, gsi: gsi}, nil
		}
	}
	return nil, fmt.Errorf("all %d interrupt routes are in use", kvm.MaxRoutes)
}

func (r *router) program(gsi uint32, m virtio.Message) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old := r.msis[gsi]; old != nil && *old == m {
		return nil // a rewrite costs an RCU grace period
	}
	r.msis[gsi] = &m
	return r.write()
}

// free releases the number. The table keeps the stale route until the next change; nothing signals
// it.
func (r *router) free(gsi uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.msis, gsi)
}

// msi is one GSI with an MSI route.
type msi struct {
	router *router
	gsi    uint32
}

var _ virtio.MSI = (*msi)(nil)

func (m *msi) Program(msg virtio.Message) error { return m.router.program(m.gsi, msg) }

func (m *msi) Connect(call *virtio.Notifier) error    { return m.irqfd(call, true) }
func (m *msi) Disconnect(call *virtio.Notifier) error { return m.irqfd(call, false) }

func (m *msi) irqfd(call *virtio.Notifier, assign bool) error {
	if err := m.router.vm.IRQFD(call.FD(), m.gsi, assign); err != nil {
		return fmt.Errorf("%s: %w", call.Name(), err)
	}
	return nil
}

func (m *msi) Close() error {
	m.router.free(m.gsi)
	return nil
}

// host implements the part of the machine that transports use.
type host struct {
	vm     *kvm.VM
	router *router
}

var _ virtio.Host = host{}

// AttachDoorbell matches writes of any width (length 0): the value only names the queue, and each
// queue has its own address.
func (h host) AttachDoorbell(gpa guestmem.GPA, kick *virtio.Notifier) (func() error, error) {
	return h.attach(kvm.IOEvent{Addr: uint64(gpa), FD: kick.FD()}, kick)
}

// AttachPort is AttachDoorbell for an I/O port.
func (h host) AttachPort(port uint16, kick *virtio.Notifier) (func() error, error) {
	return h.attach(kvm.IOEvent{Addr: uint64(port), PIO: true, FD: kick.FD()}, kick)
}

func (h host) attach(e kvm.IOEvent, kick *virtio.Notifier) (func() error, error) {
	if err := h.vm.IOEventFD(e, true); err != nil {
		return nil, fmt.Errorf("%s: %w", kick.Name(), err)
	}
	return func() error { return h.vm.IOEventFD(e, false) }, nil
}

func (h host) NewMSI() (virtio.MSI, error) { return h.router.newMSI() }
