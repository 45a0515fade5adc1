package kvm

import (
	"fmt"

	"golang.org/x/sys/unix"

	"minivmm/internal/ioctl"
)

// CreateIRQChip creates the interrupt controller in the kernel: PIC, IOAPIC and a local APIC for
// each vCPU (KVM_CREATE_IRQCHIP). The kernel also installs default routes for GSI 0 to 23.
// CreateIRQChip must be called before the first CreateVCPU.
func (vm *VM) CreateIRQChip() error {
	_, err := ioctl.Value(vm.f, createIRQChip, 0)
	return err
}

// MSI is a message-signalled interrupt: an address and the data to write there.
type MSI struct {
	Address uint64
	Data    uint32
}

// The kinds of routes, and the number of the IOAPIC among the interrupt controllers.
const (
	routingIRQChip = 1 // KVM_IRQ_ROUTING_IRQCHIP
	routingMSI     = 2 // KVM_IRQ_ROUTING_MSI
	irqchipIOAPIC  = 2 // KVM_IRQCHIP_IOAPIC
)

// MaxRoutes is the kernel's KVM_MAX_IRQ_ROUTES; every GSI is less than MaxRoutes.
const MaxRoutes = 4096

// Route connects a GSI to an MSI or to a pin of the IOAPIC. A GSI may have several routes. If its
// only route is to an MSI, the kernel injects the interrupt directly from the context that signals
// the irqfd. In all other cases the interrupt goes through a kworker.
type Route struct {
	GSI uint32
	MSI *MSI   // nil: the route is to Pin
	Pin uint32 // a pin of the IOAPIC
}

// routing is struct kvm_irq_routing with room for MaxRoutes routes.
type routing struct {
	header
	entries [MaxRoutes]routingEntry
}

// SetGSIRouting replaces the whole routing table (KVM_SET_GSI_ROUTING), including the default
// routes of the interrupt controller, which the caller must list again. The call waits for an SRCU
// grace period, so callers should batch changes. It returns EINVAL for an unknown pin or a GSI out
// of range.
func (vm *VM) SetGSIRouting(routes []Route) error {
	if len(routes) > MaxRoutes {
		return setGSIRouting.Error(vm.f.Name(), unix.E2BIG)
	}
	arg := new(routing)
	arg.count = uint32(len(routes))
	for i, r := range routes {
		arg.entries[i] = routingEntry{gsi: r.GSI, typ: routingIRQChip, u: [8]uint32{irqchipIOAPIC, r.Pin}}
		if r.MSI != nil {
			arg.entries[i] = routingEntry{gsi: r.GSI, typ: routingMSI, u: [8]uint32{
				uint32(r.MSI.Address), uint32(r.MSI.Address >> 32), r.MSI.Data,
			}}
		}
	}
	_, err := ioctl.Pointer(vm.f, setGSIRouting, arg)
	return err
}

// IRQFD connects an eventfd to a GSI if assign is true, and otherwise disconnects it from the GSI
// (KVM_IRQFD). Each signal of the eventfd raises the interrupt in the kernel. If the eventfd's
// count is already nonzero, the interrupt is raised at once. An eventfd can be connected to only
// one GSI (else EBUSY); a GSI may have several eventfds. CreateIRQChip must be called first (else
// EINVAL).
func (vm *VM) IRQFD(fd int, gsi uint32, assign bool) error {
	arg := irqfdArg{fd: uint32(fd), gsi: gsi}
	if !assign {
		arg.flags = irqfdDeassign
	}
	if _, err := ioctl.Pointer(vm.f, irqfd, &arg); err != nil {
		return fmt.Errorf("gsi %d: %w", gsi, err)
	}
	return nil
}

// irqfdDeassign is KVM_IRQFD_FLAG_DEASSIGN.
const irqfdDeassign = 1 << 0

// IRQLine sets the level of a pin of the interrupt controller (KVM_IRQ_LINE).
func (vm *VM) IRQLine(gsi uint32, high bool) error {
	arg := irqLevel{irq: gsi}
	if high {
		arg.level = 1
	}
	if _, err := ioctl.Pointer(vm.f, irqLine, &arg); err != nil {
		return fmt.Errorf("gsi %d: %w", gsi, err)
	}
	return nil
}
