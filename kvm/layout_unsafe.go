package kvm

import "unsafe"

// Sizes of the ioctls' arguments. For structures with a variable tail it is the size of the header,
// as in C.
const (
	sizeUserMemoryRegion = unsafe.Sizeof(userMemoryRegion{})
	sizeIRQLevel         = unsafe.Sizeof(irqLevel{})
	sizeRoutingHeader    = unsafe.Sizeof(routingHeader{})
	sizeIRQFD            = unsafe.Sizeof(irqfdArg{})
	sizeIOEventFD        = unsafe.Sizeof(ioeventfdArg{})
	sizeRegs             = unsafe.Sizeof(Regs{})
	sizeSregs            = unsafe.Sizeof(Sregs{})
	sizeCPUIDHeader      = unsafe.Offsetof(cpuid2{}.entries)
	sizeMSRsHeader       = unsafe.Offsetof(msrs{}.entries)
)

// A structure of the wrong size does not compile: "cannot use [..]byte".
var (
	_ [32]byte  = [sizeUserMemoryRegion]byte{}
	_ [8]byte   = [sizeIRQLevel]byte{}
	_ [8]byte   = [sizeRoutingHeader]byte{}
	_ [48]byte  = [unsafe.Sizeof(routingEntry{})]byte{}
	_ [32]byte  = [sizeIRQFD]byte{}
	_ [64]byte  = [sizeIOEventFD]byte{}
	_ [144]byte = [sizeRegs]byte{}
	_ [24]byte  = [unsafe.Sizeof(Segment{})]byte{}
	_ [16]byte  = [unsafe.Sizeof(DTable{})]byte{}
	_ [312]byte = [sizeSregs]byte{}
	_ [40]byte  = [unsafe.Sizeof(CPUIDEntry{})]byte{}
	_ [16]byte  = [unsafe.Sizeof(MSREntry{})]byte{}
	_ [8]byte   = [sizeCPUIDHeader]byte{}
	_ [8]byte   = [sizeMSRsHeader]byte{}
)
