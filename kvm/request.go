package kvm

// requestID names a row of the request table.
type requestID int

const (
	getAPIVersion requestID = iota
	createVM
	checkExtension
	getVCPUMmapSize
	getSupportedCPUID

	createVCPU
	setUserMemoryRegion
	setTSSAddr
	setIdentityMapAddr
	createIRQChip
	irqLine
	setGSIRouting
	irqfd
	ioeventfd
	getTSCKHz
	getStatsFD

	run
	getRegs
	setRegs
	getSregs
	setSregs
	setMSRs
	setCPUID2

	requestCount
)

// Directions of an ioctl's argument, seen from user space
// (uapi/asm-generic/ioctl.h).
const (
	dirNone  = 0 // _IO: no argument, or an integer by value
	dirWrite = 1 // _IOW: the kernel reads the argument
	dirRead  = 2 // _IOR: the kernel writes the argument
	dirBoth  = dirWrite | dirRead
)

// kvmIO is KVMIO, the type byte of all KVM ioctls.
const kvmIO = 0xAE

// request is one row: an ioctl's C name and the four parts of its number.
type request struct {
	name string
	dir  uintptr
	nr   uintptr
	size uintptr // of the argument; only the header if the argument has a variable length
}

// number returns the ioctl number, encoded as by _IOC of uapi/asm-generic/ioctl.h.
func (r request) number() uintptr {
	return r.dir<<30 | r.size<<16 | kvmIO<<8 | r.nr
}

var requests = [requestCount]request{
	// on /dev/kvm
	getAPIVersion:     {"KVM_GET_API_VERSION", dirNone, 0x00, 0},
	createVM:          {"KVM_CREATE_VM", dirNone, 0x01, 0},
	checkExtension:    {"KVM_CHECK_EXTENSION", dirNone, 0x03, 0}, // also for a VM
	getVCPUMmapSize:   {"KVM_GET_VCPU_MMAP_SIZE", dirNone, 0x04, 0},
	getSupportedCPUID: {"KVM_GET_SUPPORTED_CPUID", dirBoth, 0x05, sizeCPUIDHeader},

	// on a VM
	createVCPU:          {"KVM_CREATE_VCPU", dirNone, 0x41, 0},
	setUserMemoryRegion: {"KVM_SET_USER_MEMORY_REGION", dirWrite, 0x46, sizeUserMemoryRegion},
	setTSSAddr:          {"KVM_SET_TSS_ADDR", dirNone, 0x47, 0},
	setIdentityMapAddr:  {"KVM_SET_IDENTITY_MAP_ADDR", dirWrite, 0x48, 8},
	createIRQChip:       {"KVM_CREATE_IRQCHIP", dirNone, 0x60, 0},
	irqLine:             {"KVM_IRQ_LINE", dirWrite, 0x61, sizeIRQLevel},
	setGSIRouting:       {"KVM_SET_GSI_ROUTING", dirWrite, 0x6a, sizeRoutingHeader},
	irqfd:               {"KVM_IRQFD", dirWrite, 0x76, sizeIRQFD},
	ioeventfd:           {"KVM_IOEVENTFD", dirWrite, 0x79, sizeIOEventFD},
	getTSCKHz:           {"KVM_GET_TSC_KHZ", dirNone, 0xa3, 0},
	getStatsFD:          {"KVM_GET_STATS_FD", dirNone, 0xce, 0}, // also for a vCPU

	// on a vCPU
	run:       {"KVM_RUN", dirNone, 0x80, 0},
	getRegs:   {"KVM_GET_REGS", dirRead, 0x81, sizeRegs},
	setRegs:   {"KVM_SET_REGS", dirWrite, 0x82, sizeRegs},
	getSregs:  {"KVM_GET_SREGS", dirRead, 0x83, sizeSregs},
	setSregs:  {"KVM_SET_SREGS", dirWrite, 0x84, sizeSregs},
	setMSRs:   {"KVM_SET_MSRS", dirWrite, 0x89, sizeMSRsHeader},
	setCPUID2: {"KVM_SET_CPUID2", dirWrite, 0x90, sizeCPUIDHeader},
}
