package kvm

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"minivmm/internal/ioctl"
)

// VM is a virtual machine: memory slots, interrupt controller, vCPUs.
type VM struct {
	f        *os.File
	mmapSize int // bytes of the kvm_run mapping of a vCPU
}

// Close closes the VM's file. The kernel destroys the VM once its vCPUs and Stats are closed too.
func (vm *VM) Close() error { return vm.f.Close() }

// CheckExtension is System.CheckExtension for this VM.
func (vm *VM) CheckExtension(c Cap) (int, error) {
	return ioctl.Value(vm.f, checkExtension, c.number)
}

// MemReadonly is the flag KVM_MEM_READONLY of a memory slot: a guest write to the slot causes an
// ExitMMIO. The flag requires CapReadonlyMem.
const MemReadonly = 1 << 1

// SetUserMemoryRegion maps sizeBytes of this process's memory at hva to guest physical address gpa
// (KVM_SET_USER_MEMORY_REGION). All three must be multiples of the page size. If sizeBytes is 0,
// the slot is removed. A call can change the gpa of an existing slot, but returns EINVAL for
// another hva or size. It returns EEXIST if the region overlaps another slot. The caller must keep
// the memory mapped until the VM is destroyed or the slot is removed. Bits 16 and up of the slot
// number select the address space. The number of the address space must be less than the value of
// CapMultiAddressSpace. Address space 1 is for system management mode.
func (vm *VM) SetUserMemoryRegion(slot, flags uint32, gpa, sizeBytes uint64, hva uintptr) error {
	_, err := ioctl.Pointer(vm.f, setUserMemoryRegion, &userMemoryRegion{
		slot: slot, flags: flags, gpa: gpa, size: sizeBytes, hva: uint64(hva),
	})
	return err
}

// TSCKHz returns the frequency of the vCPUs' time stamp counters in kHz (KVM_GET_TSC_KHZ on the
// VM). Before Linux 5.18 it returns ENOTTY.
func (vm *VM) TSCKHz() (int, error) { return ioctl.Value(vm.f, getTSCKHz, 0) }

// SetTSSAddr reserves three guest-physical pages below 4 GiB that Intel hosts need for real mode
// (KVM_SET_TSS_ADDR). It must be called before the first CreateVCPU.
func (vm *VM) SetTSSAddr(gpa uint64) error {
	_, err := ioctl.Value(vm.f, setTSSAddr, uintptr(gpa))
	return err
}

// SetIdentityMapAddr reserves one guest-physical page that Intel hosts need for real mode
// (KVM_SET_IDENTITY_MAP_ADDR). It returns EINVAL after the first CreateVCPU.
func (vm *VM) SetIdentityMapAddr(gpa uint64) error {
	_, err := ioctl.Pointer(vm.f, setIdentityMapAddr, &gpa)
	return err
}

// CreateVCPU creates the vCPU with the given id, which is its local APIC id (KVM_CREATE_VCPU), and
// maps the pages that the vCPU shares with this process. The interrupt controller must be created
// first. CreateVCPU returns EEXIST if the id is in use. The caller must call Close.
func (vm *VM) CreateVCPU(id int) (*VCPU, error) {
	fd, err := ioctl.Value(vm.f, createVCPU, uintptr(id))
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), fmt.Sprintf("kvm-vcpu-%d", id))
	if vm.mmapSize < minRun {
		f.Close()
		return nil, getVCPUMmapSize.Error(DevicePath, unix.EINVAL)
	}
	page, err := unix.Mmap(fd, 0, vm.mmapSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		f.Close()
		return nil, &os.PathError{Op: "mmap", Path: f.Name(), Err: err}
	}
	return &VCPU{f: f, run: page}, nil
}

// Flags of KVM_IOEVENTFD.
const (
	ioeventfdPIO      = 1 << 1 // KVM_IOEVENTFD_FLAG_PIO
	ioeventfdDeassign = 1 << 2 // KVM_IOEVENTFD_FLAG_DEASSIGN
)

// IOEvent describes guest writes, of any length and value, that signal an eventfd instead of
// exiting to user space. It requires CapIOEventFDAnyLength.
type IOEvent struct {
	Addr uint64 // guest physical address, or I/O port if PIO is set
	PIO  bool
	FD   int
}

// IOEventFD registers the IOEvent e if assign is true, and else removes it (KVM_IOEVENTFD). A
// removal must pass the same IOEvent as the registration. IOEventFD returns EEXIST if e overlaps a
// registered IOEvent, and ENOENT if the IOEvent to remove is not registered. In each call, KVM
// copies its table of the I/O bus and waits for an SRCU grace period.
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
