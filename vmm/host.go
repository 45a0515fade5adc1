package vmm

import (
	"fmt"

	"minivmm/devices/guestmem"
	"minivmm/devices/virtio"
	"minivmm/kvm"
)

// host is what transports see of the machine.
type host struct {
	vm     *kvm.VM
	router *router
}

var _ virtio.Host = host{}

// AttachDoorbell matches writes of any width (length 0): the value says only
// which queue, and each queue has its own address.
func (h host) AttachDoorbell(gpa guestmem.GPA, kick *virtio.Notifier) (func() error, error) {
	return h.attach(kvm.IOEvent{Addr: uint64(gpa), FD: kick.FD()}, kick)
}

// AttachPort is the same for a port.
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
