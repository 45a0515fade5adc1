package vhost

import "structs"

// maxMemRegions is the largest number of regions that setMemTable accepts. This number is the
// default of the parameter max_mem_regions of the vhost module.
const maxMemRegions = 64

// memoryRegion is struct vhost_memory_region.
type memoryRegion struct {
	_     structs.HostLayout
	gpa   uint64 // guest_phys_addr
	size  uint64 // memory_size, bytes
	hva   uint64 // userspace_addr
	flags uint64 // flags_padding
}

// memoryHeader is struct vhost_memory without its regions.
type memoryHeader struct {
	_        structs.HostLayout
	nregions uint32
	padding  uint32
}

// memory is struct vhost_memory with room for maxMemRegions regions.
type memory struct {
	memoryHeader
	regions [maxMemRegions]memoryRegion
}

// workerState is struct vhost_worker_state.
type workerState struct {
	_        structs.HostLayout
	workerID uint32
}

// vringWorker is struct vhost_vring_worker.
type vringWorker struct {
	_        structs.HostLayout
	index    uint32
	workerID uint32
}

// vringState is struct vhost_vring_state.
type vringState struct {
	_     structs.HostLayout
	index uint32
	num   uint32
}

// vringFile is struct vhost_vring_file.
type vringFile struct {
	_     structs.HostLayout
	index uint32
	fd    int32
}

// vringAddr is struct vhost_vring_addr. All addresses except log are host virtual addresses.
type vringAddr struct {
	_     structs.HostLayout
	index uint32
	flags uint32
	desc  uint64 // desc_user_addr
	used  uint64 // used_user_addr
	avail uint64 // avail_user_addr
	log   uint64 // log_guest_addr
}

// scsiTarget is struct vhost_scsi_target.
type scsiTarget struct {
	_          structs.HostLayout
	abiVersion int32
	wwpn       [224]uint8 // vhost_wwpn, with its final NUL (TRANSPORT_IQN_LEN)
	tpgt       uint16     // vhost_tpgt
	reserved   uint16
}
