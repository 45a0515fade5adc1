package kvm

import "minivmm/internal/ioctl"

// kvmIO is KVMIO, the type byte of all KVM ioctls.
const kvmIO = 0xAE

// Requests on /dev/kvm. checkExtension can also be sent to a VM.
var (
	getAPIVersion     = ioctl.None("KVM_GET_API_VERSION", kvmIO, 0x00)
	createVM          = ioctl.None("KVM_CREATE_VM", kvmIO, 0x01)
	checkExtension    = ioctl.None("KVM_CHECK_EXTENSION", kvmIO, 0x03)
	getVCPUMmapSize   = ioctl.None("KVM_GET_VCPU_MMAP_SIZE", kvmIO, 0x04)
	getSupportedCPUID = ioctl.Both[header]("KVM_GET_SUPPORTED_CPUID", kvmIO, 0x05)
)

// Requests on a VM. getStatsFD can also be sent to a vCPU.
var (
	createVCPU          = ioctl.None("KVM_CREATE_VCPU", kvmIO, 0x41)
	setUserMemoryRegion = ioctl.Write[userMemoryRegion]("KVM_SET_USER_MEMORY_REGION", kvmIO, 0x46)
	setTSSAddr          = ioctl.None("KVM_SET_TSS_ADDR", kvmIO, 0x47)
	setIdentityMapAddr  = ioctl.Write[uint64]("KVM_SET_IDENTITY_MAP_ADDR", kvmIO, 0x48)
	createIRQChip       = ioctl.None("KVM_CREATE_IRQCHIP", kvmIO, 0x60)
	irqLine             = ioctl.Write[irqLevel]("KVM_IRQ_LINE", kvmIO, 0x61)
	setGSIRouting       = ioctl.Write[header]("KVM_SET_GSI_ROUTING", kvmIO, 0x6a)
	irqfd               = ioctl.Write[irqfdArg]("KVM_IRQFD", kvmIO, 0x76)
	ioeventfd           = ioctl.Write[ioeventfdArg]("KVM_IOEVENTFD", kvmIO, 0x79)
	getTSCKHz           = ioctl.None("KVM_GET_TSC_KHZ", kvmIO, 0xa3)
	getStatsFD          = ioctl.None("KVM_GET_STATS_FD", kvmIO, 0xce)
)

// Requests on a vCPU.
var (
	run       = ioctl.None("KVM_RUN", kvmIO, 0x80)
	getRegs   = ioctl.Read[Regs]("KVM_GET_REGS", kvmIO, 0x81)
	setRegs   = ioctl.Write[Regs]("KVM_SET_REGS", kvmIO, 0x82)
	getSregs  = ioctl.Read[Sregs]("KVM_GET_SREGS", kvmIO, 0x83)
	setSregs  = ioctl.Write[Sregs]("KVM_SET_SREGS", kvmIO, 0x84)
	setMSRs   = ioctl.Write[header]("KVM_SET_MSRS", kvmIO, 0x89)
	setCPUID2 = ioctl.Write[header]("KVM_SET_CPUID2", kvmIO, 0x90)
)
