package kvm

import (
	"fmt"

	"minivmm/internal/ioctl"
)

// Flags of KVM_IOEVENTFD.
const (
	ioeventfdPIO      = 1 << 1 // KVM_IOEVENTFD_FLAG_PIO
	ioeventfdDeassign = 1 << 2 // KVM_IOEVENTFD_FLAG_DEASSIGN
)

// IOEvent describes guest writes, of any length and value, that signal an eventfd instead of exiting
// to user space. Requires CapIOEventFDAnyLength.
type IOEvent struct {
	Addr uint64 // guest physical address, or port with PIO
	PIO  bool
	FD   int
}

// IOEventFD registers e or, if assign is false, removes it; e must then equal the registered one,
// KVM_IOEVENTFD. EEXIST if it overlaps another one, ENOENT if there is nothing to remove. Each call
// copies the bus and waits for a grace period.
func (vm *VM) IOEventFD(e IOEvent, assign bool) error {
	arg := ioeventfdArg{addr: e.Addr, fd: int32(e.FD)}
	if e.PIO {
		arg.flags |= ioeventfdPIO
	}
	if !assign {
		arg.flags |= ioeventfdDeassign
	}
	if _, err := ioctl.Pointer(vm.f, ioeventfd, &arg); err != nil {
		return fmt.Errorf("address %#x: %w", e.Addr, err)
	}
	return nil
}
