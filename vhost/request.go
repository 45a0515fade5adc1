package vhost

// requestID names a row of the request table.
type requestID int

const (
	getFeatures requestID = iota
	setFeatures
	setOwner
	setMemTable
	newWorker
	freeWorker
	setVringNum
	setVringAddr
	setVringBase
	getVringBase
	attachVringWorker
	setVringKick
	setVringCall
	setVringErr
	setVringBusyloopTimeout
	netSetBackend
	scsiSetEndpoint
	scsiClearEndpoint
	setForkFromOwner
	getForkFromOwner

	requestCount
)

// Directions of an ioctl's argument, seen from user space
// (uapi/asm-generic/ioctl.h).
const (
	dirNone  = 0 // _IO
	dirWrite = 1 // _IOW: the kernel reads the argument
	dirRead  = 2 // _IOR: the kernel writes the argument
	dirBoth  = dirWrite | dirRead
)

// vhostVirtio is VHOST_VIRTIO, the type byte of all vhost ioctls.
const vhostVirtio = 0xAF

// request is one row: an ioctl's C name and the four parts of its number.
// since is the first kernel with the ioctl, empty if every supported kernel has it.
type request struct {
	name  string
	dir   uintptr
	nr    uintptr
	size  uintptr // of the argument; only the header if the argument has a variable length
	since string
}

// number returns the ioctl number, encoded as by _IOC of uapi/asm-generic/ioctl.h.
func (r request) number() uintptr {
	return r.dir<<30 | r.size<<16 | vhostVirtio<<8 | r.nr
}

var requests = [requestCount]request{
	getFeatures:             {"VHOST_GET_FEATURES", dirRead, 0x00, 8, ""},
	setFeatures:             {"VHOST_SET_FEATURES", dirWrite, 0x00, 8, ""},
	setOwner:                {"VHOST_SET_OWNER", dirNone, 0x01, 0, ""},
	setMemTable:             {"VHOST_SET_MEM_TABLE", dirWrite, 0x03, sizeMemoryHeader, ""},
	newWorker:               {"VHOST_NEW_WORKER", dirRead, 0x08, sizeWorkerState, "6.5"},
	freeWorker:              {"VHOST_FREE_WORKER", dirWrite, 0x09, sizeWorkerState, "6.5"},
	setVringNum:             {"VHOST_SET_VRING_NUM", dirWrite, 0x10, sizeVringState, ""},
	setVringAddr:            {"VHOST_SET_VRING_ADDR", dirWrite, 0x11, sizeVringAddr, ""},
	setVringBase:            {"VHOST_SET_VRING_BASE", dirWrite, 0x12, sizeVringState, ""},
	getVringBase:            {"VHOST_GET_VRING_BASE", dirBoth, 0x12, sizeVringState, ""},
	attachVringWorker:       {"VHOST_ATTACH_VRING_WORKER", dirWrite, 0x15, sizeVringWorker, "6.5"},
	setVringKick:            {"VHOST_SET_VRING_KICK", dirWrite, 0x20, sizeVringFile, ""},
	setVringCall:            {"VHOST_SET_VRING_CALL", dirWrite, 0x21, sizeVringFile, ""},
	setVringErr:             {"VHOST_SET_VRING_ERR", dirWrite, 0x22, sizeVringFile, ""},
	setVringBusyloopTimeout: {"VHOST_SET_VRING_BUSYLOOP_TIMEOUT", dirWrite, 0x23, sizeVringState, ""},
	netSetBackend:           {"VHOST_NET_SET_BACKEND", dirWrite, 0x30, sizeVringFile, ""},
	scsiSetEndpoint:         {"VHOST_SCSI_SET_ENDPOINT", dirWrite, 0x40, sizeScsiTarget, ""},
	scsiClearEndpoint:       {"VHOST_SCSI_CLEAR_ENDPOINT", dirWrite, 0x41, sizeScsiTarget, ""},
	setForkFromOwner:        {"VHOST_SET_FORK_FROM_OWNER", dirWrite, 0x84, 1, "6.17"},
	getForkFromOwner:        {"VHOST_GET_FORK_FROM_OWNER", dirRead, 0x85, 1, "6.17"},
}
