package kvm

import "structs"

// userMemoryRegion is struct kvm_userspace_memory_region.
type userMemoryRegion struct {
	_     structs.HostLayout
	slot  uint32
	flags uint32
	gpa   uint64 // guest_phys_addr
	size  uint64 // memory_size, bytes
	hva   uint64 // userspace_addr
}

// irqLevel is struct kvm_irq_level.
type irqLevel struct {
	_     structs.HostLayout
	irq   uint32
	level uint32
}

// header is how the structures with a variable number of entries start: kvm_irq_routing,
// kvm_cpuid2, kvm_msrs.
type header struct {
	_     structs.HostLayout
	count uint32 // nr, nent, nmsrs
	_     uint32
}

// routingEntry is struct kvm_irq_routing_entry. The union u has eight words: address_lo,
// address_hi, data, devid for an MSI; irqchip, pin for an irqchip pin.
type routingEntry struct {
	_     structs.HostLayout
	gsi   uint32
	typ   uint32
	flags uint32
	_     uint32
	u     [8]uint32
}

// irqfdArg is struct kvm_irqfd.
type irqfdArg struct {
	_          structs.HostLayout
	fd         uint32
	gsi        uint32
	flags      uint32
	resamplefd uint32
	_          [16]uint8
}

// ioeventfdArg is struct kvm_ioeventfd.
type ioeventfdArg struct {
	_         structs.HostLayout
	datamatch uint64
	addr      uint64
	length    uint32 // len
	fd        int32
	flags     uint32
	_         [36]uint8
}
