package vmm

import (
	"fmt"

	"minivmm/devices/guestmem"
	"minivmm/devices/virtio"
	"minivmm/kvm"
)

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
