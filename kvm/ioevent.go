package kvm

import "fmt"

// Flags of KVM_IOEVENTFD.
const (
	ioeventfdDatamatch = 1 << 0 // KVM_IOEVENTFD_FLAG_DATAMATCH
	ioeventfdPIO       = 1 << 1 // KVM_IOEVENTFD_FLAG_PIO
	ioeventfdDeassign  = 1 << 2 // KVM_IOEVENTFD_FLAG_DEASSIGN
)

// IOEvent describes guest writes that signal an eventfd instead of exiting to user space.
type IOEvent struct {
	Addr      uint64 // guest physical address, or port with PIO
	Len       uint32 // access size: 1, 2, 4, 8, or 0 for any (CapIOEventFDAnyLength)
	Match     bool   // only writes of the value DataMatch signal; not with Len 0
	DataMatch uint64
	PIO       bool
	FD        int
}

// IOEventFD registers e or, if assign is false, removes it; e must then equal the registered one,
// KVM_IOEVENTFD. EEXIST if it overlaps another one, EINVAL for a bad length, ENOENT if there is
// nothing to remove. Each call copies the bus and waits for a grace period.
func (vm *VM) IOEventFD(e IOEvent, assign bool) error {
	arg := ioeventfdArg{datamatch: e.DataMatch, addr: e.Addr, length: e.Len, fd: int32(e.FD)}
	if e.Match {
		arg.flags |= ioeventfdDatamatch
	}
	if e.PIO {
		arg.flags |= ioeventfdPIO
	}
	if !assign {
		arg.flags |= ioeventfdDeassign
	}
	if _, err := ioctlPtr(vm.f, ioeventfd, &arg); err != nil {
		return fmt.Errorf("address %#x: %w", e.Addr, err)
	}
	return nil
}
