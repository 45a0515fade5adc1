package kvm

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync/atomic"
)

// CoalescedZone is an address range whose guest writes KVM queues in a ring instead of exiting to user space. It is for
// registers whose writes can wait until the next exit.
type CoalescedZone struct {
	Addr      uint64 // guest physical address, or port with PIO
	SizeBytes uint32
	PIO       bool // requires CapCoalescedPIO
}

func (z CoalescedZone) arg() *coalescedZone {
	arg := &coalescedZone{addr: z.Addr, size: z.SizeBytes}
	if z.PIO {
		arg.pio = 1
	}
	return arg
}

// RegisterCoalesced registers z, KVM_REGISTER_COALESCED_MMIO. ENXIO if the kernel has no ring.
func (vm *VM) RegisterCoalesced(z CoalescedZone) error {
	return vm.coalescedZone(registerCoalesced, z)
}

// UnregisterCoalesced unregisters all zones inside z,
// KVM_UNREGISTER_COALESCED_MMIO.
func (vm *VM) UnregisterCoalesced(z CoalescedZone) error {
	return vm.coalescedZone(unregisterCoalesced, z)
}

func (vm *VM) coalescedZone(id requestID, z CoalescedZone) error {
	if _, err := ioctlPtr(vm.f, id, z.arg()); err != nil {
		return fmt.Errorf("address %#x: %w", z.Addr, err)
	}
	return nil
}

// CoalescedWrite is one queued write: len(Data) bytes, at most 8, at Addr.
type CoalescedWrite struct {
	Addr uint64 // guest physical address, or port with PIO
	PIO  bool
	Data []byte // a copy, valid during the call of f
}

// Layout of struct kvm_coalesced_mmio_ring (uapi/linux/kvm.h).
const (
	pageSize = 4096

	offRingFirst   = 0
	offRingLast    = 4
	offRingEntries = 8

	offEntryAddr   = 0
	offEntryLen    = 8
	offEntryPIO    = 12
	offEntryData   = 16
	sizeEntry      = 24
	maxRingEntries = (pageSize - offRingEntries) / sizeEntry // KVM_COALESCED_MMIO_MAX
)

// DrainCoalesced removes the writes that the VM's vCPUs have queued, oldest first, and calls f with each. The whole VM has
// one ring, which can be drained through any vCPU. Device registers are up to date only if every exit drains the ring first.
// f must not call DrainCoalesced.
func (v *VCPU) DrainCoalesced(f func(CoalescedWrite)) error {
	if v.vm.coalescedPage == 0 {
		return nil
	}
	off := v.vm.coalescedPage * pageSize
	if off < 0 || off+pageSize > len(v.run) {
		return fmt.Errorf("%s: coalesced ring outside the mapping: %w", v.f.Name(), os.ErrInvalid)
	}
	v.vm.coalesced.Lock()
	defer v.vm.coalesced.Unlock()
	drainRing(v.run[off:off+pageSize], f)
	return nil
}

// drainRing empties a ring page. The kernel adds at last, the reader removes at first. The load of last orders the reads of
// the entries after the kernel's writes; the store of first returns a slot only after it has been copied. drainRing removes
// at most one ringful, however fast vCPUs write.
func drainRing(page []byte, f func(CoalescedWrite)) {
	le := binary.LittleEndian
	first, last := wordAt(page, offRingFirst), wordAt(page, offRingLast)
	var entry [sizeEntry]byte
	for range maxRingEntries {
		i := atomic.LoadUint32(first) % maxRingEntries
		if i == atomic.LoadUint32(last)%maxRingEntries {
			return
		}
		copy(entry[:], page[offRingEntries+i*sizeEntry:])
		atomic.StoreUint32(first, (i+1)%maxRingEntries)
		f(CoalescedWrite{
			Addr: le.Uint64(entry[offEntryAddr:]),
			PIO:  le.Uint32(entry[offEntryPIO:]) != 0,
			Data: entry[offEntryData:][:min(le.Uint32(entry[offEntryLen:]), 8)],
		})
	}
}
