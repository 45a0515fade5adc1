package vhost

import "minivmm/internal/ioctl"

// vhostVirtio is VHOST_VIRTIO, the type byte of all vhost ioctls.
const vhostVirtio = 0xAF

// The requests. VHOST_NET requests are only for vhost-net, and VHOST_SCSI requests only for
// vhost-scsi. Each of the last four requests needs at least the kernel version in its comment.
var (
	getFeatures             = ioctl.Read[uint64]("VHOST_GET_FEATURES", vhostVirtio, 0x00)
	setFeatures             = ioctl.Write[uint64]("VHOST_SET_FEATURES", vhostVirtio, 0x00)
	setOwner                = ioctl.None("VHOST_SET_OWNER", vhostVirtio, 0x01)
	setMemTable             = ioctl.Write[memoryHeader]("VHOST_SET_MEM_TABLE", vhostVirtio, 0x03)
	setVringNum             = ioctl.Write[vringState]("VHOST_SET_VRING_NUM", vhostVirtio, 0x10)
	setVringAddr            = ioctl.Write[vringAddr]("VHOST_SET_VRING_ADDR", vhostVirtio, 0x11)
	setVringBase            = ioctl.Write[vringState]("VHOST_SET_VRING_BASE", vhostVirtio, 0x12)
	setVringKick            = ioctl.Write[vringFile]("VHOST_SET_VRING_KICK", vhostVirtio, 0x20)
	setVringCall            = ioctl.Write[vringFile]("VHOST_SET_VRING_CALL", vhostVirtio, 0x21)
	setVringErr             = ioctl.Write[vringFile]("VHOST_SET_VRING_ERR", vhostVirtio, 0x22)
	setVringBusyloopTimeout = ioctl.Write[vringState]("VHOST_SET_VRING_BUSYLOOP_TIMEOUT", vhostVirtio, 0x23)
	netSetBackend           = ioctl.Write[vringFile]("VHOST_NET_SET_BACKEND", vhostVirtio, 0x30)
	scsiSetEndpoint         = ioctl.Write[scsiTarget]("VHOST_SCSI_SET_ENDPOINT", vhostVirtio, 0x40)
	scsiClearEndpoint       = ioctl.Write[scsiTarget]("VHOST_SCSI_CLEAR_ENDPOINT", vhostVirtio, 0x41)
	newWorker               = ioctl.Read[workerState]("VHOST_NEW_WORKER", vhostVirtio, 0x08)           // Linux 6.5
	freeWorker              = ioctl.Write[workerState]("VHOST_FREE_WORKER", vhostVirtio, 0x09)         // Linux 6.5
	attachVringWorker       = ioctl.Write[vringWorker]("VHOST_ATTACH_VRING_WORKER", vhostVirtio, 0x15) // Linux 6.5
	setForkFromOwner        = ioctl.Write[uint8]("VHOST_SET_FORK_FROM_OWNER", vhostVirtio, 0x84)       // Linux 6.17
)
