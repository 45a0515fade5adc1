package kvm

import (
	"fmt"

	"golang.org/x/sys/unix"

	"minivmm/internal/ioctl"
)

// CreateIRQChip creates the interrupt controller in the kernel: PIC, IOAPIC and a local APIC for
// each vCPU, KVM_CREATE_IRQCHIP. It installs default routes for GSI 0 to 23. It must be called
// before the first CreateVCPU.
func (vm *VM) CreateIRQChip() error {
	_, err := ioctl.Value(vm.f, createIRQChip, 0)
	return err
}

// MSI is a message-signalled interrupt: an address and the data to write there.
type MSI struct {
	AddressLo, AddressHi uint32
	Data                 uint32
}

// RouteKind is the kind of target of a Route.
type RouteKind uint32

// The route kinds, KVM_IRQ_ROUTING_*.
const (
	RouteIRQChip RouteKind = 1 // KVM_IRQ_ROUTING_IRQCHIP
	RouteMSI     RouteKind = 2 // KVM_IRQ_ROUTING_MSI
)

// IRQChipIOAPIC is the IOAPIC as the chip of a RouteIRQChip, KVM_IRQCHIP_IOAPIC.
const IRQChipIOAPIC = 2

// MaxRoutes is the kernel's KVM_MAX_IRQ_ROUTES; every GSI is below it.
const MaxRoutes = 4096

// Route connects a GSI to an MSI or to a pin of an in-kernel interrupt controller. A GSI may have
// several routes, but only a single MSI is injected directly from the context that signals the
// irqfd; anything else goes through a kworker.
type Route struct {
	GSI     uint32
	Kind    RouteKind
	MSI     MSI    // RouteMSI
	IRQChip uint32 // RouteIRQChip: IRQChipIOAPIC
	Pin     uint32 // RouteIRQChip
}

// routing is struct kvm_irq_routing with room for MaxRoutes routes.
type routing struct {
	header
	entries [MaxRoutes]routingEntry
}

// SetGSIRouting replaces the whole routing table, KVM_SET_GSI_ROUTING, including the default routes
// of the interrupt controller, which the caller must list again. The call waits for a grace period,
// so it is worth batching changes. EINVAL for an unknown chip, pin or kind, or a GSI out of range.
func (vm *VM) SetGSIRouting(routes []Route) error {
	if len(routes) > MaxRoutes {
		return setGSIRouting.Error(vm.f.Name(), unix.E2BIG)
	}
	arg := new(routing)
	arg.count = uint32(len(routes))
	for i, r := range routes {
		e := &arg.entries[i]
		e.gsi = r.GSI
		e.typ = uint32(r.Kind)
		switch r.Kind {
		case RouteMSI:
			e.u = [8]uint32{r.MSI.AddressLo, r.MSI.AddressHi, r.MSI.Data}
		case RouteIRQChip:
			e.u = [8]uint32{r.IRQChip, r.Pin}
		}
	}
	_, err := ioctl.Pointer(vm.f, setGSIRouting, arg)
	return err
}

// IRQFD connects an eventfd to a GSI or disconnects it, KVM_IRQFD. Each signal of the eventfd
// raises the interrupt, in the kernel. A count already in the eventfd is delivered at once. An
// eventfd serves one GSI (else EBUSY); a GSI may have several eventfds. Requires CreateIRQChip
// (else EINVAL).
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

// IRQLine sets the level of a pin of the interrupt controller, KVM_IRQ_LINE.
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
